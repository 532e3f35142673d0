/*
 * report.c
 *	  What one batch was, for recent_batches and the rates in status.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "loader_parts.h"

/* Where the name of a topic is kept, at the end if need be; -1: no room. */
static int
find_topic(KiBatchReport *report, const char *topic)
{
	int			at = 0;

	while (at < report->topics_len)
	{
		if (strcmp(report->topics + at, topic) == 0)
			return at;
		at += strlen(report->topics + at) + 1;
	}
	if (at + strlen(topic) + 1 > KI_BATCH_TOPICS)
		return -1;
	strcpy(report->topics + at, topic);
	report->topics_len = at + strlen(topic) + 1;
	return at;
}

/* The range of a partition, a new one if need be; NULL: too many. */
static KiBatchRange *
find_range(KiBatchReport *report, const KiRun *run)
{
	int			topic = find_topic(report, run->topic);
	int			k;

	for (k = 0; k < report->nranges; k++)
		if (report->ranges[k].partition == run->partition &&
			report->ranges[k].topic == topic)
			return &report->ranges[k];
	if (k == KI_BATCH_PARTITIONS || topic < 0)
		return NULL;
	report->nranges++;
	report->ranges[k].topic = topic;
	report->ranges[k].partition = run->partition;
	report->ranges[k].first_offset = run->first_offset;
	return &report->ranges[k];
}

/* Bytes of the messages [first, end). */
static int64
count_bytes(const KiMessages *messages, int first, int end)
{
	int64		bytes = 0;

	for (int i = first; i < end; i++)
		bytes += messages->items[i].key_len + messages->items[i].value_len;
	return bytes;
}

/* The span of the report's timestamps has this message's, if there is one. */
static void
widen_span(KiBatchReport *report, const KiMessage *message)
{
	int64		ms = message->timestamp_ms;

	if (ms < 0)
		return;
	if (report->first_timestamp_ms < 0 || ms < report->first_timestamp_ms)
		report->first_timestamp_ms = ms;
	report->last_timestamp_ms = Max(report->last_timestamp_ms, ms);
}

/* Messages of several partitions are not in the order of their timestamps. */
static void
report_ranges(const KiMessages *messages, int applied, KiBatchReport *report)
{
	report->first_timestamp_ms = report->last_timestamp_ms = -1;
	for (int i = 0; i < messages->nruns; i++)
	{
		const KiRun *run = &messages->runs[i];
		int			end = Min(run->first + run->count, applied);
		KiBatchRange *range;

		if (end <= run->first)
			break;
		range = find_range(report, run);
		if (range)
			range->last_offset = messages->items[end - 1].offset;
		widen_span(report, &messages->items[run->first]);
		widen_span(report, &messages->items[end - 1]);
		report->bytes += end == run->first + run->count ? run->bytes :
			count_bytes(messages, run->first, end);
	}
}

void
ki_loader_report(const KiLoader *loader, const KiBatchResult *result,
				 const char *end_reason, TimestampTz started)
{
	static KiBatchReport batch;
	const KiMessages *messages = loader->messages;

	memset(&batch, 0, sizeof(batch));
	batch.pid = MyProcPid;
	batch.finished_at = GetCurrentTimestamp();
	report_ranges(messages, result->applied, &batch);
	batch.messages = result->applied;
	batch.loaded = result->loaded;
	batch.dead_letters = result->dead_letters;
	if (result->applied > 0)
		batch.collect_ms = (started - loader->first_at) / 1000.0;
	batch.apply_ms = result->apply_ms;
	batch.decode_ms = result->decode_ms;
	batch.map_ms = result->map_ms;
	batch.commit_ms = result->commit_ms;
	strlcpy(batch.end_reason, end_reason, sizeof(batch.end_reason));
	ki_slot_report_batch(&batch);
}
