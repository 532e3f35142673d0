# metrics, cluster_status and recent_batches: the same numbers as in the views
# and tables, for those who may see them.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('metrics');
my $topic = $kafka->create_topic('metrics', partitions => 2);

$node->connect_kafka($kafka);
$kafka->produce($topic, count => 300);
$kafka->produce_messages($topic, { value => '{"id": "bad"}' }, { value => undef, key => 'k', partition => 1 });

sub query
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

query("CREATE TABLE demo (id bigint); SELECT kafka_ingest.create_pipeline('demo', topic => '$topic', target => 'demo', workers => 2)");
query("CREATE TABLE idle (id bigint); SELECT kafka_ingest.create_pipeline('idle', topic => '$topic', target => 'idle', paused => true)");
$node->poll_until("SELECT lag FROM kafka_ingest.status WHERE pipeline = 'demo' AND messages = 302", '0');

# ---- metrics --------------------------------------------------------------------------------

my %columns = (
	lag => 'lag', time_lag_seconds => 'extract(epoch FROM time_lag)', messages_total => 'messages', loaded_total => 'loaded',
	filtered_total => 'filtered', ignored_total => 'ignored', dead_letters => 'dead_letters',
	dead_letters_total => 'dead_letters_total', gaps => 'gaps', workers => 'workers', partitions => 'partitions',
	headroom_messages => 'headroom_messages');
foreach my $name (sort keys %columns)
{
	is(query("SELECT value FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_$name' AND labels = '{\"pipeline\": \"demo\"}'"),
		query("SELECT ($columns{$name})::float8 FROM kafka_ingest.status WHERE pipeline = 'demo'"), "kafka_ingest_$name");
}
is(query("SELECT string_agg(value::text, ' ' ORDER BY name) FROM kafka_ingest.metrics() WHERE labels->>'pipeline' = 'demo' AND name ~ '_(messages|loaded|ignored|dead_letters)_total\$' AND NOT name ~ 'partition'"),
	'1 1 300 302', 'which are those of the topic: dead letters, ignored, loaded, messages');
is(query("SELECT count(*) FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_messages_per_second'"), '2', 'a rate for each');
is(query("SELECT labels, value FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_state' ORDER BY labels->>'pipeline' DESC"),
	qq({"state": "paused", "reason": "", "pipeline": "idle"}|1\n{"state": "running", "reason": "", "pipeline": "demo"}|1), 'states');
is(query("SELECT count(*) FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_lag'"), '1', 'what is unknown has no row');
is(query("SELECT labels, value FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_partition_next_offset' ORDER BY 1"),
	query("SELECT jsonb_build_object('pipeline', pipeline, 'topic', topic, 'partition', partition::text), next_offset
		FROM kafka_ingest.partition_status ORDER BY partition"), 'positions, by partition');
is(query("SELECT sum(value) FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_partition_messages_total'"), '302', 'messages, by partition');
is(query("SELECT sum(value) FROM kafka_ingest.metrics() WHERE name = 'kafka_ingest_partition_lag'"), '0', 'lag, by partition');
is(query("SELECT count(*) FROM kafka_ingest.metrics() WHERE name !~ '^kafka_ingest_[a-z_]+\$' OR value IS NULL"
		. " OR EXISTS (SELECT FROM jsonb_each(labels) WHERE jsonb_typeof(value) <> 'string')"), '0', 'names and labels are fit for monitoring systems');

# not led astray by objects of the caller
query('CREATE SCHEMA evil; CREATE FUNCTION evil.jsonb_build_object(VARIADIC "any") RETURNS jsonb LANGUAGE internal AS \'jsonb_build_object\'');
is(query("SET search_path = evil, pg_catalog; SELECT count(*) > 0 FROM kafka_ingest.metrics()"), 't', 'under any search_path');
query('CREATE ROLE anna; CREATE ROLE monitor; GRANT pg_monitor TO monitor');
is(query('SET ROLE anna; SELECT count(*) FROM kafka_ingest.metrics()'), '0', 'others see none');
is(query('SET ROLE monitor; SELECT count(*) FROM kafka_ingest.metrics()'), query('SELECT count(*) FROM kafka_ingest.metrics()'), 'pg_monitor sees all');

# ---- recent_batches ---------------------------------------------------------------------------

is(query("SELECT sum(messages), sum(loaded), sum(dead_letters), count(DISTINCT worker_pid) FROM kafka_ingest.recent_batches WHERE pipeline = 'demo'"),
	'302|300|1|2', 'recent_batches: all that was loaded, by both workers');
is(query("SELECT count(*) FROM kafka_ingest.recent_batches WHERE bytes <= 0 OR finished_at IS NULL OR first_message_at > last_message_at
		OR collect_ms < 0 OR apply_ms <= 0 OR commit_ms <= 0 OR end_reason NOT IN ('messages', 'bytes', 'time', 'idle', 'shutdown')
		OR num_nulls(pipeline, worker_pid, offsets, messages, loaded, dead_letters, bytes, first_message_at, last_message_at,
			collect_ms, apply_ms, commit_ms, end_reason) > 0"), '0', 'with every column filled');
is(query("SELECT sum((range->>1)::int - (range->>0)::int + 1) FROM kafka_ingest.recent_batches, jsonb_each(offsets) t, jsonb_each(t.value) p(partition, range)"),
	'302', 'and the offsets');

# ---- cluster_status ------------------------------------------------------------------------------

query('CREATE DATABASE other');
query("CREATE EXTENSION kafka_ingest", 'other');
$node->connect_kafka($kafka, dbname => 'other');
query("CREATE TABLE demo (id bigint); SELECT kafka_ingest.create_pipeline('others', topic => '$topic', target => 'demo')", 'other');
$node->wait_for_state('others', 'running', dbname => 'other');
is(query('SELECT database, pipeline, worker, state, reason FROM kafka_ingest.cluster_status() ORDER BY 1, 2, 3'),
	"other|others|0|running|\npostgres|demo|0|running|\npostgres|demo|1|running|", 'cluster_status: the workers of all databases');
is(query("SELECT array_agg(pid ORDER BY worker) FROM kafka_ingest.cluster_status() WHERE database = 'postgres'"),
	query("SELECT pids FROM kafka_ingest.status WHERE pipeline = 'demo'"), 'their processes');
is(query("SELECT count(*) FROM kafka_ingest.cluster_status() c JOIN pg_stat_activity a ON a.pid = c.pid AND a.datname = c.database"), '3',
	'which are in those databases');
is(query('SET ROLE monitor; SELECT count(*) FROM kafka_ingest.cluster_status()'), '3', 'for pg_monitor');
my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET ROLE anna; SELECT * FROM kafka_ingest.cluster_status()", on_error_die => 0);
like($err, qr/ERROR:  42501:/, 'and nobody else');
query('DROP TABLE demo', 'other');
$kafka->produce($topic, count => 1);
$node->poll_until("SELECT count(*) FROM kafka_ingest.cluster_status() c WHERE database = 'other' AND state <> 'running' AND reason IS NOT NULL AND detail IS NOT NULL", '1');
pass('trouble of another database shows');
query("SELECT kafka_ingest.pause('others')", 'other');
$node->poll_until("SELECT count(*) FROM kafka_ingest.cluster_status() WHERE database = 'other'", '0');
pass('a paused pipeline has no worker');
query('DROP DATABASE other');
is(query('SELECT count(*) FROM kafka_ingest.cluster_status()'), '2', 'nor has a dropped database');

$node->stop;
done_testing();
