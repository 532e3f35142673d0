/* kafka_ingest 0.1.0: everything CREATE EXTENSION makes, in the fixed schema kafka_ingest */

\echo Use "CREATE EXTENSION kafka_ingest" to load this file. \quit

GRANT USAGE ON SCHEMA kafka_ingest TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Tables.  Nobody but the extension's C code touches them: no grants, and
-- written through heap functions, so that a pipeline's owner needs no right.
-- ---------------------------------------------------------------------------

CREATE TABLE kafka_ingest.installation (
    token uuid NOT NULL
);
COMMENT ON TABLE kafka_ingest.installation IS
'one row: a random token of this installation; never dumped, so that a restored copy of the pipelines is known to be a copy';
INSERT INTO kafka_ingest.installation VALUES (gen_random_uuid());

CREATE SEQUENCE kafka_ingest.pipeline_id AS integer;
COMMENT ON SEQUENCE kafka_ingest.pipeline_id IS 'ids of kafka_ingest.pipeline';

CREATE TABLE kafka_ingest.pipeline (
    id                 integer PRIMARY KEY,
    name               text COLLATE "C" NOT NULL UNIQUE,
    version            bigint NOT NULL,
    owner              oid NOT NULL,
    owner_name         text NOT NULL,
    connection         text NOT NULL,
    topic              text NOT NULL,
    target             oid NOT NULL,
    target_schema      text NOT NULL,
    target_name        text NOT NULL,
    format             text NOT NULL,
    key_format         text NOT NULL,
    columns            jsonb,
    on_tombstone       text NOT NULL,
    on_missing         text NOT NULL,
    on_error           text NOT NULL,
    max_error_ratio    real NOT NULL,
    start_from         text NOT NULL,
    start_timestamp    timestamptz,
    start_offsets      jsonb,
    partitions         integer[],
    workers            integer NOT NULL,
    batch_max_messages integer NOT NULL,
    batch_max_ms       integer NOT NULL,
    search_path        text NOT NULL,
    group_id           text NOT NULL,
    properties         jsonb NOT NULL,
    paused             boolean NOT NULL,
    resolved           boolean NOT NULL,
    cluster_id         text,
    stop_reason        text,
    stop_detail        text,
    stop_at            timestamptz,
    guard_token        uuid NOT NULL,
    guard_database     oid NOT NULL,
    guard_site         text NOT NULL,
    created_at         timestamptz NOT NULL,
    changed_at         timestamptz NOT NULL
);
COMMENT ON TABLE kafka_ingest.pipeline IS 'the configuration of every pipeline; read it through kafka_ingest.pipelines';

CREATE TABLE kafka_ingest.position (
    pipeline           integer NOT NULL,
    topic              text COLLATE "C" NOT NULL,
    partition          integer NOT NULL,
    next_offset        bigint NOT NULL,
    messages           bigint NOT NULL,
    loaded             bigint NOT NULL,
    filtered           bigint NOT NULL,
    ignored            bigint NOT NULL,
    dead_letters       bigint NOT NULL,
    last_offset        bigint,
    last_timestamp     timestamptz,
    last_crc           bigint,
    committed_at       timestamptz,
    PRIMARY KEY (pipeline, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE kafka_ingest.position IS
'the only place there is, per pipeline, topic and partition; moved in the transaction that writes the rows; read it through kafka_ingest.partition_status';

CREATE TABLE kafka_ingest.gap (
    pipeline           integer NOT NULL,
    topic              text NOT NULL,
    partition          integer NOT NULL,
    from_offset        bigint NOT NULL,
    to_offset          bigint NOT NULL,
    reason             text NOT NULL,
    detail             text,
    recorded_at        timestamptz NOT NULL,
    recorded_by        text NOT NULL
);
CREATE INDEX gap_pipeline ON kafka_ingest.gap (pipeline);
COMMENT ON TABLE kafka_ingest.gap IS 'ranges of offsets that were not loaded, and why; read it through kafka_ingest.gaps';

CREATE TABLE kafka_ingest.event (
    at                 timestamptz NOT NULL,
    pipeline           text NOT NULL,
    owner              oid NOT NULL,
    event              text NOT NULL,
    detail             text,
    by                 text NOT NULL
);
COMMENT ON TABLE kafka_ingest.event IS 'what people and workers did to pipelines; read it through kafka_ingest.events';

CREATE TYPE kafka_ingest.header AS (name text, value bytea);
COMMENT ON TYPE kafka_ingest.header IS 'one header of a Kafka message';

CREATE SEQUENCE kafka_ingest.dead_letter_id;
COMMENT ON SEQUENCE kafka_ingest.dead_letter_id IS 'ids of kafka_ingest.dead_letter';

CREATE TABLE kafka_ingest.dead_letter (
    id                 bigint PRIMARY KEY,
    pipeline           integer NOT NULL,
    topic              text NOT NULL,
    partition          integer NOT NULL,
    message_offset     bigint NOT NULL,
    message_timestamp  timestamptz,
    key                bytea,
    value              bytea,
    headers            kafka_ingest.header[],
    superseded         boolean NOT NULL,
    stage              text NOT NULL,
    sqlstate           text NOT NULL,
    error              text NOT NULL,
    column_name        text,
    constraint_name    text,
    attempts           integer NOT NULL,
    first_failed_at    timestamptz NOT NULL,
    last_failed_at     timestamptz NOT NULL
);
CREATE INDEX dead_letter_pipeline ON kafka_ingest.dead_letter (pipeline);
COMMENT ON TABLE kafka_ingest.dead_letter IS
'messages that could not be written for their own fault; nothing is put here yet: in this version such a message stops its pipeline';

SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.pipeline_id', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.pipeline', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.position', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.gap', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.event', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.dead_letter_id', '');
SELECT pg_catalog.pg_extension_config_dump('kafka_ingest.dead_letter', '');

-- ---------------------------------------------------------------------------
-- Connections
-- ---------------------------------------------------------------------------

CREATE FUNCTION kafka_ingest.fdw_validator(options text[], catalog oid)
RETURNS void
LANGUAGE C STRICT STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_fdw_validator';
COMMENT ON FUNCTION kafka_ingest.fdw_validator(text[], oid) IS
'checks the options of connections and their user mappings against the allow-list of client properties';

CREATE FOREIGN DATA WRAPPER kafka_ingest
    VALIDATOR kafka_ingest.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER kafka_ingest IS
'connections to Kafka clusters; USAGE allows to make them and so to choose which brokers this server talks to';

CREATE FUNCTION kafka_ingest.create_connection(
    name text,
    brokers text,
    properties jsonb DEFAULT '{}',
    secrets jsonb DEFAULT '{}',
    secrets_for text DEFAULT NULL,
    schema_registry_url text DEFAULT NULL,
    or_alter boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_create_connection';
COMMENT ON FUNCTION kafka_ingest.create_connection(text, text, jsonb, jsonb, text, text, boolean) IS
'makes a connection to a Kafka cluster: a foreign server and, for the secrets, a user mapping; or_alter sets an existing one to exactly these arguments';

CREATE FUNCTION kafka_ingest.alter_connection(
    name text,
    brokers text DEFAULT NULL,
    properties jsonb DEFAULT NULL,
    secrets jsonb DEFAULT NULL,
    secrets_for text DEFAULT NULL,
    schema_registry_url text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_alter_connection';
COMMENT ON FUNCTION kafka_ingest.alter_connection(text, text, jsonb, jsonb, text, text) IS
'changes a connection: NULL leaves as it is, properties and secrets are merged key by key and JSON null removes, an empty schema_registry_url removes it';

CREATE FUNCTION kafka_ingest.drop_connection(
    name text,
    if_exists boolean DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_drop_connection';
COMMENT ON FUNCTION kafka_ingest.drop_connection(text, boolean) IS
'drops a connection and its user mappings; refused while a pipeline uses it';

CREATE FUNCTION kafka_ingest.check_connection(
    name text DEFAULT 'kafka', timeout interval DEFAULT '5s',
    OUT broker_id integer, OUT host text, OUT port integer, OUT is_controller boolean, OUT cluster_id text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_check_connection';
COMMENT ON FUNCTION kafka_ingest.check_connection(text, interval) IS
'the brokers of a connection''s cluster, or an error that says what is wrong';

CREATE FUNCTION kafka_ingest.topics(
    connection text DEFAULT 'kafka', pattern text DEFAULT NULL,
    OUT topic text, OUT partition integer, OUT leader integer, OUT low_offset bigint, OUT high_offset bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_topics';
COMMENT ON FUNCTION kafka_ingest.topics(text, text) IS
'the partitions of a cluster''s topics whose name is LIKE the pattern, with their first and next offsets';

-- ---------------------------------------------------------------------------
-- Pipelines
-- ---------------------------------------------------------------------------

CREATE FUNCTION kafka_ingest.create_pipeline(
    name               text,
    topic              text,
    target             regclass    DEFAULT NULL,
    statement          text        DEFAULT NULL,
    connection         text        DEFAULT 'kafka',
    format             text        DEFAULT 'json',
    format_options     jsonb       DEFAULT '{}',
    envelope           text        DEFAULT NULL,
    key_format         text        DEFAULT NULL,
    columns            jsonb       DEFAULT NULL,
    filter             jsonb       DEFAULT NULL,
    mode               text        DEFAULT NULL,
    key_columns        text[]      DEFAULT NULL,
    newer_by           text        DEFAULT NULL,
    on_tombstone       text        DEFAULT NULL,
    delete_when        jsonb       DEFAULT NULL,
    on_missing         text        DEFAULT 'default',
    on_error           text        DEFAULT 'dead_letter',
    max_error_ratio    real        DEFAULT 0.5,
    start_from         text        DEFAULT NULL,
    start_timestamp    timestamptz DEFAULT NULL,
    start_offsets      jsonb       DEFAULT NULL,
    start_group        text        DEFAULT NULL,
    on_offset_lost     text        DEFAULT 'stop',
    partitions         integer[]   DEFAULT NULL,
    workers            integer     DEFAULT 1,
    batch_max_messages integer     DEFAULT 10000,
    batch_max_ms       integer     DEFAULT 200,
    max_messages_per_second integer DEFAULT NULL,
    search_path        text        DEFAULT NULL,
    group_id           text        DEFAULT NULL,
    properties         jsonb       DEFAULT '{}',
    paused             boolean     DEFAULT false,
    or_alter           boolean     DEFAULT false)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_create_pipeline';
COMMENT ON FUNCTION kafka_ingest.create_pipeline(text, text, regclass, text, text, text, jsonb, text, text, jsonb, jsonb, text, text[], text, text, jsonb, text, text, real, text, timestamptz, jsonb, text, text, integer[], integer, integer, integer, integer, text, text, jsonb, boolean, boolean) IS
'load a topic into a table from the commit of this transaction on; with or_alter an existing pipeline is set to exactly these arguments and keeps its positions';

CREATE FUNCTION kafka_ingest.alter_pipeline(
    name               text,
    topic              text        DEFAULT NULL,
    target             regclass    DEFAULT NULL,
    statement          text        DEFAULT NULL,
    connection         text        DEFAULT NULL,
    format             text        DEFAULT NULL,
    format_options     jsonb       DEFAULT NULL,
    envelope           text        DEFAULT NULL,
    key_format         text        DEFAULT NULL,
    columns            jsonb       DEFAULT NULL,
    filter             jsonb       DEFAULT NULL,
    mode               text        DEFAULT NULL,
    key_columns        text[]      DEFAULT NULL,
    newer_by           text        DEFAULT NULL,
    on_tombstone       text        DEFAULT NULL,
    delete_when        jsonb       DEFAULT NULL,
    on_missing         text        DEFAULT NULL,
    on_error           text        DEFAULT NULL,
    max_error_ratio    real        DEFAULT NULL,
    start_from         text        DEFAULT NULL,
    start_timestamp    timestamptz DEFAULT NULL,
    start_offsets      jsonb       DEFAULT NULL,
    start_group        text        DEFAULT NULL,
    on_offset_lost     text        DEFAULT NULL,
    partitions         integer[]   DEFAULT NULL,
    workers            integer     DEFAULT NULL,
    batch_max_messages integer     DEFAULT NULL,
    batch_max_ms       integer     DEFAULT NULL,
    max_messages_per_second integer DEFAULT NULL,
    search_path        text        DEFAULT NULL,
    group_id           text        DEFAULT NULL,
    properties         jsonb       DEFAULT NULL,
    paused             boolean     DEFAULT NULL,
    owner              text        DEFAULT NULL,
    reset              text[]      DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_alter_pipeline';
COMMENT ON FUNCTION kafka_ingest.alter_pipeline(text, text, regclass, text, text, text, jsonb, text, text, jsonb, jsonb, text, text[], text, text, jsonb, text, text, real, text, timestamptz, jsonb, text, text, integer[], integer, integer, integer, integer, text, text, jsonb, boolean, text, text[]) IS
'change a pipeline from its next batch on: NULL leaves an option, properties merge key by key (JSON null removes), reset names options to set back to their default';

CREATE FUNCTION kafka_ingest.drop_pipeline(
    name text, if_exists boolean DEFAULT false, discard boolean DEFAULT false,
    OUT topic text, OUT partition integer, OUT next_offset bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_drop_pipeline';
COMMENT ON FUNCTION kafka_ingest.drop_pipeline(text, boolean, boolean) IS
'end a pipeline and forget its positions, which are returned; the target keeps its rows';

CREATE FUNCTION kafka_ingest.pause(name text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_pause';
COMMENT ON FUNCTION kafka_ingest.pause(text) IS
'stop loading after the batch in flight and keep every loader out until this transaction ends; NULL: all pipelines of mine';

CREATE FUNCTION kafka_ingest.resume(name text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_resume';
COMMENT ON FUNCTION kafka_ingest.resume(text) IS
'go on loading what was paused, try again what stopped; NULL: all pipelines of mine';

CREATE FUNCTION kafka_ingest.adopt(name text DEFAULT NULL, group_id text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_adopt';
COMMENT ON FUNCTION kafka_ingest.adopt(text, text) IS
'let the pipelines of a copied or restored database load here; owner and target are found again by name';

CREATE FUNCTION kafka_ingest.pipeline_definition(name text)
RETURNS text
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_pipeline_definition';
COMMENT ON FUNCTION kafka_ingest.pipeline_definition(text) IS
'the create_pipeline(…) call that makes the pipeline again';

-- ---------------------------------------------------------------------------
-- By hand
-- ---------------------------------------------------------------------------

CREATE PROCEDURE kafka_ingest.run(
    name text,
    max_batches integer DEFAULT NULL,
    timeout interval DEFAULT NULL,
    INOUT messages bigint DEFAULT NULL,
    INOUT dead_letters bigint DEFAULT NULL,
    INOUT caught_up boolean DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME', 'kafka_ingest_run';
COMMENT ON PROCEDURE kafka_ingest.run(text, integer, interval, bigint, bigint, boolean) IS
'load in the foreground to the end as it was at the call, committing per batch; in a transaction block only with max_batches => 1';

CREATE FUNCTION kafka_ingest.wait_until_caught_up(name text, timeout interval DEFAULT '30s')
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_wait_until_caught_up';
COMMENT ON FUNCTION kafka_ingest.wait_until_caught_up(text, interval) IS
'wait until all that was in the topic at the call is loaded; false when the time is over, an error if the pipeline is paused, stopped or waiting';

CREATE FUNCTION kafka_ingest.wait_for(name text, partition integer, message_offset bigint, timeout interval DEFAULT '30s')
RETURNS boolean
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_wait_for';
COMMENT ON FUNCTION kafka_ingest.wait_for(text, integer, bigint, interval) IS
'wait until the message at this partition and offset is loaded; false when the time is over, an error if the pipeline is paused, stopped or waiting; needs no broker';

CREATE FUNCTION kafka_ingest.seek(
    name text,
    start_from text DEFAULT NULL,
    start_timestamp timestamptz DEFAULT NULL,
    start_offsets jsonb DEFAULT NULL,
    reason text DEFAULT NULL,
    allow_duplicates boolean DEFAULT false,
    OUT topic text, OUT partition integer, OUT old_offset bigint, OUT new_offset bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_seek';
COMMENT ON FUNCTION kafka_ingest.seek(text, text, timestamptz, jsonb, text, boolean) IS
'move the positions of a pipeline; a jump forward leaves a gap row, one backwards loads again and must be allowed; restarts what stopped';

-- ---------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------

CREATE FUNCTION kafka_ingest.is_mine(pipeline integer)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_is_mine';
COMMENT ON FUNCTION kafka_ingest.is_mine(integer) IS
'for the views: does the pipeline with this id belong to the current user, in a copied database by its owner''s name';

CREATE FUNCTION kafka_ingest.status_rows(
    OUT pipeline text, OUT state text, OUT reason text, OUT detail text,
    OUT lag bigint, OUT time_lag interval, OUT messages_per_second float8,
    OUT messages bigint, OUT loaded bigint, OUT filtered bigint, OUT ignored bigint,
    OUT dead_letters bigint, OUT dead_letters_total bigint, OUT gaps bigint,
    OUT last_commit_at timestamptz, OUT last_message_at timestamptz,
    OUT last_error text, OUT last_error_at timestamptz, OUT next_retry_at timestamptz,
    OUT since timestamptz, OUT workers integer, OUT pids integer[], OUT partitions integer,
    OUT lag_at timestamptz, OUT headroom_messages bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_status_rows';
COMMENT ON FUNCTION kafka_ingest.status_rows() IS 'rows of kafka_ingest.status';

CREATE VIEW kafka_ingest.status WITH (security_barrier) AS
    SELECT * FROM kafka_ingest.status_rows();
COMMENT ON VIEW kafka_ingest.status IS
'one row a pipeline: what it does now, why, how far it is; state is derived when read';

CREATE FUNCTION kafka_ingest.partition_status_rows(
    OUT pipeline text, OUT topic text, OUT partition integer, OUT worker_pid integer,
    OUT next_offset bigint, OUT low_offset bigint, OUT stable_offset bigint, OUT high_offset bigint,
    OUT lag bigint, OUT lag_at timestamptz, OUT headroom_messages bigint, OUT messages bigint,
    OUT last_message_at timestamptz, OUT committed_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_partition_status_rows';
COMMENT ON FUNCTION kafka_ingest.partition_status_rows() IS 'rows of kafka_ingest.partition_status';

CREATE VIEW kafka_ingest.partition_status WITH (security_barrier) AS
    SELECT * FROM kafka_ingest.partition_status_rows();
COMMENT ON VIEW kafka_ingest.partition_status IS
'one row a partition: the position, and the offsets of the log as the worker saw them last (lag_at)';

CREATE FUNCTION kafka_ingest.recent_batches_rows(
    OUT pipeline text, OUT worker_pid integer, OUT finished_at timestamptz, OUT offsets jsonb,
    OUT messages bigint, OUT loaded bigint, OUT dead_letters bigint, OUT bytes bigint,
    OUT first_message_at timestamptz, OUT last_message_at timestamptz,
    OUT collect_ms float8, OUT apply_ms float8, OUT commit_ms float8, OUT end_reason text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_recent_batches_rows';
COMMENT ON FUNCTION kafka_ingest.recent_batches_rows() IS 'rows of kafka_ingest.recent_batches';

CREATE VIEW kafka_ingest.recent_batches WITH (security_barrier) AS
    SELECT * FROM kafka_ingest.recent_batches_rows();
COMMENT ON VIEW kafka_ingest.recent_batches IS
'the last 100 batches of each worker since the server started';

CREATE VIEW kafka_ingest.pipelines WITH (security_barrier) AS
    SELECT p.name AS pipeline,
           coalesce((SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = p.owner), p.owner_name) AS owner,
           p.connection, p.topic,
           coalesce((SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.oid = p.target),
                    pg_catalog.format('%I.%I', p.target_schema, p.target_name)) AS target,
           NULL::text AS statement,
           p.format, '{}'::jsonb AS format_options, NULL::text AS envelope, p.key_format,
           p.columns, NULL::jsonb AS filter, 'append'::text AS mode, 'insert'::text AS write_method,
           NULL::text[] AS key_columns, NULL::text AS newer_by,
           p.on_tombstone, NULL::jsonb AS delete_when, p.on_missing, p.on_error, p.max_error_ratio,
           p.start_from, p.start_timestamp, p.start_offsets, NULL::text AS start_group,
           'stop'::text AS on_offset_lost, p.partitions, p.workers,
           p.batch_max_messages, p.batch_max_ms, NULL::integer AS max_messages_per_second,
           p.search_path, p.group_id, p.properties, p.paused,
           p.created_at, p.changed_at
    FROM kafka_ingest.pipeline p
    WHERE kafka_ingest.is_mine(p.id);
COMMENT ON VIEW kafka_ingest.pipelines IS 'the configuration of my pipelines, one row each; secrets never';

CREATE VIEW kafka_ingest.gaps WITH (security_barrier) AS
    SELECT p.name AS pipeline, g.topic, g.partition, g.from_offset, g.to_offset,
           g.reason, g.detail, g.recorded_at, g.recorded_by
    FROM kafka_ingest.gap g JOIN kafka_ingest.pipeline p ON p.id = g.pipeline
    WHERE kafka_ingest.is_mine(p.id)
       OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW kafka_ingest.gaps IS
'every range of offsets (both ends inclusive) that was not loaded, and why: start, seek, retention, topic_recreated, corrupt or discarded';

CREATE VIEW kafka_ingest.events WITH (security_barrier) AS
    SELECT e.at, e.pipeline, e.event, e.detail, e.by
    FROM kafka_ingest.event e
    WHERE pg_catalog.pg_has_role(e.owner, 'USAGE');
COMMENT ON VIEW kafka_ingest.events IS 'what people and workers did to my pipelines, also to dropped ones';

CREATE VIEW kafka_ingest.dead_letters WITH (security_barrier) AS
    SELECT d.id, p.name AS pipeline, d.topic, d.partition, d.message_offset, d.message_timestamp,
           d.key, d.value, d.headers, d.superseded, d.stage, d.sqlstate, d.error,
           d.column_name, d.constraint_name, d.attempts, d.first_failed_at, d.last_failed_at
    FROM kafka_ingest.dead_letter d JOIN kafka_ingest.pipeline p ON p.id = d.pipeline
    WHERE kafka_ingest.is_mine(p.id);
COMMENT ON VIEW kafka_ingest.dead_letters IS
'messages that could not be written for their own fault, kept whole; empty in this version, which stops instead';

GRANT SELECT ON kafka_ingest.status, kafka_ingest.partition_status, kafka_ingest.recent_batches,
    kafka_ingest.pipelines, kafka_ingest.gaps, kafka_ingest.events, kafka_ingest.dead_letters TO PUBLIC;

CREATE FUNCTION kafka_ingest.version(OUT library text, OUT sql text, OUT librdkafka text, OUT features text[])
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'kafka_ingest_version';
COMMENT ON FUNCTION kafka_ingest.version() IS
'versions of the library, of its SQL objects and of librdkafka, and what the librdkafka at hand can do';
