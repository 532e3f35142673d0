# start_from => 'committed': at first contact, and never again, each partition begins at
# what a group has committed at the broker, or at its beginning.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('committed', partitions => 3);
my $group = $kafka->unique_name('old consumer');

$kafka->produce($topic, count => 100, partition => $_) foreach 0 .. 2;
$kafka->commit_offsets($group, $topic, { 0 => 40, 1 => 100 });
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target',
		start_from => 'committed', start_group => '$group')});
$node->wait_for_position_sum('p', 300);
is( $node->safe_psql('postgres', 'SELECT _partition, count(*), count(DISTINCT _offset), min(_offset) FROM target GROUP BY 1 ORDER BY 1'),
	"0|60|60|40\n2|100|100|0", 'from the committed offsets on, or from the beginning');
is($node->safe_psql('postgres', 'SELECT partition, from_offset, to_offset, reason FROM kafka_ingest.gaps ORDER BY 1'),
	"0|0|39|start\n1|0|99|start", 'what came before is on record');
like( $node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.events WHERE event = 'start'}),
	qr/"\Q$group\E".*: topic "$topic" partition 2$/, 'an event says which partition had none');
is_deeply($kafka->group_offsets($group, $topic), { 0 => 40, 1 => 100 }, 'the group is left as it was');

# never again: the group moves, the pipeline does not
$kafka->commit_offsets($group, $topic, { 0 => 10, 1 => 10, 2 => 10 });
$node->restart;
$kafka->produce($topic, count => 10, partition => $_) foreach 0 .. 2;
$node->wait_for_position_sum('p', 330);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)) FROM target'), '190|190',
	'later offsets of the group mean nothing');

# the group is the pipeline's own one when no other is named; two workers
my $own = $kafka->unique_name('own group');
$kafka->commit_offsets($own, $topic, { 0 => 105, 1 => 105, 2 => 105 });
$node->safe_psql('postgres', qq{
	CREATE TABLE second (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('own', topic => '$topic', target => 'second', workers => 2,
		start_from => 'committed', group_id => '$own')});
$node->wait_for_position_sum('own', 330);
is($node->safe_psql('postgres', 'SELECT _partition, count(*), min(_offset) FROM second GROUP BY 1 ORDER BY 1'),
	"0|5|105\n1|5|105\n2|5|105", 'its own group');
is($node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.events WHERE event = 'start'}), '1', 'no event without need');

# run() does so, too
$node->safe_psql('postgres', qq{
	CREATE TABLE third (_partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('run', topic => '$topic', target => 'third', paused => true,
		columns => '{"_partition": "\@partition", "_offset": "\@offset"}', start_from => 'committed', start_group => '$own')});
is($node->safe_psql('postgres', q{CALL kafka_ingest.run('run')}), '15|0|t', 'run()');

# an offset that is not in the log
$kafka->delete_records($topic, 0, 50);
my $lost = $kafka->unique_name('lost group');
$kafka->commit_offsets($lost, $topic, { 0 => 20 });
$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('lost', topic => '$topic', target => 'second',
		start_from => 'committed', start_group => '$lost', on_offset_lost => 'earliest')});
$node->wait_for_state('lost', 'stopped/offset_lost');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'lost'}),
	qr/"$topic" partition 0 at offset 20\b.* from 50 up to 109\b/, 'not in the log: stopped with the numbers');
$node->safe_psql('postgres', q{SELECT kafka_ingest.seek('lost', start_from => 'latest')});
$node->wait_for_state('lost', 'running');

# refusals
my $err;
$node->psql('postgres', qq{SELECT kafka_ingest.create_pipeline('x', topic => '$topic', target => 'second',
	start_from => 'committed', group_id => '')}, stderr => \$err);
like($err, qr/start_group/, 'no group at all is refused');
$node->psql('postgres', qq{SELECT kafka_ingest.create_pipeline('x', topic => '$topic', target => 'second',
	start_group => 'g')}, stderr => \$err);
like($err, qr/"start_group" needs start_from => 'committed'/, 'a group without a use is refused');

# moved to another topic, again from a group's offsets
my $next = $kafka->create_topic('committed_next');
$kafka->produce($next, count => 50);
$kafka->commit_offsets($group, $next, { 0 => 30 });
$node->safe_psql('postgres', qq{SELECT kafka_ingest.alter_pipeline('own', topic => '$next', start_from => 'committed', start_group => '$group')});
$node->wait_for_position_sum('own', 50);
is($node->safe_psql('postgres', 'SELECT count(*) FROM second WHERE _offset < 50'), '20', 'alter_pipeline: the same');

$node->stop;
done_testing();
