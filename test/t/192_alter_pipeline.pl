# alter_pipeline takes effect at the next batch, while it loads, and loses or
# doubles nothing; or_alter keeps the positions; pipeline_definition() makes the
# same pipeline again; drop_pipeline() tells where it stood.

use strict;
use warnings;

use IngestCluster;
use KafkaBroker;
use PostgreSQL::Test::Utils;
use Test::More;

my $kafka = KafkaBroker->shared;
my $node = IngestCluster->new('main');
my $topic = $kafka->create_topic('alter', partitions => 2);

$node->connect_kafka($kafka);
$node->safe_psql('postgres', qq{
	CREATE TABLE target (id bigint, note text, _partition int, _offset bigint);
	CREATE TABLE second (LIKE target);
	SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'target', batch_max_messages => 500)});
my $producer = $kafka->produce_background($topic, count => 1_000_000, rate => 4000, set => 100,
	template => '{"id": %d, "a": "first", "b": {"c": "second"}}');
$node->wait_for_position_sum('p', 1000);

sub alter
{
	my ($arguments) = @_;
	return $node->safe_psql('postgres', "SELECT kafka_ingest.alter_pipeline('p', $arguments)");
}

sub refused
{
	my ($call, $pattern) = @_;
	my $err;
	$node->psql('postgres', "\\set VERBOSITY verbose\nSELECT kafka_ingest.$call", stderr => \$err);
	return like($err, $pattern, "refused: $call");
}

# ---- alter, while it loads ---------------------------------------------------------------

my $columns = '"id": "$.id", "_partition": "@partition", "_offset": "@offset"';
my $in_all = 'SELECT count(DISTINCT _partition) = (SELECT count(*) FROM kafka_ingest.partition_status) FROM target WHERE note';
$node->poll_until("$in_all IS NULL", 't');
alter(qq{columns => '{"note": "\$.a", $columns}'});
$node->poll_until("$in_all = 'first'", 't');
alter(qq{columns => '{"note": "\$.b.c", $columns}'});
$node->poll_until("$in_all = 'second'", 't');
pass('another mapping counts from the next batch on');
is( $node->safe_psql('postgres', q{SELECT bool_and(a.last < b.first AND b.last < c.first) FROM
		(SELECT _partition, max(_offset) AS last FROM target WHERE note IS NULL GROUP BY 1) a
		JOIN (SELECT _partition, min(_offset) AS first, max(_offset) AS last FROM target WHERE note = 'first' GROUP BY 1) b USING (_partition)
		JOIN (SELECT _partition, min(_offset) AS first FROM target WHERE note = 'second' GROUP BY 1) c USING (_partition)}),
	't', 'and not for what was loaded');
alter('batch_max_messages => 7, batch_max_ms => 20');
$node->poll_until(q{SELECT max(messages) <= 7 FROM (SELECT * FROM kafka_ingest.recent_batches
	ORDER BY finished_at DESC LIMIT 5) t}, 't');
pass('smaller batches');
alter(q{reset => '{columns,batch_max_messages}', batch_max_ms => 100});
$node->poll_until(q{SELECT count(*) > 0 FROM target WHERE note IS NULL AND _offset >
	(SELECT max(_offset) FROM target WHERE note = 'second')}, 't');
is( $node->safe_psql('postgres', 'SELECT columns IS NULL, batch_max_messages, batch_max_ms FROM kafka_ingest.pipelines'),
	't|10000|100', 'options are reset');
is($node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.events WHERE event = 'alter' AND detail LIKE '%reset%'}),
	'batch_max_ms, reset {columns,batch_max_messages}', 'the event says which');
alter(q{target => 'second'});
$node->poll_until('SELECT count(*) > 0 FROM second', 't');
pass('another target');
alter(q{properties => '{"fetch.wait.max.ms": 50, "client.id": "first"}'});
alter(q{properties => '{"client.id": null, "fetch.min.bytes": 1}'});
is( $node->safe_psql('postgres', 'SELECT properties FROM kafka_ingest.pipelines'),
	'{"fetch.min.bytes": 1, "fetch.wait.max.ms": 50}', 'properties merge');
my $sum = $node->position_sum('p');
$node->wait_for_position_sum('p', $sum + 500);
pass('and it loads');
$node->safe_psql('postgres', q{BEGIN; SELECT kafka_ingest.alter_pipeline('p', target => 'target', batch_max_ms => 1); ROLLBACK});
is( $node->safe_psql('postgres', 'SELECT target, batch_max_ms FROM kafka_ingest.pipelines'),
	'public.second|100', 'rolled back: as it was');
alter('paused => true');
is($node->state('p'), 'paused', 'paused => true');
alter('paused => false');
$sum = $node->position_sum('p');
$node->wait_for_position_sum('p', $sum + 500);
pass('paused => false');

# another owner
$node->safe_psql('postgres', 'CREATE ROLE loader LOGIN');
refused(q{alter_pipeline('p', owner => 'loader')}, qr/42501/);
refused(q{alter_pipeline('p', owner => 'nobody')}, qr/42704/);
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER kafka TO loader; ALTER TABLE second OWNER TO loader');
$node->wait_for_state('p', 'retrying/permission_denied');
alter(q{owner => 'loader'});
$node->poll_until(q{SELECT usename FROM pg_stat_activity WHERE backend_type = 'kafka_ingest worker'}, 'loader');
$sum = $node->position_sum('p');
$node->wait_for_position_sum('p', $sum + 500);
pass('another owner loads');

# ---- or_alter -------------------------------------------------------------------------------

$sum = $node->position_sum('p');
$node->safe_psql('postgres', qq{SELECT kafka_ingest.create_pipeline('p', topic => '$topic', target => 'second',
	batch_max_messages => 300, start_from => 'latest', or_alter => true)});
is( $node->safe_psql('postgres', 'SELECT batch_max_messages, batch_max_ms, properties, start_from, owner FROM kafka_ingest.pipelines'),
	'300|200|{}|earliest|loader', 'or_alter sets exactly these arguments; start and owner stay');
cmp_ok($node->position_sum('p'), '>=', $sum, 'and keeps the positions');
is($node->safe_psql('postgres', 'SELECT count(*) FROM kafka_ingest.gaps'), 0, 'no gap');
$node->safe_psql('postgres', qq{SELECT kafka_ingest.create_pipeline('new', topic => '$topic', target => 'target',
	start_from => 'latest', paused => true, or_alter => true)});
is($node->state('new'), 'paused', 'or_alter creates what is not there');

ok($producer->is_running, 'all of that while messages were coming');
$producer->kill9;
my $offsets = $kafka->offsets($topic);
my $produced = { map { $_ => $offsets->{$_}{high} } keys %$offsets };
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s')}), 't', 'caught up');
$node->safe_psql('postgres', 'CREATE VIEW both_tables AS TABLE target UNION ALL TABLE second');
$node->ledger_check('both_tables', $topic, $produced);

# ---- refusals ----------------------------------------------------------------------------------

refused(q{create_pipeline('p', topic => 'x', target => 'second')}, qr/42710/);
refused(q{create_pipeline('p', topic => 'x', target => 'second', or_alter => true)}, qr/55000/);
refused(q{alter_pipeline('p', topic => 'x')}, qr/22023.*start/);
refused(q{alter_pipeline('p', start_from => 'latest')}, qr/22023.*HINT:.*seek/s);
refused(q{alter_pipeline('p', connection => 'nowhere', start_from => 'latest')}, qr/42704/);
refused(q{alter_pipeline('p', columns => '{"none": "$.a"}')}, qr/42703/);
refused(q{alter_pipeline('p', columns => '{"id": "a"}')}, qr/22023/);
refused(q{alter_pipeline('p', batch_max_messages => 0)}, qr/22023/);
refused(q{alter_pipeline('p', properties => '{"enable.auto.commit": "true"}')}, qr/ERROR:  \w{5}/);
refused(q{alter_pipeline('p', reset => '{topic}')}, qr/22023/);
# a schema that is not there: what the server says of it changed with PostgreSQL 17
refused(q{alter_pipeline('p', target => 'nothing.nothing')},
	$node->safe_psql('postgres', 'SHOW server_version_num') < 170000 ? qr/3F000/ : qr/42P01/);
refused(q{alter_pipeline('p', format => 'avro')}, qr/0A000/);
refused(q{alter_pipeline('nobody', workers => 2)}, qr/42704/);
is($node->state('p'), 'running', 'what is refused changes nothing');

# ---- another topic ------------------------------------------------------------------------------

my $other = $kafka->create_topic('other');
$kafka->produce($other, count => 200);
$node->safe_psql('postgres', q{TRUNCATE second});
alter(qq{topic => '$other', start_offsets => '{"0": 150}'});
is( $node->safe_psql('postgres', q{SELECT kafka_ingest.wait_until_caught_up('p', '60s');
		SELECT count(*), min(_offset) FROM second}),
	"t\n50|150", 'another topic, from where it was told');
is( $node->safe_psql('postgres', q{SELECT topic, partition, next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'p'}),
	"$other|0|200", 'the old positions are forgotten');

# ---- pipeline_definition ------------------------------------------------------------------------

my @definitions = (
	qq{'d1', topic => '$topic', target => 'target'},
	qq{'it''s "odd"', topic => '$topic', target => 'public."Odd Table"', key_format => 'json',
		columns => '{"Id": "\$.id", "it''s": "\@key.k", "_offset": null}', on_tombstone => 'error', on_missing => 'error',
		on_error => 'stop', max_error_ratio => 0.25, start_offsets => '{"0": 5, "1": -7}', partitions => '{0,1}',
		workers => 3, batch_max_messages => 11, batch_max_ms => 12, search_path => 'public, "Odd Schema"',
		group_id => '', properties => '{"client.id": "x''y"}', paused => true},
	qq{'d3', topic => '$topic', target => 'target', start_from => 'latest', paused => true},
	qq{'d4', topic => '$topic', target => 'target', start_timestamp => '2024-02-03 04:05:06.123456+07', paused => true});
$node->safe_psql('postgres', 'CREATE TABLE "Odd Table" ("Id" bigint, "it\'s" text, _offset bigint)');
my $everything = q{SELECT to_jsonb(p) - 'created_at' - 'changed_at' FROM kafka_ingest.pipelines p WHERE pipeline = };
foreach my $arguments (@definitions)
{
	my ($name) = $arguments =~ /^('(?:[^']|'')*')/;
	$node->safe_psql('postgres', "SELECT kafka_ingest.create_pipeline($arguments)");
	my $before = $node->safe_psql('postgres', "$everything $name");
	my $definition = $node->safe_psql('postgres', "SELECT kafka_ingest.pipeline_definition($name)");
	$node->safe_psql('postgres', "SELECT kafka_ingest.drop_pipeline($name)");
	# whatever the session's settings are
	$node->safe_psql('postgres', "SET search_path = pg_catalog; SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; $definition");
	is($node->safe_psql('postgres', "$everything $name"), $before, "the definition makes the same again: $name");
	is($node->safe_psql('postgres', "SELECT kafka_ingest.pipeline_definition($name)"), $definition, 'and has the same definition');
}

# ---- drop -----------------------------------------------------------------------------------------

is( $node->safe_psql('postgres', q{SELECT * FROM kafka_ingest.drop_pipeline('p')}), "$other|0|200", 'drop_pipeline() tells where it stood');
like( $node->safe_psql('postgres', q{SELECT detail FROM kafka_ingest.events WHERE pipeline = 'p' AND event = 'drop'}),
	qr/\Q$other\E.*0.*200/, 'so does its event');
is($node->safe_psql('postgres', 'SELECT count(*) FROM second'), 50, 'the rows stay');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM kafka_ingest.drop_pipeline('p', if_exists => true)}), 0, 'if_exists');
refused(q{drop_pipeline('p')}, qr/42704/);

$node->stop;
done_testing();
