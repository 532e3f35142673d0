# Tombstones of an append pipeline: on_tombstone skip (the default) counts them as
# ignored and goes on; error stops the pipeline before the tombstone.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->shared();
my $topic = $kafka->create_topic('tombstones');
my $node = IngestCluster->new('main');

$kafka->produce_messages($topic,
	(map { { key => "k$_", value => qq({"id": $_}) } } 0 .. 4),
	{ key => 'k1', value => undef },
	{ key => 'k2', value => undef },
	(map { { key => "k$_", value => qq({"id": $_}) } } 7 .. 9),
	{ key => 'k9', value => undef });
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE skipping (id bigint, _key text, _offset bigint);
	CREATE TABLE stopping (LIKE skipping);
	SELECT kafka_ingest.create_pipeline('skip', topic => '$topic', target => 'skipping');
	SELECT kafka_ingest.create_pipeline('error', topic => '$topic', target => 'stopping', on_error => 'stop',
		on_tombstone => 'error');
});

my $counts = 'SELECT messages, loaded, ignored, gaps, dead_letters_total FROM kafka_ingest.status WHERE pipeline = ';
$node->wait_for_position_sum('skip', 11);
is($node->safe_psql('postgres', 'SELECT string_agg(_offset::text, $$ $$ ORDER BY _offset) FROM skipping'),
	'0 1 2 3 4 7 8 9', 'skip: all others are loaded');
is($node->safe_psql('postgres', "$counts 'skip'"), '11|8|3|0|0', 'skip: tombstones count as ignored');
is($node->state('skip'), 'running', 'skip: running');

$node->wait_for_state('error', 'stopped/bad_message');
is($node->safe_psql('postgres', 'SELECT string_agg(_offset::text, $$ $$ ORDER BY _offset) FROM stopping'),
	'0 1 2 3 4', 'error: what comes before the first one is loaded, nothing else');
is($node->position_sum('error'), 5, 'error: the position is at the tombstone');
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'error'}),
	qr/"$topic".*partition 0.*offset 5\b.*tombstone/, 'error: the detail tells which message it is');

# again with resume, since nothing has changed
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('error')});
$node->poll_until(q{SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'error' AND event = 'stop'}, '2');
is($node->position_sum('error'), 5, 'resume() alone does not pass it');

# the way past it
$node->safe_psql('postgres', q{SELECT kafka_ingest.alter_pipeline('error', on_tombstone => 'skip')});
$node->safe_psql('postgres', q{SELECT kafka_ingest.resume('error')});
$node->wait_for_position_sum('error', 11);
is($node->safe_psql('postgres', "$counts 'error'"), '11|8|3|0|0', 'with skip it goes on from there');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT _offset) FROM stopping'), '8|8',
	'and loads nothing twice');

done_testing();
