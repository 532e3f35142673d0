/*
 * source_kafka_conf.c
 *	  How the client is set up: the connection's properties, then ours, which
 *	  nobody can override (floor 2).
 *
 * Names have passed the allow-list of connection.c before they come here;
 * that matters, since setting some properties already runs code.  Secrets are
 * never part of a message: a refused secret is named without the reason.
 *
 * Memory: the configuration belongs to the source (source->conf) until
 * rd_kafka_new takes it, so an error on the way frees it with the source.
 */
#include "postgres.h"

#include "source_kafka.h"

#define MEGABYTE 1048576

/* Partitions that are counted upon when their number is not known. */
#define LIKELY_PARTITIONS 4

/*
 * Of a partition in an answer: of what is less than a record set nothing comes,
 * but of the first partition.
 */
#define FEWEST_BYTES (64 * 1024)

/* What a queued message costs beside its bytes (2.0.2: 330, and malloc's). */
#define MESSAGE_OVERHEAD 512

typedef struct FixedProperty
{
	const char *name;
	const char *value;
	bool		is_newer;		/* than the oldest library we support: set
								 * only where it is known */
} FixedProperty;

static const FixedProperty fixed_properties[] = {
	/* positions are ours alone */
	{"enable.auto.commit", "false", false},
	{"enable.auto.offset.store", "false", false},
	{"auto.offset.reset", "error", false},
	/* what counts as a message, and where a partition ends */
	{"isolation.level", "read_committed", false},
	{"enable.partition.eof", "true", false},
	{"check.crcs", "true", false},
	{"allow.auto.create.topics", "false", false},
	/* everything is told through queues: no callback on a foreign thread */
	{"log.queue", "true", false},
	{"log_level", "7", false},
	{"log.thread.name", "true", false},
	{"statistics.interval.ms", "1000", false},
	{"enable.metrics.push", "false", true},
	{"enable.random.seed", "false", false},
	/* a worker may be busy for as long as it likes */
	{"max.poll.interval.ms", "86400000", false},
	/* new partitions, and brokers that come back, are seen soon */
	{"topic.metadata.refresh.interval.ms", "10000", false},
	{"reconnect.backoff.ms", "250", false},
	{"reconnect.backoff.max.ms", "2000", false},
	{"socket.keepalive.enable", "true", false},
	/* how soon the fetcher looks again after it met a full queue */
	{"fetch.queue.backoff.ms", "10", true}
};

static void
refuse(const KiSource *source, const char *name, const char *complaint,
	   bool is_secret)
{
	char		clean[KI_TEXT_SIZE];

	ki_source_clean(source, complaint, clean, sizeof(clean));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("librdkafka refuses the value of property \"%s\"", name),
			 is_secret ? 0 : errdetail("%s", clean)));
}

static void
set_property(KiSource *source, const char *name, const char *value,
			 bool is_secret)
{
	char		complaint[512];

	if (rd_kafka_conf_set(source->conf, name, value,
						  complaint, sizeof(complaint)) != RD_KAFKA_CONF_OK)
		refuse(source, name, complaint, is_secret);
}

static void
set_number(KiSource *source, const char *name, int64 value)
{
	char		digits[32];

	snprintf(digits, sizeof(digits), INT64_FORMAT, value);
	set_property(source, name, digits, false);
}

/* The value a property has now; empty when the library has no such thing. */
static void
get_property(const KiSource *source, const char *name, char *value,
			 size_t size)
{
	size_t		needed = size;

	if (rd_kafka_conf_get(source->conf, name, value,
						  &needed) != RD_KAFKA_CONF_OK || needed > size)
		value[0] = '\0';
}

static int64
get_number(const KiSource *source, const char *name)
{
	char		digits[32];

	get_property(source, name, digits, sizeof(digits));
	return strtoll(digits, NULL, 10);
}

static void
set_fixed(KiSource *source, const KiSourceOptions *options)
{
	char		complaint[512];

	set_property(source, "bootstrap.servers", options->connection->brokers,
				 false);
	set_property(source, "group.id", options->group_id, false);
	for (size_t i = 0; i < lengthof(fixed_properties); i++)
	{
		const FixedProperty *fixed = &fixed_properties[i];
		rd_kafka_conf_res_t result;

		result = rd_kafka_conf_set(source->conf, fixed->name, fixed->value,
								   complaint, sizeof(complaint));
		if (result == RD_KAFKA_CONF_OK ||
			(result == RD_KAFKA_CONF_UNKNOWN && fixed->is_newer))
			continue;
		refuse(source, fixed->name, complaint, false);
	}
}

/*
 * Bound the memory of the prefetch.  The queue's limits count for all
 * partitions together, since all of them share the consumer's queue; bytes
 * alone would not do, for small messages cost ten times their size.  One
 * answer per broker can come on top, so these are kept small too; what is
 * larger than an answer may be still arrives, as a record set of its own.
 *
 * An answer has room for all partitions, if they are not very many: the library
 * asks for them in turns, but begins with the first one again after it met a
 * full queue, and so might not come to the others while the first ones have a
 * backlog.
 */
static void
set_limits(KiSource *source, const KiSourceOptions *options)
{
	int64		budget = Max(options->memory_bytes, MEGABYTE);
	int64		answer = Max(Min(budget / 32, 50 * MEGABYTE), MEGABYTE / 8);
	int64		fetch = Min(get_number(source, "fetch.max.bytes"), answer);

	fetch = Max(fetch, 1000);	/* the least the library takes */
	source->queue_bytes = Min(budget / 2, (int64) 2000000 * 1024);
	source->queue_messages = (int) Max(Min(budget / 2 / MESSAGE_OVERHEAD,
										   10000000), 1000);
	set_number(source, "queued.max.messages.kbytes",
			   source->queue_bytes / 1024);
	set_number(source, "queued.min.messages", source->queue_messages);
	set_number(source, "message.max.bytes", Min(fetch, 1000000));
	source->shares = options->npartitions > 0 ? options->npartitions :
		LIKELY_PARTITIONS;
	set_number(source, "fetch.message.max.bytes",
			   Min(get_number(source, "fetch.message.max.bytes"),
				   Max(fetch / source->shares, Min(fetch, FEWEST_BYTES))));
	set_number(source, "fetch.max.bytes", fetch);
	set_number(source, "receive.message.max.bytes",
			   Max(Min(budget * 2, PG_INT32_MAX), 128 * MEGABYTE));
	source->fetch_wait_ms = (int) get_number(source, "fetch.wait.max.ms");
}

/*
 * The library's debug lines about connections and partitions are few, and the
 * only place where it tells that a partition was away for a moment; see
 * source_kafka_health.c.  They are not written, unless debug was asked for.
 */
static void
set_debug(KiSource *source)
{
	char		contexts[256];
	char		more[300];

	get_property(source, "debug", contexts, sizeof(contexts));
	source->wants_debug = contexts[0] != '\0';
	snprintf(more, sizeof(more), "%s%sbroker,topic", contexts,
			 source->wants_debug ? "," : "");
	set_property(source, "debug", more, false);
}

/* Tokens for tests are refreshed by the library's own background thread. */
static void
set_sasl(KiSource *source)
{
	char		value[64];

	get_property(source, "sasl.mechanisms", value, sizeof(value));
	source->has_old_scram = strncmp(value, "SCRAM-", 6) == 0 &&
		rd_kafka_version() < 0x02060100;
	get_property(source, "enable.sasl.oauthbearer.unsecure.jwt", value,
				 sizeof(value));
	if (strcmp(value, "true") == 0)
		rd_kafka_conf_enable_sasl_queue(source->conf, 1);
}

/* Fill source->conf. */
void
ki_source_configure(KiSource *source, const KiSourceOptions *options)
{
	const KiConnection *connection = options->connection;

	source->conf = rd_kafka_conf_new();
	set_property(source, "client.id", "kafka_ingest", false);

	/* A broker answers as soon as there is something: this is for idle ones. */
	set_property(source, "fetch.wait.max.ms", "800", false);

	/* Older libraries do not compare a broker's name with its certificate. */
	set_property(source, "ssl.endpoint.identification.algorithm", "https",
				 false);
	for (int i = 0; i < connection->nproperties; i++)
		set_property(source, connection->properties[i].name,
					 connection->properties[i].value,
					 connection->properties[i].is_secret);
	set_debug(source);
	set_fixed(source, options);
	set_limits(source, options);
	set_sasl(source);
	rd_kafka_conf_set_events(source->conf, RD_KAFKA_EVENT_ERROR |
							 RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
}

/* --- what the library is --- */

const char *
ki_source_library_version(void)
{
	return rd_kafka_version_str();
}

char *
ki_source_library_features(void)
{
	char		features[KI_TEXT_SIZE];
	size_t		size = sizeof(features);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (rd_kafka_conf_get(conf, "builtin.features", features,
						  &size) != RD_KAFKA_CONF_OK)
		features[0] = '\0';
	rd_kafka_conf_destroy(conf);
	return pstrdup(features);
}

char *
ki_source_property_complaint(const char *name, const char *value)
{
	char		complaint[512];
	char		clean[KI_TEXT_SIZE];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_conf_res_t result;

	result = rd_kafka_conf_set(conf, name, value, complaint,
							   sizeof(complaint));
	rd_kafka_conf_destroy(conf);
	if (result == RD_KAFKA_CONF_OK)
		return NULL;
	ki_source_clean(NULL, complaint, clean, sizeof(clean));
	return pstrdup(clean);
}
