--
-- Connections: the allow-list of client properties, both spellings, masking,
-- or_alter, merging, and bad input.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS kafka_ingest;
DROP ROLE IF EXISTS regress_ki_maker, regress_ki_user, regress_ki_other;
RESET client_min_messages;
CREATE ROLE regress_ki_maker;
CREATE ROLE regress_ki_user;
CREATE ROLE regress_ki_other;
GRANT USAGE ON FOREIGN DATA WRAPPER kafka_ingest TO regress_ki_maker;

-- Runs a statement and returns "ok", or what was raised; says so when the
-- error holds a secret (all secrets of this test hold the word hunter2).
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    message text;
    detail text;
    hint text;
    raised text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    raised := state || ' ' || message;
    IF detail <> '' THEN
        raised := raised || E'\n  detail: ' || detail;
    END IF;
    IF hint <> '' THEN
        raised := raised || E'\n  hint: ' || hint;
    END IF;
    IF raised ~ 'hunter2' THEN
        raised := raised || E'\n  THE SECRET LEAKED';
    END IF;
    RETURN regexp_replace(raised, 'librdkafka [0-9.]+', 'librdkafka', 'g');
END $$;

-- The verdict on one property: its SQLSTATE.  What only a newer librdkafka
-- (or one with more features) knows is still allowed by the list.
CREATE FUNCTION pg_temp.verdict(place text, name text, value text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    raised text;
BEGIN
    IF place = 'server' THEN
        raised := pg_temp.try(format(
            'CREATE SERVER ki_verdict FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers %L, %I %L)',
            'k1', name, value));
        IF raised = 'ok' THEN
            DROP SERVER ki_verdict;
        END IF;
    ELSE
        raised := pg_temp.try(format(
            'CREATE USER MAPPING FOR CURRENT_USER SERVER ki_verdict_mapping OPTIONS (%I %L)',
            name, value));
        IF raised = 'ok' THEN
            DROP USER MAPPING FOR CURRENT_USER SERVER ki_verdict_mapping;
        END IF;
    END IF;
    IF raised ~ '^0A000 .* is not supported by librdkafka' THEN
        RETURN 'ok';
    END IF;
    RETURN split_part(raised, ' ', 1);
END $$;

-- --------------------------------------------------------------------------
-- Every property of librdkafka 2.0.2 to 2.15, hidden ones too: what becomes
-- of it as an option of a server and of a user mapping, for a superuser and
-- for a role with USAGE on the wrapper.  The values are legal ones.
-- --------------------------------------------------------------------------
CREATE SERVER ki_verdict_mapping FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers 'k1');
GRANT USAGE ON FOREIGN SERVER ki_verdict_mapping TO regress_ki_maker;

CREATE TEMP TABLE property (name text COLLATE "C", value text,
    superuser text, maker text, superuser_mapping text, maker_mapping text);
GRANT ALL ON property TO regress_ki_maker;
INSERT INTO property (name, value) VALUES
    ('acks', 'x'),
    ('allow.auto.create.topics', 'x'),
    ('api.version.fallback.ms', '0'),
    ('api.version.request', 'true'),
    ('api.version.request.timeout.ms', 'x'),
    ('auto.commit.enable', 'x'),
    ('auto.commit.interval.ms', 'x'),
    ('auto.offset.reset', 'x'),
    ('background_event_cb', 'x'),
    ('batch.num.messages', 'x'),
    ('batch.size', 'x'),
    ('bootstrap.servers', 'x'),
    ('broker.address.family', 'v4'),
    ('broker.address.ttl', '1000'),
    ('broker.version.fallback', '0.10.0'),
    ('brokers', 'k2:9092'),
    ('builtin.features', 'x'),
    ('check.crcs', 'x'),
    ('client.dns.lookup', 'use_all_dns_ips'),
    ('client.id', 'loader'),
    ('client.rack', 'rack1'),
    ('client.software.name', 'x'),
    ('client.software.version', 'x'),
    ('closesocket_cb', 'x'),
    ('compression.codec', 'x'),
    ('compression.level', 'x'),
    ('compression.type', 'x'),
    ('connect_cb', 'x'),
    ('connections.max.idle.ms', '60000'),
    ('consume.callback.max.messages', 'x'),
    ('consume_cb', 'x'),
    ('coordinator.query.interval.ms', 'x'),
    ('debug', 'broker'),
    ('default_topic_conf', 'x'),
    ('delivery.report.only.error', 'x'),
    ('delivery.timeout.ms', 'x'),
    ('dr_cb', 'x'),
    ('dr_msg_cb', 'x'),
    ('enable.auto.commit', 'x'),
    ('enable.auto.offset.store', 'x'),
    ('enable.gapless.guarantee', 'x'),
    ('enable.idempotence', 'x'),
    ('enable.metrics.push', 'x'),
    ('enable.partition.eof', 'x'),
    ('enable.random.seed', 'x'),
    ('enable.sasl.oauthbearer.unsecure.jwt', 'false'),
    ('enable.sparse.connections', 'x'),
    ('enable.ssl.certificate.verification', 'true'),
    ('enable_sasl_queue', 'x'),
    ('enabled_events', 'x'),
    ('error_cb', 'x'),
    ('fetch.error.backoff.ms', '500'),
    ('fetch.max.bytes', '52428800'),
    ('fetch.message.max.bytes', '1048576'),
    ('fetch.min.bytes', '1'),
    ('fetch.queue.backoff.ms', 'x'),
    ('fetch.wait.max.ms', '500'),
    ('group.id', 'x'),
    ('group.instance.id', 'x'),
    ('group.protocol', 'x'),
    ('group.protocol.type', 'x'),
    ('group.remote.assignor', 'x'),
    ('heartbeat.interval.ms', 'x'),
    ('https.ca.location', '/etc/ssl/ca.pem'),
    ('https.ca.pem', '-----BEGIN CERTIFICATE-----'),
    ('interceptors', 'x'),
    ('internal.termination.signal', 'x'),
    ('isolation.level', 'x'),
    ('linger.ms', 'x'),
    ('log.connection.close', 'false'),
    ('log.queue', 'x'),
    ('log.thread.name', 'x'),
    ('log_cb', 'x'),
    ('log_level', 'x'),
    ('max.in.flight', 'x'),
    ('max.in.flight.requests.per.connection', 'x'),
    ('max.partition.fetch.bytes', 'x'),
    ('max.poll.interval.ms', 'x'),
    ('max.poll.records', 'x'),
    ('message.copy.max.bytes', 'x'),
    ('message.max.bytes', '1000000'),
    ('message.send.max.retries', 'x'),
    ('message.timeout.ms', 'x'),
    ('metadata.broker.list', 'x'),
    ('metadata.max.age.ms', '900000'),
    ('metadata.recovery.rebootstrap.trigger.ms', '300000'),
    ('metadata.recovery.strategy', 'rebootstrap'),
    ('metadata.request.timeout.ms', 'x'),
    ('msg_order_cmp', 'x'),
    ('oauthbearer_token_refresh_cb', 'x'),
    ('offset.store.method', 'x'),
    ('offset.store.path', 'x'),
    ('offset.store.sync.interval.ms', 'x'),
    ('offset_commit_cb', 'x'),
    ('opaque', 'x'),
    ('open_cb', 'x'),
    ('partition.assignment.strategy', 'x'),
    ('partitioner', 'x'),
    ('partitioner_cb', 'x'),
    ('plugin.library.paths', 'x'),
    ('produce.offset.report', 'x'),
    ('queue.buffering.backpressure.threshold', 'x'),
    ('queue.buffering.max.kbytes', 'x'),
    ('queue.buffering.max.messages', 'x'),
    ('queue.buffering.max.ms', 'x'),
    ('queued.max.messages.kbytes', 'x'),
    ('queued.min.messages', 'x'),
    ('queuing.strategy', 'x'),
    ('rebalance_cb', 'x'),
    ('receive.message.max.bytes', 'x'),
    ('reconnect.backoff.jitter.ms', 'x'),
    ('reconnect.backoff.max.ms', 'x'),
    ('reconnect.backoff.ms', 'x'),
    ('request.required.acks', 'x'),
    ('request.timeout.ms', 'x'),
    ('resolve_cb', 'x'),
    ('retries', 'x'),
    ('retry.backoff.max.ms', '1000'),
    ('retry.backoff.ms', '100'),
    ('sasl.kerberos.keytab', '/etc/krb5.keytab'),
    ('sasl.kerberos.kinit.cmd', 'x'),
    ('sasl.kerberos.min.time.before.relogin', '60000'),
    ('sasl.kerberos.principal', 'kafka/host@REALM'),
    ('sasl.kerberos.service.name', 'kafka'),
    ('sasl.mechanism', 'x'),
    ('sasl.mechanisms', 'SCRAM-SHA-256'),
    ('sasl.oauthbearer.assertion.algorithm', 'RS256'),
    ('sasl.oauthbearer.assertion.claim.aud', 'kafka'),
    ('sasl.oauthbearer.assertion.claim.exp.seconds', '300'),
    ('sasl.oauthbearer.assertion.claim.iss', 'me'),
    ('sasl.oauthbearer.assertion.claim.jti.include', 'false'),
    ('sasl.oauthbearer.assertion.claim.nbf.seconds', '60'),
    ('sasl.oauthbearer.assertion.claim.sub', 'me'),
    ('sasl.oauthbearer.assertion.file', '/etc/assertion'),
    ('sasl.oauthbearer.assertion.jwt.template.file', '/etc/template'),
    ('sasl.oauthbearer.assertion.private.key.file', '/etc/key'),
    ('sasl.oauthbearer.assertion.private.key.passphrase', 'x'),
    ('sasl.oauthbearer.assertion.private.key.pem', '-----BEGIN RSA PRIVATE KEY-----'),
    ('sasl.oauthbearer.client.credentials.client.id', 'x'),
    ('sasl.oauthbearer.client.credentials.client.secret', 'x'),
    ('sasl.oauthbearer.client.id', 'x'),
    ('sasl.oauthbearer.client.secret', 'x'),
    ('sasl.oauthbearer.config', 'x'),
    ('sasl.oauthbearer.extensions', 'a=b'),
    ('sasl.oauthbearer.grant.type', 'client_credentials'),
    ('sasl.oauthbearer.metadata.authentication.type', 'none'),
    ('sasl.oauthbearer.method', 'default'),
    ('sasl.oauthbearer.scope', 'read'),
    ('sasl.oauthbearer.sub.claim.name', 'sub'),
    ('sasl.oauthbearer.token.endpoint.url', 'https://idp.example/token'),
    ('sasl.password', 'x'),
    ('sasl.username', 'x'),
    ('schema_registry_ca_pem', '-----BEGIN CERTIFICATE-----'),
    ('schema_registry_password', 'x'),
    ('schema_registry_url', 'https://registry:8081'),
    ('schema_registry_username', 'x'),
    ('security.protocol', 'SASL_SSL'),
    ('session.timeout.ms', 'x'),
    ('share.acknowledgement.mode', 'x'),
    ('socket.blocking.max.ms', 'x'),
    ('socket.connection.setup.timeout.ms', '30000'),
    ('socket.keepalive.enable', 'x'),
    ('socket.max.fails', 'x'),
    ('socket.nagle.disable', 'true'),
    ('socket.receive.buffer.bytes', '65536'),
    ('socket.send.buffer.bytes', '65536'),
    ('socket.timeout.ms', '60000'),
    ('socket_cb', 'x'),
    ('ssl.ca.certificate.stores', 'x'),
    ('ssl.ca.location', '/etc/ssl/ca.pem'),
    ('ssl.ca.pem', '-----BEGIN CERTIFICATE-----'),
    ('ssl.certificate.location', '/etc/ssl/cert.pem'),
    ('ssl.certificate.pem', '-----BEGIN CERTIFICATE-----'),
    ('ssl.certificate.verify_cb', 'x'),
    ('ssl.cipher.suites', 'ECDHE-RSA-AES256-GCM-SHA384'),
    ('ssl.crl.location', '/etc/ssl/crl.pem'),
    ('ssl.curves.list', 'P-256'),
    ('ssl.endpoint.identification.algorithm', 'https'),
    ('ssl.engine.id', 'x'),
    ('ssl.engine.location', 'x'),
    ('ssl.key.location', '/etc/ssl/key.pem'),
    ('ssl.key.password', 'x'),
    ('ssl.key.pem', '-----BEGIN PRIVATE KEY-----'),
    ('ssl.keystore.location', '/etc/ssl/store'),
    ('ssl.keystore.password', 'x'),
    ('ssl.providers', 'default'),
    ('ssl.sigalgs.list', 'RSA+SHA256'),
    ('ssl_ca', 'x'),
    ('ssl_certificate', 'x'),
    ('ssl_engine_callback_data', 'x'),
    ('ssl_key', 'x'),
    ('statistics.interval.ms', 'x'),
    ('stats_cb', 'x'),
    ('sticky.partitioning.linger.ms', 'x'),
    ('test.mock.broker.rtt', 'x'),
    ('test.mock.num.brokers', 'x'),
    ('throttle_cb', 'x'),
    ('topic.blacklist', 'x'),
    ('topic.metadata.propagation.max.ms', '30000'),
    ('topic.metadata.refresh.fast.cnt', 'x'),
    ('topic.metadata.refresh.fast.interval.ms', 'x'),
    ('topic.metadata.refresh.interval.ms', 'x'),
    ('topic.metadata.refresh.sparse', 'x'),
    ('transaction.timeout.ms', 'x'),
    ('transactional.id', 'x'),
    ('ut_handle_ProduceResponse', 'x');
UPDATE property SET superuser = pg_temp.verdict('server', name, value),
    superuser_mapping = pg_temp.verdict('mapping', name, value);
SET ROLE regress_ki_maker;
UPDATE property SET maker = pg_temp.verdict('server', name, value),
    maker_mapping = pg_temp.verdict('mapping', name, value);
RESET ROLE;
SELECT name, superuser, maker, superuser_mapping, maker_mapping FROM property ORDER BY name;
SELECT superuser, maker, superuser_mapping, maker_mapping, count(*) FROM property GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;

-- What is said: one of each kind
SELECT name, pg_temp.try(format(
    'CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers %L, %I %L)', 'k1', name, 'hunter2')) AS raised
FROM unnest(ARRAY['plugin.library.paths', 'group.id', 'enable.auto.commit', 'acks',
    'bootstrap.servers', 'sasl.mechanism', 'sasl.password', 'ssl_key', 'brokers',
    'schema_registry_password', 'sasl.oauthbearer.client.credentials.client.secret',
    'sasl.kerberos.kinit.cmd']) AS name;

-- Unknown names, with the nearest legal ones: case, prefixes and blanks count
SELECT name, pg_temp.try(format(
    'CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers %L, %I %L)', 'k1', name, 'hunter2')) AS raised
FROM unnest(ARRAY['Security.Protocol', 'security.protocl', 'sasl.pasword', 'bootstrap.server',
    'topic.fetch.min.bytes', ' client.id', 'client.id ', 'ssl.ca', 'nonsense', 'fetch.min.byte',
    'test.mock.broker', repeat('x', 60)]) AS name;

-- --------------------------------------------------------------------------
-- Values: ranges, words, lengths, and what only superusers may set
-- --------------------------------------------------------------------------
CREATE TEMP TABLE value_test (name text, value text, superuser text, maker text);
GRANT ALL ON value_test TO regress_ki_maker;
INSERT INTO value_test (name, value) VALUES
    ('fetch.wait.max.ms', '0'), ('fetch.wait.max.ms', '5000'), ('fetch.wait.max.ms', '5001'),
    ('fetch.wait.max.ms', '-1'), ('fetch.wait.max.ms', ''), ('fetch.wait.max.ms', '010'),
    ('fetch.wait.max.ms', '0x10'), ('fetch.wait.max.ms', '1e3'), ('fetch.wait.max.ms', ' 5'),
    ('fetch.wait.max.ms', '99999999999999999999'), ('connections.max.idle.ms', '2147483647'),
    ('connections.max.idle.ms', '2147483648'),
    ('socket.timeout.ms', '60000'), ('socket.timeout.ms', '60001'), ('socket.timeout.ms', '9'),
    ('socket.send.buffer.bytes', '8388608'), ('socket.send.buffer.bytes', '8388609'),
    ('client.id', repeat('x', 64)), ('client.id', repeat('x', 65)), ('client.id', E'a\tb'),
    ('client.id', E'sn\u00f6'), ('client.id', ''), ('client.id', 'a %{sasl.password} b'),
    ('client.rack', repeat('x', 1000000)),
    ('security.protocol', 'plaintext'), ('security.protocol', 'Sasl_Plaintext'),
    ('security.protocol', 'tls'),
    ('sasl.mechanisms', 'PLAIN'), ('sasl.mechanisms', 'SCRAM-SHA-512'),
    ('sasl.mechanisms', 'OAUTHBEARER'), ('sasl.mechanisms', 'GSSAPI'),
    ('sasl.mechanisms', 'gssapi'), ('sasl.mechanisms', 'PLAIN,GSSAPI'),
    ('enable.ssl.certificate.verification', 'false'),
    ('enable.ssl.certificate.verification', 'FALSE'),
    ('enable.ssl.certificate.verification', '0'),
    ('ssl.endpoint.identification.algorithm', 'none'),
    ('sasl.oauthbearer.method', 'oidc'),
    ('sasl.oauthbearer.token.endpoint.url', 'http://idp.example/token'),
    ('sasl.oauthbearer.token.endpoint.url', 'file:///etc/passwd'),
    ('sasl.oauthbearer.token.endpoint.url', 'https://user:hunter2@idp.example/token'),
    ('ssl.ca.pem', 'no certificate'), ('ssl.ca.pem', '-----BEGIN CERTIFICATE-----' || repeat('x', 70000)),
    ('sasl.kerberos.principal', 'x; id > marker; true'), ('sasl.kerberos.keytab', '$(id)'),
    ('debug', 'nonsense');
UPDATE value_test SET superuser = pg_temp.verdict('server', name, value);
SET ROLE regress_ki_maker;
UPDATE value_test SET maker = pg_temp.verdict('server', name, value);
RESET ROLE;
SELECT name, left(value, 50) AS value, length(value), superuser, maker FROM value_test;

SELECT pg_temp.try(format(
    'CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers %L, %I %L)', 'k1', name, value)) AS raised
FROM value_test WHERE superuser <> 'ok' AND (name, value) IN (('fetch.wait.max.ms', '5001'),
    ('client.rack', repeat('x', 1000000)), ('sasl.mechanisms', 'PLAIN,GSSAPI'), ('debug', 'nonsense'),
    ('sasl.oauthbearer.token.endpoint.url', 'https://user:hunter2@idp.example/token'),
    ('sasl.kerberos.keytab', '$(id)'));

-- Secrets: their values never show
SELECT name, left(value, 20) AS value, length(value), pg_temp.try(format(
    'CREATE USER MAPPING FOR PUBLIC SERVER ki_verdict_mapping OPTIONS (%I %L)', name, value)) AS raised
FROM (VALUES ('sasl.password', 'file:/hunter2'), ('schema_registry_password', 'file:/hunter2'),
    ('sasl.password', ''), ('sasl.password', repeat('hunter2', 10000)), ('ssl.key.pem', 'hunter2'),
    ('client.id', 'hunter2'), ('sasl.pasword', 'hunter2'),
    ('sasl.oauthbearer.client.credentials.client.id', 'hunter2'), ('brokers', 'hunter2')) AS t(name, value);
SET ROLE regress_ki_maker;
SELECT pg_temp.try($$CREATE USER MAPPING FOR regress_ki_maker SERVER ki_verdict_mapping OPTIONS ("sasl.password" 'hunter2%{x}')$$);
RESET ROLE;
DROP SERVER ki_verdict_mapping;

-- Brokers
SELECT left(brokers, 50) AS brokers, pg_temp.try(format(
    'SELECT kafka_ingest.create_connection(%L, brokers => %L)', 'ki_brokers_' || row_number() OVER (), brokers)) AS raised
FROM unnest(ARRAY['k1', 'k1:9092', 'k1:9092,k2:9093', 'k1:9092, k2', '[::1]:9092', '[fe80::1]', '127.0.0.1:1', 'kafka_1:65535',
    '', ' ', 'k1,', ',k1', 'k1,,k2', 'k1:', 'k1:0', 'k1:65536', 'k1:http', '::1', 'fe80::1:9092', '[::1', 'SSL://k1:9092',
    'k1/path', 'user:hunter2@k1', 'k 1', E'k1\nk2', repeat('x', 256), 'k1%{x}']) AS brokers;
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname LIKE 'ki\_brokers\_%' ORDER BY length(srvname), srvname;
SELECT kafka_ingest.drop_connection(srvname) FROM pg_foreign_server WHERE srvname LIKE 'ki\_brokers\_%';

-- The registry's URL
SELECT url, pg_temp.try(format(
    'CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers %L, schema_registry_url %L)', 'k1', url)) AS raised
FROM unnest(ARRAY['registry:8081', 'ftp://registry', 'https://', 'https://user:hunter2@registry', 'https://registry:80x/a', '']) AS url;

-- The wrapper and foreign tables take nothing
SELECT pg_temp.try(statement) FROM unnest(ARRAY[
    $$ALTER FOREIGN DATA WRAPPER kafka_ingest OPTIONS (ADD brokers 'k1')$$,
    $$CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest$$]) AS statement;
CREATE SERVER ki_said FOREIGN DATA WRAPPER kafka_ingest OPTIONS (brokers 'k1');
SELECT pg_temp.try('CREATE FOREIGN TABLE ki_said (a int) SERVER ki_said');
SELECT pg_temp.try('ALTER SERVER ki_said OPTIONS (DROP brokers)');
DROP SERVER ki_said;

-- --------------------------------------------------------------------------
-- Both spellings mean the same
-- --------------------------------------------------------------------------
CREATE SERVER ki_server FOREIGN DATA WRAPPER kafka_ingest
    OPTIONS (brokers 'k1:9093,k2:9093', schema_registry_url 'https://registry:8081', "security.protocol" 'SASL_SSL', "fetch.wait.max.ms" '100', "log.connection.close" 'false');
CREATE USER MAPPING FOR regress_ki_user SERVER ki_server
    OPTIONS ("sasl.password" 'hunter2', "sasl.username" 'hunter2-user');
SELECT kafka_ingest.create_connection('ki_function', 'k1:9093,k2:9093',
    properties => '{"security.protocol": "SASL_SSL", "fetch.wait.max.ms": 100, "log.connection.close": false}',
    secrets => '{"sasl.username": "hunter2-user", "sasl.password": "hunter2"}',
    secrets_for => 'regress_ki_user', schema_registry_url => 'https://registry:8081');
SELECT srvname, srvoptions, umoptions, usename FROM pg_foreign_server LEFT JOIN pg_user_mappings USING (srvname) WHERE srvname LIKE 'ki\_%' ORDER BY srvname;
-- the server's options are for all to read; the secrets are not among them
SET ROLE regress_ki_other;
SELECT srvname, srvoptions, umoptions FROM pg_foreign_server LEFT JOIN pg_user_mappings USING (srvname) WHERE srvname LIKE 'ki\_%' ORDER BY srvname;
RESET ROLE;
SELECT kafka_ingest.drop_connection('ki_server');

-- --------------------------------------------------------------------------
-- or_alter: exactly these arguments; alter_connection: key by key
-- --------------------------------------------------------------------------
CREATE TEMP VIEW connection AS
SELECT srvname, (SELECT jsonb_object_agg(option_name, option_value) FROM pg_options_to_table(srvoptions)) AS server,
    usename, (SELECT jsonb_object_agg(option_name, option_value) FROM pg_options_to_table(umoptions)) AS mapping
FROM pg_foreign_server LEFT JOIN pg_user_mappings USING (srvname) WHERE srvname LIKE 'ki\_%' ORDER BY srvname, usename;
GRANT SELECT ON connection TO PUBLIC;

SELECT pg_temp.try($$SELECT kafka_ingest.create_connection('ki_function', 'k3')$$);
SELECT kafka_ingest.create_connection('ki_function', 'k3', '{"client.id": "c", "fetch.wait.max.ms": "200"}',
    '{"sasl.password": "hunter2-new"}', 'regress_ki_user', or_alter => true);
TABLE connection;
SELECT kafka_ingest.create_connection('ki_function', 'k3', secrets_for => 'regress_ki_user', or_alter => true);
TABLE connection;
SELECT kafka_ingest.create_connection('ki_new', 'k3', or_alter => true);
TABLE connection;
SELECT kafka_ingest.drop_connection('ki_new');

SELECT kafka_ingest.alter_connection('ki_function');
SELECT kafka_ingest.alter_connection('ki_function', properties => '{"client.id": "d", "client.rack": "r", "fetch.min.bytes": 10}');
SELECT kafka_ingest.alter_connection('ki_function', properties => '{"client.rack": null, "fetch.min.bytes": 20, "socket.nagle.disable": null}',
    schema_registry_url => 'http://registry');
TABLE connection;
SELECT kafka_ingest.alter_connection('ki_function', brokers => 'k4', schema_registry_url => '');
SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.username": "hunter2-a", "sasl.password": "hunter2-b"}', secrets_for => 'public');
SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.username": null, "sasl.password": "hunter2-c", "ssl.key.password": "hunter2-d"}', secrets_for => 'public');
SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.username": "hunter2-mine"}');
SELECT srvname, server, usename = session_user AS mine, mapping FROM connection WHERE usename IN ('public', session_user);
-- a mapping without a secret would hide PUBLIC's
SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.username": null}');
TABLE connection;

-- a failure leaves nothing half-done
SELECT pg_temp.try($$SELECT kafka_ingest.alter_connection('ki_function', properties => '{"client.id": "e"}', secrets => '{"client.id": "hunter2"}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_connection('ki_function', properties => '{"client.id": "e"}', secrets => '{"sasl.password": "hunter2"}', secrets_for => 'regress_ki_nobody')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.create_connection('ki_half', 'k1', secrets => '{"sasl.password": "hunter2"}', secrets_for => 'regress_ki_nobody')$$);
TABLE connection;

-- and a rollback leaves nothing at all
BEGIN;
SELECT kafka_ingest.create_connection('ki_rolled_back', 'k1', secrets => '{"sasl.password": "hunter2"}');
ROLLBACK;
SELECT count(*) FROM connection WHERE srvname = 'ki_rolled_back';

-- --------------------------------------------------------------------------
-- Privileges are PostgreSQL's
-- --------------------------------------------------------------------------
SET ROLE regress_ki_other;
SELECT pg_temp.try(statement) FROM unnest(ARRAY[
    $$SELECT kafka_ingest.create_connection('ki_other', 'k1')$$,
    $$SELECT kafka_ingest.create_connection('ki_function', 'k1', or_alter => true)$$,
    $$SELECT kafka_ingest.alter_connection('ki_function', brokers => 'k1')$$,
    $$SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.password": "hunter2"}')$$,
    $$SELECT kafka_ingest.drop_connection('ki_function')$$]) AS statement;
RESET ROLE;
-- with USAGE one may set one's own secrets, and no more
GRANT USAGE ON FOREIGN SERVER ki_function TO regress_ki_other;
SET ROLE regress_ki_other;
SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.password": "hunter2"}');
SELECT pg_temp.try(statement) FROM unnest(ARRAY[
    $$SELECT kafka_ingest.alter_connection('ki_function', secrets => '{"sasl.password": "hunter2"}', secrets_for => 'public')$$,
    $$SELECT kafka_ingest.alter_connection('ki_function', properties => '{"client.id": "x"}')$$,
    $$SELECT kafka_ingest.drop_connection('ki_function')$$]) AS statement;
RESET ROLE;
-- a maker of connections owns them, but superusers' properties stay theirs
SET ROLE regress_ki_maker;
SELECT kafka_ingest.create_connection('ki_maker', 'k1', secrets => '{"sasl.password": "hunter2"}');
SELECT kafka_ingest.alter_connection('ki_maker', brokers => 'k2', properties => '{"client.id": "x"}');
SELECT pg_temp.try(statement) FROM unnest(ARRAY[
    $$SELECT kafka_ingest.alter_connection('ki_maker', properties => '{"sasl.mechanisms": "GSSAPI"}')$$,
    $$SELECT kafka_ingest.alter_connection('ki_maker', properties => '{"ssl.ca.location": "/etc/passwd"}')$$]) AS statement;
RESET ROLE;
SELECT kafka_ingest.alter_connection('ki_maker', properties => '{"ssl.ca.location": "/etc/ssl/ca.pem"}');
SET ROLE regress_ki_maker;
SELECT pg_temp.try($$SELECT kafka_ingest.alter_connection('ki_maker', brokers => 'k3')$$);
SELECT kafka_ingest.alter_connection('ki_maker', brokers => 'k3', properties => '{"ssl.ca.location": null}');
TABLE connection;
SELECT kafka_ingest.drop_connection('ki_maker');
RESET ROLE;

-- --------------------------------------------------------------------------
-- Bad input
-- --------------------------------------------------------------------------
CREATE FOREIGN DATA WRAPPER ki_wrapper;
CREATE SERVER ki_alien FOREIGN DATA WRAPPER ki_wrapper;
SELECT statement, pg_temp.try('SELECT kafka_ingest.' || statement) AS raised FROM unnest(ARRAY[
    $$create_connection(NULL, 'k1')$$,
    $$create_connection('ki_bad', NULL)$$,
    $$create_connection('ki_bad', 'k1', or_alter => NULL)$$,
    $$create_connection('', 'k1')$$,
    $$create_connection(repeat('x', 64), 'k1')$$,
    $$create_connection(repeat(E'\u00e9', 32), 'k1')$$,
    $$create_connection('ki_alien', 'k1', or_alter => true)$$,
    $$create_connection('ki_bad', 'k1', '[]')$$,
    $$create_connection('ki_bad', 'k1', '"x"')$$,
    $$create_connection('ki_bad', 'k1', 'null')$$,
    $$create_connection('ki_bad', 'k1', '{"client.id": {"a": 1}}')$$,
    $$create_connection('ki_bad', 'k1', '{"client.id": ["a"]}')$$,
    $$create_connection('ki_bad', 'k1', '{"client.id": null}')$$,
    $$create_connection('ki_bad', 'k1', '{"fetch.min.bytes": 1.5}')$$,
    $$create_connection('ki_bad', 'k1', '{"": "a"}')$$,
    $$create_connection('ki_bad', 'k1', '{"brokers": "k2"}')$$,
    $$create_connection('ki_bad', 'k1', '{"client.idd": "a"}')$$,
    $$create_connection('ki_bad', 'k1', '{"sasl.password": "hunter2"}')$$,
    $$create_connection('ki_bad', 'k1', secrets => '["hunter2"]')$$,
    $$create_connection('ki_bad', 'k1', secrets => '{"sasl.password": ["hunter2"]}')$$,
    $$create_connection('ki_bad', 'k1', secrets => '{"client.id": "hunter2"}')$$,
    $$create_connection('ki_bad', 'k1', schema_registry_url => 'x')$$,
    $$alter_connection(NULL)$$,
    $$alter_connection('ki_missing')$$,
    $$alter_connection('ki_alien')$$,
    $$alter_connection('ki_function', brokers => '')$$,
    $$alter_connection('ki_function', properties => '{"client.idd": null}')$$,
    $$alter_connection('ki_function', properties => '{"sasl.password": null}')$$,
    $$alter_connection('ki_function', properties => '{"brokers": null}')$$,
    $$drop_connection(NULL)$$,
    $$drop_connection('ki_function', NULL)$$,
    $$drop_connection('ki_missing')$$,
    $$drop_connection('ki_alien')$$]) AS statement;
SELECT kafka_ingest.drop_connection('ki_missing', if_exists => true);
-- 63 bytes are a name
SELECT kafka_ingest.create_connection(repeat('x', 63), 'k1');
SELECT kafka_ingest.drop_connection(repeat('x', 63));
BEGIN READ ONLY;
SELECT pg_temp.try($$SELECT kafka_ingest.create_connection('ki_bad', 'k1', secrets => '{"sasl.password": "hunter2"}')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.alter_connection('ki_function', brokers => 'k1')$$);
SELECT pg_temp.try($$SELECT kafka_ingest.drop_connection('ki_function')$$);
COMMIT;

-- drop_connection takes the user mappings with it
SELECT kafka_ingest.drop_connection('ki_function');
SELECT count(*) FROM connection;
DROP SERVER ki_alien;
DROP FOREIGN DATA WRAPPER ki_wrapper;
REVOKE ALL ON FOREIGN DATA WRAPPER kafka_ingest FROM regress_ki_maker;
DROP TABLE property, value_test;
DROP ROLE regress_ki_maker, regress_ki_user, regress_ki_other;
