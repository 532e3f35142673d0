# Without shared_preload_libraries everything but background loading works, and
# status says so.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', preload => '');
my $topic = $kafka->create_topic('by_hand', partitions => 2);

$node->connect_kafka($kafka);
is( $node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.check_connection()}),
	1, 'check_connection()');
is( $node->safe_psql('postgres', "SELECT partition, low_offset, high_offset FROM kafka_ingest.topics('kafka', '$topic')"),
	"0|0|0\n1|0|0", 'topics()');
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
is($node->state('p'), 'waiting/not_preloaded', 'status tells the state');
like( $node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'),
	qr/shared_preload_libraries.*run\(\)/, 'and what to do');

$kafka->produce($topic, count => 1000);
foreach my $call (q{wait_until_caught_up('p')}, q{wait_for('p', 0, 0)})
{
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.$call", stderr => \$err);
	like($err, qr/55000.*not_preloaded/s, "$call is an error at once");
}
is( $node->safe_psql('postgres', q{CALL kafka_ingest.run('p')}),
	'1000|0|t', 'run() loads');
$node->ledger_check('target', $topic, { 0 => 500, 1 => 500 });
is($node->safe_psql('postgres', q{SELECT kafka_ingest.wait_for('p', 1, 499)}),
	't', 'waiting for a message that is in is no error');
is( $node->safe_psql('postgres', q{SELECT messages, loaded, partitions, workers, state FROM kafka_ingest.status}),
	'1000|1000|2|0|waiting', 'status counts');
is( $node->safe_psql('postgres', q{SELECT partition, next_offset, messages, committed_at IS NOT NULL
		FROM kafka_ingest.partition_status ORDER BY 1}),
	"0|500|500|t\n1|500|500|t", 'partition_status');

# everything that changes a pipeline
$kafka->produce($topic, count => 1000, from => 1000);
is( $node->safe_psql('postgres', q{SELECT partition, old_offset, new_offset
		FROM kafka_ingest.seek('p', start_offsets => '{"0": 600}')}),
	'0|500|600', 'seek()');
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
is($node->state('p'), 'paused', 'pause()');
$node->safe_psql('postgres', q{
	SELECT kafka_ingest.alter_pipeline('p', batch_max_messages => 50);
	ALTER TABLE target RENAME TO renamed;
	SELECT kafka_ingest.resume('p')});
is( $node->safe_psql('postgres', q{CALL kafka_ingest.run('p', max_batches => 2)}),
	'100|0|f', 'alter_pipeline() counts for run()');
is($node->safe_psql('postgres', q{CALL kafka_ingest.run('p')}), '800|0|t', 'run() again');
is( $node->safe_psql('postgres', 'SELECT _partition, count(*), count(DISTINCT _offset) FROM renamed GROUP BY 1 ORDER BY 1'),
	"0|900|900\n1|1000|1000", 'all but the gap is there once, in the renamed table');
is( $node->safe_psql('postgres', 'SELECT from_offset, to_offset, reason FROM kafka_ingest.gaps'),
	'500|599|seek', 'the gap is on record');
like( $node->safe_psql('postgres', 'SELECT library = sql FROM kafka_ingest.version()'), qr/^t$/, 'version()');
is( $node->safe_psql('postgres', q{SELECT partition, next_offset FROM kafka_ingest.drop_pipeline('p') ORDER BY 1}),
	"0|1000\n1|1000", 'drop_pipeline()');
$node->safe_psql('postgres', 'DROP EXTENSION kafka_ingest CASCADE');
pass('DROP EXTENSION');

$node->stop;
done_testing();
