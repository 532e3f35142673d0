# seek() moves positions, and leaves a record of it.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('seek', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
$kafka->produce($topic, count => 1000);
$node->wait_for_position_sum('p', 1000);

sub seek_to
{
	my ($arguments) = @_;
	return $node->safe_psql('postgres',
		"SELECT topic = '$topic', partition, old_offset, new_offset FROM kafka_ingest.seek('p', $arguments)");
}

# It fails, and nothing is half-done.
sub refused
{
	my ($arguments, $pattern, $name) = @_;
	my $trace = q{SELECT (SELECT count(*) FROM kafka_ingest.events), (SELECT count(*) FROM kafka_ingest.gaps),
		(SELECT array_agg(next_offset ORDER BY partition) FROM kafka_ingest.partition_status WHERE pipeline = 'p')};
	my $before = $node->safe_psql('postgres', $trace);
	my $err;
	my $status = $node->psql('postgres',
		"\\set VERBOSITY verbose\nSELECT * FROM kafka_ingest.seek('p', $arguments)", stderr => \$err);
	isnt($status, 0, "refused: $name");
	like($err, $pattern, $name);
	return is($node->safe_psql('postgres', $trace), $before, "$name: nothing is done");
}

sub gaps
{
	return $node->safe_psql('postgres', q{SELECT partition, from_offset, to_offset, reason, detail, recorded_by
		FROM kafka_ingest.gaps WHERE pipeline = 'p' ORDER BY 1, 2});
}

# ---- refusals --------------------------------------------------------------------------

refused(q{start_offsets => '{"0": 100}'}, qr/55000.*DETAIL:.*500.*HINT:.*allow_duplicates/s, 'backwards');
refused(q{start_offsets => '{"0": 501}'}, qr/22023.*501.*beyond the end.*500/s, 'beyond the end');
refused(q{start_offsets => '{"7": 0}'}, qr/22023.*partition 7/, 'a partition that is not there');
refused(q{start_offsets => '{"1": 500, "0": 501}'}, qr/22023/, 'one good and one bad');
refused(q{start_offsets => '{"0": "x"}'}, qr/22023/, 'no number');
refused(q{start_offsets => '{"a": 1}'}, qr/22023/, 'no partition');
refused(q{start_offsets => '[1]'}, qr/22023/, 'no object');
refused(q{start_offsets => '{"0": 1.5}'}, qr/22023/, 'no integer');
refused(q{start_offsets => NULL}, qr/22023/, 'nothing');

# ---- forward, in a pipeline that runs ----------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$kafka->produce($topic, count => 1000, from => 1000);
is(seek_to(q{start_offsets => '{"0": 700}', reason => 'not wanted'}), 't|0|500|700', 'forward');
is(gaps(), '0|500|699|seek|not wanted|postgres', 'leaves a gap row');
like( $node->safe_psql('postgres', q{SELECT detail || ' by ' || by FROM kafka_ingest.events WHERE event = 'seek'}),
	qr/partition 0.*500.*700.*not wanted by postgres/, 'and an event');
is($node->safe_psql('postgres', q{SELECT gaps FROM kafka_ingest.status}), 1, 'status counts it');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->wait_for_position_sum('p', 2000);
is( $node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT _offset),
		count(*) FILTER (WHERE _offset BETWEEN 500 AND 699) FROM target WHERE _partition = 0}),
	'800|800|0', 'the gap is not loaded, the rest is, once');
is( $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset) FROM target WHERE _partition = 1'),
	'1000|1000', 'the other partition is untouched');

# rolled back
$node->safe_psql('postgres', q{BEGIN; SELECT * FROM kafka_ingest.seek('p', start_offsets => '{"0": 0}', allow_duplicates => true); ROLLBACK});
is($node->position_sum('p'), 2000, 'rolled back: nothing moved');

# while the worker runs and is idle
is(seek_to(q{start_offsets => '{"0": -10, "1": 995}', allow_duplicates => true}),
	"t|0|1000|990\nt|1|1000|995", 'backwards when it is allowed; negative: from the end');
$node->wait_for_position_sum('p', 2000);
is( $node->safe_psql('postgres', q{SELECT _partition, count(*), count(DISTINCT _offset), min(_offset) FILTER (WHERE n > 1)
		FROM (SELECT *, count(*) OVER (PARTITION BY _partition, _offset) AS n FROM target) t GROUP BY 1 ORDER BY 1}),
	"0|810|800|990\n1|1005|1000|995", 'those rows are loaded again');
is(gaps(), '0|500|699|seek|not wanted|postgres', 'backwards leaves no gap');

# the position it has
is(seek_to(q{start_offsets => '{"0": 1000}'}), 't|0|1000|1000', 'to where it stands');
is(gaps(), '0|500|699|seek|not wanted|postgres', 'leaves no gap either');

# while messages come; the pipeline is paused until it is far behind
my $producer = $kafka->produce_background($topic, count => 10_000, from => 2000, rate => 4000, set => 100, partition => 1);
$node->wait_for_position_sum('p', 2500);
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
my $far = $kafka->offsets($topic)->{1}{high} + 500;
while ($kafka->offsets($topic)->{1}{high} < $far)
{
	die 'the producer ended too early' if !$producer->is_running;
}
my ($before, $after) = seek_to(q{start_offsets => '{"1": -1}'}) =~ /^t\|1\|(\d+)\|(\d+)$/;
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
cmp_ok($after - $before, '>=', 499, 'forward, while messages come: ' . ($after - $before));
$producer->finish;
$node->wait_for_position_sum('p', 12_000);
my $skipped = $after - $before;
is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT _offset), count(*) FILTER (WHERE _offset >= $before AND _offset < $after)
		FROM target WHERE _partition = 1 AND _offset >= 1000"),
	join('|', (10_000 - $skipped) x 2, 0), "exactly the gap of $skipped messages is missing");

# ---- before the first contact -----------------------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE TABLE second (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('second', topic => '$topic', target => 'second', paused => true)});
is( $node->safe_psql('postgres', q{SELECT partition, old_offset, new_offset
		FROM kafka_ingest.seek('second', start_offsets => '{"0": 600}')}),
	'0||600', 'before the first contact there is no old offset');
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('second')});
$node->wait_for_position_sum('second', 12_000);
is( $node->safe_psql('postgres', 'SELECT _partition, count(*), min(_offset) FROM second GROUP BY 1 ORDER BY 1'),
	"0|400|600\n1|11000|0", 'it is loaded from there, the other partition from its start');
is( $node->safe_psql('postgres', q{SELECT partition, from_offset, to_offset FROM kafka_ingest.gaps WHERE pipeline = 'second'}),
	'0|0|599', 'what is never loaded is on record');

# ---- no broker, no topic --------------------------------------------------------------

my $err;
$node->safe_psql('postgres', q{
	SELECT kafka_ingest.create_pipeline('nothing', topic => 'not_there', target => 'second', paused => true)});
$node->psql('postgres', q{SELECT kafka_ingest.seek('nothing', start_offsets => '{"0": 1}')}, stderr => \$err);
like($err, qr/topic "not_there" does not exist/, 'no topic');

$node->stop;
done_testing();
