# How messages come from the client library into batches: they are copied with
# their headers, taken ahead in a thread while a batch is applied, and from all
# partitions in turns, side by side in time; what was taken ahead is dropped when
# the position moves.

use strict;
use warnings;

use IngestCluster;
use JSON::PP;
use KafkaBroker;
use List::Util qw(sum);
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# ---- headers -------------------------------------------------------------------------

# Message number n: without headers, with one, or with several; with and without
# a key, and of different lengths.
sub message
{
	my ($n) = @_;
	my @headers = ([], [ [ n => $n ] ], [ [ first => "f$n" ], [ none => undef ], [ empty => '' ], [ long => 'y' x ($n % 300) ] ]);
	# a chunk has 120 kB, and what takes more than half of one has its own
	my $length = $n % 500 == 0 ? 130_000 : $n % 300 == 0 ? 70_000 : $n % 100 == 0 ? 5000 : $n % 40;
	my %value = (n => $n, pad => 'x' x $length);
	return {
		key => $n % 2 ? "k$n" : undef,
		value => encode_json(\%value),
		headers => $headers[ $n * 7 % 11 % 3 ]
	};
}

my $count = 3000;
my @messages = map { message($_) } 0 .. $count - 1;
my $pads = sum map { length decode_json($_->{value})->{pad} } @messages;
foreach my $codec (qw(uncompressed lz4))
{
	my $topic = $kafka->create_topic("headers_$codec", config => { "compression.type" => $codec });
	$kafka->produce_messages($topic, @messages);
	query(qq{CREATE TABLE $codec (n int, pad text, _key text, _headers jsonb);
		SELECT kafka_ingest.create_pipeline('$codec', topic => '$topic', target => '$codec')});
	$node->wait_for_position_sum($codec, $count);
	is(query("SELECT count(*), count(DISTINCT n), sum(length(pad)) FROM $codec"), "$count|$count|$pads", "$codec: every message is there");
	is( query(qq{SELECT count(*), min(n) FROM $codec WHERE _key IS DISTINCT FROM CASE WHEN n % 2 = 1 THEN 'k' || n END
			OR _headers IS DISTINCT FROM CASE n * 7 % 11 % 3 WHEN 0 THEN '{}' WHEN 1 THEN jsonb_build_object('n', n::text)
				ELSE jsonb_build_object('first', 'f' || n, 'none', null, 'empty', '', 'long', repeat('y', n % 300)) END}),
		'0|', "$codec: each with its own headers");
	is(query("SELECT count(DISTINCT _headers) > 1000 FROM $codec"), 't', "$codec: which differ");
}

# ---- ahead ---------------------------------------------------------------------------

# The threads of a worker that are not the library's.
sub own_threads
{
	my ($pipeline) = @_;
	my $pid = $node->worker_pid($pipeline);
	my $own = 0;
	foreach my $file (glob "/proc/$pid/task/*/comm")
	{
		open my $comm, '<', $file or next;
		$own++ if readline($comm) !~ /^rdk:/;
	}
	return $own;
}

my $backlog = 100_000;
my $goal = $backlog - 5000;
my $topic = $kafka->create_topic('backlog');
$kafka->produce($topic, count => $backlog, template => '{"n":%d}');
query(q{CREATE TABLE ahead (n int);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
	CREATE TRIGGER slow AFTER INSERT ON ahead FOR EACH STATEMENT EXECUTE FUNCTION slow()});
query("SELECT kafka_ingest.create_pipeline('ahead', topic => '$topic', target => 'ahead', batch_max_messages => 100)");
$node->wait_for_position_sum('ahead', 1000);
is(own_threads('ahead'), 2, 'while there is a backlog, a thread takes messages ahead');

query(q{SELECT kafka_ingest.pause('ahead')});
my $paused = $node->position_sum('ahead');
cmp_ok($paused, '<', $goal, "paused at $paused");
is(query('SELECT count(*), max(n) FROM ahead'), "$paused|" . ($paused - 1), 'what was taken ahead is not loaded');
query(q{SELECT kafka_ingest.resume('ahead')});
$node->wait_for_position_sum('ahead', $paused + 500);

my $moved = query(qq{SELECT old_offset FROM kafka_ingest.seek('ahead', start_offsets => '{"0": $goal}', reason => 'test')});
cmp_ok($moved, '<', $goal, "moved from $moved");
$node->wait_for_position_sum('ahead', $backlog);
is(query("SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE n >= $moved AND n < $goal) FROM ahead"),
	join('|', ($moved + 5000) x 2, 0), 'and nothing between was loaded, nothing twice');
is(query(q{SELECT from_offset, to_offset FROM kafka_ingest.gaps WHERE pipeline = 'ahead'}), "$moved|" . ($goal - 1), 'as the gap says');

query(q{CREATE TABLE idle (n int)});
my $quiet = $kafka->create_topic('quiet');
$kafka->produce($quiet, count => 10, template => '{"n":%d}');
query("SELECT kafka_ingest.create_pipeline('idle', topic => '$quiet', target => 'idle')");
$node->wait_for_position_sum('idle', 10);
is(own_threads('idle'), 1, 'a pipeline without a backlog has no such thread');

# ---- turns ---------------------------------------------------------------------------

# Six partitions with a backlog that is more than what is asked for at once: all
# advance.
my $each = 60_000;
my $six = $kafka->create_topic('six', partitions => 6);
$kafka->produce($six, count => 6 * $each, set => $each, template => '{"n":%d}');
query(q{CREATE TABLE six (n int)});
query("SELECT kafka_ingest.create_pipeline('six', topic => '$six', target => 'six', paused => true)");
query(q{CALL kafka_ingest.run('six', max_batches => 12)});
is(query(q{SELECT sum(next_offset), count(*) FROM kafka_ingest.partition_status WHERE pipeline = 'six' AND next_offset > 0}),
	'120000|6', 'every partition advances while others have a backlog');
query(q{SELECT kafka_ingest.resume('six')});
$node->wait_for_position_sum('six', 6 * $each);
is(query('SELECT count(*), count(DISTINCT n) FROM six'), join('|', (6 * $each) x 2), 'until every message is there');

# Loads partitions with a backlog, in order of partition as they come from the
# broker, each with so many messages whose times begin somewhere and go on by so many
# milliseconds.
sub load_clocks
{
	my ($name, @clocks) = @_;
	my $topic = $kafka->create_topic($name, partitions => scalar @clocks, config => { 'retention.ms' => -1 });
	my $all = 0;
	foreach my $partition (0 .. $#clocks)
	{
		my ($count, $start, $step) = @{ $clocks[$partition] };
		$kafka->produce_messages($topic,
			map { { partition => $partition, value => qq({"n":$_}), timestamp => $start + $_ * $step } } 1 .. $count);
		$all += $count;
	}
	query(qq{CREATE TABLE $name (n int, _partition int, _timestamp timestamptz);
		CREATE TRIGGER slow AFTER INSERT ON $name FOR EACH STATEMENT EXECUTE FUNCTION slow();
		SELECT kafka_ingest.create_pipeline('$name', topic => '$topic', target => '$name', batch_max_messages => 1000)});
	$node->wait_for_position_sum($name, $all);
	is( query(qq{SELECT count(*), count(DISTINCT (_partition, n)), count(*) FILTER (WHERE n <= before) FROM
			(SELECT *, lag(n) OVER (PARTITION BY _partition ORDER BY ctid) AS before FROM $name) rows}),
		join('|', $all, $all, 0), "$name: every message once, those of a partition in order");
	return;
}

# Of batches 6 to 20 of such a load: how many these are, their messages by partition,
# and the most seconds that the first two partitions were apart at the end of one.
# A broker that stands still for a moment may answer for a partition when batch 6 is
# over: such a load says nothing, and is tried again.
sub turns
{
	my ($base, @clocks) = @_;
	my $name;
	foreach my $try (1 .. 5)
	{
		$name = $try == 1 ? $base : "${base}_$try";
		load_clocks($name, @clocks);
		last if @clocks == query(qq{SELECT count(DISTINCT partition) FROM
			(SELECT row_number() OVER (ORDER BY min(ctid)) AS i, array_agg(_partition) AS partitions FROM $name GROUP BY xmin) batches,
			unnest(partitions) partition WHERE i < 6});
		note("$name: not all partitions were at hand when batch 6 began");
	}
	my $filter = 'FILTER (WHERE _partition =';
	return split /\|/, query(qq{SELECT count(*), sum(a), sum(b), sum(c), max(apart) FROM
		(SELECT row_number() OVER (ORDER BY min(ctid)) AS i, count(*) $filter 0) AS a, count(*) $filter 1) AS b, count(*) $filter 2) AS c,
			abs(extract(epoch FROM max(_timestamp) $filter 0) - max(_timestamp) $filter 1))) AS apart
		FROM $name GROUP BY xmin) batches WHERE i BETWEEN 6 AND 20});
}

my $now = 1_700_000_000_000;
my $year = 365 * 86400 * 1000;

# the second one has a third of the messages a second; a third one is ahead of both
my ($batches, $a, $b, $c, $apart) = turns('sides', [ 20_000, $now, 1 ], [ 10_000, $now, 3 ], [ 5000, $now + $year, 1 ]);
is($batches, 15, 'sides: batches looked at');
cmp_ok($apart, '<', 2, "sides: the first two are never more than $apart s apart, of 20 s and 30 s");
ok($a > 2 * $b && $c > 500, "sides: the second one has shorter turns, and the third one has some ($a, $b, $c of 15000)");

is(query(q{SELECT count(*) > 30, count(*) FILTER (WHERE first_message_at > last_message_at) FROM kafka_ingest.recent_batches WHERE pipeline = 'sides'}),
	't|0', 'sides: the times of a batch are its earliest and its latest');

# one that is a year behind cannot come up: both have the same
($batches, $a, $b) = turns('behind', [ 20_000, $now - $year, 1 ], [ 20_000, $now, 1 ]);
is($batches, 15, 'behind: batches looked at');
ok($a > 6000 && $b > 6000, "behind: a partition that cannot come up is not preferred ($a, $b of 15000)");

# one that most of what is at hand is of, has longer turns than the others
($batches, $a, $b, $c) = turns('much', [ 40_000, $now, 0 ], [ 4000, $now, 0 ], [ 4000, $now, 0 ]);
is($batches, 15, 'much: batches looked at');
ok($a > 10_000 && $b > 300, "much: a partition with very much has long turns, and the others have some ($a, $b, $c of 15000)");

$node->stop;
done_testing();
