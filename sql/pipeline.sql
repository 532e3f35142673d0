--
-- Pipelines: create, alter, or_alter, pause, resume, adopt, drop; what the
-- views, the events and pipeline_definition() say of them; rollbacks; who may.
-- All of them are paused or have no broker: nothing is loaded here.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna, regress_ki_bob, regress_ki_team, regress_ki_monitor;
RESET client_min_messages;
CREATE ROLE regress_ki_anna LOGIN;
CREATE ROLE regress_ki_bob LOGIN;
CREATE ROLE regress_ki_team LOGIN;
CREATE ROLE regress_ki_monitor;
GRANT regress_ki_team TO regress_ki_anna;
GRANT pg_monitor TO regress_ki_monitor;

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

CREATE SCHEMA regress_ki;
GRANT USAGE, CREATE ON SCHEMA regress_ki TO regress_ki_anna, regress_ki_bob, regress_ki_team;
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1');
SELECT kafka_ingest.create_connection('regress_ki_2', brokers => '127.0.0.1:2');
GRANT USAGE ON FOREIGN SERVER regress_ki, regress_ki_2 TO regress_ki_anna, regress_ki_bob, regress_ki_team;

-- What is configured, without what differs from run to run.
CREATE VIEW regress_ki.configuration AS
SELECT pipeline, c.key, CASE WHEN c.key = 'group_id' THEN replace(c.value::text, format('.%s.', current_database()), '.DB.') ELSE c.value::text END AS value
FROM kafka_ingest.pipelines p, jsonb_each(to_jsonb(p) - 'created_at' - 'changed_at') AS c;
CREATE FUNCTION regress_ki.settings_of(name text) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT key || ': ' || value FROM regress_ki.configuration WHERE pipeline = name AND key <> 'pipeline' $$;
CREATE FUNCTION regress_ki.events_of(name text) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT concat_ws(' | ', event, detail, 'by ' || CASE WHEN by LIKE 'regress%' THEN by ELSE 'a superuser' END) FROM kafka_ingest.events WHERE pipeline = name ORDER BY at $$;
CREATE FUNCTION regress_ki.version_of(name text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
$$ SELECT version FROM kafka_ingest.pipeline p WHERE p.name = version_of.name $$;
GRANT SELECT ON regress_ki.configuration TO PUBLIC;

SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
\pset format unaligned
\pset tuples_only on

-- --------------------------------------------------------------------------
-- Create
-- --------------------------------------------------------------------------
CREATE TABLE demo (category text, value bigint);
SELECT kafka_ingest.create_pipeline('demo', topic => 'demo_topic_1', target => 'demo', connection => 'regress_ki', paused => true);
SELECT regress_ki.settings_of('demo');
SELECT regress_ki.events_of('demo');
SELECT pipeline, state, reason, detail, lag, time_lag, messages_per_second, messages, loaded, filtered, ignored,
    dead_letters, dead_letters_total, gaps, last_commit_at, last_message_at, last_error, last_error_at, next_retry_at,
    since = (SELECT changed_at FROM kafka_ingest.pipelines) AS since, workers, pids, partitions, lag_at, headroom_messages
FROM kafka_ingest.status \gx
SELECT count(*) FROM kafka_ingest.partition_status;
SELECT count(*) FROM kafka_ingest.recent_batches;
SELECT count(*) FROM kafka_ingest.gaps;
SELECT count(*) FROM kafka_ingest.dead_letters;
SELECT created_at = changed_at FROM kafka_ingest.pipelines;
SELECT kafka_ingest.pipeline_definition('demo');
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('demo', topic => 'demo_topic_1', target => 'demo', connection => 'regress_ki')$$);

-- every option at something else than its default
CREATE TABLE "Odd ""Name" (id int, "odd name" text, rest jsonb, at timestamptz);
SET TimeZone = 'UTC';
SELECT kafka_ingest.create_pipeline('odd ''name" \ ä', topic => 'a.b_c-D', target => '"Odd ""Name"', connection => 'regress_ki_2',
    format => 'json', format_options => '{}', key_format => 'json',
    columns => '{"id": "@key.id", "odd name": "$[\"it''s\"].x[3]", "rest": "@rest", "at": "$.at::epoch_ms"}',
    mode => 'append', on_tombstone => 'error', on_missing => 'error', on_error => 'stop', max_error_ratio => 0.1,
    start_timestamp => '2024-05-06 07:08:09.123456+02', on_offset_lost => 'stop', partitions => '{0,2}', workers => 3,
    batch_max_messages => 1, batch_max_ms => 1, search_path => 'pg_catalog, "odd"', group_id => '', properties => '{"fetch.wait.max.ms": 100, "fetch.min.bytes": "10"}',
    paused => true);
SELECT regress_ki.settings_of('odd ''name" \ ä');
SELECT kafka_ingest.pipeline_definition('odd ''name" \ ä');
-- what it says makes the same again
CREATE TEMP TABLE before AS SELECT * FROM configuration WHERE pipeline LIKE 'odd%';
CREATE TEMP TABLE definition AS SELECT kafka_ingest.pipeline_definition('odd ''name" \ ä') AS text;
SELECT count(*) FROM kafka_ingest.drop_pipeline('odd ''name" \ ä');
SELECT text FROM definition \gexec
(TABLE before EXCEPT TABLE configuration) UNION ALL (SELECT * FROM configuration WHERE pipeline LIKE 'odd%' EXCEPT TABLE before);
SELECT count(*) FROM kafka_ingest.drop_pipeline('odd ''name" \ ä');

-- start_from and start_offsets; the default search_path is the creator's
SELECT kafka_ingest.create_pipeline('starts', 't', 'demo', connection => 'regress_ki', start_from => 'latest', on_error => 'stop', paused => true);
SELECT kafka_ingest.pipeline_definition('starts');
SELECT count(*) FROM kafka_ingest.drop_pipeline('starts');
SELECT kafka_ingest.create_pipeline('starts', 't', 'demo', connection => 'regress_ki', start_offsets => '{"0": 100, "1": -50}', on_error => 'stop', paused => true);
SELECT kafka_ingest.pipeline_definition('starts');
SELECT count(*) FROM kafka_ingest.drop_pipeline('starts');
SELECT kafka_ingest.create_pipeline('starts', 't', 'demo', connection => 'regress_ki', start_offsets => '{"t": {"0": 9223372036854775807}}', on_error => 'stop', paused => true);
SELECT kafka_ingest.pipeline_definition('starts');
SELECT count(*) FROM kafka_ingest.drop_pipeline('starts');
-- NULL is the default of what has none
SELECT kafka_ingest.create_pipeline('starts', 't', 'demo', connection => 'regress_ki', key_format => NULL, columns => NULL, mode => NULL,
    on_tombstone => NULL, start_from => NULL, start_timestamp => NULL, start_offsets => NULL, partitions => NULL, search_path => NULL,
    group_id => NULL, on_error => 'stop', paused => true);
SELECT kafka_ingest.pipeline_definition('starts');
SELECT count(*) FROM kafka_ingest.drop_pipeline('starts');
-- names: 63 bytes of any kind, and as long a topic as Kafka has
SELECT kafka_ingest.create_pipeline(repeat('x', 63), repeat('t', 249), 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT kafka_ingest.create_pipeline(repeat('é', 31) || 'x', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT kafka_ingest.create_pipeline('Demo', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT kafka_ingest.create_pipeline(E'line\nbreak', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT pipeline, state FROM kafka_ingest.status ORDER BY pipeline COLLATE "C";
SELECT p.pipeline, count(d.*) FROM kafka_ingest.pipelines p, kafka_ingest.drop_pipeline(p.pipeline) d WHERE p.pipeline <> 'demo' GROUP BY 1;
SELECT pipeline FROM kafka_ingest.pipelines ORDER BY 1;

-- --------------------------------------------------------------------------
-- A rollback leaves nothing
-- --------------------------------------------------------------------------
CREATE TEMP TABLE before_events AS SELECT count(*) AS n FROM kafka_ingest.events;
BEGIN;
SELECT kafka_ingest.create_pipeline('rolled_back', 't', 'demo', connection => 'regress_ki');
SELECT pipeline, state FROM kafka_ingest.status ORDER BY 1;
ROLLBACK;
BEGIN;
SELECT kafka_ingest.alter_pipeline('demo', workers => 7, columns => '{"value": "$.v"}');
SELECT value FROM configuration WHERE pipeline = 'demo' AND key IN ('workers', 'columns') ORDER BY key;
SAVEPOINT a;
SELECT kafka_ingest.alter_pipeline('demo', workers => 8);
ROLLBACK TO a;
SELECT value FROM configuration WHERE pipeline = 'demo' AND key = 'workers';
SELECT kafka_ingest.resume('demo');
SELECT paused FROM kafka_ingest.pipelines;
SELECT count(*) FROM kafka_ingest.drop_pipeline('demo');
SELECT count(*) FROM kafka_ingest.pipelines;
ROLLBACK;
SELECT kafka_ingest.pipeline_definition('demo');
SELECT pipeline, state FROM kafka_ingest.status;
SELECT count(*) - max(n) FROM kafka_ingest.events, before_events;
-- in one transaction: made, changed, dropped, made again
BEGIN;
SELECT kafka_ingest.create_pipeline('briefly', 't', 'demo', connection => 'regress_ki', on_error => 'stop');
SELECT kafka_ingest.alter_pipeline('briefly', workers => 2);
SELECT count(*) FROM kafka_ingest.drop_pipeline('briefly');
SELECT kafka_ingest.create_pipeline('briefly', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
COMMIT;
SELECT pipeline, workers, paused FROM kafka_ingest.pipelines ORDER BY 1;
SELECT regress_ki.events_of('briefly');
SELECT count(*) FROM kafka_ingest.drop_pipeline('briefly');

-- --------------------------------------------------------------------------
-- Alter: NULL leaves, properties merge, reset sets back; positions stay
-- --------------------------------------------------------------------------
SELECT kafka_ingest.create_pipeline('alter', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT regress_ki.version_of('alter');
RESET SESSION AUTHORIZATION;
INSERT INTO kafka_ingest.position (pipeline, topic, partition, next_offset, messages, loaded, filtered, ignored, dead_letters, committed_at)
SELECT id, 't', p, 100 * p + 7, 100 * p, 100 * p - p, 0, p, 0, '2024-01-01 00:00+00' FROM kafka_ingest.pipeline, generate_series(0, 2) p WHERE name = 'alter';
INSERT INTO kafka_ingest.gap
SELECT id, 't', 1, 0, 99, 'start', 'a test', now(), 'regress_ki_anna' FROM kafka_ingest.pipeline WHERE name = 'alter';
SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SET TimeZone = 'UTC';
SELECT topic, partition, worker_pid, next_offset, low_offset, stable_offset, high_offset, lag, lag_at, headroom_messages, messages, last_message_at, committed_at
FROM kafka_ingest.partition_status WHERE pipeline = 'alter' ORDER BY 2;
SELECT messages, loaded, filtered, ignored, dead_letters_total, gaps, partitions, lag, time_lag, last_commit_at FROM kafka_ingest.status WHERE pipeline = 'alter';
SELECT pipeline, topic, partition, from_offset, to_offset, reason, detail, recorded_by FROM kafka_ingest.gaps;
SELECT kafka_ingest.alter_pipeline('alter', target => '"Odd ""Name"', columns => '{"id": "$.id"}');
SELECT kafka_ingest.alter_pipeline('alter', key_format => 'json', on_tombstone => 'error', on_missing => 'error', on_error => 'dead_letter', max_error_ratio => 1);
SELECT kafka_ingest.alter_pipeline('alter', partitions => '{1}', workers => 2, batch_max_messages => 1000000, batch_max_ms => 3600000, search_path => '', group_id => '');
SELECT kafka_ingest.alter_pipeline('alter', properties => '{"fetch.wait.max.ms": 100, "fetch.min.bytes": 10}');
SELECT kafka_ingest.alter_pipeline('alter', properties => '{"fetch.wait.max.ms": null, "fetch.min.bytes": 20, "fetch.max.bytes": null}');
SELECT kafka_ingest.pipeline_definition('alter');
-- the same topic and connection are no move
SELECT kafka_ingest.alter_pipeline('alter', topic => 't', connection => 'regress_ki');
SELECT kafka_ingest.alter_pipeline('alter', reset => '{columns,partitions,key_format,on_tombstone,on_missing,on_error,max_error_ratio,workers,batch_max_messages,batch_max_ms,search_path,properties,group_id}');
-- reset of what can only be at its default so far
SELECT kafka_ingest.alter_pipeline('alter', reset => '{format,format_options,statement,envelope,filter,mode,key_columns,newer_by,delete_when,on_offset_lost,max_messages_per_second,start_group}');
SELECT kafka_ingest.pipeline_definition('alter');
-- reset and set in one call: what is given counts
SELECT kafka_ingest.alter_pipeline('alter', columns => '{"id": "$.ident"}', reset => '{columns}', on_error => 'stop');
SELECT columns FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
SELECT topic, partition, next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'alter' ORDER BY 2;
SELECT regress_ki.events_of('alter');
SELECT regress_ki.version_of('alter');
SELECT changed_at > created_at FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
-- paused is an option, too, and alter changes it like pause and resume
SELECT kafka_ingest.alter_pipeline('alter', paused => false);
SELECT paused FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
SELECT kafka_ingest.alter_pipeline('alter', paused => true);
SELECT state, reason FROM kafka_ingest.status WHERE pipeline = 'alter';
-- a start belongs to a new topic or connection, which need one
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', topic => 't2')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', connection => 'regress_ki_2')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', start_from => 'latest')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', topic => 't', start_offsets => '{"0": 1}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', topic => 't2', start_from => 'latest', start_offsets => '{"0": 1}')$$);
SELECT kafka_ingest.alter_pipeline('alter', topic => 't2', start_from => 'latest');
SELECT topic, start_from FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
SELECT count(*) FROM kafka_ingest.partition_status WHERE pipeline = 'alter';
SELECT messages, loaded, gaps FROM kafka_ingest.status WHERE pipeline = 'alter';
SELECT kafka_ingest.alter_pipeline('alter', connection => 'regress_ki_2', start_offsets => '{"0": 5}');
SELECT kafka_ingest.pipeline_definition('alter');
-- a failure changes nothing, not even the options before the bad one
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', workers => 5, columns => '{"nothing": "$.x"}')$$);
SELECT workers, columns FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
-- a new target must take the mapping
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', target => 'demo')$$);

-- the owner
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('alter', owner => 'regress_ki_team', target => 'demo', columns => '{"value": "$.v"}')$$);
SELECT owner, target FROM kafka_ingest.pipelines WHERE pipeline = 'alter';
SELECT kafka_ingest.create_pipeline('team', 't', 'demo', connection => 'regress_ki', on_error => 'stop', paused => true);
GRANT INSERT ON demo TO regress_ki_team;
SELECT kafka_ingest.alter_pipeline('team', owner => 'regress_ki_team');
SELECT owner FROM kafka_ingest.pipelines WHERE pipeline = 'team';
SELECT regress_ki.events_of('team');

-- --------------------------------------------------------------------------
-- or_alter: exactly these arguments, the place stays
-- --------------------------------------------------------------------------
RESET SESSION AUTHORIZATION;
INSERT INTO kafka_ingest.position (pipeline, topic, partition, next_offset, messages, loaded, filtered, ignored, dead_letters)
SELECT id, 'demo_topic_1', 0, 42, 42, 42, 0, 0, 0 FROM kafka_ingest.pipeline WHERE name = 'demo';
SET SESSION AUTHORIZATION regress_ki_anna;
SET search_path = regress_ki, public;
SELECT kafka_ingest.alter_pipeline('demo', workers => 4, columns => '{"value": "$.v"}', properties => '{"fetch.min.bytes": 10}');
SELECT kafka_ingest.create_pipeline('demo', 'demo_topic_1', 'demo', connection => 'regress_ki', batch_max_ms => 300, start_from => 'latest', paused => true, or_alter => true);
SELECT kafka_ingest.pipeline_definition('demo');
SELECT topic, partition, next_offset FROM kafka_ingest.partition_status WHERE pipeline = 'demo';
SELECT regress_ki.events_of('demo');
-- another topic or connection would need a start
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('demo', 'another', 'demo', connection => 'regress_ki', or_alter => true)$$);
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('demo', 'demo_topic_1', 'demo', connection => 'regress_ki_2', or_alter => true)$$);
-- and it creates what is not there
SELECT kafka_ingest.create_pipeline('new', 't', 'demo', connection => 'regress_ki', start_from => 'latest', on_error => 'stop', paused => true, or_alter => true);
SELECT start_from FROM kafka_ingest.pipelines WHERE pipeline = 'new';

-- --------------------------------------------------------------------------
-- Pause and resume
-- --------------------------------------------------------------------------
SELECT kafka_ingest.pause('new');
SELECT kafka_ingest.resume('new');
SELECT kafka_ingest.resume('new');
SELECT kafka_ingest.pause('new');
SELECT kafka_ingest.pause('new');
SELECT regress_ki.events_of('new');
SELECT pipeline, state, reason, detail FROM kafka_ingest.status WHERE pipeline = 'new';
-- all of mine
SELECT kafka_ingest.resume();
SELECT pipeline, paused FROM kafka_ingest.pipelines ORDER BY 1;
SELECT kafka_ingest.pause(NULL);
SELECT pipeline, paused FROM kafka_ingest.pipelines ORDER BY 1;
-- pause; ALTER TABLE; resume in one transaction, and all of it undone
BEGIN;
SELECT kafka_ingest.pause('demo');
ALTER TABLE demo ADD COLUMN more text;
SELECT kafka_ingest.resume('demo');
ROLLBACK;
SELECT paused FROM kafka_ingest.pipelines WHERE pipeline = 'demo';
-- what stopped goes on with resume
RESET SESSION AUTHORIZATION;
UPDATE kafka_ingest.pipeline SET stop_reason = 'bad_message', stop_detail = 'A test.', stop_at = '2024-01-01 00:00+00', paused = false WHERE name = 'new';
SET SESSION AUTHORIZATION regress_ki_anna;
SET TimeZone = 'UTC';
SELECT pipeline, state, reason, detail, since FROM kafka_ingest.status WHERE pipeline = 'new';
BEGIN;
SELECT kafka_ingest.resume('new');
SELECT regress_ki.events_of('new');
ROLLBACK;
-- a stop is not forgotten by altering something, and pause keeps it
SELECT kafka_ingest.alter_pipeline('new', workers => 2);
SELECT kafka_ingest.pause('new');
SELECT state, reason FROM kafka_ingest.status WHERE pipeline = 'new';

-- --------------------------------------------------------------------------
-- Waiting for what does not move is an error at once
-- --------------------------------------------------------------------------
SELECT pg_temp.try($$SELECT kafka_ingest.wait_until_caught_up('demo')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.wait_for('demo', 0, 1000)$$);
SELECT pg_temp.try($$SELECT kafka_ingest.wait_for('new', 0, 1000)$$);
-- but what is there is there
SELECT kafka_ingest.wait_for('demo', 0, 41);
SELECT kafka_ingest.wait_for('demo', 0, 41, timeout => '0');

-- --------------------------------------------------------------------------
-- A target that is renamed, moved, dropped
-- --------------------------------------------------------------------------
ALTER TABLE demo RENAME TO "De mo";
SELECT target FROM kafka_ingest.pipelines WHERE pipeline = 'demo';
SELECT regexp_replace(kafka_ingest.pipeline_definition('demo'), E'.*\n *(target => [^\n]*),\n.*', '\1');
BEGIN;
DROP TABLE "De mo";
SELECT target FROM kafka_ingest.pipelines WHERE pipeline = 'demo';
SELECT regexp_replace(kafka_ingest.pipeline_definition('demo'), E'.*\n *(target => [^\n]*),\n.*', '\1');
-- and can still be dropped, paused, resumed
SELECT kafka_ingest.pause('demo'), kafka_ingest.resume('demo'), kafka_ingest.pause('demo');
SELECT * FROM kafka_ingest.drop_pipeline('demo');
ROLLBACK;
ALTER TABLE "De mo" RENAME TO demo;
-- a dropped connection is still refused while it is used
RESET SESSION AUTHORIZATION;
SELECT pg_temp.try($$SELECT kafka_ingest.drop_connection('regress_ki')$$);

-- --------------------------------------------------------------------------
-- Who may: owners and members of the owner
-- --------------------------------------------------------------------------
SET SESSION AUTHORIZATION regress_ki_bob;
SELECT count(*) FROM kafka_ingest.pipelines;
SELECT count(*) FROM kafka_ingest.status;
SELECT count(*) FROM kafka_ingest.partition_status;
SELECT count(*) FROM kafka_ingest.recent_batches;
SELECT count(*) FROM kafka_ingest.gaps;
SELECT count(*) FROM kafka_ingest.events;
SELECT statement || E'\n' || pg_temp.try('SELECT kafka_ingest.' || statement) FROM unnest(ARRAY[
    $$alter_pipeline('demo', workers => 2)$$,
    $$create_pipeline('demo', 'demo_topic_1', 'regress_ki.demo', connection => 'regress_ki')$$,
    $$create_pipeline('demo', 'demo_topic_1', 'regress_ki.demo', connection => 'regress_ki', or_alter => true)$$,
    $$drop_pipeline('demo')$$,
    $$drop_pipeline('demo', if_exists => true)$$,
    $$pause('demo')$$,
    $$resume('demo')$$,
    $$adopt('demo')$$,
    $$pipeline_definition('demo')$$,
    $$wait_until_caught_up('demo')$$,
    $$wait_for('demo', 0, 0)$$,
    $$seek('demo', start_offsets => '{"0": 0}')$$]) AS statement;
CALL kafka_ingest.run('demo');
\echo :LAST_ERROR_SQLSTATE
-- all of mine are none
SELECT kafka_ingest.pause();
SELECT kafka_ingest.resume();
SELECT kafka_ingest.adopt();
-- nobody gives away what is not theirs, or to whom they do not belong
CREATE TABLE regress_ki.bobs (value bigint);
SELECT kafka_ingest.create_pipeline('bobs', 't', 'regress_ki.bobs', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT split_part(pg_temp.try($$SELECT kafka_ingest.alter_pipeline('bobs', owner => 'regress_ki_anna')$$), ' ', 1);
-- a name is taken even when one cannot see whose it is
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('demo', 't', 'regress_ki.bobs', connection => 'regress_ki')$$);
-- pg_monitor sees what happens, not how it is configured
RESET SESSION AUTHORIZATION;
SET ROLE regress_ki_monitor;
SELECT pipeline FROM kafka_ingest.status ORDER BY 1;
SELECT pipeline, partition, next_offset FROM kafka_ingest.partition_status ORDER BY 1, 2;
SELECT pipeline, from_offset, to_offset FROM kafka_ingest.gaps;
SELECT count(*) FROM kafka_ingest.pipelines;
SELECT count(*) FROM kafka_ingest.events;
SELECT count(*) FROM kafka_ingest.dead_letters;
SELECT pg_temp.try($$SELECT kafka_ingest.pause('demo')$$);
RESET ROLE;
-- a member of the owner is as good as the owner
GRANT regress_ki_anna TO regress_ki_bob;
SET SESSION AUTHORIZATION regress_ki_bob;
SELECT pipeline, owner FROM kafka_ingest.pipelines ORDER BY 1;
SELECT kafka_ingest.alter_pipeline('demo', workers => 2);
SELECT concat_ws(' | ', event, detail, by) FROM kafka_ingest.events WHERE pipeline = 'demo' ORDER BY at DESC LIMIT 1;
RESET SESSION AUTHORIZATION;
REVOKE regress_ki_anna FROM regress_ki_bob;
-- and so is a superuser
SELECT kafka_ingest.alter_pipeline('demo', workers => 1);
SELECT owner FROM kafka_ingest.pipelines WHERE pipeline = 'demo';
-- the owner's privileges count, not the caller's
REVOKE USAGE ON FOREIGN SERVER regress_ki FROM regress_ki_bob;
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('bobs', workers => 2)$$);
GRANT USAGE ON FOREIGN SERVER regress_ki TO regress_ki_bob;

-- a limit on their number; superusers have none
SET kafka_ingest.max_pipelines_per_role = 1;
SET SESSION AUTHORIZATION regress_ki_bob;
SELECT pg_temp.try($$SELECT kafka_ingest.create_pipeline('bobs_2', 't', 'regress_ki.bobs', connection => 'regress_ki')$$);
SELECT kafka_ingest.create_pipeline('bobs', 't', 'regress_ki.bobs', connection => 'regress_ki', on_error => 'stop', paused => true, or_alter => true);
SELECT count(*) FROM kafka_ingest.drop_pipeline('bobs');
SELECT kafka_ingest.create_pipeline('bobs_2', 't', 'regress_ki.bobs', connection => 'regress_ki', on_error => 'stop', paused => true);
SELECT count(*) FROM kafka_ingest.drop_pipeline('bobs_2');
RESET SESSION AUTHORIZATION;
RESET kafka_ingest.max_pipelines_per_role;

-- --------------------------------------------------------------------------
-- What is said of starts and of options that do not fit
-- --------------------------------------------------------------------------
SET SESSION AUTHORIZATION regress_ki_anna;
BEGIN;
CREATE TABLE regress_ki.tt (id bigint);
SELECT kafka_ingest.create_pipeline('taken', 't', 'regress_ki.tt', connection => 'regress_ki', start_from => 'committed', start_group => 'old', paused => true);
SELECT kafka_ingest.create_pipeline('taken2', 't', 'regress_ki.tt', connection => 'regress_ki', start_from => 'committed', group_id => 'own', paused => true);
ROLLBACK;
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', newer_by => 'id', delete_when => '{"$.a": 1}', on_missing => 'keep')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_pipeline('new', reset => '{target}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.adopt('nope')$$);
RESET SESSION AUTHORIZATION;

-- --------------------------------------------------------------------------
-- A copy waits until it is adopted
-- --------------------------------------------------------------------------
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT kafka_ingest.adopt('demo');
SELECT kafka_ingest.adopt();
RESET SESSION AUTHORIZATION;
-- as in a dump that was restored elsewhere: another token, and OIDs that mean nothing
UPDATE kafka_ingest.installation SET token = gen_random_uuid();
UPDATE kafka_ingest.pipeline SET owner = 1, target = 1 WHERE name = 'new';
SELECT pipeline, state, reason, detail FROM kafka_ingest.status ORDER BY 1;
SELECT owner, target FROM kafka_ingest.pipelines WHERE pipeline = 'new';
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT split_part(pg_temp.try($$SELECT kafka_ingest.wait_for('demo', 0, 1000)$$), E'\n', 1);
CALL kafka_ingest.run('demo');
\echo :LAST_ERROR_SQLSTATE
-- changing it does not adopt it
SELECT kafka_ingest.alter_pipeline('demo', workers => 3);
SELECT kafka_ingest.adopt('demo');
SELECT pipeline, state, reason FROM kafka_ingest.status ORDER BY 1;
SELECT kafka_ingest.adopt();
SELECT pipeline, state, reason FROM kafka_ingest.status ORDER BY 1;
SELECT owner, target FROM kafka_ingest.pipelines WHERE pipeline = 'new';
SELECT regress_ki.events_of('demo') OFFSET 5;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_ki_bob;
SELECT pg_temp.try($$SELECT kafka_ingest.adopt('demo')$$);
RESET SESSION AUTHORIZATION;

-- --------------------------------------------------------------------------
-- Drop
-- --------------------------------------------------------------------------
SET SESSION AUTHORIZATION regress_ki_anna;
SELECT * FROM kafka_ingest.drop_pipeline('demo');
SELECT regress_ki.events_of('demo') OFFSET 8;
SELECT * FROM kafka_ingest.drop_pipeline('demo', if_exists => true);
SELECT pg_temp.try($$SELECT kafka_ingest.drop_pipeline('demo')$$);
SELECT * FROM kafka_ingest.drop_pipeline('alter', discard => true);
SELECT * FROM kafka_ingest.drop_pipeline('new');
SELECT * FROM kafka_ingest.drop_pipeline('team');
SELECT count(*) FROM kafka_ingest.status;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM kafka_ingest.pipeline;
SELECT count(*) FROM kafka_ingest.position;
SELECT count(*) FROM kafka_ingest.gap;

SELECT kafka_ingest.drop_connection('regress_ki');
SELECT kafka_ingest.drop_connection('regress_ki_2');
SET client_min_messages = warning;
DROP SCHEMA regress_ki CASCADE;
DROP OWNED BY regress_ki_anna, regress_ki_bob, regress_ki_team, regress_ki_monitor;
DROP ROLE regress_ki_anna, regress_ki_bob, regress_ki_team, regress_ki_monitor;
