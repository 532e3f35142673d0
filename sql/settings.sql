--
-- The settings kafka_ingest.*: which there are, their defaults, ranges and
-- contexts; what they refuse.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna;
RESET client_min_messages;
CREATE ROLE regress_ki_anna;
\pset format unaligned

-- The library is preloaded here, so that those which need a restart say so.
SELECT name, boot_val, unit, vartype, context, min_val, max_val, enumvals, short_desc, extra_desc
FROM pg_settings WHERE name LIKE 'kafka\_ingest.%' AND name <> 'kafka_ingest.fault' ORDER BY name COLLATE "C";
SHOW kafka_ingest.worker_memory;
SHOW kafka_ingest.lock_timeout;
SHOW kafka_ingest.databases;
SHOW kafka_ingest.site;
SHOW kafka_ingest.max_workers;
SHOW kafka_ingest.enabled;
SHOW kafka_ingest.max_pipelines_per_role;
-- set in the test's configuration
SELECT setting, source FROM pg_settings WHERE name = 'kafka_ingest.retry_backoff_max';

-- Everybody may look at them.
SET ROLE regress_ki_anna;
SELECT count(*) FROM pg_settings WHERE name LIKE 'kafka\_ingest.%' AND name <> 'kafka_ingest.fault';
RESET ROLE;

-- --------------------------------------------------------------------------
-- Contexts: nothing but max_pipelines_per_role can be set in a session, and
-- that by superusers only
-- --------------------------------------------------------------------------
\set VERBOSITY sqlstate
SET kafka_ingest.enabled = off;
SET kafka_ingest.databases = 'a';
SET kafka_ingest.max_workers = 1;
SET kafka_ingest.worker_memory = '1GB';
SET kafka_ingest.site = 'a';
SET kafka_ingest.retry_backoff_max = '1min';
SET kafka_ingest.lock_timeout = '1s';
SET kafka_ingest.dead_letter_max_size = '1GB';
SET kafka_ingest.max_pipelines_per_role = 7;
SHOW kafka_ingest.max_pipelines_per_role;
SET ROLE regress_ki_anna;
SET kafka_ingest.max_pipelines_per_role = 8;
SET kafka_ingest.enabled = off;
RESET ROLE;
RESET kafka_ingest.max_pipelines_per_role;
-- the prefix is reserved: a misspelt setting is an error
SET kafka_ingest.max_worker = 1;
SET kafka_ingest.allowed_brokers = '*';
SELECT current_setting('kafka_ingest.nonsense', true) IS NULL AS is_unknown;

-- --------------------------------------------------------------------------
-- Ranges: ALTER SYSTEM checks as the configuration file does
-- --------------------------------------------------------------------------
ALTER SYSTEM SET kafka_ingest.enabled = 'perhaps';
ALTER SYSTEM SET kafka_ingest.max_workers = -1;
ALTER SYSTEM SET kafka_ingest.max_workers = 1025;
ALTER SYSTEM SET kafka_ingest.max_workers = 'many';
ALTER SYSTEM SET kafka_ingest.worker_memory = '1023kB';
ALTER SYSTEM SET kafka_ingest.worker_memory = '3TB';
ALTER SYSTEM SET kafka_ingest.worker_memory = '5 min';
ALTER SYSTEM SET kafka_ingest.worker_memory = 0;
ALTER SYSTEM SET kafka_ingest.worker_memory = -1;
ALTER SYSTEM SET kafka_ingest.retry_backoff_max = '99ms';
ALTER SYSTEM SET kafka_ingest.retry_backoff_max = -1;
ALTER SYSTEM SET kafka_ingest.lock_timeout = 0;
ALTER SYSTEM SET kafka_ingest.lock_timeout = -1;
ALTER SYSTEM SET kafka_ingest.max_pipelines_per_role = -2;
ALTER SYSTEM SET kafka_ingest.databases = 'a b';
ALTER SYSTEM SET kafka_ingest.databases = 'a,,b';
ALTER SYSTEM SET kafka_ingest.databases = '"a';
\set VERBOSITY default
ALTER SYSTEM SET kafka_ingest.databases = 'a b';
\set VERBOSITY sqlstate
-- the least and the most that is taken
ALTER SYSTEM SET kafka_ingest.max_workers = 0;
ALTER SYSTEM SET kafka_ingest.max_workers = 1024;
ALTER SYSTEM SET kafka_ingest.worker_memory = '1MB';
ALTER SYSTEM SET kafka_ingest.worker_memory = '1TB';
ALTER SYSTEM SET kafka_ingest.retry_backoff_max = '100ms';
ALTER SYSTEM SET kafka_ingest.retry_backoff_max = '24d';
ALTER SYSTEM SET kafka_ingest.lock_timeout = '1ms';
ALTER SYSTEM SET kafka_ingest.lock_timeout = '24d';
ALTER SYSTEM SET kafka_ingest.max_pipelines_per_role = 0;
ALTER SYSTEM SET kafka_ingest.max_pipelines_per_role = 2147483647;
ALTER SYSTEM SET kafka_ingest.databases = '';
ALTER SYSTEM SET kafka_ingest.databases = '*';
ALTER SYSTEM SET kafka_ingest.databases = 'a, "B c" , d';
ALTER SYSTEM SET kafka_ingest.site = 'any text ''"\ will do';
ALTER SYSTEM RESET kafka_ingest.max_workers;
ALTER SYSTEM RESET kafka_ingest.worker_memory;
ALTER SYSTEM RESET kafka_ingest.retry_backoff_max;
ALTER SYSTEM RESET kafka_ingest.lock_timeout;
ALTER SYSTEM RESET kafka_ingest.max_pipelines_per_role;
ALTER SYSTEM RESET kafka_ingest.databases;
ALTER SYSTEM RESET kafka_ingest.site;
\set VERBOSITY default
-- a role or a database may have its own limit, which superusers set
ALTER ROLE regress_ki_anna SET kafka_ingest.max_pipelines_per_role = 3;
ALTER ROLE regress_ki_anna RESET kafka_ingest.max_pipelines_per_role;

DROP ROLE regress_ki_anna;
