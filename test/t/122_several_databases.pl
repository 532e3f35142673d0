# Several databases of one server load at the same time, each for itself.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main', extension => 0);
my $topic = $kafka->create_topic('several', partitions => 2);
my @databases = qw(one two three);

foreach my $dbname (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, 'CREATE EXTENSION kafka_ingest');
	$node->connect_kafka($kafka, dbname => $dbname);
	$node->safe_psql($dbname, qq{
		CREATE TABLE target (id bigint, _partition int, _offset bigint);
		SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')});
}
my $producer = $kafka->produce_background($topic, count => 12_000, rate => 3000, set => 100);
$node->wait_for_position_sum('p', 100, dbname => $_) foreach @databases;
is( $node->safe_psql('postgres', q{SELECT datname, count(*) FROM pg_stat_activity
		WHERE backend_type = 'kafka_ingest worker' GROUP BY 1 ORDER BY 1}),
	"one|1\nthree|1\ntwo|1", 'each database has its worker');

# what happens in one is nothing to the others
$node->safe_psql('one', q{SELECT kafka_ingest.pause('p')});
is($node->state('p', dbname => 'one'), 'paused', 'one is paused');
my $produced = $producer->finish;
foreach my $dbname (qw(two three))
{
	is( $node->safe_psql($dbname, q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
		't', "$dbname loads on");
	$node->ledger_check('target', $topic, $produced, dbname => $dbname);
}
my $before = $node->position_sum('p', dbname => 'one');
cmp_ok($before, '<', 12_000, 'one stands where it was paused');
is($before, $node->safe_psql('one', 'SELECT count(*) FROM target'), 'and has so many rows');
$node->safe_psql('one', q{SELECT kafka_ingest.resume('p')});
$node->wait_for_position_sum('p', 12_000, dbname => 'one');
$node->ledger_check('target', $topic, $produced, dbname => 'one');

# kafka_ingest.databases: only those, from the reload on
$node->append_conf('postgresql.conf', "kafka_ingest.databases = 'two, three'");
$node->reload;
$node->wait_for_state('p', 'waiting/disabled', dbname => 'one');
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type = 'kafka_ingest worker' AND datname = 'one'}, '0', dbname => 'postgres');
$kafka->produce($topic, count => 1000, from => 12_000);
is( $node->safe_psql($_, q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}),
	't', "$_ is named in kafka_ingest.databases and loads") foreach qw(two three);
is($node->position_sum('p', dbname => 'one'), 12_000, 'one is not, and does not');

# kafka_ingest.enabled: none
$node->append_conf('postgresql.conf', "kafka_ingest.enabled = off\nkafka_ingest.databases = '*'");
$node->reload;
$node->wait_for_state('p', 'waiting/disabled', dbname => $_) foreach @databases;
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'},
	'0', dbname => 'postgres');
pass('kafka_ingest.enabled = off ends all workers');
$node->append_conf('postgresql.conf', 'kafka_ingest.enabled = on');
$node->reload;
$node->wait_for_position_sum('p', 13_000, dbname => $_) foreach @databases;
$node->ledger_check('target', $topic, { 0 => 6500, 1 => 6500 }, dbname => $_) foreach @databases;

$node->stop;
done_testing();
