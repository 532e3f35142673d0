
# Settings that a reload changes: kafka_ingest.enabled and kafka_ingest.databases
# stop loading and let it go on, and the state says so.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('settings_reload');
my $topic = $kafka->create_topic('settings_reload', partitions => 1);

sub set_and_reload
{
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $value");
	$node->reload;
	return;
}

sub rows { return $node->safe_psql('postgres', 'SELECT count(*) FROM target'); }

$node->connect_kafka($kafka);
$kafka->produce($topic, count => 10, template => '{"value": %d}');
$node->safe_psql('postgres', 'CREATE TABLE target (value bigint)');
$node->safe_psql('postgres',
	"SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target')");
$node->poll_until('SELECT count(*) FROM target', '10');

set_and_reload('kafka_ingest.enabled', 'off');
$node->wait_for_state('p', 'waiting/disabled');
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '0');
$kafka->produce($topic, count => 10, from => 11, template => '{"value": %d}');
is(rows(), 10, 'kafka_ingest.enabled = off: nothing is loaded');
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'),
	qr/kafka_ingest\.enabled is off/, 'the detail names the setting');

set_and_reload('kafka_ingest.enabled', 'on');
$node->poll_until('SELECT count(*) FROM target', '20');
pass('kafka_ingest.enabled = on: loading goes on');

set_and_reload('kafka_ingest.databases', q{'no_such_database, "Another one"'});
$node->wait_for_state('p', 'waiting/disabled');
like($node->safe_psql('postgres', 'SELECT detail FROM kafka_ingest.status'),
	qr/kafka_ingest\.databases does not name this database/, 'the detail names the setting');
set_and_reload('kafka_ingest.databases', q{'postgres'});
$kafka->produce($topic, count => 10, from => 21, template => '{"value": %d}');
$node->poll_until('SELECT count(*) FROM target', '30');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT value) FROM target'),
	30, 'kafka_ingest.databases names this one: loading goes on, exactly once');

$node->stop;
done_testing();
