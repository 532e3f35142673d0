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

-- A hash of the message's key; NULL: it has none.
ALTER TABLE kafka_ingest.dead_letter ADD COLUMN key_hash integer;
CREATE INDEX dead_letter_key ON kafka_ingest.dead_letter (pipeline, key_hash);
COMMENT ON TABLE kafka_ingest.dead_letter IS
'messages that could not be written for their own fault, kept whole; read it through kafka_ingest.dead_letters';
COMMENT ON VIEW kafka_ingest.dead_letters IS
'messages that could not be written for their own fault, kept whole until they are retried or discarded';

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
           coalesce(p.on_tombstone, CASE WHEN p.mode = 'upsert' THEN 'delete' ELSE 'skip' END) AS on_tombstone,
           p.delete_when, p.on_missing, p.on_error, p.max_error_ratio,
           p.start_from, p.start_timestamp, p.start_offsets, p.start_group,
           p.on_offset_lost, p.partitions, p.workers,
           p.batch_max_messages, p.batch_max_ms, p.max_messages_per_second,
           p.search_path, p.group_id, p.properties, p.paused,
           p.created_at, p.changed_at
    FROM kafka_ingest.pipeline p
    WHERE kafka_ingest.is_mine(p.id);

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
