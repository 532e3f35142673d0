# DROP EXTENSION ... CASCADE while loading: the workers end by themselves, the
# rows stay, and the extension can be created again.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('dropped', partitions => 2);
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'};

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, _partition int, _offset bigint);
	CREATE TABLE quiet (id bigint);
	SELECT kafka_ingest.create_pipeline('quiet', topic => 'quiet_$topic', target => 'quiet');
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
my $producer = $kafka->produce_background($topic, count => 20_000, rate => 5000, set => 100);
$node->wait_for_position_sum('p', 1000);
my $log_start = -s $node->logfile;
my $started = time;
$node->safe_psql('postgres', 'DROP EXTENSION kafka_ingest CASCADE');
cmp_ok(time - $started, '<', 20, 'DROP EXTENSION CASCADE does not wait for workers');
$node->poll_until($workers, '0');
pass('the workers end, the busy one and the quiet one');
ok($producer->is_running, 'while messages were coming');
my $rows = $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (_partition, _offset)) FROM target');
like($rows, qr/^(\d+)\|\1$/, "the rows stay ($rows)");

$node->safe_psql('postgres', q{
	CREATE EXTENSION kafka_ingest;
	TRUNCATE target});
$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
$node->wait_for_position_sum('p', 1000);
pass('the extension is created again, and loads');
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION kafka_ingest CASCADE; ROLLBACK');

my $produced = $producer->finish;
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', 'a DROP EXTENSION that is rolled back does no harm');
$node->ledger_check('target', $topic, $produced);
unlike(slurp_file($node->logfile, $log_start), qr/PANIC|terminated by signal|server process .* exit code [^01]/,
	'nothing crashed');

$node->stop;
done_testing();
