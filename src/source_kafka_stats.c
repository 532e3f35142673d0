/*
 * source_kafka_stats.c
 *	  The library's statistics, once a second: how far the partitions go, and
 *	  whether the brokers we read from are there (floor 2).
 *
 * A source is well when every partition it reads has a broker, and every such
 * broker is connected and answers.  A healthy broker answers a fetch within
 * fetch.wait.max.ms, with nothing if there is nothing, so a caught-up topic is
 * never taken for a silent one; and when the queue is full and nothing is
 * asked, nothing is missed.
 *
 * Memory: the statistics live in a context of their own that the next ones
 * replace.
 */
#include "postgres.h"

#include "source_kafka.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How much later than it should an answer may come. */
#define ANSWER_LATE_US 1200000

/* So many statistics in a row without any progress are no chance. */
#define STUCK_SAMPLES 15

/* --- trouble --- */

void
ki_source_set_trouble(KiSource *source, const char *reason, bool is_topics,
					  TimestampTz since, const char *detail)
{
	KiHealth   *health = &source->health;
	KiTrouble  *trouble = &health->trouble;

	if (trouble->reason == NULL || strcmp(trouble->reason, reason) != 0)
		trouble->since = since;
	strlcpy(health->detail, detail, sizeof(health->detail));
	trouble->reason = reason;
	trouble->detail = health->detail;
	health->is_topics = is_topics;
}

void
ki_source_clear_trouble(KiSource *source)
{
	KiHealth   *health = &source->health;

	memset(&health->trouble, 0, sizeof(health->trouble));
	health->is_topics = false;
	health->complaint.reason = NULL;
	health->bad_samples = 0;
}

/* --- silence --- */

static KiStatBroker *
find_broker(const KiStats *stats, const KiStatBroker *like)
{
	for (int i = 0; stats != NULL && i < stats->nbrokers; i++)
		if (stats->brokers[i].id == like->id &&
			strcmp(stats->brokers[i].name, like->name) == 0)
			return &stats->brokers[i];
	return NULL;
}

/*
 * How long requests to this broker have been waiting without any answer.
 * The time since the last answer alone would not tell: there may have been
 * nothing to wait for.  Since the last request was sent is a lower bound; when
 * others waited at the sample before and nothing came since, more is known.
 */
static void
measure_silence(const KiStats *before, const KiStats *now,
				KiStatBroker *broker)
{
	const KiStatBroker *was = find_broker(before, broker);

	if (broker->waiting <= 0)
		return;
	if (broker->send_idle_us > 0)
		broker->unanswered_us = broker->receive_idle_us < 0 ?
			broker->send_idle_us :
			Min(broker->send_idle_us, broker->receive_idle_us);
	if (was != NULL && was->waiting > 0 && was->received == broker->received)
		broker->unanswered_us = Max(broker->unanswered_us,
									was->unanswered_us + now->at_us - before->at_us);
}

/* --- the verdict --- */

/* Older statistics may know fewer topics. */
static const KiStatPartition *
find_partition(const KiStats *stats, int topic, int32 partition)
{
	const KiStatPartition *list;

	if (topic >= stats->ntopics)
		return NULL;
	list = &stats->partitions[stats->topics[topic].first];
	for (int i = 0; i < stats->topics[topic].count; i++)
		if (list[i].partition == partition)
			return &list[i];
	return NULL;
}

static const KiStatPartition *
find_stat(const KiSource *source, const KiReading *reading)
{
	return find_partition(source->health.stats, reading->topic,
						  reading->partition);
}

static const KiStatBroker *
find_broker_by_id(const KiStats *stats, int32 id)
{
	for (int i = 0; i < stats->nbrokers; i++)
		if (stats->brokers[i].id == id && stats->brokers[i].is_named)
			return &stats->brokers[i];
	return NULL;
}

/*
 * Is this partition served?  If not, say what is missing, and since when as
 * far as that can be told.  A broker that is connected but silent needs no
 * second look.
 */
static bool
is_served(const KiSource *source, const KiReading *reading, char *what,
		  size_t size, int64 *silent_us)
{
	const KiStats *stats = source->health.stats;
	const KiStatPartition *stat = find_stat(source, reading);
	const KiStatBroker *broker;

	*silent_us = 0;
	if (stat == NULL || stat->is_unknown || stat->broker < 0)
	{
		snprintf(what, size, "Partition %d of topic \"%s\" has no leader",
				 reading->partition, source->topics[reading->topic].name);
		return false;
	}
	broker = find_broker_by_id(stats, stat->broker);
	if (broker == NULL || !broker->is_up)
	{
		snprintf(what, size, "Broker %d is not connected", stat->broker);
		return false;
	}
	if (broker->unanswered_us <=
		(int64) source->fetch_wait_ms * 1000 + ANSWER_LATE_US)
		return true;
	*silent_us = broker->unanswered_us;
	snprintf(what, size, "Broker %.500s has not answered for %.1f seconds",
			 broker->name, broker->unanswered_us / 1e6);
	return false;
}

/* Without partitions to read, any connection will do. */
static bool
is_anyone_up(const KiStats *stats)
{
	for (int i = 0; i < stats->nbrokers; i++)
		if (stats->brokers[i].is_named && stats->brokers[i].is_up)
			return true;
	return false;
}

static void
report_unserved(KiSource *source, const char *what, int64 silent_us)
{
	KiHealth   *health = &source->health;
	const KiComplaint *complaint = &health->complaint;
	char		detail[KI_TEXT_SIZE];

	health->bad_samples++;
	if (silent_us > 0 || complaint->reason == NULL)
		ki_source_clean(source, what, detail, sizeof(detail));
	else
		snprintf(detail, sizeof(detail), "The broker cannot be used: %.900s",
				 complaint->what);

	/* Without a cause it may be a connection that is just being made. */
	if (silent_us > 0 || complaint->reason != NULL || health->bad_samples > 1)
		ki_source_set_trouble(source,
							  silent_us == 0 && complaint->reason != NULL ?
							  complaint->reason : "broker_unreachable", false,
							  health->stats_at - silent_us, detail);
}

static void
judge(KiSource *source)
{
	KiHealth   *health = &source->health;
	char		what[KI_TEXT_SIZE];
	int64		silent_us;

	for (int i = 0; i < source->nreadings; i++)
		if (!is_served(source, &source->readings[i], what, sizeof(what),
					   &silent_us))
		{
			if (!health->is_topics)
				report_unserved(source, what, silent_us);
			return;
		}
	if (source->nreadings == 0 && !is_anyone_up(health->stats))
	{
		if (health->complaint.reason != NULL)
			report_unserved(source, "No broker is connected", 0);
		return;
	}
	if (!health->is_topics)
		ki_source_clear_trouble(source);
}

/* --- progress --- */

/*
 * Is the queue about full, by messages or by bytes?  Then some partitions may
 * have taken all of it.
 */
static bool
has_full_queue(const KiSource *source)
{
	int64		length = rd_kafka_queue_length(source->message_queue);

	return length >= source->queue_messages / 2 ||
		length * source->stock.average >= source->queue_bytes / 2;
}

/*
 * Is the partition asked for again and again, answered, and never got any
 * further although there is more, and room for it?  A record set whose length
 * is damaged looks like that (the library takes it for one that was cut off,
 * for ever), and so would a fetcher that lost its way.
 */
static bool
is_in_vain(const KiSource *source, const KiStats *before,
		   const KiReading *reading, const KiStatPartition *stat)
{
	const KiStatBroker *broker;
	const KiStatBroker *was;

	if (stat == NULL || stat->fetch_offset < 0 ||
		stat->stable_offset <= stat->fetch_offset ||
		stat->fetch_offset != reading->stuck_offset ||
		has_full_queue(source))
		return false;
	broker = find_broker_by_id(source->health.stats, stat->broker);
	was = broker ? find_broker(before, broker) : NULL;
	return was != NULL && broker->received > was->received;
}

static void
watch_progress(KiSource *source, const KiStats *before)
{
	char		detail[KI_TEXT_SIZE];

	for (int i = 0; i < source->nreadings; i++)
	{
		KiReading  *reading = &source->readings[i];
		const KiStatPartition *stat = find_stat(source, reading);

		if (is_in_vain(source, before, reading, stat))
			reading->stuck_samples++;
		else
			reading->stuck_samples = 0;
		reading->stuck_offset = stat ? stat->fetch_offset : -1;
		if (reading->stuck_samples < STUCK_SAMPLES)
			continue;
		snprintf(detail, sizeof(detail),
				 "nothing can be read at offset " INT64_FORMAT
				 " of partition %d, though the log goes on to " INT64_FORMAT,
				 stat->fetch_offset, reading->partition, stat->stable_offset);
		ki_source_block(source, KI_BARRIER_CORRUPT, reading, detail);
	}
}

/* --- what is shown --- */

/* A log that got shorter may be another one. */
static bool
is_shorter(const KiSource *source, const KiReading *reading,
		   const KiStats *before)
{
	const KiStatPartition *stat = find_stat(source, reading);
	const KiStatPartition *was = stat && before ?
	find_partition(before, reading->topic, reading->partition) : NULL;

	return was != NULL && stat->high_offset >= 0 &&
		stat->high_offset < was->high_offset;
}

static void
show_partitions(KiSource *source)
{
	KiHealth   *health = &source->health;

	health->nshown = 0;
	health->shown = palloc0(sizeof(KiPartitionStat) *
							Max(source->nreadings, 1));
	for (int i = 0; i < source->nreadings; i++)
	{
		const KiReading *reading = &source->readings[i];
		const KiStatPartition *stat = find_stat(source, reading);
		KiPartitionStat *shown = &health->shown[health->nshown++];

		shown->topic = source->topics[reading->topic].name;
		shown->partition = reading->partition;
		shown->low_offset = stat ? stat->low_offset : -1;
		shown->stable_offset = stat ? stat->stable_offset : -1;
		shown->high_offset = stat ? stat->high_offset : -1;
	}
}

/* A topic that vanished is trouble, not a topic of no partitions. */
static void
count_partitions(KiSource *source)
{
	const KiStats *stats = source->health.stats;

	for (int t = 0; t < stats->ntopics; t++)
	{
		const KiStatPartition *list = &stats->partitions[stats->topics[t].first];
		int			count = 0;

		for (int i = 0; i < stats->topics[t].count; i++)
			if (!list[i].is_unknown)
				count++;
		if (count > 0)
			source->topics[t].partition_count = count;
	}
}

static KiStats *
parse_stats(const KiSource *source, const char *json, size_t len)
{
	const char **names = palloc(sizeof(char *) * Max(source->ntopics, 1));

	for (int i = 0; i < source->ntopics; i++)
		names[i] = source->topics[i].name;
	return ki_stats_parse(json, len, names, source->ntopics);
}

void
ki_source_take_stats(KiSource *source, const char *json, size_t len)
{
	KiHealth   *health = &source->health;
	MemoryContext old = health->stats_context;
	MemoryContext context;
	MemoryContext before;
	KiStats    *previous = health->stats;
	KiStats    *stats;

	context = AllocSetContextCreate(source->context, "kafka_ingest statistics",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	stats = parse_stats(source, json, len);
	if (stats == NULL)
	{
		MemoryContextSwitchTo(before);
		MemoryContextDelete(context);
		return;
	}
	for (int i = 0; i < stats->nbrokers; i++)
		measure_silence(previous, stats, &stats->brokers[i]);
	health->stats_context = context;
	health->stats = stats;
	health->stats_at = GetCurrentTimestamp();
	for (int i = 0; i < source->nreadings; i++)
		if (is_shorter(source, &source->readings[i], previous))
			source->is_doubtful = true;
	show_partitions(source);
	count_partitions(source);
	watch_progress(source, previous);
	MemoryContextSwitchTo(before);
	if (old != NULL)
		MemoryContextDelete(old);
	judge(source);
}

const KiPartitionStat *
ki_source_stats(const KiSource *source, int *nstats, TimestampTz *at)
{
	*nstats = source->health.nshown;
	*at = source->health.stats_at;
	return source->health.shown;
}

int
ki_source_partition_count(const KiSource *source)
{
	int			count = 0;

	for (int i = 0; i < source->ntopics; i++)
		if (source->topics[i].handle)
			count += source->topics[i].partition_count;
	return count;
}
