--
-- What this version does not do yet is refused with SQLSTATE 0A000 when it is
-- set to something other than its default, and only that; the defaults are
-- accepted.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna;
RESET client_min_messages;
CREATE ROLE regress_ki_anna LOGIN;

-- Runs a statement and returns "ok", or what was raised.
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN state || ' ' || message || coalesce(E'\n  detail: ' || nullif(detail, ''), '')
        || coalesce(E'\n  hint: ' || nullif(hint, ''), '');
END $$;

CREATE SCHEMA regress_ki AUTHORIZATION regress_ki_anna;
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_ki TO regress_ki_anna;
SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SET client_min_messages = warning;
\pset format unaligned
\pset tuples_only on

CREATE TABLE demo (id bigint PRIMARY KEY, category text, value bigint);
SELECT kafka_ingest.create_pipeline('demo', 't', 'demo', connection => 'regress_ki', paused => true);

-- What one argument gives when a pipeline is created, altered, and created
-- over an existing one.
CREATE FUNCTION verdicts(argument text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    created text := pg_temp.try(format(
        $q$SELECT kafka_ingest.create_pipeline('new', 't', 'demo', connection => 'regress_ki', paused => true, %s)$q$, argument));
    altered text := pg_temp.try(format(
        $q$SELECT kafka_ingest.alter_pipeline('demo', %s%s)$q$, argument,
        -- a start goes with a new topic
        CASE WHEN argument LIKE 'start%' AND argument NOT LIKE '%NULL' THEN $q$, topic => 't2'$q$ END));
    replaced text := pg_temp.try(format(
        $q$SELECT kafka_ingest.create_pipeline('demo', (SELECT topic FROM kafka_ingest.pipelines WHERE pipeline = 'demo'),
            'demo', connection => 'regress_ki', paused => true, or_alter => true, %s)$q$, argument));
BEGIN
    IF created = 'ok' THEN
        PERFORM kafka_ingest.drop_pipeline('new');
    END IF;
    RETURN argument || E'\n' || CASE
        WHEN created = altered AND created = replaced THEN created
        ELSE format(E'create: %s\nalter: %s\nor_alter: %s', created, altered, replaced) END;
END $$;

-- --------------------------------------------------------------------------
-- Refused
-- --------------------------------------------------------------------------
SELECT verdicts(argument) FROM unnest(ARRAY[
    $$format => 'text'$$,
    $$format => 'csv'$$,
    $$format => 'raw'$$,
    $$format => 'avro'$$,
    $$format_options => '{"delimiter": ";"}'$$,
    $$envelope => 'debezium'$$,
    $$envelope => 'connect'$$,
    $$key_format => 'raw'$$,
    $$key_format => 'avro'$$]) AS argument;

-- secrets in files
SELECT pg_temp.try($$CREATE USER MAPPING FOR regress_ki_anna SERVER regress_ki OPTIONS ("sasl.password" 'file:/etc/secret')$$);

-- nothing of it was done
SELECT kafka_ingest.pipeline_definition('demo');
SELECT event, detail FROM kafka_ingest.events WHERE pipeline IN ('demo', 'new') ORDER BY at;

-- --------------------------------------------------------------------------
-- Accepted: all the defaults, and every other value of the other options
-- --------------------------------------------------------------------------
SELECT verdicts(argument) FROM unnest(ARRAY[
    $$statement => NULL$$,
    $$format => 'json'$$,
    $$format_options => '{}'$$,
    $$envelope => NULL$$,
    $$key_format => NULL$$,
    $$key_format => 'text'$$,
    $$key_format => 'json'$$,
    $$filter => NULL$$,
    $$mode => NULL$$,
    $$mode => 'append'$$,
    $$key_columns => NULL$$,
    $$newer_by => NULL$$,
    $$on_tombstone => NULL$$,
    $$on_tombstone => 'skip'$$,
    $$on_tombstone => 'error'$$,
    $$delete_when => NULL$$,
    $$on_missing => 'default'$$,
    $$on_missing => 'error'$$,
    $$on_error => 'dead_letter'$$,
    $$on_error => 'stop'$$,
    $$max_error_ratio => 1$$,
    $$start_from => NULL$$,
    $$start_group => NULL$$,
    $$on_offset_lost => 'stop'$$,
    $$on_offset_lost => 'earliest'$$,
    $$on_offset_lost => 'latest'$$,
    $$max_messages_per_second => NULL$$,
    $$max_messages_per_second => 1000$$,
    $$group_id => NULL$$,
    $$group_id => 'a group'$$,
    $$group_id => ''$$]) AS argument;
-- each of these alters of 'demo' moves it to the topic t2, so one at a time
SELECT verdicts($$start_from => 'earliest'$$);
SELECT kafka_ingest.alter_pipeline('demo', topic => 't', start_from => 'earliest');
SELECT verdicts($$start_from => 'latest'$$);
SELECT kafka_ingest.alter_pipeline('demo', topic => 't', start_from => 'earliest');
SELECT verdicts($$start_timestamp => '2024-01-01'$$);
SELECT kafka_ingest.alter_pipeline('demo', topic => 't', start_from => 'earliest');
SELECT verdicts($$start_offsets => '{"0": 5}'$$);

-- --------------------------------------------------------------------------
-- on_error takes both values
-- --------------------------------------------------------------------------
SET client_min_messages = notice;
SELECT kafka_ingest.create_pipeline('notice', 't', 'demo', connection => 'regress_ki', paused => true);
SELECT kafka_ingest.alter_pipeline('notice', on_error => 'stop');
SELECT on_error FROM kafka_ingest.pipelines WHERE pipeline = 'notice';
SELECT kafka_ingest.alter_pipeline('notice', workers => 2);
SELECT kafka_ingest.alter_pipeline('notice', on_error => 'dead_letter');
SELECT on_error FROM kafka_ingest.pipelines WHERE pipeline = 'notice';
SELECT kafka_ingest.create_pipeline('notice', 't', 'demo', connection => 'regress_ki', on_error => 'dead_letter', paused => true, or_alter => true);
SELECT kafka_ingest.create_pipeline('notice', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true, or_alter => true);

-- What comes later has no setting yet.
SELECT name FROM pg_settings WHERE name = 'kafka_ingest.allowed_brokers';

SELECT kafka_ingest.drop_pipeline('demo'), kafka_ingest.drop_pipeline('notice');
RESET SESSION AUTHORIZATION;
SELECT kafka_ingest.drop_connection('regress_ki');
SET client_min_messages = warning;
DROP SCHEMA regress_ki CASCADE;
DROP OWNED BY regress_ki_anna;
DROP ROLE regress_ki_anna;
