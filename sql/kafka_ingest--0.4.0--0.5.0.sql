/* kafka_ingest 0.5.0: what ALTER EXTENSION UPDATE changes, and CREATE EXTENSION makes after 0.4.0 */

\echo Use "ALTER EXTENSION kafka_ingest UPDATE TO '0.5.0'" to load this file. \quit

-- Only the library is another one: the SQL objects are those of 0.3.0.
