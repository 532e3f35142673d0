# pg_terminate_backend on a worker or on the launcher: they come back, and
# nothing is lost or doubled. How to stop a pipeline is pause().

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('terminated', partitions => 2);
my $find_launcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'kafka_ingest launcher'};

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 5000, set => 100);

my %pids;
for my $round (1 .. 3)
{
	my $sum = $node->position_sum('p');
	$node->wait_for_position_sum('p', $sum + 500);
	my $pid = $node->worker_pid('p');
	$pids{$pid} = 1;
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', "worker $pid is terminated");
	$node->poll_until("SELECT pids <> '{}' AND pids <> '{$pid}' FROM kafka_ingest.status", 't');
}
is(scalar keys %pids, 3, 'each time another worker came');
ok($producer->is_running, 'while messages were coming');

my $launcher = $node->safe_psql('postgres', $find_launcher);
is($node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)"), 't', 'the launcher is terminated');
$node->poll_until($find_launcher, qr/^(?!$launcher$)\d+$/);
pass('another one comes');
my $sum = $node->position_sum('p');
$node->wait_for_position_sum('p', $sum + 500);
pass('the pipeline loads');

# the new launcher is in charge: of the worker that it did not start ...
my $worker = $node->worker_pid('p');
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$node->poll_until("SELECT count(*) FROM pg_stat_activity WHERE pid = $worker", '0');
is($node->state('p'), 'paused', 'it ends the worker of a paused pipeline');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});

# ... of a new pipeline, and of one more termination
my $other = $kafka->create_topic('terminated2');
$kafka->produce($other, count => 500);
$node->safe_psql('postgres', qq{
	CREATE TABLE other (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('other', topic => '$other', target => 'other')});
$node->wait_for_position_sum('other', 500);
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $node->worker_pid('p') . ')');

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
$node->wait_for_position_sum('p', $produced->{0} + $produced->{1});
$node->ledger_check('target', $topic, $produced);
$node->ledger_check('other', $other, { 0 => 500 });
# the last one to be terminated may have loaded all before it ended
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '2');
pass('one worker for each pipeline');

$node->stop;
done_testing();
