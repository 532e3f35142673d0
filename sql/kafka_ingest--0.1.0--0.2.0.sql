/* kafka_ingest 0.2.0: what ALTER EXTENSION UPDATE changes, and CREATE EXTENSION makes after 0.1.0 */

\echo Use "ALTER EXTENSION kafka_ingest UPDATE TO '0.2.0'" to load this file. \quit

CREATE FUNCTION kafka_ingest.write_method(target oid) RETURNS text
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_write_method';
COMMENT ON FUNCTION kafka_ingest.write_method(oid) IS
'how rows are written into a relation: multi_insert (straight into the table, as COPY does) or insert (a statement)';

CREATE OR REPLACE VIEW kafka_ingest.pipelines WITH (security_barrier) AS
    SELECT p.name AS pipeline,
           coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = p.owner), p.owner_name) AS owner,
           p.connection, p.topic,
           coalesce((SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.oid = p.target),
                    pg_catalog.format('%I.%I', p.target_schema, p.target_name)) AS target,
           NULL::text AS statement,
           p.format, '{}'::jsonb AS format_options, NULL::text AS envelope, p.key_format,
           p.columns, NULL::jsonb AS filter, 'append'::text AS mode, kafka_ingest.write_method(p.target) AS write_method,
           NULL::text[] AS key_columns, NULL::text AS newer_by,
           p.on_tombstone, NULL::jsonb AS delete_when, p.on_missing, p.on_error, p.max_error_ratio,
           p.start_from, p.start_timestamp, p.start_offsets, NULL::text AS start_group,
           'stop'::text AS on_offset_lost, p.partitions, p.workers,
           p.batch_max_messages, p.batch_max_ms, NULL::integer AS max_messages_per_second,
           p.search_path, p.group_id, p.properties, p.paused,
           p.created_at, p.changed_at
    FROM kafka_ingest.pipeline p
    WHERE kafka_ingest.is_mine(p.id);

CREATE FUNCTION kafka_ingest.recent_stages_rows(
    OUT pipeline text, OUT worker_pid integer, OUT finished_at timestamptz, OUT messages bigint,
    OUT decode_ms float8, OUT map_ms float8, OUT write_ms float8)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_recent_stages_rows';
COMMENT ON FUNCTION kafka_ingest.recent_stages_rows() IS
'where apply_ms of the batches in kafka_ingest.recent_batches went, estimated from every 64th message; for benchmarks';
