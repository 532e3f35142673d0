# partitions => only these; workers => n: each partition is loaded by exactly one
# worker, also while their number changes.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('shared', partitions => 5);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE odd (id bigint, _partition int, _offset bigint, pid int DEFAULT pg_backend_pid());
	CREATE TABLE even (LIKE odd INCLUDING ALL);
	CREATE TABLE target (LIKE odd INCLUDING ALL);
	SELECT kafka_ingest.create_pipeline('odd', topic => '$topic', target => 'odd', partitions => '{1,3}');
	SELECT kafka_ingest.create_pipeline('even', topic => '$topic', target => 'even', partitions => '{4,2,0}');
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', workers => 2, batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 5000, set => 100);
$node->wait_for_position_sum('p', 2000);

my ($first, $second) = $node->worker_pids('p');
ok($first && $second && $first != $second, 'two workers');
is( $node->safe_psql('postgres', qq{SELECT partition, worker_pid IN ($first, $second)
		FROM kafka_ingest.partition_status WHERE pipeline = 'p' ORDER BY 1}),
	join("\n", map { "$_|t" } 0 .. 4), 'each partition has one of them');
is( $node->safe_psql('postgres', 'SELECT _partition, count(DISTINCT pid) FROM target GROUP BY 1 ORDER BY 1'),
	join("\n", map { "$_|1" } 0 .. 4), 'and no row came by the other');
is( $node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM target'), 2, 'both load');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM (
		SELECT p FROM kafka_ingest.recent_batches, jsonb_each(offsets) AS t (topic, ranges),
			jsonb_object_keys(ranges) AS p WHERE pipeline = 'p'
		GROUP BY p HAVING count(DISTINCT worker_pid) > 1) t}),
	0, 'recent_batches say the same');

# other numbers of workers, while it loads: a worker more, many more than partitions, only one
foreach my $workers (3, 7, 1)
{
	$node->safe_psql('postgres', "SELECT kafka_ingest.alter_pipeline('p', workers => $workers)");
	$node->poll_until("SELECT workers = $workers AND state = 'running' FROM kafka_ingest.status WHERE pipeline = 'p'", 't');
	my $sum = $node->position_sum('p');
	$node->wait_for_position_sum('p', $sum + 1000);
	pass("$workers workers load");
}
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}),
	3, 'and those that are too many have ended');

# a partition changes hands: from one pipeline to another, as two databases would do it
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT kafka_ingest.pause('odd');
	SELECT kafka_ingest.alter_pipeline('odd', partitions => '{1}');
	SELECT kafka_ingest.resume('odd');
	COMMIT});
my $three = $node->safe_psql('postgres', q{SELECT next_offset FROM kafka_ingest.partition_status
	WHERE pipeline = 'odd' AND partition = 3});
my $sum = $node->safe_psql('postgres', q{SELECT next_offset FROM kafka_ingest.partition_status
	WHERE pipeline = 'odd' AND partition = 1});
$node->poll_until("SELECT next_offset > $sum + 200 FROM kafka_ingest.partition_status WHERE pipeline = 'odd' AND partition = 1", 't');
is( $node->safe_psql('postgres', q{SELECT max(_offset) + 1 FROM odd WHERE _partition = 3}),
	$three, 'a partition that was taken out is not loaded on');
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('odd', reset => '{partitions}')});
ok($producer->is_running, 'all of that while messages were coming');

$producer->kill9;
my $offsets = $kafka->offsets($topic);
my %produced = map { $_ => $offsets->{$_}{high} } keys %$offsets;
is($node->safe_psql('postgres', "SELECT kafka_ingest.wait_until_caught_up('$_', '60s')"), 't', "$_ is caught up")
  foreach qw(odd even p);
$node->ledger_check('target', $topic, \%produced);
$node->ledger_check('even', $topic, { map { $_ => $produced{$_} } 0, 2, 4 },
	name => 'only the partitions of the list');
# all partitions now: those new to the pipeline are loaded from 0
$node->ledger_check('odd', $topic, \%produced, name => 'the list was reset: all partitions, none lost or doubled');

# ---- refusals -------------------------------------------------------------------------

my $err;
foreach my $options ("workers => 0", "workers => -1", "partitions => '{}'", "partitions => '{-1}'",
	"partitions => '{{1,2}}'", "partitions => '{NULL}'", "workers => 100000")
{
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.alter_pipeline('p', $options)", stderr => \$err);
	like($err, qr/ERROR:  22\w{3}/, "refused: $options");
}

$node->stop;
done_testing();
