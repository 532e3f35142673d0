# Where a pipeline starts: earliest, latest, a timestamp, given offsets. What is
# passed over is on record as gap rows.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('start', partitions => 3);
my $pipelines = 0;

$node->connect_kafka($kafka);
$kafka->produce($topic, count => 300, set => 100);    # 100 in each partition

# Makes a pipeline, waits until it is at the end; its name, and its table's.
sub load
{
	my ($options, %how) = @_;
	my $p = 'p' . ++$pipelines;
	my $from = $how{topic} // $topic;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $p (id bigint, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('$p', topic => '$from', target => '$p' $options)});
	return $p if $how{no_wait};
	is($node->safe_psql('postgres', "SELECT kafka_ingest.wait_until_caught_up('$p', '60s')"), 't', "caught up: $options");
	return $p;
}

sub rows
{
	my ($p) = @_;
	return $node->safe_psql('postgres', "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset) FROM $p GROUP BY 1 ORDER BY 1");
}

sub gaps
{
	my ($p) = @_;
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset, reason FROM kafka_ingest.gaps
		WHERE pipeline = '$p' ORDER BY 1");
}

my $earliest = load('');
is(rows($earliest), "0|100|100|0\n1|100|100|0\n2|100|100|0", 'the default: everything');
is(gaps($earliest), '', 'without a gap');
my $earliest_said = load(", start_from => 'earliest'");
is(rows($earliest_said), rows($earliest), 'earliest: the same');

my $latest = load(", start_from => 'latest'");
is(rows($latest), '', 'latest: nothing yet');
is(gaps($latest), "0|0|99|start\n1|0|99|start\n2|0|99|start", 'and a gap row for each partition');

my $offsets = load(q{, start_offsets => '{"0": 60, "1": -30, "2": -1000}'});
is(rows($offsets), "0|40|40|60\n1|30|30|70\n2|100|100|0", 'start_offsets, negative ones, too');
is(gaps($offsets), "0|0|59|start\n1|0|69|start", 'and their gap rows');
my $some = load(qq{, start_offsets => '{"$topic": {"1": 100}}'});
is(rows($some), "0|100|100|0\n2|100|100|0", 'partitions not named start at earliest');
is(gaps($some), '1|0|99|start', 'one gap');

# beyond the end nothing can be right
my $beyond = load(q{, start_offsets => '{"0": 101}'}, no_wait => 1);
$node->wait_for_state($beyond, qr/^stopped/);
like($node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$beyond'"),
	qr/partition 0.*101.*99/, 'beyond the end: stopped, with the numbers');

# later messages: each goes on from where it is
$kafka->produce($topic, count => 300, from => 300, set => 100);
$node->wait_for_position_sum($_, 600) foreach $earliest, $latest, $offsets, $some;
is(rows($earliest), "0|200|200|0\n1|200|200|0\n2|200|200|0", 'later messages: earliest');
is(rows($latest), "0|100|100|100\n1|100|100|100\n2|100|100|100", 'later messages: latest');
is(rows($offsets), "0|140|140|60\n1|130|130|70\n2|200|200|0", 'later messages: start_offsets');
$node->restart;
$kafka->produce($topic, count => 300, from => 600, set => 100);
$node->wait_for_position_sum($_, 900) foreach $earliest, $latest;
is(rows($latest), "0|200|200|100\n1|200|200|100\n2|200|200|100", 'and after a restart: the start counts once');
is($node->safe_psql('postgres', "SELECT count(*) FROM kafka_ingest.gaps WHERE pipeline = '$latest'"), 3, 'so do its gaps');

# ---- a new partition ------------------------------------------------------------------

$kafka->create_partitions($topic, 4);
$kafka->produce($topic, count => 100, from => 900, partition => 3);
$node->wait_for_position_sum($_, 1000) foreach $earliest, $latest;
is($node->safe_psql('postgres', "SELECT count(*), min(_offset) FROM $latest WHERE _partition = 3"),
	'100|0', 'a partition that appears later starts at 0, latest or not');

# ---- a log that does not begin at 0 ------------------------------------------------------

$kafka->delete_records($topic, 0, 50);
my $shorter = load('');
like(rows($shorter), qr/^0\|250\|250\|50$/m, 'earliest is where the log begins');
is(gaps($shorter), '', 'which is no gap of ours');
my $late = load(q{, start_offsets => '{"0": 60}'});
is(gaps($late), '0|50|59|start', 'a gap is of messages that were there');
my $lost = load(q{, start_offsets => '{"0": 10}'}, no_wait => 1);
$node->wait_for_state($lost, 'stopped/offset_lost');
pass('before the beginning: stopped');
my $emptied = $kafka->create_topic('emptied');
$kafka->produce($emptied, count => 5);
$kafka->delete_records($emptied, 0, 5);
my $empty = load(q{, start_offsets => '{"0": 3}'}, no_wait => 1, topic => $emptied);
$node->wait_for_state($empty, 'stopped/offset_lost');
like($node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$empty'"),
	qr/at offset 3, but the partition is empty, its next offset is 5\./, 'an empty partition holds no range');

# ---- a timestamp --------------------------------------------------------------------------

# times of long ago, which retention must leave alone
my $timed = $kafka->create_topic('timed', partitions => 2, config => { 'retention.ms' => -1 });
my $ms = 1_700_000_000_000;
$kafka->produce_messages($timed,
	map { { partition => $_ % 2, value => qq({"id": $_}), timestamp => $ms + 1000 * $_ } } 0 .. 99);
my $at = $node->safe_psql('postgres', "SELECT to_timestamp(($ms + 50500) / 1000.0)");
my $by_time = load(", start_timestamp => '$at'", topic => $timed);
is($node->safe_psql('postgres', "SELECT min(id), max(id), count(*), count(DISTINCT id) FROM $by_time"),
	'51|99|49|49', 'start_timestamp: the messages from then on');
is(gaps($by_time), "0|0|25|start\n1|0|24|start", 'those before are gaps');
my $exact = load(", start_timestamp => to_timestamp(($ms + 50000) / 1000.0)", topic => $timed);
is($node->safe_psql('postgres', "SELECT min(id), count(*) FROM $exact"), '50|50', 'a message of that very time is loaded');
my $future = load(", start_timestamp => '2100-01-01'", topic => $timed);
is(rows($future), '', 'a time to come: the end');
is(gaps($future), "0|0|49|start\n1|0|49|start", 'all of it is a gap');
my $past = load(", start_timestamp => '1999-01-01'", topic => $timed);
is($node->safe_psql('postgres', "SELECT count(*) FROM $past"), '100', 'a time before all: everything');
is(gaps($past), '', 'without a gap');

# ---- what excludes each other ------------------------------------------------------------------

my $err;
foreach my $options (q{start_from => 'latest', start_offsets => '{"0": 1}'},
	q{start_from => 'earliest', start_timestamp => '2020-01-01'},
	q{start_from => 'middle'}, q{start_offsets => '{"0": "x"}'}, q{start_offsets => '[]'},
	q{start_timestamp => 'infinity'})
{
	my $status = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.create_pipeline('bad',
		topic => '$topic', target => 'p1', $options)", stderr => \$err);
	like($err, qr/22023/, "refused: $options");
}

$node->stop;
done_testing();
