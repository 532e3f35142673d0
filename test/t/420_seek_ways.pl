# The ways to say where to seek to: the beginning, the end, a time, all for every
# partition at once; what is refused; which stops end with it; and that gap rows that
# touch each other become one.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('seek_ways', partitions => 2);
my $node = IngestCluster->new('main');

# message i of each partition is of second i
my $epoch = time - 1000;
$kafka->produce_messages($topic, map {
	my $i = $_;
	map { { partition => $_, value => qq({"id": $i}), timestamp => ($epoch + $i) * 1000 } } 0, 1
} 0 .. 99);
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
$node->wait_for_position_sum('p', 200);

sub seek_to
{
	my ($arguments, $pipeline) = @_;
	$pipeline //= 'p';
	return $node->safe_psql('postgres',
		"SELECT partition, old_offset, new_offset FROM kafka_ingest.seek('$pipeline', $arguments) ORDER BY 1");
}

sub refused
{
	my ($arguments, $pattern, $name) = @_;
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT * FROM kafka_ingest.seek('p', $arguments)", stderr => \$err);
	return like($err, $pattern, "refused: $name");
}

sub gaps
{
	my ($pipeline) = @_;
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset, reason, detail
		FROM kafka_ingest.gaps WHERE pipeline = '$pipeline' ORDER BY 1, 2");
}

# ---- refusals --------------------------------------------------------------------------

refused(q{reason => 'nowhere'}, qr/22023.*exactly one/s, 'no place');
refused(q{start_from => 'latest', start_timestamp => '2024-01-01'}, qr/22023.*exactly one/s, 'two places');
refused(q{start_from => 'earliest', start_offsets => '{"0": 1}'}, qr/22023.*exactly one/s, 'two places, with offsets');
refused(q{start_from => 'middle'}, qr/22023.*"middle".*'earliest', 'latest'/s, 'another word');
refused(q{start_from => 'committed'}, qr/22023.*"committed"/s, 'published offsets are never read back');
refused(q{start_timestamp => 'infinity'}, qr/22023.*finite/s, 'the end of time');
refused(q{start_offsets => '{}'}, qr/22023.*no partition/s, 'no partition');
refused(q{start_from => 'earliest'}, qr/55000.*back to offset 0.*allow_duplicates/s, 'back to the beginning');
refused("start_timestamp => to_timestamp($epoch + 50)", qr/55000.*back to offset 50/s, 'back in time');
is($node->position_sum('p'), 200, 'nothing has moved');

# ---- all partitions --------------------------------------------------------------------

is(seek_to("start_timestamp => to_timestamp($epoch + 90), allow_duplicates => true"),
	"0|100|90\n1|100|90", 'a time moves all partitions');
$node->wait_for_position_sum('p', 200);
is($node->safe_psql('postgres', 'SELECT count(*) FROM target'), '220', 'ten messages of each are loaded again');
is(seek_to("start_timestamp => to_timestamp($epoch + 1000)"), "0|100|100\n1|100|100",
	'a time behind all messages is the end');
is(seek_to(q{start_from => 'earliest', allow_duplicates => true}), "0|100|0\n1|100|0", 'the beginning');
$node->wait_for_position_sum('p', 200);
is($node->safe_psql('postgres', 'SELECT count(*) FROM target'), '420', 'all is loaded again');
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$kafka->produce($topic, count => 50, partition => $_) foreach 0, 1;
is(seek_to(q{start_from => 'latest', reason => 'old'}), "0|100|150\n1|100|150", 'the end');
is(gaps('p'), "0|100|149|seek|old\n1|100|149|seek|old", 'gap rows for each partition');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'p' AND event = 'seek'
		AND detail LIKE '%partition 0 from % to %, partition 1 from % to %'}), '4', 'each is one event');

# ---- gap rows that touch become one ------------------------------------------------------

$kafka->produce($topic, count => 50, partition => 0);
seek_to(q{start_offsets => '{"0": 170}', reason => 'old'});
is(gaps('p'), "0|100|169|seek|old\n1|100|149|seek|old", 'right behind: the row grows');
seek_to(q{start_offsets => '{"0": 175}', reason => 'new'});
is(gaps('p'), "0|100|169|seek|old\n0|170|174|seek|new\n1|100|149|seek|old", 'another reason: another row');
seek_to(q{start_offsets => '{"0": 60}', allow_duplicates => true});
seek_to(q{start_offsets => '{"0": 80}', reason => 'old'});
seek_to(q{start_offsets => '{"0": 85}'});
is(gaps('p'), "0|60|79|seek|old\n0|80|84|seek|\n0|100|169|seek|old\n0|170|174|seek|new\n1|100|149|seek|old",
	'before it, and one without a reason');
seek_to(q{start_offsets => '{"0": 70}', allow_duplicates => true});
seek_to(q{start_offsets => '{"0": 120}', reason => 'old'});
is(gaps('p'), "0|60|169|seek|old\n0|80|84|seek|\n0|170|174|seek|new\n1|100|149|seek|old",
	'what fills the hole joins both, and what lies inside adds nothing');
is($node->safe_psql('postgres', q{SELECT gaps FROM kafka_ingest.status WHERE pipeline = 'p'}), '4', 'status counts rows');

# ---- what starts again -------------------------------------------------------------------

sub stop_for
{
	my ($reason) = @_;
	$node->safe_psql('postgres', qq{
		SELECT kafka_ingest.pause('p');
		UPDATE kafka_ingest.pipeline SET stop_reason = '$reason', stop_detail = 'for the test',
			stop_at = now(), paused = false WHERE name = 'p'});
	return;
}

foreach my $reason (qw(offset_lost topic_recreated corrupt bad_message))
{
	stop_for($reason);
	seek_to(q{start_from => 'latest'});
	$node->wait_for_state('p', 'running');
	pass("$reason: seek() lets it go on");
}
foreach my $reason (qw(error_ratio dead_letters_full))
{
	my $err;
	stop_for($reason);
	$node->psql('postgres', q{SELECT kafka_ingest.seek('p', start_from => 'latest')}, stderr => \$err);
	like($err, qr/stays stopped: $reason/, "$reason: seek() says that it does not");
	is($node->state('p'), "stopped/$reason", "$reason: and it does not");
}

# ---- rows that are there already are no harm ---------------------------------------------

$node->safe_psql('postgres', qq{
	CREATE TABLE keyed (id bigint PRIMARY KEY);
	SELECT kafka_ingest.create_pipeline('q', topic => '$topic', target => 'keyed', mode => 'insert_ignore',
		paused => true)});
seek_to(q{start_from => 'latest'}, 'q');
is(seek_to(q{start_from => 'earliest'}, 'q'), "0|200|0\n1|150|0", 'insert_ignore: backwards needs no permission');

$node->stop;
done_testing();
