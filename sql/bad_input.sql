--
-- Bad input to every function that is not about connections (sql/connection.sql
-- has those): what is raised, with its SQLSTATE, and that nothing is half-done.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna, regress_ki_bob, regress_ki_nologin, regress_ki_super;
RESET client_min_messages;
CREATE ROLE regress_ki_anna LOGIN;
CREATE ROLE regress_ki_bob LOGIN;
CREATE ROLE regress_ki_nologin;
CREATE ROLE regress_ki_super SUPERUSER LOGIN;

-- Runs a statement, undoes what it did, and returns "ok", or what was raised.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RAISE SQLSTATE 'ZZZZZ';
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
    RETURN 'ok';
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN state || ' ' || message || coalesce(E'\n  detail: ' || nullif(detail, ''), '')
        || coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;
-- The same with these abbreviations: CREATE… and ALTER… are the calls up to the options.
CREATE FUNCTION pg_temp.calls(VARIADIC statements text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT statement || E'\n' || pg_temp.try('SELECT ' || replace(replace(statement,
        'CREATE(', $q$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'regress_ki', paused => true, $q$),
        'ALTER(', $q$kafka_ingest.alter_pipeline('demo', $q$))
    FROM unnest(statements) AS statement
$$;
-- One target after the other
CREATE FUNCTION pg_temp.targets(VARIADIC targets text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT target || E'\n' || pg_temp.try(format(
        $q$SELECT kafka_ingest.create_pipeline('bad', 't', %L, connection => 'regress_ki', paused => true)$q$, target))
    FROM unnest(targets) AS target
$$;
-- One mapping after the other
CREATE FUNCTION pg_temp.mappings(VARIADIC columns jsonb[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT c::text || E'\n' || pg_temp.try(format(
        $q$SELECT kafka_ingest.create_pipeline('bad', 't', 'shapes', columns => %L, connection => 'regress_ki', paused => true)$q$, c))
    FROM unnest(columns) AS c
$$;

CREATE SCHEMA regress_ki;
GRANT USAGE, CREATE ON SCHEMA regress_ki TO regress_ki_anna, regress_ki_bob;
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_ki TO regress_ki_anna, regress_ki_bob;
CREATE FOREIGN DATA WRAPPER regress_ki_wrapper;
CREATE SERVER regress_ki_alien FOREIGN DATA WRAPPER regress_ki_wrapper;
GRANT USAGE ON FOREIGN SERVER regress_ki_alien TO regress_ki_anna;
SELECT kafka_ingest.create_connection('regress_ki_hers', brokers => '127.0.0.1:1');

SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
CREATE TABLE demo (category text, value bigint);
SELECT kafka_ingest.create_pipeline('demo', 't', 'demo', connection => 'regress_ki', paused => true);
CREATE TEMP TABLE before AS SELECT * FROM kafka_ingest.pipelines;
CREATE TEMP TABLE before_events AS SELECT * FROM kafka_ingest.events;

-- --------------------------------------------------------------------------
-- NULLs: of every argument that has no meaning as NULL
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$kafka_ingest.create_pipeline(NULL, 't', 'demo')$$,
    $$kafka_ingest.create_pipeline('bad', NULL, 'demo')$$,
    $$kafka_ingest.create_pipeline('bad', 't', NULL)$$,
    $$kafka_ingest.create_pipeline('bad', 't')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => NULL)$$,
    $$CREATE(format => NULL)$$,
    $$CREATE(format_options => NULL)$$,
    $$CREATE(on_missing => NULL)$$,
    $$CREATE(on_error => NULL)$$,
    $$CREATE(max_error_ratio => NULL)$$,
    $$CREATE(on_offset_lost => NULL)$$,
    $$CREATE(workers => NULL)$$,
    $$CREATE(batch_max_messages => NULL)$$,
    $$CREATE(batch_max_ms => NULL)$$,
    $$CREATE(properties => NULL)$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'regress_ki', paused => NULL)$$,
    $$CREATE(or_alter => NULL)$$,
    $$kafka_ingest.alter_pipeline(NULL)$$,
    $$ALTER(reset => '{NULL}')$$,
    $$kafka_ingest.drop_pipeline(NULL)$$,
    $$kafka_ingest.seek(NULL, start_offsets => '{}')$$,
    $$kafka_ingest.seek('demo', start_offsets => NULL)$$,
    $$kafka_ingest.seek('demo')$$,
    $$kafka_ingest.wait_until_caught_up(NULL)$$,
    $$kafka_ingest.wait_until_caught_up('demo', timeout => NULL)$$,
    $$kafka_ingest.wait_for(NULL, 0, 0)$$,
    $$kafka_ingest.wait_for('demo', NULL, 0)$$,
    $$kafka_ingest.wait_for('demo', 0, NULL)$$,
    $$kafka_ingest.wait_for('demo', 0, 0, timeout => NULL)$$,
    $$kafka_ingest.check_connection(NULL)$$,
    $$kafka_ingest.check_connection('regress_ki', NULL)$$,
    $$kafka_ingest.topics(NULL)$$);
-- a strict one
SELECT kafka_ingest.pipeline_definition(NULL) IS NULL;

-- --------------------------------------------------------------------------
-- Pipelines that are not there
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$kafka_ingest.alter_pipeline('nothing', workers => 1)$$,
    $$kafka_ingest.drop_pipeline('nothing')$$,
    $$kafka_ingest.pause('nothing')$$,
    $$kafka_ingest.resume('nothing')$$,
    $$kafka_ingest.adopt('nothing')$$,
    $$kafka_ingest.pipeline_definition('nothing')$$,
    $$kafka_ingest.pipeline_definition('Demo')$$,
    $$kafka_ingest.pipeline_definition('')$$,
    $$kafka_ingest.seek('nothing', start_offsets => '{"0": 1}')$$,
    $$kafka_ingest.wait_until_caught_up('nothing')$$,
    $$kafka_ingest.wait_for('nothing', 0, 0)$$);

-- --------------------------------------------------------------------------
-- Names and topics
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$kafka_ingest.create_pipeline('', 't', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline(repeat('x', 64), 't', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline(repeat('é', 32), 't', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('demo', 't', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', '', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', '.', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', '..', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a b', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', ' a', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a/b', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'ä', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', '^a', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', repeat('t', 250), 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', ',', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,,b*', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,b,a', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'ab*,a,ab*', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a, b', 'demo', connection => 'regress_ki')$$,
    $$kafka_ingest.create_pipeline('bad', 'a?', 'demo', connection => 'regress_ki')$$,
    $$ALTER(topic => 'a b', start_from => 'earliest')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'nothing')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'regress_ki_alien')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'regress_ki_hers')$$,
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => '')$$,
    $$ALTER(connection => 'nothing', start_from => 'earliest')$$);

-- --------------------------------------------------------------------------
-- Words
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$CREATE(format => 'xml')$$,
    $$CREATE(format => 'JSON')$$,
    $$CREATE(format => '')$$,
    $$CREATE(format_options => '1')$$,
    $$CREATE(envelope => 'maxwell')$$,
    $$CREATE(key_format => 'csv')$$,
    $$CREATE(mode => 'replace')$$,
    $$CREATE(on_tombstone => 'ignore')$$,
    $$CREATE(on_missing => 'null')$$,
    $$CREATE(on_error => 'skip')$$,
    $$CREATE(start_from => 'now')$$,
    $$CREATE(on_offset_lost => 'ignore')$$,
    $$ALTER(format => 'xml')$$,
    $$ALTER(on_error => '')$$,
    $$ALTER(reset => '{nonsense}')$$,
    $$ALTER(reset => '{workers,topic}')$$,
    $$ALTER(reset => '{name}')$$,
    $$ALTER(reset => '{target}')$$,
    $$ALTER(owner => 'regress_ki_nobody')$$,
    $$ALTER(owner => '')$$,
    $$CREATE(search_path => 'a b')$$,
    $$CREATE(search_path => '"a')$$,
    $$ALTER(search_path => 'a,,b')$$);

-- --------------------------------------------------------------------------
-- Numbers
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$CREATE(workers => 0)$$,
    $$CREATE(workers => -1)$$,
    $$CREATE(workers => 257)$$,
    $$CREATE(workers => 2147483647)$$,
    $$CREATE(batch_max_messages => 0)$$,
    $$CREATE(batch_max_messages => -5)$$,
    $$CREATE(batch_max_messages => 1000001)$$,
    $$CREATE(batch_max_ms => 0)$$,
    $$CREATE(batch_max_ms => -2147483648)$$,
    $$CREATE(batch_max_ms => 3600001)$$,
    $$CREATE(max_error_ratio => 0)$$,
    $$CREATE(max_error_ratio => -0.1)$$,
    $$CREATE(max_error_ratio => 1.01)$$,
    $$CREATE(max_error_ratio => 'NaN')$$,
    $$CREATE(max_error_ratio => 'Infinity')$$,
    $$CREATE(partitions => '{}')$$,
    $$CREATE(partitions => '{-1}')$$,
    $$CREATE(partitions => '{0,NULL}')$$,
    $$CREATE(partitions => '{{0,1},{2,3}}')$$,
    $$ALTER(workers => 0)$$,
    $$ALTER(batch_max_messages => 0)$$,
    $$ALTER(partitions => '{}')$$);

-- --------------------------------------------------------------------------
-- Where to start
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$CREATE(start_from => 'latest', start_timestamp => '2024-01-01')$$,
    $$CREATE(start_from => 'earliest', start_offsets => '{"0": 1}')$$,
    $$CREATE(start_timestamp => '2024-01-01', start_offsets => '{"0": 1}')$$,
    $$CREATE(start_timestamp => 'infinity')$$,
    $$CREATE(start_timestamp => '-infinity')$$,
    $$CREATE(start_offsets => '[]')$$,
    $$CREATE(start_offsets => '[1, 2]')$$,
    $$CREATE(start_offsets => '5')$$,
    $$CREATE(start_offsets => '"5"')$$,
    $$CREATE(start_offsets => 'null')$$,
    $$CREATE(start_offsets => '{"a": 1}')$$,
    $$CREATE(start_offsets => '{"": 1}')$$,
    $$CREATE(start_offsets => '{"-1": 1}')$$,
    $$CREATE(start_offsets => '{"+1": 1}')$$,
    $$CREATE(start_offsets => '{" 1": 1}')$$,
    $$CREATE(start_offsets => '{"1 ": 1}')$$,
    $$CREATE(start_offsets => '{"1.0": 1}')$$,
    $$CREATE(start_offsets => '{"01": 1}')$$,
    $$CREATE(start_offsets => '{"-0": 1}')$$,
    $$CREATE(start_offsets => '{"\t1": 1}')$$,
    $$CREATE(start_offsets => '{"2147483648": 1}')$$,
    $$CREATE(start_offsets => '{"99999999999999999999": 1}')$$,
    $$CREATE(start_offsets => '{"0": "1"}')$$,
    $$CREATE(start_offsets => '{"0": null}')$$,
    $$CREATE(start_offsets => '{"0": 1.5}')$$,
    $$CREATE(start_offsets => '{"0": 9223372036854775808}')$$,
    $$CREATE(start_offsets => '{"0": [1]}')$$,
    $$CREATE(start_offsets => '{"0": {"1": 2}}')$$,
    $$CREATE(start_offsets => '{"another": {"0": 2}}')$$,
    $$CREATE(start_offsets => '{"t": {"x": 2}}')$$,
    $$CREATE(start_offsets => '{"t": 2}')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,b*', 'demo', connection => 'regress_ki', start_offsets => '{"0": 2}')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,b*', 'demo', connection => 'regress_ki', start_offsets => '{"a": {"0": 2}, "c": {"0": 2}}')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,b*', 'demo', connection => 'regress_ki', start_offsets => '{"a": 2}')$$,
    $$kafka_ingest.create_pipeline('bad', 'a,b*', 'demo', connection => 'regress_ki', start_offsets => '{"b1": {"x": 2}}')$$,
    $$kafka_ingest.seek('demo', start_offsets => '[]')$$,
    $$kafka_ingest.seek('demo', start_offsets => '{"a": 1}')$$,
    $$kafka_ingest.seek('demo', start_offsets => '{"0": "1"}')$$,
    $$kafka_ingest.seek('demo', start_offsets => '{"-1": 1}')$$);

-- --------------------------------------------------------------------------
-- Properties of a pipeline: the same allow-list as a connection's
-- --------------------------------------------------------------------------
SELECT pg_temp.calls(
    $$CREATE(properties => '[]')$$,
    $$CREATE(properties => '"x"')$$,
    $$CREATE(properties => 'null')$$,
    $$CREATE(properties => '{"fetch.wait.max.mss": 1}')$$,
    $$CREATE(properties => '{"Fetch.Wait.Max.Ms": 1}')$$,
    $$CREATE(properties => '{"": 1}')$$,
    $$CREATE(properties => '{"fetch.wait.max.ms": -1}')$$,
    $$CREATE(properties => '{"fetch.wait.max.ms": "x"}')$$,
    $$CREATE(properties => '{"fetch.wait.max.ms": null}')$$,
    $$CREATE(properties => '{"fetch.wait.max.ms": {}}')$$,
    $$CREATE(properties => '{"group.id": "x"}')$$,
    $$CREATE(properties => '{"enable.auto.commit": true}')$$,
    $$CREATE(properties => '{"isolation.level": "read_uncommitted"}')$$,
    $$CREATE(properties => '{"plugin.library.paths": "/tmp/x.so"}')$$,
    $$CREATE(properties => '{"bootstrap.servers": "k2"}')$$,
    $$CREATE(properties => '{"brokers": "k2"}')$$,
    $$CREATE(properties => '{"security.protocol": "SSL"}')$$,
    $$CREATE(properties => '{"sasl.password": "hunter2"}')$$,
    $$ALTER(properties => '[]')$$,
    $$ALTER(properties => '{"group.id": "x"}')$$,
    $$ALTER(properties => '{"sasl.password": "hunter2"}')$$);

-- --------------------------------------------------------------------------
-- Mappings
-- --------------------------------------------------------------------------
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE shapes (id bigint GENERATED ALWAYS AS IDENTITY, by_default bigint GENERATED BY DEFAULT AS IDENTITY,
    a text, b jsonb, gone int, doubled text GENERATED ALWAYS AS (a || a) STORED, "odd name" positive, "*" int);
ALTER TABLE shapes DROP COLUMN gone;
SELECT pg_temp.mappings(VARIADIC ARRAY[
    -- not an object
    '[]', '"a"', '5', 'true', 'null', '{}', '[{"a": "$.a"}]',
    -- columns
    '{"nothing": "$.a"}', '{"A": "$.a"}', '{"gone": "$.a"}', '{"": "$.a"}', '{"........pg.dropped.5........": "$.a"}',
    '{"ctid": "$.a"}', '{"tableoid": "$.a"}', '{"id": "$.a"}', '{"doubled": "$.a"}', '{"a": "$.a", "nothing": null}',
    '{"a": null}', '{"id": null, "doubled": null, "a": null}',
    -- sources that are not strings
    '{"a": 1}', '{"a": true}', '{"a": {"x": "$.a"}}', '{"a": ["$.a"]}', '{"*": null}', '{"*": 1}',
    -- sources that cannot be read
    '{"a": ""}', '{"a": "a"}', '{"a": ".a"}', '{"a": "$a"}', '{"a": "$."}', '{"a": "$.a."}', '{"a": "$..a"}', '{"a": "$.a b"}',
    '{"a": " $.a"}', '{"a": "$.a "}', '{"a": "$["}', '{"a": "$[]"}', '{"a": "$[0"}', '{"a": "$[-1]"}', '{"a": "$[a]"}', '{"a": "$[0.5]"}',
    '{"a": "$[99999999999]"}', '{"a": "$[\"x]"}', '{"a": "$[\"x\""}', '{"a": "$[''x'']"}', '{"a": "$[\"x\\q\"]"}', '{"a": "$[\"x\\u0000\"]"}', '{"a": "$[*]"}',
    '{"a": "$.*"}', '{"a": "$.*.b"}', '{"a": "$.a.*"}', '{"a": "$.ä é.b"}', '{"a": "$.a[?(@.b)]"}', '{"a": "$.a || ''x''"}',
    -- metadata
    '{"a": "@"}', '{"a": "@nothing"}', '{"a": "@Key"}', '{"a": "@message_offset"}', '{"a": "@offset.x"}', '{"a": "@topic[0]"}', '{"a": "@timestamp.*"}', '{"a": "@rest.x"}',
    '{"a": "@raw.x"}', '{"a": "@headers."}', '{"a": "@headers.a.b"}', '{"a": "@headers[0]"}', '{"a": "@headers.*"}', '{"a": "@headers.a[0]"}',
    '{"a": "@key.id"}', '{"a": "@key[0]"}', '{"*": "@key.*"}',
    -- conversions
    '{"a": "$.a::"}', '{"a": "$.a::text"}', '{"a": "$.a::epoch"}', '{"a": "$.a::EPOCH_MS"}', '{"a": "$.a::epoch_ms::json"}', '{"a": "$.a :: hex"}', '{"a": "$.a:hex"}',
    '{"a": "@offset::epoch_ms"}', '{"a": "@timestamp::epoch_ms"}', '{"a": "@headers::json"}', '{"a": "@rest::json"}', '{"*": "$.*::hex"}', '{"a": "@topic::hex"}',
    -- the star
    '{"*": "$"}', '{"*": "$.a"}', '{"*": "$.*.*"}', '{"*": "@headers.*"}', '{"*": "@rest"}', '{"*": ""}', '{"*": ".*"}']::jsonb[]);
-- as good as these are
SELECT c || E'\n' || pg_temp.try(format($q$SELECT kafka_ingest.create_pipeline('good', 't', 'shapes', columns => %L, key_format => 'json', connection => 'regress_ki', paused => true, or_alter => true)$q$, c))
FROM unnest(ARRAY['{"a": "$"}', '{"by_default": "$.a"}', '{"a": "$[\"\"]"}', '{"a": "$[\"\\u00e4\\\"]\"].b[0][1].c-d_e/$@"}', '{"*": "$.*"}', '{"*": "$.a[0].*", "a": null}',
    '{"*": "@key.*"}', '{"a": "@key.id::hex", "b": "@headers", "odd name": "@headers[\"odd.name\"]::epoch_days"}', '{"b": "@rest", "a": "@raw::base64"}', '{"id": null, "a": "@offset"}']) AS c;
-- a table that takes nothing from a message; one of generated columns
CREATE TABLE no_columns ();
CREATE TABLE generated (id bigint GENERATED ALWAYS AS IDENTITY, one int GENERATED ALWAYS AS (1) STORED);
SELECT pg_temp.targets('no_columns', 'generated');

-- --------------------------------------------------------------------------
-- Targets
-- --------------------------------------------------------------------------
CREATE UNLOGGED TABLE unlogged (value bigint);
CREATE TEMP TABLE temporary (value bigint);
CREATE SEQUENCE sequence;
CREATE MATERIALIZED VIEW materialized AS SELECT 1 AS value;
CREATE TABLE indexed (value bigint PRIMARY KEY);
CREATE TYPE composite AS (value bigint);
CREATE FOREIGN TABLE "foreign" (value bigint) SERVER regress_ki_alien;
CREATE TABLE with_foreign (value bigint) PARTITION BY LIST (value);
CREATE FOREIGN TABLE foreign_part PARTITION OF with_foreign FOR VALUES IN (1) SERVER regress_ki_alien;
CREATE TABLE with_unlogged (value bigint) PARTITION BY LIST (value);
CREATE TABLE logged_part PARTITION OF with_unlogged DEFAULT;
CREATE UNLOGGED TABLE unlogged_part PARTITION OF with_unlogged FOR VALUES IN (1);
CREATE TABLE deep (value bigint) PARTITION BY LIST (value);
CREATE TABLE deep_1 PARTITION OF deep DEFAULT PARTITION BY LIST (value);
CREATE UNLOGGED TABLE deep_2 PARTITION OF deep_1 DEFAULT;
CREATE TABLE partitioned (value bigint PRIMARY KEY) PARTITION BY LIST (value);
-- views are as good as what they write into, however deep that is
CREATE VIEW counted AS SELECT count(*) AS value FROM demo;
CREATE VIEW over_unlogged AS SELECT * FROM unlogged;
CREATE VIEW over_view AS SELECT * FROM over_unlogged;
CREATE VIEW over_foreign AS SELECT * FROM "foreign";
CREATE VIEW over_partitions AS SELECT * FROM with_unlogged;
SELECT pg_temp.targets('counted', 'over_unlogged', 'over_view', 'over_foreign', 'over_partitions');
SELECT pg_temp.targets('unlogged', 'temporary', 'sequence', 'materialized', 'indexed_pkey', 'partitioned_pkey', 'composite', '"foreign"',
    'with_foreign', 'foreign_part', 'with_unlogged', 'unlogged_part', 'deep',
    'nothing', '', 'demo; DROP TABLE demo', '999999999');
SELECT pg_temp.calls(
    $$ALTER(target => 'unlogged')$$,
    $$ALTER(target => 'with_foreign')$$,
    $$ALTER(target => 'sequence')$$,
    $$ALTER(target => 'indexed_pkey')$$,
    $$ALTER(target => '999999999')$$);
-- of others: without the privilege to insert, or under row security
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_ki_bob;
CREATE TABLE regress_ki.bobs (value bigint, secret text);
CREATE TABLE regress_ki.guarded (value bigint);
GRANT INSERT ON regress_ki.guarded TO regress_ki_anna;
ALTER TABLE regress_ki.guarded ENABLE ROW LEVEL SECURITY;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SET client_min_messages = warning;
CREATE TABLE forced (value bigint);
ALTER TABLE forced ENABLE ROW LEVEL SECURITY;
CREATE TABLE partitioned_by_range (value bigint) PARTITION BY RANGE (value);
SELECT pg_temp.targets('bobs', 'guarded');
ALTER TABLE forced FORCE ROW LEVEL SECURITY;
SELECT pg_temp.targets('forced');
ALTER TABLE forced NO FORCE ROW LEVEL SECURITY;
SELECT pg_temp.targets('forced');
-- a role that may not log in (from PostgreSQL 17 on its pipelines can run)
RESET SESSION AUTHORIZATION;
GRANT regress_ki_nologin TO regress_ki_anna;
GRANT INSERT ON regress_ki.demo TO regress_ki_nologin;
GRANT USAGE ON SCHEMA regress_ki TO regress_ki_nologin;
GRANT USAGE ON FOREIGN SERVER regress_ki TO regress_ki_nologin;
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT CASE WHEN current_setting('server_version_num')::int < 170000 THEN raised
    ELSE replace(raised, 'ok', E'28000 role "regress_ki_nologin" cannot own a pipeline: it may not log in\n  detail: Before PostgreSQL 17 no background worker starts as such a role.\n  hint: ALTER ROLE ... LOGIN; it needs no password.') END
FROM pg_temp.try($$SELECT kafka_ingest.alter_pipeline('demo', owner => 'regress_ki_nologin')$$) AS raised;
RESET SESSION AUTHORIZATION;

-- A superuser: may write anywhere, and therefore must not run what others
-- attached to a table; and still not everywhere.
SET SESSION AUTHORIZATION regress_ki_super;
SET search_path = regress_ki, public;
SET client_min_messages = warning;
CREATE TABLE supers (value bigint) PARTITION BY LIST (value);
CREATE TABLE supers_1 PARTITION OF supers FOR VALUES IN (1);
CREATE TABLE supers_2 PARTITION OF supers FOR VALUES IN (2);
ALTER TABLE supers_2 OWNER TO regress_ki_bob;
CREATE VIEW over_bobs AS SELECT * FROM bobs;
SELECT pg_temp.targets('bobs', 'demo', 'supers', 'over_bobs', 'pg_catalog.pg_class', 'pg_catalog.pg_authid',
    'kafka_ingest.pipeline', 'kafka_ingest.position', 'kafka_ingest.event', 'kafka_ingest.dead_letter', 'kafka_ingest.installation', 'kafka_ingest.status', 'kafka_ingest.pipelines',
    'kafka_ingest.pipeline_id', 'kafka_ingest.pipeline_pkey');
SELECT regexp_replace(pg_temp.targets(reltoastrelid::regclass::text), 'pg_toast_[0-9]+', 'pg_toast_NNN', 'g') FROM pg_class WHERE relname = 'bobs';
DROP TABLE supers_2;
SELECT pg_temp.targets('supers');
RESET SESSION AUTHORIZATION;

-- --------------------------------------------------------------------------
-- Waiting, asking, running
-- --------------------------------------------------------------------------
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT pg_temp.calls(
    $$kafka_ingest.wait_until_caught_up('demo', timeout => '-1 s')$$,
    $$kafka_ingest.wait_for('demo', -1, 0)$$,
    $$kafka_ingest.wait_for('demo', 0, -1)$$,
    $$kafka_ingest.wait_for('demo', 0, 9223372036854775807)$$,
    $$kafka_ingest.wait_for('demo', 0, 0, timeout => '-1 day')$$,
    $$kafka_ingest.check_connection('nothing')$$,
    $$kafka_ingest.check_connection('')$$,
    $$kafka_ingest.check_connection('regress_ki_alien')$$,
    $$kafka_ingest.check_connection('regress_ki_hers')$$,
    $$kafka_ingest.check_connection('regress_ki', timeout => '0')$$,
    $$kafka_ingest.check_connection('regress_ki', timeout => '-1 s')$$,
    $$kafka_ingest.check_connection('regress_ki', timeout => '1 year')$$,
    $$kafka_ingest.topics('nothing')$$,
    $$kafka_ingest.topics('regress_ki_alien')$$,
    $$kafka_ingest.topics('regress_ki_hers')$$,
    $$kafka_ingest.version('x')$$);
\set VERBOSITY default
CALL kafka_ingest.run(NULL);
\echo :LAST_ERROR_SQLSTATE
CALL kafka_ingest.run('nothing');
\echo :LAST_ERROR_SQLSTATE
CALL kafka_ingest.run('demo', max_batches => 0);
\echo :LAST_ERROR_SQLSTATE
CALL kafka_ingest.run('demo', max_batches => -1);
\echo :LAST_ERROR_SQLSTATE
CALL kafka_ingest.run('demo', timeout => '-1 s');
\echo :LAST_ERROR_SQLSTATE
BEGIN;
CALL kafka_ingest.run('demo');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN;
CALL kafka_ingest.run('demo', max_batches => 2);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
-- in a function there is a transaction, too
DO $$ DECLARE m bigint; d bigint; c boolean; BEGIN CALL kafka_ingest.run('demo', 2, NULL, m, d, c); EXCEPTION WHEN OTHERS THEN RAISE WARNING '% %', SQLSTATE, SQLERRM; END $$;

-- --------------------------------------------------------------------------
-- Read-only transactions
-- --------------------------------------------------------------------------
BEGIN READ ONLY;
SELECT pg_temp.calls(
    $$kafka_ingest.create_pipeline('bad', 't', 'demo', connection => 'regress_ki')$$,
    $$ALTER(workers => 2)$$,
    $$kafka_ingest.drop_pipeline('demo')$$,
    $$kafka_ingest.pause('demo')$$,
    $$kafka_ingest.resume('demo')$$,
    $$kafka_ingest.adopt('demo')$$,
    $$kafka_ingest.seek('demo', start_offsets => '{"0": 1}')$$);
SELECT state FROM kafka_ingest.status;
SELECT length(kafka_ingest.pipeline_definition('demo')) > 0;
COMMIT;
SET default_transaction_read_only = on;
CALL kafka_ingest.run('demo');
\echo :LAST_ERROR_SQLSTATE
RESET default_transaction_read_only;

-- --------------------------------------------------------------------------
-- Nothing of all this was done
-- --------------------------------------------------------------------------
(TABLE before EXCEPT TABLE kafka_ingest.pipelines) UNION ALL (TABLE kafka_ingest.pipelines EXCEPT TABLE before);
TABLE kafka_ingest.events EXCEPT TABLE before_events;

SELECT count(*) FROM kafka_ingest.drop_pipeline('demo');
RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
SELECT count(*) FROM kafka_ingest.pipeline;
DROP SCHEMA regress_ki CASCADE;
SELECT kafka_ingest.drop_connection('regress_ki');
SELECT kafka_ingest.drop_connection('regress_ki_hers');
DROP FOREIGN DATA WRAPPER regress_ki_wrapper CASCADE;
DROP OWNED BY regress_ki_anna, regress_ki_bob, regress_ki_nologin, regress_ki_super;
DROP ROLE regress_ki_anna, regress_ki_bob, regress_ki_nologin, regress_ki_super;
