--
-- What the extension puts into the catalogs: every object has a comment, the
-- views their columns, the functions their arguments; and who may use what.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_anna;
RESET client_min_messages;
CREATE ROLE regress_ki_anna;
\pset format unaligned

SELECT extversion, extrelocatable, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'kafka_ingest';

-- All that belongs to it
CREATE TEMP TABLE member AS
SELECT classid, objid, pg_describe_object(classid, objid, 0) AS name
FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'kafka_ingest')
    -- from PostgreSQL 17 on also the types that come with tables and with other types
    AND NOT (classid = 'pg_type'::regclass AND objid IN (SELECT t.oid FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
        WHERE typcategory = 'A' OR relkind <> 'c'));
\pset tuples_only on
SELECT name FROM member ORDER BY name COLLATE "C";

-- Without a comment, or outside the schema: none
SELECT name FROM member WHERE obj_description(objid, classid::regclass::name) IS NULL
    AND NOT (classid = 'pg_type'::regclass AND objid IN (SELECT reltype FROM pg_class WHERE relkind IN ('r', 'v'))) ORDER BY 1;
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind IN ('r', 'v', 'S', 'c', 'm', 'f', 'p')
    AND obj_description(oid, 'pg_class') IS NULL AND obj_description(reltype, 'pg_type') IS NULL ORDER BY 1;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
SELECT comment FROM (SELECT name, obj_description(objid, classid::regclass::name) AS comment FROM member) m
WHERE comment ~ '\.$' OR comment ~ '^\s' OR comment ~ '\s$' OR comment = '';
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind NOT IN ('i', 'c') AND NOT EXISTS (SELECT FROM member WHERE objid = pg_class.oid);
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace AND NOT EXISTS (SELECT FROM member WHERE objid = pg_proc.oid);

-- --------------------------------------------------------------------------
-- Views: columns and types
-- --------------------------------------------------------------------------
SELECT relname || E':\n' || (SELECT string_agg(format('    %s %s', attname, format_type(atttypid, atttypmod)), E'\n' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class c WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind = 'v' ORDER BY relname COLLATE "C";
-- all of them are barriers, and none runs with the reader's rights
SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind = 'v' ORDER BY relname COLLATE "C";
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'kafka_ingest.header'::regclass AND attnum > 0 ORDER BY attnum;

-- --------------------------------------------------------------------------
-- Functions: arguments, results, markings
-- --------------------------------------------------------------------------
SELECT format(E'%s %s(%s)%s', CASE prokind WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure' END, proname,
    pg_get_function_arguments(oid), E'\n    returns ' || pg_get_function_result(oid))
FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace ORDER BY proname COLLATE "C", oid;
-- every one is marked: its volatility, parallel unsafe; none runs as its owner
SELECT proname, CASE provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
    CASE proparallel WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' ELSE 'safe' END,
    CASE WHEN proisstrict THEN 'strict' END, CASE WHEN prosecdef THEN 'SECURITY DEFINER' END, CASE WHEN proleakproof THEN 'LEAKPROOF' END, proconfig
FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace ORDER BY proname COLLATE "C", oid;
-- all of them are of our library, and every argument has a name
SELECT DISTINCT probin, prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace AND pronargs > 0
    AND (proargnames IS NULL OR '' = ANY (proargnames));
SELECT library = sql, sql = (SELECT extversion FROM pg_extension WHERE extname = 'kafka_ingest'), librdkafka ~ '^[2-9]\.[0-9]+\.[0-9]+', cardinality(features) > 0
FROM kafka_ingest.version();

-- --------------------------------------------------------------------------
-- Grants: what PUBLIC may
-- --------------------------------------------------------------------------
SELECT 'schema', has_schema_privilege('regress_ki_anna', 'kafka_ingest', 'USAGE'), has_schema_privilege('regress_ki_anna', 'kafka_ingest', 'CREATE');
SELECT 'wrapper', has_foreign_data_wrapper_privilege('regress_ki_anna', 'kafka_ingest', 'USAGE');
SELECT relname, relkind, privilege FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('regress_ki_anna', pg_class.oid, privilege)
ORDER BY relname COLLATE "C", privilege;
SELECT relname, privilege FROM pg_class, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) AS privilege
WHERE relnamespace = 'kafka_ingest'::regnamespace AND relkind = 'S' AND has_sequence_privilege('regress_ki_anna', pg_class.oid, privilege);
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'kafka_ingest'::regnamespace AND NOT has_function_privilege('regress_ki_anna', oid, 'EXECUTE');

-- and what that means: an ordinary role reads the views, which show it nothing of others
SET client_min_messages = warning;
CREATE TABLE ki_catalog (value bigint);
SELECT kafka_ingest.create_connection('regress_ki', brokers => '127.0.0.1:1', secrets => '{"sasl.username": "u", "sasl.password": "hunter2"}');
SELECT kafka_ingest.create_pipeline('catalog', 't', 'ki_catalog', connection => 'regress_ki', paused => true);
RESET client_min_messages;
SET ROLE regress_ki_anna;
SELECT count(*) FROM kafka_ingest.status;
SELECT count(*) FROM kafka_ingest.status_rows();
SELECT count(*) FROM kafka_ingest.partition_status_rows();
SELECT count(*) FROM kafka_ingest.recent_batches_rows();
SELECT count(*) FROM kafka_ingest.pipelines;
SELECT count(*) FROM kafka_ingest.events WHERE pipeline = 'catalog';
SELECT count(*) FROM kafka_ingest.gaps;
SELECT count(*) FROM kafka_ingest.dead_letters;
\set VERBOSITY sqlstate
TABLE kafka_ingest.pipeline;
TABLE kafka_ingest.position;
TABLE kafka_ingest.gap;
TABLE kafka_ingest.event;
TABLE kafka_ingest.dead_letter;
TABLE kafka_ingest.installation;
UPDATE kafka_ingest.status SET state = 'running';
DELETE FROM kafka_ingest.events;
UPDATE kafka_ingest.pipelines SET paused = true;
SELECT nextval('kafka_ingest.pipeline_id');
CREATE TABLE kafka_ingest.mine (a int);
SELECT kafka_ingest.create_connection('regress_ki_anna', brokers => '127.0.0.1:1');
SELECT kafka_ingest.check_connection('regress_ki');
SELECT kafka_ingest.topics('regress_ki');
\set VERBOSITY default
-- a condition of the reader's is not asked about rows that are not theirs
CREATE FUNCTION pg_temp.tell(name text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE 'saw %', name; RETURN true; END $$;
SELECT count(*) FROM kafka_ingest.pipelines WHERE pg_temp.tell(pipeline);
SELECT count(*) FROM kafka_ingest.status WHERE pg_temp.tell(pipeline);
SELECT count(*) FROM kafka_ingest.events WHERE pg_temp.tell(pipeline) AND pipeline = 'catalog';
DROP FUNCTION pg_temp.tell(text);
RESET ROLE;
-- no view shows a secret
SELECT v FROM unnest(ARRAY['status', 'pipelines', 'events', 'partition_status', 'recent_batches', 'gaps', 'dead_letters']) AS v
WHERE query_to_xml(format('SELECT * FROM kafka_ingest.%I', v), false, false, '')::text ~ 'hunter2';
SELECT count(*) FROM kafka_ingest.drop_pipeline('catalog');
SELECT kafka_ingest.drop_connection('regress_ki');
DROP TABLE ki_catalog;

-- --------------------------------------------------------------------------
-- pg_dump: the tables that hold what users made; the token is not among them
-- --------------------------------------------------------------------------
SELECT c.oid::regclass, e.extcondition[i] FROM pg_extension e, generate_subscripts(e.extconfig, 1) AS i, pg_class c
WHERE e.extname = 'kafka_ingest' AND c.oid = e.extconfig[i] ORDER BY c.relname COLLATE "C";

-- It is in one place, and goes away whole (PostgreSQL leaves the empty schema).
\set VERBOSITY sqlstate
ALTER EXTENSION kafka_ingest SET SCHEMA public;
BEGIN;
\set VERBOSITY default
SET LOCAL client_min_messages = warning;
DROP EXTENSION kafka_ingest CASCADE;
SELECT nspname FROM pg_namespace WHERE nspname = 'kafka_ingest';
SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'kafka_ingest');
SELECT count(*) FROM pg_foreign_data_wrapper WHERE fdwname = 'kafka_ingest';
ROLLBACK;
SELECT count(*) FROM kafka_ingest.pipelines WHERE pipeline = 'catalog';
-- only its owner, a superuser, drops or updates it
SET ROLE regress_ki_anna;
\set VERBOSITY sqlstate
DROP EXTENSION kafka_ingest;
ALTER EXTENSION kafka_ingest UPDATE;
RESET ROLE;
\set VERBOSITY default
DROP ROLE regress_ki_anna;
