# A connection that changes is taken up within seconds by pipelines that are idle, too:
# no message has to come first.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('idle', partitions => 2);
my ($good, $port) = ($kafka->brokers, $kafka->port);

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql) }

# The worker's TCP connections; they are of the client it has now.
sub sockets
{
	my ($pid) = @_;
	my $is_tcp = {};
	foreach my $file ('/proc/net/tcp', '/proc/net/tcp6')
	{
		open my $table, '<', $file or next;
		while (my $line = <$table>)
		{
			$is_tcp->{ (split ' ', $line)[9] } = 1;
		}
		close $table;
	}
	my @sockets = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]$/ ? $1 : () } glob("/proc/$pid/fd/*");
	return { map { $_ => 1 } grep { $is_tcp->{$_} } @sockets };
}

# Others use this machine, too: a few seconds are promised.
sub ok_soon
{
	my ($name, $started) = @_;
	return cmp_ok(time - $started, '<', 10, sprintf '%s after %.1f s', $name, time - $started);
}

sub ok_state
{
	my ($state, $change) = @_;
	my $started = time;
	sql($change);
	$node->wait_for_state('p', $state);
	ok_soon("$change: $state", $started);
	return;
}

# Another client takes the place of the one there is, and runs.
sub ok_reopened
{
	my ($pid, $change) = @_;
	my $before = sockets($pid);
	isnt(scalar keys %$before, 0, 'the worker has TCP connections');
	my $started = time;
	sql($change);
	for (;;)
	{
		my $now = sockets($pid);
		last if %$now && !grep { $before->{$_} } keys %$now;
		last if time - $started > 60;
		usleep(50_000);
	}
	ok_soon("$change: another client", $started);
	$node->wait_for_state('p', 'running');
	return;
}

$node->connect_kafka($kafka);
sql(qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
$kafka->produce($topic, count => 100, partition => 0);
$node->wait_for_position_sum('p', 100);
$node->wait_for_state('p', 'running');
my $pid = $node->worker_pid('p');

# ---- to a place that is as good -------------------------------------------------------------

ok_reopened($pid, "SELECT kafka_ingest.alter_connection('kafka', brokers => 'localhost:$port')");
ok_reopened($pid, "ALTER SERVER kafka OPTIONS (SET brokers '$good')");
ok_reopened($pid, q{SELECT kafka_ingest.alter_connection('kafka', properties => '{"client.id": "another"}')});

# what is rolled back changes nothing
sql(q{BEGIN; SELECT kafka_ingest.alter_connection('kafka', brokers => '127.0.0.1:1'); ROLLBACK});
is($node->state('p'), 'running', 'rolled back: nothing happens');

# ---- to a wrong one, and back ------------------------------------------------------------------

foreach my $way ([ "SELECT kafka_ingest.alter_connection('kafka', brokers => '%s')", 'alter_connection()' ],
	[ "ALTER SERVER kafka OPTIONS (SET brokers '%s')", 'ALTER SERVER' ])
{
	my ($change) = @$way;
	ok_state('reconnecting/broker_unreachable', sprintf($change, '127.0.0.1:1'));
	ok_state('running', sprintf($change, $good));
}
ok_state('reconnecting/connection_missing', 'DROP SERVER kafka');
ok_state('running', "SELECT kafka_ingest.create_connection('kafka', brokers => '$good')");
ok_state('reconnecting/connection_missing', 'ALTER SERVER kafka RENAME TO other');
ok_state('running', 'ALTER SERVER other RENAME TO kafka');

is($node->worker_pid('p'), $pid, 'all of that in the same process');
is($node->position_sum('p'), 100, 'and without any message');
is(sql('SELECT count(*) FROM kafka_ingest.gaps'), 0, 'nor a gap');
$kafka->produce($topic, count => 100, partition => 1, from => 100);
$node->wait_for_position_sum('p', 200);
$node->ledger_check('target', $topic, { 0 => 100, 1 => 100 });

$node->stop;
done_testing();
