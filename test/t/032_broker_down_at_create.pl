# The broker is down when the pipeline is created: that succeeds, the state says what
# is the matter, and loading begins by itself when the broker is there.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use Test::More;

my $kafka = KafkaBroker->new();
my $topic = $kafka->create_topic('later', partitions => 2);
my $produced = $kafka->produce($topic, count => 1000);
my $node = IngestCluster->new('main');

$kafka->stop;
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target');
	SELECT kafka_ingest.create_pipeline('missing', topic => '${topic}_missing', target => 'target');
});
$node->wait_for_state('p', 'reconnecting/broker_unreachable', timeout => 30);
pass('the state is reconnecting/broker_unreachable');
my $port = $kafka->port;
like($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.status WHERE pipeline = 'p'}),
	qr/$port.*refused/i, 'the detail tells which broker and why');
is($node->safe_psql('postgres', q{SELECT messages, lag IS NULL, workers FROM kafka_ingest.status WHERE pipeline = 'p'}),
	'0|t|1', 'nothing is loaded, the lag is not known');
my ($status, $out, $err) = $node->psql('postgres', q{SELECT * FROM kafka_ingest.check_connection('kafka', timeout => '1s')});
isnt($status, 0, 'check_connection() is an error');
like($err, qr/$port/, 'that names the broker');

$kafka->start;
$node->wait_for_position_sum('p', 1000, timeout => 60);
$node->ledger_check('target', $topic, $produced);
$node->wait_for_state('p', 'running');
pass('running');

# and one whose topic comes later still
$node->wait_for_state('missing', 'reconnecting/topic_missing', timeout => 60);
$kafka->create_topic('', name => "${topic}_missing");
$kafka->produce("${topic}_missing", count => 100, from => 5000);
$node->wait_for_position_sum('missing', 100);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM target'), '1100|1100',
	'a topic that comes later is loaded from its beginning');

done_testing();
