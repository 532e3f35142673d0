/* kafka_ingest 0.3.0: what ALTER EXTENSION UPDATE changes, and CREATE EXTENSION makes after 0.2.0 */

\echo Use "ALTER EXTENSION kafka_ingest UPDATE TO '0.3.0'" to load this file. \quit

-- ---------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------

ALTER TABLE kafka_ingest.pipeline
    ALTER COLUMN target DROP NOT NULL,
    ALTER COLUMN target_schema DROP NOT NULL,
    ALTER COLUMN target_name DROP NOT NULL,
    ALTER COLUMN on_tombstone DROP NOT NULL,
    ADD COLUMN statement text,
    ADD COLUMN filter jsonb,
    ADD COLUMN mode text NOT NULL DEFAULT 'append',
    ADD COLUMN key_columns text[],
    ADD COLUMN newer_by text,
    ADD COLUMN delete_when jsonb,
    ADD COLUMN start_group text,
    ADD COLUMN on_offset_lost text NOT NULL DEFAULT 'stop',
    ADD COLUMN max_messages_per_second integer,
    ADD COLUMN vanished_topics text;

-- What nobody chose follows the mode from now on.
UPDATE kafka_ingest.pipeline SET on_tombstone = NULL WHERE on_tombstone = 'skip';

-- Offsets of older partitions, {"topic": {"0": 100}}, that must be reached
-- before this one is read.
ALTER TABLE kafka_ingest.position ADD COLUMN waits_for jsonb;

-- By it touching gaps of one kind become one row.
CREATE INDEX gap_place ON kafka_ingest.gap (pipeline, partition, from_offset);

-- A hash of the message's key; NULL: it has none.
ALTER TABLE kafka_ingest.dead_letter ADD COLUMN key_hash integer;
CREATE INDEX dead_letter_key ON kafka_ingest.dead_letter (pipeline, key_hash, superseded);
COMMENT ON TABLE kafka_ingest.dead_letter IS
'messages that could not be written for their own fault, kept whole; read it through kafka_ingest.dead_letters';
COMMENT ON VIEW kafka_ingest.dead_letters IS
'messages that could not be written for their own fault, kept whole until they are retried or discarded';
COMMENT ON VIEW kafka_ingest.gaps IS
'every range of offsets (both ends inclusive) that was left out, and why: start, seek, retention, topic_recreated or discarded';

-- ---------------------------------------------------------------------------
-- Pipelines
-- ---------------------------------------------------------------------------

CREATE OR REPLACE VIEW kafka_ingest.pipelines WITH (security_barrier) AS
    SELECT p.name AS pipeline,
           coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = p.owner), p.owner_name) AS owner,
           p.connection, p.topic,
           coalesce((SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.oid = p.target),
                    CASE WHEN p.target_name IS NOT NULL
                         THEN pg_catalog.format('%I.%I', p.target_schema, p.target_name) END) AS target,
           p.statement,
           p.format, '{}'::jsonb AS format_options, NULL::text AS envelope, p.key_format,
           p.columns, p.filter, p.mode,
           CASE p.mode WHEN 'append' THEN kafka_ingest.write_method(p.target) ELSE p.mode END AS write_method,
           p.key_columns, p.newer_by,
           coalesce(p.on_tombstone, CASE WHEN p.mode = 'upsert' THEN 'delete' WHEN p.target_name IS NOT NULL THEN 'skip' END) AS on_tombstone,
           p.delete_when, p.on_missing, p.on_error, p.max_error_ratio,
           p.start_from, p.start_timestamp, p.start_offsets, p.start_group,
           p.on_offset_lost, p.partitions, p.workers,
           p.batch_max_messages, p.batch_max_ms, p.max_messages_per_second,
           p.search_path, p.group_id, p.properties, p.paused,
           p.created_at, p.changed_at
    FROM kafka_ingest.pipeline p
    WHERE kafka_ingest.is_mine(p.id);
COMMENT ON FUNCTION kafka_ingest.write_method(oid) IS
'how append writes rows into a relation: multi_insert (straight into the table, as COPY does) or insert (a statement); of the other modes the view pipelines shows upsert or insert_ignore';

-- ---------------------------------------------------------------------------
-- Repair
-- ---------------------------------------------------------------------------

CREATE FUNCTION kafka_ingest.retry_dead_letters(
    name text, ids bigint[] DEFAULT NULL, max_messages integer DEFAULT NULL, allow_stale boolean DEFAULT false,
    OUT retried bigint, OUT loaded bigint, OUT superseded bigint, OUT failed bigint)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_retry_dead_letters';
COMMENT ON FUNCTION kafka_ingest.retry_dead_letters(text, bigint[], integer, boolean) IS
'load dead letters through the mapping as it is now, in this transaction; those whose key had a later message are superseded and never loaded by an upsert';

CREATE FUNCTION kafka_ingest.discard_dead_letters(
    name text, ids bigint[] DEFAULT NULL, older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_discard_dead_letters';
COMMENT ON FUNCTION kafka_ingest.discard_dead_letters(text, bigint[], interval) IS
'delete dead letters for good, and return how many; each leaves a gap';

COMMENT ON FUNCTION kafka_ingest.seek(text, text, timestamptz, jsonb, text, boolean) IS
'move the positions of a pipeline; a jump forward leaves a gap row, one backwards loads again and in mode append must be allowed; restarts what stopped for its position';
COMMENT ON FUNCTION kafka_ingest.adopt(text, text) IS
'let the pipelines of a copied or restored database load here, group_id: and publish to this group; owner and target are found again by name';

-- ---------------------------------------------------------------------------
-- Looking
-- ---------------------------------------------------------------------------

CREATE FUNCTION kafka_ingest.preview(
    name text, value text DEFAULT NULL, key text DEFAULT NULL, headers jsonb DEFAULT '{}', max_messages integer DEFAULT 10,
    OUT partition integer, OUT message_offset bigint, OUT row_data jsonb, OUT unmapped text[], OUT sqlstate text, OUT error text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_preview';
COMMENT ON FUNCTION kafka_ingest.preview(text, text, text, jsonb, integer) IS
'what the pipeline would write of its next messages, or of the one that is given; writes nothing';

CREATE FUNCTION kafka_ingest.peek(
    topic text,
    connection text DEFAULT 'kafka',
    start_from text DEFAULT 'earliest',
    start_timestamp timestamptz DEFAULT NULL,
    start_offsets jsonb DEFAULT NULL,
    format text DEFAULT 'json',
    max_messages integer DEFAULT 10)
RETURNS TABLE(topic text, partition integer, message_offset bigint, message_timestamp timestamptz,
              key text, value text, headers jsonb)
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'kafka_ingest_peek';
COMMENT ON FUNCTION kafka_ingest.peek(text, text, text, timestamptz, jsonb, text, integer) IS
'messages of a topic as they are, without a pipeline and without a trace at the broker: the first ones from a start, or with start_from => ''latest'' the last ones of all; what is no text is shown as \x and hex digits';

CREATE FUNCTION kafka_ingest.infer_table(
    topic text,
    table_name text,
    connection text DEFAULT 'kafka',
    format text DEFAULT 'json',
    envelope text DEFAULT NULL,
    sample integer DEFAULT 1000)
RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_infer_table';
COMMENT ON FUNCTION kafka_ingest.infer_table(text, text, text, text, text, integer) IS
'the CREATE TABLE statement (for \gexec) of a table with a column for each top-level field of the first messages, of a type that takes all values seen: bigint, numeric, boolean, text, jsonb; timestamptz, date or uuid when 20 strings or more are nothing else; NOT NULL when no message of 100 or more lacks it';

CREATE FUNCTION kafka_ingest.check_rows(
    OUT pipeline text, OUT severity text, OUT code text, OUT problem text, OUT hint text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_check_rows';
COMMENT ON FUNCTION kafka_ingest.check_rows() IS 'for kafka_ingest.check: what pipelines do, and how they are configured';

CREATE FUNCTION kafka_ingest.check()
RETURNS TABLE(pipeline text, severity text, code text, problem text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH advice AS (
    SELECT * FROM kafka_ingest.check_rows()
    UNION ALL
    SELECT NULL, 'warning', 'version_mismatch',
           format('The library is version %s, and the SQL objects are of version %s.', v.library, v.sql),
           'Restart the server if the library was replaced, then ALTER EXTENSION kafka_ingest UPDATE.'
    FROM kafka_ingest.version() v WHERE v.library <> v.sql
    UNION ALL
    SELECT NULL, 'warning', 'unsafe_topic_recreation',
           format('librdkafka %s can crash, and so restart the server, when a topic that is read is deleted and made again.', v.librdkafka),
           'Use librdkafka 2.10 or newer, or pause() before a topic is made again.'
    FROM kafka_ingest.version() v WHERE 'unsafe_topic_recreation' = ANY (v.features)
    UNION ALL
    SELECT NULL, 'warning', 'fsync_off',
           'fsync is off: a crash of the machine can damage all that was committed, rows and offsets alike.',
           'Set fsync = on, except where all data can be thrown away.'
    WHERE current_setting('fsync') = 'off'
    UNION ALL
    SELECT NULL, 'info', 'synchronous_commit_off',
           'synchronous_commit is off: a crash of the server can undo the last commits, rows and offsets together. They are loaded again, but wait_for() and others may have seen them.',
           'Set synchronous_commit = on for those who own pipelines, if that matters.'
    FROM pg_settings WHERE name = 'synchronous_commit' AND reset_val = 'off'
    UNION ALL
    SELECT s.pipeline, 'warning', 'headroom_low',
           format('Only %s offsets lie between the beginning of the log and the next one to read, and %s are still to be read: retention may remove messages before they are loaded.', s.headroom_messages, s.lag),
           'Raise the retention of the topic, or the speed: workers, batch_max_messages, write_method.'
    FROM kafka_ingest.status s WHERE s.lag >= 10000 AND s.headroom_messages < s.lag / 10
    UNION ALL
    SELECT g.pipeline, 'warning', 'gaps',
           format('Ranges of offsets that were lost before they could be loaded: %s, with %s offsets; the last one at %s.',
                  count(*), sum(g.to_offset - g.from_offset + 1), max(g.recorded_at)),
           'The view gaps has them, and why.'
    FROM kafka_ingest.gaps g WHERE g.reason IN ('retention', 'topic_recreated', 'corrupt') GROUP BY g.pipeline
)
SELECT * FROM advice a
ORDER BY array_position('{error,warning,info}'::text[], a.severity), a.pipeline NULLS FIRST, a.code, a.problem
$$;
COMMENT ON FUNCTION kafka_ingest.check() IS
'what deserves attention, the worst first: errors, warnings and hints about the server (pipeline NULL) and about the pipelines that one sees, with what to do';

CREATE FUNCTION kafka_ingest.metrics()
RETURNS TABLE(name text, labels jsonb, value float8)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH s AS MATERIALIZED (SELECT * FROM kafka_ingest.status)
SELECT 'kafka_ingest_' || m.name, jsonb_build_object('pipeline', s.pipeline), m.value
FROM s CROSS JOIN LATERAL (VALUES
    ('lag', s.lag::float8),
    ('time_lag_seconds', extract(epoch FROM s.time_lag)::float8),
    ('messages_per_second', s.messages_per_second),
    ('messages_total', s.messages),
    ('loaded_total', s.loaded),
    ('filtered_total', s.filtered),
    ('ignored_total', s.ignored),
    ('dead_letters', s.dead_letters),
    ('dead_letters_total', s.dead_letters_total),
    ('gaps', s.gaps),
    ('workers', s.workers),
    ('partitions', s.partitions),
    ('headroom_messages', s.headroom_messages)) m(name, value)
WHERE m.value IS NOT NULL
UNION ALL
SELECT 'kafka_ingest_state',
       jsonb_build_object('pipeline', s.pipeline, 'state', s.state, 'reason', coalesce(s.reason, '')), 1
FROM s
UNION ALL
SELECT 'kafka_ingest_partition_' || m.name,
       jsonb_build_object('pipeline', p.pipeline, 'topic', p.topic, 'partition', p.partition::text), m.value
FROM kafka_ingest.partition_status p CROSS JOIN LATERAL (VALUES
    ('lag', p.lag::float8),
    ('next_offset', p.next_offset),
    ('messages_total', p.messages)) m(name, value)
WHERE m.value IS NOT NULL
$$;
COMMENT ON FUNCTION kafka_ingest.metrics() IS
'the numbers of status and partition_status as rows for a monitoring system, labelled by pipeline, topic and partition; what is unknown has no row';

CREATE FUNCTION kafka_ingest.cluster_status()
RETURNS TABLE(database text, pipeline text, worker integer, pid integer, state text, reason text, detail text,
              since timestamptz, messages_per_second float8, last_error_at timestamptz, next_retry_at timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_cluster_status';
COMMENT ON FUNCTION kafka_ingest.cluster_status() IS
'the workers of all databases of the server, from shared memory; for members of pg_monitor';
