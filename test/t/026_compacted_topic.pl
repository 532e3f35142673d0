# A compacted topic: the holes that compaction leaves are passed over, before the
# pipeline begins, while it is at rest, and where it stands; tombstones are skipped and counted.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use KafkaLog;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('compacted', config => {
		'cleanup.policy'            => 'compact',
		'segment.ms'                => 200,
		'min.cleanable.dirty.ratio' => 0.01,
		'delete.retention.ms'       => 86_400_000
	});
my $log = KafkaLog->new($kafka, $topic, 0);
my $node = IngestCluster->new('main');
my $n = 0;

# Messages with these keys, values numbered by offset; undef as value for "key-".
sub message
{
	my ($key) = @_;
	my $tombstone = $key =~ s/-$//;
	return { key => $key, value => $tombstone ? undef : sprintf('{"id": %d}', $n++) };
}

# A segment is closed by a message that comes when it is older than segment.ms, and
# only closed ones are compacted: so go on until just these offsets are left of
# those before. Returns all that is left.
sub compact_to
{
	my (@expected) = @_;
	my $last = $expected[-1];
	my $deadline = time + 120;
	my @left;
	while (time < $deadline)
	{
		$kafka->produce_messages($topic, message('roll ' . $n));
		@left = $log->offsets;
		return @left if "@{[ grep { $_ <= $last } @left ]}" eq "@expected";
	}
	die "not compacted: @left, expected @expected";
}

# 100 values for 5 keys, a tombstone for one of them, one more key: what is left
# is the last of each
$kafka->produce_messages($topic, map { message('k' . $_ % 5) } 0 .. 99);
$kafka->produce_messages($topic, message('k2-'), message('other'));
my @left = compact_to(95, 96, 98, 99, 100, 101);
note("left in the log: @left");

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _key text, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		start_offsets => '{"0": 0}');
});
my $end = 'SELECT next_offset, lag FROM kafka_ingest.partition_status';
my $rows = 'SELECT string_agg(_offset::text, $$ $$ ORDER BY _offset) FROM target';
$node->poll_until($end, $left[-1] + 1 . '|0', timeout => 60);
is($node->safe_psql('postgres', $rows), join(' ', grep { $_ != 100 } @left),
	'all that is left in the log is loaded, but the tombstone');
is($node->safe_psql('postgres', 'SELECT messages, loaded, ignored, gaps FROM kafka_ingest.status'),
	join('|', scalar @left, @left - 1, 1, 0), 'the tombstone is counted as ignored, holes are no gaps');

# Paused; the messages that come, and the one that was loaded last, are compacted away.
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
my $position = $left[-1] + 1;
my $last_key = 'roll ' . ($n - 1);
$kafka->produce_messages($topic, message($last_key), map { message('k' . $_ % 5) } 0 .. 49);
# k0 to k4 are written anew
my @expected = grep { $_ >= 101 && $_ != $position - 1 } @left;
@left = compact_to(@expected, $position, map { $position + $_ } 46 .. 50);
note("left in the log: @left");
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('p')});
$node->poll_until($end, $left[-1] + 1 . '|0', timeout => 60);
is($node->safe_psql('postgres', "$rows WHERE _offset >= $position"),
	join(' ', grep { $_ >= $position } @left), 'what was left of the new ones is loaded');
is($node->safe_psql('postgres', 'SELECT count(*) = count(DISTINCT _offset), min(state), min(gaps) FROM target, kafka_ingest.status'),
	't|running|0', 'nothing is there twice, there is no gap');

done_testing();
