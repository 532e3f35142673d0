/*
 * property_table.c
 *	  The table of all client properties and its verdicts (floor 1).
 *
 * librdkafka's properties can load libraries, run commands, read files and
 * reach other hosts, some of them the moment they are set.  So a name must
 * stand here, and be allowed, before the library ever sees it; everything
 * else is refused.  The table covers librdkafka 2.0.2 to 2.15, hidden names
 * included.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "property_table.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

/* librdkafka's largest answer, which we set, less its own headroom */
#define FETCH_MAX (64 * 1024 * 1024 - 512)

/* Names longer than this are near to none, in bytes. */
#define NAME_MAX_NEAR 64

/*
 * Who the broker is and how it is trusted belongs to the connection alone: a
 * pipeline's owner may use secrets he must not see (PUBLIC's mapping), and
 * would else have them sent elsewhere, or in the clear.
 */
#define OPEN(name, kind, low, high, text) \
	{name, VERDICT_OPEN, true, false, kind, low, high, text}
#define TRUST(name, kind, text) \
	{name, VERDICT_OPEN, false, false, kind, 0, 0, text}
#define SUPER(name, kind, low, high, text) \
	{name, VERDICT_SUPERUSER, false, false, kind, low, high, text}
#define SECRET(name, kind) \
	{name, VERDICT_SECRET, false, true, kind, 0, 0, NULL}
#define FIXED(name, why) \
	{name, VERDICT_FIXED, false, false, VALUE_ANY, 0, 0, why}
#define REFUSED(name, why) \
	{name, VERDICT_REFUSED, false, false, VALUE_ANY, 0, 0, why}
#define ALIAS(name, real, secret) \
	{name, VERDICT_ALIAS, false, secret, VALUE_ANY, 0, 0, real}
#define ARGUMENT(name) \
	{name, VERDICT_ARGUMENT, false, false, VALUE_ANY, 0, 0, NULL}

/* Lists of words: only superusers may set one that begins with "!". */
#define BOOLEAN "true,false"

#define WHY_POSITION \
	"Positions are kept in the database, in the transaction of the rows."
#define WHY_EXACT "Exactly-once loading depends on it."
#define WHY_GROUP \
	"Pipelines assign partitions themselves and are no members of a group."
#define WHY_MEMORY "It follows from kafka_ingest.worker_memory."
#define WHY_INTERNAL "kafka_ingest depends on it for its own workings."
#define WHY_NETWORK "kafka_ingest notices broken connections and new partitions by it."
#define WHY_GROUP_ID "The pipeline's argument group_id is its name."
#define WHY_LOADS "It loads a library into the server."
#define WHY_COMMAND "It runs a command on the server."
#define WHY_FILE "It writes files on the server."
#define WHY_POINTER "It is a pointer, no value that can be given in SQL."
#define WHY_PRODUCER "It is for producers, and kafka_ingest only consumes."
#define WHY_USELESS "It is of no use to kafka_ingest and could only do harm."
#define WHY_SHARE "It is for share groups, which kafka_ingest does not use."
#define WHY_TEST "It is for tests of the library and unsafe in a server."
#define WHY_SIGNAL "It changes the handling of signals in the server."
#define WHY_REGEX "Lists of regular expressions are not offered."
#define WHY_WINDOWS "It is for Windows only."

static const KiPropertyRule rules[] = {
	/* kafka_ingest's own */
	ARGUMENT("brokers"),
	ARGUMENT("schema_registry_url"),
	TRUST("schema_registry_ca_pem", VALUE_PEM, NULL),
	SECRET("schema_registry_username", VALUE_ANY),
	SECRET("schema_registry_password", VALUE_ANY),

	/* open */
	OPEN("broker.address.family", VALUE_WORD, 0, 0, "any,v4,v6"),
	OPEN("broker.address.ttl", VALUE_INTEGER, 0, 86400000, NULL),
	OPEN("client.id", VALUE_ASCII, 0, 64, NULL),
	OPEN("client.rack", VALUE_ASCII, 0, 255, NULL),
	OPEN("connections.max.idle.ms", VALUE_INTEGER, 0, PG_INT32_MAX, NULL),
	OPEN("fetch.error.backoff.ms", VALUE_INTEGER, 0, 300000, NULL),
	OPEN("fetch.max.bytes", VALUE_INTEGER, 1000, FETCH_MAX, NULL),
	OPEN("fetch.message.max.bytes", VALUE_INTEGER, 1, FETCH_MAX, NULL),
	OPEN("fetch.min.bytes", VALUE_INTEGER, 1, FETCH_MAX, NULL),
	OPEN("fetch.wait.max.ms", VALUE_INTEGER, 0, 5000, NULL),
	OPEN("log.connection.close", VALUE_WORD, 0, 0, BOOLEAN),
	OPEN("message.max.bytes", VALUE_INTEGER, 1000, FETCH_MAX, NULL),
	OPEN("metadata.max.age.ms", VALUE_INTEGER, 1, 86400000, NULL),
	OPEN("metadata.recovery.rebootstrap.trigger.ms", VALUE_INTEGER,
		 0, PG_INT32_MAX, NULL),
	OPEN("metadata.recovery.strategy", VALUE_WORD, 0, 0, "none,rebootstrap"),
	OPEN("retry.backoff.max.ms", VALUE_INTEGER, 1, 300000, NULL),
	OPEN("retry.backoff.ms", VALUE_INTEGER, 1, 300000, NULL),
	OPEN("socket.connection.setup.timeout.ms", VALUE_INTEGER,
		 1000, PG_INT32_MAX, NULL),
	OPEN("socket.nagle.disable", VALUE_WORD, 0, 0, BOOLEAN),
	OPEN("socket.receive.buffer.bytes", VALUE_INTEGER, 0, 8388608, NULL),
	OPEN("socket.send.buffer.bytes", VALUE_INTEGER, 0, 8388608, NULL),
	OPEN("socket.timeout.ms", VALUE_INTEGER, 10, 60000, NULL),
	OPEN("topic.metadata.propagation.max.ms", VALUE_INTEGER,
		 0, 3600000, NULL),

	/* open, at connections only */
	TRUST("enable.ssl.certificate.verification", VALUE_WORD, "true,!false"),
	TRUST("https.ca.pem", VALUE_PEM, NULL),
	TRUST("sasl.mechanisms", VALUE_EXACT,
		  "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER,!GSSAPI"),
	TRUST("sasl.oauthbearer.extensions", VALUE_TEXT, NULL),
	TRUST("sasl.oauthbearer.method", VALUE_WORD, "default,!oidc"),
	TRUST("sasl.oauthbearer.scope", VALUE_TEXT, NULL),
	TRUST("sasl.oauthbearer.token.endpoint.url", VALUE_URL, NULL),
	TRUST("security.protocol", VALUE_WORD,
		  "plaintext,ssl,sasl_plaintext,sasl_ssl"),
	TRUST("ssl.ca.pem", VALUE_PEM, NULL),
	TRUST("ssl.cipher.suites", VALUE_TEXT, NULL),
	TRUST("ssl.curves.list", VALUE_TEXT, NULL),
	TRUST("ssl.endpoint.identification.algorithm", VALUE_WORD, "https,!none"),
	TRUST("ssl.sigalgs.list", VALUE_TEXT, NULL),

	/*
	 * Superusers: they read the server's files, use its identity, reach other
	 * hosts, weaken the protocol, or write data to the log.
	 */
	SUPER("api.version.fallback.ms", VALUE_INTEGER, 0, 604800000, NULL),
	SUPER("api.version.request", VALUE_WORD, 0, 0, BOOLEAN),
	SUPER("broker.version.fallback", VALUE_TEXT, 0, 0, NULL),
	SUPER("client.dns.lookup", VALUE_WORD, 0, 0,
		  "use_all_dns_ips,resolve_canonical_bootstrap_servers_only"),
	{"debug", VERDICT_SUPERUSER, true, false, VALUE_TEXT, 0, 0, NULL},
	SUPER("enable.sasl.oauthbearer.unsecure.jwt", VALUE_WORD, 0, 0, BOOLEAN),
	SUPER("https.ca.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("sasl.kerberos.keytab", VALUE_KERBEROS, 0, 0, NULL),
	SUPER("sasl.kerberos.min.time.before.relogin", VALUE_INTEGER,
		  0, 86400000, NULL),
	SUPER("sasl.kerberos.principal", VALUE_KERBEROS, 0, 0, NULL),
	SUPER("sasl.kerberos.service.name", VALUE_KERBEROS, 0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.algorithm", VALUE_EXACT, 0, 0,
		  "RS256,ES256"),
	SUPER("sasl.oauthbearer.assertion.claim.aud", VALUE_TEXT, 0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.claim.exp.seconds", VALUE_INTEGER,
		  1, PG_INT32_MAX, NULL),
	SUPER("sasl.oauthbearer.assertion.claim.iss", VALUE_TEXT, 0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.claim.jti.include", VALUE_WORD, 0, 0,
		  BOOLEAN),
	SUPER("sasl.oauthbearer.assertion.claim.nbf.seconds", VALUE_INTEGER,
		  0, PG_INT32_MAX, NULL),
	SUPER("sasl.oauthbearer.assertion.claim.sub", VALUE_TEXT, 0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.file", VALUE_TEXT, 0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.jwt.template.file", VALUE_TEXT,
		  0, 0, NULL),
	SUPER("sasl.oauthbearer.assertion.private.key.file", VALUE_TEXT,
		  0, 0, NULL),
	SUPER("sasl.oauthbearer.grant.type", VALUE_EXACT, 0, 0,
		  "client_credentials,urn:ietf:params:oauth:grant-type:jwt-bearer"),
	SUPER("sasl.oauthbearer.metadata.authentication.type", VALUE_EXACT, 0, 0,
		  "none,azure_imds,aws_iam"),
	SUPER("sasl.oauthbearer.sub.claim.name", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.ca.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.certificate.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.crl.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.key.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.keystore.location", VALUE_TEXT, 0, 0, NULL),
	SUPER("ssl.providers", VALUE_TEXT, 0, 0, NULL),

	/* secrets */
	SECRET("sasl.oauthbearer.assertion.private.key.passphrase", VALUE_ANY),
	SECRET("sasl.oauthbearer.assertion.private.key.pem", VALUE_PEM),
	SECRET("sasl.oauthbearer.client.id", VALUE_ANY),
	SECRET("sasl.oauthbearer.client.secret", VALUE_ANY),
	SECRET("sasl.oauthbearer.config", VALUE_ANY),
	SECRET("sasl.password", VALUE_ANY),
	SECRET("sasl.username", VALUE_ANY),
	SECRET("ssl.certificate.pem", VALUE_PEM),
	SECRET("ssl.key.password", VALUE_ANY),
	SECRET("ssl.key.pem", VALUE_PEM),
	SECRET("ssl.keystore.password", VALUE_ANY),

	/* aliases */
	ALIAS("bootstrap.servers", "brokers", false),
	ALIAS("max.partition.fetch.bytes", "fetch.message.max.bytes", false),
	ALIAS("metadata.broker.list", "brokers", false),
	ALIAS("sasl.mechanism", "sasl.mechanisms", false),
	ALIAS("sasl.oauthbearer.client.credentials.client.id",
		  "sasl.oauthbearer.client.id", true),
	ALIAS("sasl.oauthbearer.client.credentials.client.secret",
		  "sasl.oauthbearer.client.secret", true),

	/* set by us */
	FIXED("allow.auto.create.topics", WHY_EXACT),
	FIXED("auto.commit.enable", WHY_POSITION),
	FIXED("auto.offset.reset", WHY_POSITION),
	FIXED("check.crcs", WHY_EXACT),
	FIXED("coordinator.query.interval.ms", WHY_GROUP),
	FIXED("enable.auto.commit", WHY_POSITION),
	FIXED("enable.auto.offset.store", WHY_POSITION),
	FIXED("enable.metrics.push", WHY_INTERNAL),
	FIXED("enable.partition.eof", WHY_EXACT),
	FIXED("enable.random.seed", WHY_INTERNAL),
	FIXED("fetch.queue.backoff.ms", WHY_MEMORY),
	FIXED("group.id", WHY_GROUP_ID),
	FIXED("group.instance.id", WHY_GROUP),
	FIXED("group.protocol", WHY_GROUP),
	FIXED("group.protocol.type", WHY_GROUP),
	FIXED("group.remote.assignor", WHY_GROUP),
	FIXED("heartbeat.interval.ms", WHY_GROUP),
	FIXED("isolation.level", WHY_EXACT),
	FIXED("log.queue", WHY_INTERNAL),
	FIXED("log.thread.name", WHY_INTERNAL),
	FIXED("log_level", WHY_INTERNAL),
	FIXED("max.poll.interval.ms", WHY_GROUP),
	FIXED("partition.assignment.strategy", WHY_GROUP),
	FIXED("queued.max.messages.kbytes", WHY_MEMORY),
	FIXED("queued.min.messages", WHY_MEMORY),
	FIXED("receive.message.max.bytes", WHY_MEMORY),
	FIXED("reconnect.backoff.max.ms", WHY_NETWORK),
	FIXED("reconnect.backoff.ms", WHY_NETWORK),
	FIXED("session.timeout.ms", WHY_GROUP),
	FIXED("socket.keepalive.enable", WHY_NETWORK),
	FIXED("statistics.interval.ms", WHY_INTERNAL),
	FIXED("topic.metadata.refresh.interval.ms", WHY_NETWORK),

	/* refused: they run code or reach further than a client may */
	REFUSED("interceptors", WHY_LOADS),
	REFUSED("internal.termination.signal", WHY_SIGNAL),
	REFUSED("offset.store.method", WHY_FILE),
	REFUSED("offset.store.path", WHY_FILE),
	REFUSED("offset.store.sync.interval.ms", WHY_FILE),
	REFUSED("plugin.library.paths", WHY_LOADS),
	REFUSED("sasl.kerberos.kinit.cmd", WHY_COMMAND),
	REFUSED("ssl.ca.certificate.stores", WHY_WINDOWS),
	REFUSED("ssl.engine.id", WHY_LOADS),
	REFUSED("ssl.engine.location", WHY_LOADS),
	REFUSED("ssl_engine_callback_data", WHY_LOADS),
	REFUSED("test.mock.broker.rtt", WHY_TEST),
	REFUSED("test.mock.num.brokers", WHY_TEST),
	REFUSED("topic.blacklist", WHY_REGEX),
	REFUSED("ut_handle_ProduceResponse", WHY_TEST),

	/* refused: pointers */
	REFUSED("background_event_cb", WHY_POINTER),
	REFUSED("builtin.features", WHY_POINTER),
	REFUSED("closesocket_cb", WHY_POINTER),
	REFUSED("connect_cb", WHY_POINTER),
	REFUSED("consume_cb", WHY_POINTER),
	REFUSED("default_topic_conf", WHY_POINTER),
	REFUSED("dr_cb", WHY_POINTER),
	REFUSED("dr_msg_cb", WHY_POINTER),
	REFUSED("error_cb", WHY_POINTER),
	REFUSED("log_cb", WHY_POINTER),
	REFUSED("msg_order_cmp", WHY_POINTER),
	REFUSED("oauthbearer_token_refresh_cb", WHY_POINTER),
	REFUSED("offset_commit_cb", WHY_POINTER),
	REFUSED("opaque", WHY_POINTER),
	REFUSED("open_cb", WHY_POINTER),
	REFUSED("partitioner_cb", WHY_POINTER),
	REFUSED("rebalance_cb", WHY_POINTER),
	REFUSED("resolve_cb", WHY_POINTER),
	REFUSED("socket_cb", WHY_POINTER),
	REFUSED("ssl.certificate.verify_cb", WHY_POINTER),
	REFUSED("ssl_ca", WHY_POINTER),
	REFUSED("ssl_certificate", WHY_POINTER),
	REFUSED("ssl_key", WHY_POINTER),
	REFUSED("stats_cb", WHY_POINTER),
	REFUSED("throttle_cb", WHY_POINTER),

	/* refused: useless, or for something else than consuming */
	REFUSED("api.version.request.timeout.ms", WHY_USELESS),
	REFUSED("auto.commit.interval.ms", WHY_POSITION),
	REFUSED("client.software.name", WHY_USELESS),
	REFUSED("client.software.version", WHY_USELESS),
	REFUSED("consume.callback.max.messages", WHY_USELESS),
	REFUSED("enable.sparse.connections", WHY_USELESS),
	REFUSED("enable_sasl_queue", WHY_USELESS),
	REFUSED("enabled_events", WHY_USELESS),
	REFUSED("max.in.flight", WHY_USELESS),
	REFUSED("max.in.flight.requests.per.connection", WHY_USELESS),
	REFUSED("max.poll.records", WHY_SHARE),
	REFUSED("message.copy.max.bytes", WHY_USELESS),
	REFUSED("metadata.request.timeout.ms", WHY_USELESS),
	REFUSED("reconnect.backoff.jitter.ms", WHY_USELESS),
	REFUSED("share.acknowledgement.mode", WHY_SHARE),
	REFUSED("socket.blocking.max.ms", WHY_USELESS),
	REFUSED("socket.max.fails", WHY_USELESS),
	REFUSED("topic.metadata.refresh.fast.cnt", WHY_USELESS),
	REFUSED("topic.metadata.refresh.fast.interval.ms", WHY_USELESS),
	REFUSED("topic.metadata.refresh.sparse", WHY_USELESS),

	/* refused: producers' */
	REFUSED("acks", WHY_PRODUCER),
	REFUSED("batch.num.messages", WHY_PRODUCER),
	REFUSED("batch.size", WHY_PRODUCER),
	REFUSED("compression.codec", WHY_PRODUCER),
	REFUSED("compression.level", WHY_PRODUCER),
	REFUSED("compression.type", WHY_PRODUCER),
	REFUSED("delivery.report.only.error", WHY_PRODUCER),
	REFUSED("delivery.timeout.ms", WHY_PRODUCER),
	REFUSED("enable.gapless.guarantee", WHY_PRODUCER),
	REFUSED("enable.idempotence", WHY_PRODUCER),
	REFUSED("linger.ms", WHY_PRODUCER),
	REFUSED("message.send.max.retries", WHY_PRODUCER),
	REFUSED("message.timeout.ms", WHY_PRODUCER),
	REFUSED("partitioner", WHY_PRODUCER),
	REFUSED("produce.offset.report", WHY_PRODUCER),
	REFUSED("queue.buffering.backpressure.threshold", WHY_PRODUCER),
	REFUSED("queue.buffering.max.kbytes", WHY_PRODUCER),
	REFUSED("queue.buffering.max.messages", WHY_PRODUCER),
	REFUSED("queue.buffering.max.ms", WHY_PRODUCER),
	REFUSED("queuing.strategy", WHY_PRODUCER),
	REFUSED("request.required.acks", WHY_PRODUCER),
	REFUSED("request.timeout.ms", WHY_PRODUCER),
	REFUSED("retries", WHY_PRODUCER),
	REFUSED("sticky.partitioning.linger.ms", WHY_PRODUCER),
	REFUSED("transaction.timeout.ms", WHY_PRODUCER),
	REFUSED("transactional.id", WHY_PRODUCER)
};

const KiPropertyRule *
ki_property_find(const char *name)
{
	for (size_t i = 0; i < lengthof(rules); i++)
	{
		if (strcmp(rules[i].name, name) == 0)
			return &rules[i];
	}
	return NULL;
}

char *
ki_property_nearest(const char *name)
{
	int			len = strlen(name);
	int			best = Min(len / 3, 4);
	char	   *lower = pstrdup(name);
	StringInfoData names;

	initStringInfo(&names);
	if (len > NAME_MAX_NEAR)
		return NULL;			/* no name is that long */
	for (char *c = lower; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);

	for (size_t i = 0; i < lengthof(rules); i++)
	{
		const KiPropertyRule *rule = &rules[i];
		const char *real = rule->name;
		int			distance;

		if (rule->verdict == VERDICT_FIXED || rule->verdict == VERDICT_REFUSED)
			continue;
		if (rule->verdict == VERDICT_ALIAS)
			real = rule->text;
		distance = varstr_levenshtein_less_equal(lower, len, rule->name,
												 strlen(rule->name),
												 1, 1, 1, best, true);
		if (distance > best)
			continue;
		if (distance < best)
			resetStringInfo(&names);
		best = distance;
		if (strstr(names.data, psprintf("\"%s\"", real)) == NULL)
			appendStringInfo(&names, "%s\"%s\"", names.len ? " or " : "", real);
	}
	return names.len ? names.data : NULL;
}
