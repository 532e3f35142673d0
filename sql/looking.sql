--
-- What the functions that look say to bad arguments, before any broker is
-- asked (there is none), and what they show of nothing.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna;
RESET client_min_messages;
CREATE ROLE regress_ki_anna LOGIN;
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1');

-- Runs a query and returns "ok", or what was raised.
CREATE FUNCTION pg_temp.try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE query;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN state || ' ' || message || coalesce(E'\n  detail: ' || nullif(detail, ''), '')
        || coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;
CREATE FUNCTION pg_temp.calls(VARIADIC calls text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT call || E'\n' || pg_temp.try('SELECT * FROM kafka_ingest.' || call) FROM unnest(calls) AS call
$$;
\pset format unaligned
\pset tuples_only on

SELECT pg_temp.calls(
    $$peek(NULL)$$,
    $$peek('')$$,
    $$peek('a,b', 'regress_ki')$$,
    $$peek('a*', 'regress_ki')$$,
    $$peek('t', NULL)$$,
    $$peek('t', 'regress_ki_none')$$,
    $$peek('t', 'regress_ki', format => NULL)$$,
    $$peek('t', 'regress_ki', format => 'xml')$$,
    $$peek('t', 'regress_ki', format => 'csv')$$,
    $$peek('t', 'regress_ki', format => 'avro')$$,
    $$peek('t', 'regress_ki', max_messages => NULL)$$,
    $$peek('t', 'regress_ki', max_messages => 0)$$,
    $$peek('t', 'regress_ki', max_messages => 100001)$$,
    $$peek('t', 'regress_ki', start_from => 'committed')$$,
    $$peek('t', 'regress_ki', start_from => 'latest', start_offsets => '{"0": 1}')$$,
    $$peek('t', 'regress_ki', start_from => 'latest', start_timestamp => '2024-01-01')$$,
    $$peek('t', 'regress_ki', start_offsets => '{"0": 1}', start_timestamp => '2024-01-01')$$,
    $$peek('t', 'regress_ki', start_timestamp => 'infinity')$$,
    $$peek('t', 'regress_ki', start_offsets => '[1]')$$,
    $$peek('t', 'regress_ki', start_offsets => '{"other": {"0": 1}}')$$);

SELECT pg_temp.calls(
    $$infer_table(NULL, 'demo')$$,
    $$infer_table('a,b', 'demo', 'regress_ki')$$,
    $$infer_table('t', NULL, 'regress_ki')$$,
    $$infer_table('t', '', 'regress_ki')$$,
    $$infer_table('t', 'a b', 'regress_ki')$$,
    $$infer_table('t', 'd.s.t', 'regress_ki')$$,
    $$infer_table('t', 'demo', NULL)$$,
    $$infer_table('t', 'demo', 'regress_ki_none')$$,
    $$infer_table('t', 'demo', 'regress_ki', format => 'csv')$$,
    $$infer_table('t', 'demo', 'regress_ki', format => 'xml')$$,
    $$infer_table('t', 'demo', 'regress_ki', envelope => 'debezium')$$,
    $$infer_table('t', 'demo', 'regress_ki', envelope => 'connect')$$,
    $$infer_table('t', 'demo', 'regress_ki', envelope => 'paper')$$,
    $$infer_table('t', 'demo', 'regress_ki', sample => 0)$$,
    $$infer_table('t', 'demo', 'regress_ki', sample => NULL)$$);

-- Who may
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT pg_temp.calls($$peek('t', 'regress_ki')$$, $$infer_table('t', 'demo', 'regress_ki')$$, $$cluster_status()$$);
SELECT code FROM kafka_ingest.check() WHERE pipeline IS NOT NULL;
SELECT count(*) FROM kafka_ingest.metrics();
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM kafka_ingest.cluster_status() WHERE pipeline = 'regress_ki';
GRANT pg_monitor TO regress_ki_anna;
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT count(*) FROM kafka_ingest.cluster_status() WHERE pipeline = 'regress_ki';
RESET SESSION AUTHORIZATION;

-- A pipeline that is only configured
SET client_min_messages = warning;
CREATE TABLE regress_ki_target (id bigint);
CREATE FUNCTION regress_ki_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE INSERT ON regress_ki_target FOR EACH ROW EXECUTE FUNCTION regress_ki_trigger();
SELECT kafka_ingest.create_pipeline('regress_ki', 't', 'regress_ki_target', connection => 'regress_ki', paused => true);
SELECT pipeline, severity, code FROM kafka_ingest.check() WHERE pipeline = 'regress_ki';
SELECT name, labels, value FROM kafka_ingest.metrics() WHERE labels->>'pipeline' = 'regress_ki' ORDER BY 1;
DROP SERVER regress_ki CASCADE;
SELECT pipeline, severity, code, problem FROM kafka_ingest.check() WHERE pipeline = 'regress_ki';
SELECT kafka_ingest.drop_pipeline('regress_ki');
DROP TABLE regress_ki_target;
DROP FUNCTION regress_ki_trigger();
DROP ROLE regress_ki_anna;
