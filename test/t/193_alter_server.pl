# The broker moves to another port: ALTER SERVER says so, and loading goes on
# without a restart, exactly once.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->new;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('moved', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
$kafka->produce($topic, count => 1000);
$node->wait_for_position_sum('p', 1000);
my $pid = $node->worker_pid('p');

my ($properties) = map { slurp_file("$_/kafka.properties") } $kafka->{dir};
my ($listeners) = $properties =~ /^listeners=(.*)$/m;
my $old = $kafka->port;
my $new = PostgreSQL::Test::Cluster::get_free_port();
$listeners =~ s/:$old\b/:$new/;
$kafka->stop;
$kafka->_start(0, "test.port=$new", "listeners=$listeners", "advertised.listeners=PLAINTEXT://127.0.0.1:$new");
isnt($kafka->port, $old, 'the broker has another port');
$kafka->produce($topic, count => 1000, from => 1000);
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
is($node->position_sum('p'), 1000, 'nobody finds it there');

# a wrong one, which is no way out, then the right one
$node->safe_psql('postgres', q{ALTER SERVER kafka OPTIONS (SET brokers '127.0.0.1:1')});
$node->wait_for_state('p', 'reconnecting/broker_unreachable');
$node->safe_psql('postgres', "SELECT kafka_ingest.alter_connection('kafka', brokers => '@{[$kafka->brokers]}')");
$node->wait_for_position_sum('p', 2000);
pass('with the new port loading goes on');
is($node->worker_pid('p'), $pid, 'in the same process');
$node->ledger_check('target', $topic, { 0 => 1000, 1 => 1000 });

# options that change while it loads: nothing is lost, however late the broker is with what it got
my %produced = (0 => 1000, 1 => 1000);
my $under_way = 0;
foreach my $round (1 .. 3)
{
	my $before = 3000 * $round - 1000;
	my $producer = $kafka->produce_background($topic, count => 3000, from => $before, rate => 3000, set => 100);
	$node->wait_for_position_sum('p', $before + 500);
	$node->safe_psql('postgres', "SELECT kafka_ingest.alter_connection('kafka', properties => '{\"fetch.wait.max.ms\": ${round}000}')");
	$under_way++ if $node->position_sum('p') < $before + 3000;
	my $counts = $producer->finish;
	$produced{$_} += $counts->{$_} foreach keys %$counts;
	$node->wait_for_position_sum('p', $before + 3000);
}
ok($under_way, "options changed while messages were under way, $under_way of 3 times");
$node->ledger_check('target', $topic, \%produced);

# gone, and there again
$node->safe_psql('postgres', 'DROP SERVER kafka');
$kafka->produce($topic, count => 1000, from => 11_000);
$node->wait_for_state('p', qr{/connection_missing$});
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'), qr/connection/i, 'DROP SERVER: the state says so');
$node->connect_kafka($kafka);
$node->wait_for_position_sum('p', 12_000);
$node->ledger_check('target', $topic, { map { $_ => $produced{$_} + 500 } keys %produced },
	name => 'made again: it is taken up again, exactly once');

$node->stop;
done_testing();
