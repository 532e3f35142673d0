# What is lost in Kafka is never lost silently. on_offset_lost => 'earliest' and 'latest'
# go on where retention overran the position, while the pipeline was paused, the server
# down, or the worker busy: with a gap row and an event, everything else exactly once. A
# log that is shorter than the position, or another one, stops the pipeline whatever the
# policy: a topic made again, a log cut off, a swapped cluster.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
$node->connect_kafka($kafka);
$node->safe_psql('postgres', 'CREATE TABLE target (id bigint, _topic text, _partition int, _offset bigint)');

sub create_pipeline
{
	my ($name, $topic, $policy, %options) = @_;
	my $connection = $options{connection} // 'kafka';
	$node->safe_psql('postgres', "SELECT kafka_ingest.create_pipeline('$name', topic => '$topic',
		target => '" . ($options{target} // 'target') . "', connection => '$connection', on_offset_lost => '$policy')");
	return;
}

sub gaps
{
	my ($pipeline) = @_;
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset, reason
		FROM kafka_ingest.gaps WHERE pipeline = '$pipeline' ORDER BY 1, 2");
}

sub rows
{
	my ($topic) = @_;
	return $node->safe_psql('postgres', "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset)
		FROM target WHERE _topic = '$topic' GROUP BY 1 ORDER BY 1");
}

sub detail
{
	my ($pipeline) = @_;
	return $node->safe_psql('postgres', "SELECT detail FROM kafka_ingest.status WHERE pipeline = '$pipeline'");
}

# ---- retention, while it is paused -------------------------------------------------------

my $topic = $kafka->create_topic('lost_earliest', partitions => 2);
$kafka->produce($topic, count => 100, partition => $_) foreach 0, 1;
create_pipeline('earliest', $topic, 'earliest');
$node->wait_for_position_sum('earliest', 200);
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('earliest')});
$kafka->produce($topic, count => 400, partition => 1);
$kafka->produce($topic, count => 50, partition => 0);
$kafka->delete_records($topic, 1, 300);
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('earliest')});
$node->wait_for_position_sum('earliest', 650);
is(rows($topic), "0|150|150|0|149\n1|300|300|0|499", 'earliest: all that is there is loaded, once');
is(gaps('earliest'), '1|100|299|retention', 'earliest: the rest is a gap');
my $numbers = qr/"$topic" partition 1 .*\b300\b.*\b100\b.*\b300\b/;
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.gaps}), $numbers, 'with the numbers');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.events WHERE event = 'offset_lost'}),
	$numbers, 'and so is the event');
is($node->state('earliest'), 'running', 'earliest: it runs');

# once more: another gap
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('earliest')});
$kafka->produce($topic, count => 100, partition => 1);
$kafka->delete_records($topic, 1, 600);
$kafka->produce($topic, count => 10, partition => 1);
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('earliest')});
$node->wait_for_position_sum('earliest', 760);
is(gaps('earliest'), "1|100|299|retention\n1|500|599|retention", 'earliest: the next loss is the next gap');

# ---- retention, while the server is down ---------------------------------------------------

my $down = $kafka->create_topic('lost_latest');
$kafka->produce($down, count => 100);
create_pipeline('latest', $down, 'latest');
$node->wait_for_position_sum('latest', 100);
$node->stop;
$kafka->produce($down, count => 400);
$kafka->delete_records($down, 0, 300);
$node->start;
$node->wait_for_position_sum('latest', 500);
is(gaps('latest'), '0|100|499|retention', 'latest: all up to the end is a gap');
$kafka->produce($down, count => 10);
$node->wait_for_position_sum('latest', 510);
is(rows($down), '0|110|110|0|509', 'latest: what comes then is loaded, once');

# nothing lost: nothing is skipped
$node->stop;
$kafka->produce($down, count => 10);
$kafka->delete_records($down, 0, 510);
$node->start;
$node->wait_for_position_sum('latest', 520);
is(rows($down), '0|120|120|0|519', 'latest: only for a loss');

# ---- retention, while it is busy -----------------------------------------------------------

my $big = $kafka->create_topic('lost_busy');
$node->append_conf('postgresql.conf', 'kafka_ingest.worker_memory = 1MB');
$node->restart;
$node->safe_psql('postgres', 'CREATE TABLE held (id bigint, _offset bigint)');
create_pipeline('busy', $big, 'earliest', target => 'held');
$kafka->produce($big, count => 10);
$node->wait_for_position_sum('busy', 10);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
$kafka->produce($big, count => 100_000, from => 10);
$node->wait_for_state('busy', 'retrying/lock_timeout');
$kafka->delete_records($big, 0, 90_000);
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->wait_for_position_sum('busy', 100_010);
my ($first, $last, $reason) = split /\|/, $node->safe_psql('postgres',
	q{SELECT from_offset, to_offset, reason FROM kafka_ingest.gaps WHERE pipeline = 'busy'});
is("$last $reason", '89999 retention', "while it was busy: a gap from $first");
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset) FROM held'),
	join('|', (100_010 - ($last - $first + 1)) x 2), 'the rest is loaded, once');
is($node->safe_psql('postgres', "SELECT count(*) FROM held WHERE _offset BETWEEN $first AND $last"), '0',
	'and nothing of the gap');

# ---- a topic made again stops, whatever the policy -------------------------------------------

foreach my $case ([ 'fewer', 100 ], [ 'more', 500 ])
{
	my ($name, $count) = @$case;
	my $again = $kafka->create_topic("lost_$name");
	$kafka->produce($again, count => 300);
	create_pipeline($name, $again, 'latest');
	$node->wait_for_position_sum($name, 300);
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('$name')");
	$kafka->delete_topic($again);
	$kafka->create_topic('', name => $again);
	$kafka->produce($again, count => $count, from => 1_000_000);
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$name')");
	$node->wait_for_state($name, 'stopped/topic_recreated');
	like(detail($name), qr/"$again" partition 0\b.*\b300\b/, "made again with $name messages: stopped, with the numbers");
	is(gaps($name), '', "$name: nothing was skipped");
	$node->safe_psql('postgres', "SELECT kafka_ingest.seek('$name', start_offsets => '{\"0\": 50}', allow_duplicates => true)");
	$node->wait_for_position_sum($name, $count);
	is(gaps($name), '0|0|49|topic_recreated', "$name: what seek() leaves out of the new topic is a gap");
}

# ---- a log that is cut off --------------------------------------------------------------------

my $own = KafkaBroker->new();
$node->connect_kafka($own, name => 'own');
my @cut = map { $own->create_topic("cut_$_") } qw(shorter filled);
foreach my $each (@cut)
{
	$own->produce($each, count => 200);
	$own->produce($each, count => 100, from => 200);
	create_pipeline($each, $each, 'earliest', connection => 'own');
	$node->wait_for_position_sum($each, 300);
	$node->safe_psql('postgres', "SELECT kafka_ingest.pause('$each')");
}
$own->kill9;
$own->cut_log($_, 0, 250) foreach @cut;
$own->start;
my $end = $own->offsets($cut[0])->{0}{high};
cmp_ok($end, '<', 300, "the log ends at $end now");
$own->produce($cut[1], count => 200, from => 500_000);
foreach my $each (@cut)
{
	$node->safe_psql('postgres', "SELECT kafka_ingest.resume('$each')");
	$node->wait_for_state($each, 'stopped/topic_recreated');
	is(rows($each), '0|300|300|0|299', 'cut off: nothing was loaded again');
	is(gaps($each), '', 'nothing was skipped');
}
like(detail($cut[0]), qr/"$cut[0]" partition 0 ends at offset $end, .*\b300\b/, 'cut off: the numbers');
like(detail($cut[1]), qr/"$cut[1]" partition 0 .*\b300: .*\b299\b.* is not the one that was loaded/,
	'cut off and filled again: the message that differs');

# ---- another cluster ----------------------------------------------------------------------------

my $other = KafkaBroker->new();
my %swapped = (paused => $own->create_topic('swapped_paused'), running => $own->create_topic('swapped_running'));
foreach my $name (sort keys %swapped)
{
	$own->produce($swapped{$name}, count => 100);
	$other->create_topic('', name => $swapped{$name});
	$other->produce($swapped{$name}, count => 200);
	create_pipeline($name, $swapped{$name}, 'latest', connection => 'own');
	$node->wait_for_position_sum($name, 100);
}
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('paused')});
$node->safe_psql('postgres', "SELECT kafka_ingest.alter_connection('own', brokers => '" . $other->brokers . q{');
	SELECT kafka_ingest.resume('paused')});
foreach my $name (sort keys %swapped)
{
	$node->wait_for_state($name, 'stopped/topic_recreated');
	like(detail($name), qr/"own" now leads to Kafka cluster \S+, .* cluster \S+/, "swapped while $name: both clusters are named");
	is(rows($swapped{$name}), '0|100|100|0|99', 'nothing of the other is loaded');
}
$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('paused', start_from => 'latest')});
$other->produce($swapped{paused}, count => 10);
$node->wait_for_position_sum('paused', 210);
is(gaps('paused'), '0|0|199|topic_recreated', 'seek() leads on, and says what is not loaded of the other');

$node->stop;
done_testing();
