# What a trigger SETs does not change what the next message means.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('settings');

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE SCHEMA app;
	CREATE SCHEMA evil;
	CREATE FUNCTION app.which() RETURNS text LANGUAGE sql AS \$\$ SELECT 'app' \$\$;
	CREATE FUNCTION evil.which() RETURNS text LANGUAGE sql AS \$\$ SELECT 'evil' \$\$;
	CREATE TABLE app.target (id int, at timestamptz, day date, span interval, bytes bytea, list int[],
		_offset bigint, schema text, settings text);
	CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		EXECUTE 'SELECT which()' INTO NEW.schema;
		NEW.settings := concat_ws(' ', current_setting('search_path'), current_setting('timezone'),
			current_setting('datestyle'), current_setting('lock_timeout'));
		SET search_path = evil;
		SET timezone = 'Asia/Tokyo';
		SET datestyle = 'SQL, DMY';
		SET intervalstyle = 'sql_standard';
		SET array_nulls = off;
		SET statement_timeout = '1ms';
		SET lock_timeout = '1ms';
		SET session_replication_role = replica;
		SET enable_seqscan = off;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER note BEFORE INSERT ON app.target FOR EACH ROW EXECUTE FUNCTION app.note();
	ALTER DATABASE postgres SET timezone = 'America/Caracas';
	ALTER DATABASE postgres SET datestyle = 'German';
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'app.target',
		search_path => 'app', batch_max_messages => 20)});

my $template = '{"id": %d, "at": "2026-02-03 04:05:06", "day": "02/03/2026", "span": "1 day -02:00",'
  . ' "bytes": "\\\\x41", "list": [1, null]}';
my $sum = 0;
for my $round (1 .. 3)
{
	$kafka->produce($topic, count => 100, from => $sum, template => $template);
	$sum += 100;
	$node->wait_for_position_sum('p', $sum);
}
my $row = '2026-02-03 04:05:06+00|2026-02-03|1 day -02:00:00|\x41|{1,NULL}|app|app UTC ISO, MDY 10s';
# In one batch, too, a trigger's SET counts for the triggers after it: that is the batch's session.
my $first = q{SET timezone = 'UTC'; SET datestyle = 'ISO, MDY';
	SELECT at, day, span, bytes, list, schema, settings FROM app.target WHERE _offset = };
is($node->safe_psql('postgres', "$first 0"), $row, 'before any SET');
is( $node->safe_psql('postgres', q{SET timezone = 'UTC'; SET datestyle = 'ISO, MDY';
		SELECT count(*), at, day, span, bytes, list FROM app.target GROUP BY 2, 3, 4, 5, 6}),
	'300|2026-02-03 04:05:06+00|2026-02-03|1 day -02:00:00|\x41|{1,NULL}',
	'every message means the same');
my $batches = $node->safe_psql('postgres',
	'SELECT count(*) FROM kafka_ingest.recent_batches WHERE messages > 0');
cmp_ok($batches, '>=', 15, "in $batches batches");
is( $node->safe_psql('postgres', qq{
		SELECT count(*) FROM app.target
		WHERE _offset IN (SELECT (offsets->'$topic'->'0'->>0)::bigint FROM kafka_ingest.recent_batches)
			AND schema = 'app' AND settings = 'app UTC ISO, MDY 10s'}),
	$batches, 'and every batch begins with the settings of its own');
$node->ledger_check('(SELECT 0 AS _partition, _offset FROM app.target) t', $topic, { 0 => 300 });

# run() in somebody's session
$node->safe_psql('postgres', q{SELECT kafka_ingest.pause('p')});
$kafka->produce($topic, count => 100, from => 300, template => $template);
$node->poll_until(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, '0');
is( $node->safe_psql('postgres', q{
		SET search_path = public; SET timezone = 'Europe/Rome'; SET datestyle = 'SQL, DMY';
		SET lock_timeout = '7s';
		CALL kafka_ingest.run('p');
		SELECT concat_ws(' ', current_setting('search_path'), current_setting('timezone'),
			current_setting('datestyle'), current_setting('lock_timeout'),
			current_setting('session_replication_role'), current_setting('statement_timeout'))}),
	"100|0|t\npublic Europe/Rome SQL, DMY 7s origin 0", 'run() leaves the settings of the session alone');
is( $node->safe_psql('postgres', q{SET timezone = 'UTC'; SET datestyle = 'ISO, MDY';
		SELECT count(*), at, day, span, bytes, list FROM app.target GROUP BY 2, 3, 4, 5, 6}),
	'400|2026-02-03 04:05:06+00|2026-02-03|1 day -02:00:00|\x41|{1,NULL}',
	'and the session does not change what messages mean');

# A trigger of a partition, and a default that a function of the user's gives, run between rows.
$node->safe_psql('postgres', qq{
	CREATE FUNCTION app.move() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; RETURN NEW; END \$\$;
	CREATE FUNCTION app.five() RETURNS int LANGUAGE plpgsql AS \$\$
	BEGIN SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; RETURN 5; END \$\$;
	CREATE TABLE app.parted (id int, at timestamptz, day date) PARTITION BY RANGE (id);
	CREATE TABLE app.part PARTITION OF app.parted FOR VALUES FROM (0) TO (1000);
	CREATE TRIGGER move BEFORE INSERT ON app.part FOR EACH ROW EXECUTE FUNCTION app.move();
	CREATE TABLE app.given (id int, at timestamptz, day date, five int DEFAULT app.five());
	SELECT kafka_ingest.create_pipeline('parted', topic => '$topic', target => 'app.parted', paused => true,
		columns => '{"id": "\$.id", "at": "\$.at", "day": "\$.day"}');
	SELECT kafka_ingest.create_pipeline('given', topic => '$topic', target => 'app.given', paused => true,
		columns => '{"id": "\$.id", "at": "\$.at", "day": "\$.day"}');
	CALL kafka_ingest.run('parted'); CALL kafka_ingest.run('given')});
is( $node->safe_psql('postgres', "SELECT write_method FROM kafka_ingest.pipelines WHERE pipeline = '$_'"),
	'multi_insert', "$_ is written straight") foreach qw(parted given);
is( $node->safe_psql('postgres', qq{SET timezone = 'UTC'; SET datestyle = 'ISO, MDY';
		SELECT count(*), at, day FROM app.$_ GROUP BY 2, 3}),
	'400|2026-02-03 04:05:06+00|2026-02-03', "every message of $_ means the same") foreach qw(parted given);

$node->stop;
done_testing();
