# A partition that is added while the pipeline runs is read from offset 0, whatever
# start_from says, without a restart, by each number of workers.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('new_partition', partitions => 1);
my $node = IngestCluster->new('main');
my %produced = (0 => 500, 1 => 500, 2 => 500);

$kafka->produce($topic, count => 300, partition => 0);
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE TABLE target_of_two (LIKE target);
	CREATE TABLE target_of_latest (LIKE target);
	CREATE TABLE target_of_first (LIKE target);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
	SELECT kafka_ingest.create_pipeline('two', topic => '$topic', target => 'target_of_two', workers => 2);
	SELECT kafka_ingest.create_pipeline('latest', topic => '$topic', target => 'target_of_latest', start_from => 'latest');
	SELECT kafka_ingest.create_pipeline('first', topic => '$topic', target => 'target_of_first', partitions => '{0}');
});
$node->wait_for_position_sum($_, 300) foreach qw(p two latest first);
my $pids = $node->safe_psql('postgres', q{SELECT pids FROM kafka_ingest.status WHERE pipeline = 'p'});

$kafka->create_partitions($topic, 3);
$kafka->produce($topic, count => 200, from => 300, partition => 0);
$kafka->produce($topic, count => 500, from => 500 * $_, partition => $_) foreach 1, 2;

$node->wait_for_position_sum($_, 1500) foreach qw(p two latest);
$node->wait_for_position_sum('first', 500);
$node->ledger_check('target', $topic, \%produced);
$node->ledger_check('target_of_two', $topic, \%produced);
$node->ledger_check('target_of_latest', $topic, { %produced, 0 => 200 },
	name => 'start_from latest: nothing of a new partition is left out');
$node->ledger_check('target_of_first', $topic, { 0 => 500 },
	name => 'partitions: a new one is not read');
is($node->safe_psql('postgres', q{SELECT pids FROM kafka_ingest.status WHERE pipeline = 'p'}), $pids,
	'the same process reads the new partitions');
is($node->safe_psql('postgres', 'SELECT pipeline, partition, from_offset, to_offset, reason FROM kafka_ingest.gaps'),
	'latest|0|0|299|start', 'only what latest left out is a gap');
is($node->safe_psql('postgres', 'SELECT pipeline, partitions, messages, loaded FROM kafka_ingest.status ORDER BY 1'),
	"first|1|500|500\nlatest|3|1200|1200\np|3|1500|1500\ntwo|3|1500|1500", 'status counts them');

# one more, which stays empty for a while, and then is not
$kafka->create_partitions($topic, 4);
$node->poll_until(q{SELECT partitions FROM kafka_ingest.status WHERE pipeline = 'p'}, '4');
$kafka->produce($topic, count => 100, from => 1500, partition => 3);
$node->wait_for_position_sum('p', 1600);
$node->ledger_check('target', $topic, { %produced, 3 => 100 });

done_testing();
