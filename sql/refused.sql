--
-- What is known of statements and filters when a pipeline is created: commands
-- that are none of the five, mistakes with their place, conditions that cannot
-- be read.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna;
RESET client_min_messages;
CREATE ROLE regress_ki_anna LOGIN;
CREATE SCHEMA regress_ki AUTHORIZATION regress_ki_anna;
CREATE TABLE regress_ki.not_hers (id bigint);
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_ki TO regress_ki_anna;
SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on
\set VERBOSITY default

CREATE TABLE demo (id bigint PRIMARY KEY, category text, value bigint);
CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1';

-- Runs a statement and returns "ok", or what was raised.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN state || ' ' || message || coalesce(E'\n  detail: ' || nullif(detail, ''), '');
END $$;
-- Tries an option with a statement alone.
CREATE FUNCTION verdict(option text, argument text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text := pg_temp.try(format($q$SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', paused => true, %s => %L%s)$q$,
        option, argument, CASE WHEN option <> 'statement' THEN $q$, statement => 'SELECT FROM messages'$q$ END));
BEGIN
    IF result = 'ok' THEN
        PERFORM kafka_ingest.drop_pipeline('new');
    END IF;
    RETURN result;
END $$;

-- --------------------------------------------------------------------------
-- Commands
-- --------------------------------------------------------------------------
SELECT s || ': ' || verdict('statement', s) FROM unnest(ARRAY[
    'SELECT', 'VALUES (1)', 'TABLE messages', 'SELECT FROM demo FOR UPDATE',
    'INSERT INTO demo SELECT message_offset FROM messages', 'UPDATE demo SET value = 1', 'DELETE FROM demo',
    'MERGE INTO demo USING messages ON id = message_offset WHEN MATCHED THEN DELETE',
    'WITH x AS (DELETE FROM demo RETURNING id) INSERT INTO demo SELECT id FROM x',
    'SELECT 1; SELECT 2;', 'SELECT pg_notify($$a$$, $$b$$)', $$SELECT 'a\'; -- ' || 'b'$$]) AS s;
SELECT verdict('statement', s) FROM unnest(ARRAY[
    'CREATE TABLE x AS SELECT 1', 'SELECT 1 INTO x', 'SELECT 1 INTO x UNION SELECT 2', 'CREATE TABLE x (a int)', 'CREATE TEMP TABLE x (a int)',
    'SELECT 1; NOTIFY x', 'LISTEN x', 'SET search_path = x', 'SET LOCAL ROLE x', 'RESET ALL', 'COPY demo TO STDOUT', 'CALL proc()', 'DO $$ BEGIN END $$',
    'BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'PREPARE a AS SELECT 1', 'EXECUTE a', 'DECLARE c CURSOR FOR SELECT 1', 'EXPLAIN ANALYZE DELETE FROM demo',
    'TRUNCATE demo', 'LOCK demo', 'VACUUM', 'DROP TABLE demo', 'ALTER TABLE demo ADD x int', 'GRANT SELECT ON demo TO public', 'REFRESH MATERIALIZED VIEW x',
    'SELECT 1; SELECT 2; CHECKPOINT', 'SHOW work_mem', 'LOAD $$x$$', 'ANALYZE demo', 'CREATE TABLE y (a int); INSERT INTO y VALUES (1)']) AS s;
SELECT verdict('statement', s) FROM unnest(ARRAY['', ' ; ;', '-- nothing']) AS s;

-- --------------------------------------------------------------------------
-- Mistakes, and where they are
-- --------------------------------------------------------------------------
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'INSERT INTO demo SELEC message_offset FROM messages');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'SELECT 1; INSERT INTO demo SELECT offset_ FROM messages');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'INSERT INTO nowhere SELECT message_offset FROM messages');
SELECT verdict('statement', 'SELECT nofunction(value) FROM messages');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'INSERT INTO demo SELECT value FROM messages');
SELECT verdict('statement', 'SELECT key->''a'' FROM messages');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'SELECT value FROM messages WHERE topic = $1');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'DELETE FROM messages');
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'INSERT INTO demo SELECT message_offset FROM messages', search_path => 'public');
-- what the owner may not do, also deep inside
SELECT verdict('statement', s) FROM unnest(ARRAY['INSERT INTO not_hers SELECT message_offset FROM messages',
    'SELECT FROM messages WHERE EXISTS (SELECT FROM not_hers)', 'WITH x AS (SELECT id FROM not_hers) SELECT FROM x',
    'INSERT INTO demo SELECT FROM messages; DELETE FROM not_hers']) AS s;
-- neither a target nor a statement; what needs a target
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki')$$);
SELECT verdict(o[1], o[2]) FROM (VALUES (ARRAY['columns', '{"id": "$.id"}']), (ARRAY['mode', 'upsert']), (ARRAY['on_missing', 'error'])) v(o);
-- the same when it is altered
SELECT kafka_ingest.create_pipeline('new', 't', connection => 'regress_ki', statement => 'SELECT key->''a'' FROM messages', key_format => 'json', paused => true);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', statement => 'VACUUM')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', statement => 'SELECT x FROM messages')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', key_format => 'text')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', reset => '{statement}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', target => 'demo', reset => '{statement}')$$);
SELECT kafka_ingest.pipeline_definition('new');
SELECT kafka_ingest.alter_pipeline('new', statement => E'SELECT ''it''''s'', ''\\''\n  FROM messages', filter => '{"$.a": [1, null], "@key": "k"}', reset => '{target}');
SELECT kafka_ingest.pipeline_definition('new');
-- which makes it again
SELECT kafka_ingest.pipeline_definition('new') AS definition \gset
SELECT kafka_ingest.drop_pipeline('new');
:definition
SELECT kafka_ingest.pipeline_definition('new') = :'definition';
SELECT target, statement, filter, on_tombstone FROM kafka_ingest.pipelines WHERE pipeline = 'new';
SELECT kafka_ingest.drop_pipeline('new');
-- settings and constraints of the session that creates one are left alone
SET standard_conforming_strings = off;
SET DateStyle = 'German';
SELECT verdict('statement', 'SELECT FROM messages');
SHOW standard_conforming_strings;
SHOW DateStyle;
RESET standard_conforming_strings;
RESET DateStyle;

-- --------------------------------------------------------------------------
-- Conditions
-- --------------------------------------------------------------------------
SELECT c || ': ' || verdict('filter', c) FROM unnest(ARRAY[
    '{"$.a": "b"}', '{"$.a": [1, 2.50, true, null, "x"], "$": 1, "$.b[0][\"odd name\"]": null}',
    '{"@key": "k", "@headers.v": "2", "@headers[\"odd.name\"]": 1, "@topic": "t", "@partition": 0, "@offset": 1, "@raw": ""}',
    '{}', '[]', '"$.a"', 'null', '{"$.a": {}}', '{"$.a": {"b": 1}}', '{"$.a": []}', '{"$.a": [[1]]}', '{"$.a": [1, {"b": 2}]}',
    '{"a": 1}', '{"": 1}', '{"$.": 1}', '{"$.*": 1}', '{"$.a::hex": "00"}', '{"@timestamp": 1}', '{"@headers": 1}', '{"@rest": 1}',
    '{"@nope": 1}', '{"@key.id": 1}', '{"$.a": 1, "$.b::json": 2}']) AS c;
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('new', 't', 'demo', connection => 'regress_ki', paused => true, filter => '{"$.a": {}}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('new', 't', 'demo', connection => 'regress_ki', paused => true, delete_when => '{"$.a": 1}')$$);

RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
SELECT kafka_ingest.drop_connection('regress_ki');
DROP SCHEMA regress_ki CASCADE;
DROP OWNED BY regress_ki_anna;
DROP ROLE regress_ki_anna;
