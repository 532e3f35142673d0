/*
 * stats.c
 *	  librdkafka's statistics, a JSON document, become plain structs.
 *
 * They come once a second for each client, whether anything happens or not, so
 * reading them is most of what an idle worker does: by the list of tokens that
 * jsonb is built from, no tree is made of them.
 *
 * Memory: the tokens live in a context of this file's, which is deleted at the
 * end; the result is palloc'd in the caller's context.
 */
#include "postgres.h"

#include "json_scan.h"
#include "stats.h"
#include "utils/memutils.h"

/* An object of the document; NULL: there is none. */
typedef const KiJsonToken *Object;

/* A field's value; NULL: absent. */
static const KiJsonToken *
find_field(Object object, const char *name)
{
	const KiJsonToken *key = object ? object + 1 : NULL;
	Size		len = strlen(name);

	for (uint32 i = 0; object && i < object->len; i++)
	{
		if (key->len == len && memcmp(key->data, name, len) == 0)
			return key + 1;
		key = ki_json_next_name(key);
	}
	return NULL;
}

/* A field that is an object. */
static Object
object_field(Object object, const char *name)
{
	Object		field = find_field(object, name);

	return field && field->kind == KI_JSON_OBJECT ? field : NULL;
}

/* An integer field; absent or of another type: the default. */
static int64
integer_field(Object object, const char *name, int64 absent)
{
	const KiJsonToken *value = find_field(object, name);
	char		digits[32];

	if (!value || value->kind != KI_JSON_NUMBER || value->len >= sizeof(digits))
		return absent;
	memcpy(digits, value->data, value->len);
	digits[value->len] = '\0';
	return strtoll(digits, NULL, 10);
}

/* An offset field: librdkafka's negative placeholders all become -1. */
static int64
offset_field(Object object, const char *name)
{
	int64		offset = integer_field(object, name, -1);

	return offset < 0 ? -1 : offset;
}

static int32
number_field(Object object, const char *name)
{
	int64		number = integer_field(object, name, -1);

	return number < 0 || number > PG_INT32_MAX ? -1 : (int32) number;
}

static bool
is_string(const KiJsonToken *value, const char *string)
{
	return value && value->kind == KI_JSON_STRING &&
		value->len == strlen(string) &&
		memcmp(value->data, string, value->len) == 0;
}

static char *
string_field(Object object, const char *name)
{
	const KiJsonToken *value = find_field(object, name);
	char	   *string;

	if (!value || value->kind != KI_JSON_STRING)
		return pstrdup("");
	string = palloc(value->len + 1);
	string[ki_json_unescape(value->data, value->len, string)] = '\0';
	return string;
}

static void
read_broker(Object object, KiStats *stats)
{
	KiStatBroker *broker = &stats->brokers[stats->nbrokers++];
	const KiJsonToken *source = find_field(object, "source");
	const KiJsonToken *state = find_field(object, "state");

	broker->id = number_field(object, "nodeid");
	broker->name = string_field(object, "name");
	broker->is_named = is_string(source, "configured") ||
		is_string(source, "learned");
	broker->is_up = is_string(state, "UP") || is_string(state, "UPDATE") ||
		is_string(state, "REAUTH");
	broker->waiting = integer_field(object, "waitresp_cnt", 0);
	broker->received = integer_field(object, "rx", 0);
	broker->receive_idle_us = integer_field(object, "rxidle", -1);
	broker->send_idle_us = integer_field(object, "txidle", -1);
	broker->unanswered_us = 0;
}

/* The one numbered -1 only holds what belongs to no partition: passed over. */
static void
read_partition(Object object, KiStats *stats)
{
	KiStatPartition *partition = &stats->partitions[stats->npartitions];
	const KiJsonToken *unknown = find_field(object, "unknown");

	partition->partition = number_field(object, "partition");
	if (partition->partition < 0)
		return;
	partition->broker = number_field(object, "broker");
	partition->is_unknown = unknown && unknown->kind == KI_JSON_TRUE;
	partition->fetch_offset = offset_field(object, "next_offset");
	partition->low_offset = offset_field(object, "lo_offset");
	partition->stable_offset = offset_field(object, "ls_offset");
	partition->high_offset = offset_field(object, "hi_offset");
	stats->npartitions++;
}

static uint32
field_count(Object object)
{
	return object ? object->len : 0;
}

/* Read every field of an object that is an object itself. */
static void
read_each(Object object, void (*read) (Object, KiStats *), KiStats *stats)
{
	const KiJsonToken *key = object ? object + 1 : NULL;

	for (uint32 i = 0; i < field_count(object); i++)
	{
		if (key[1].kind == KI_JSON_OBJECT)
			read(key + 1, stats);
		key = ki_json_next_name(key);
	}
}

/* The partitions of each topic, one topic after the other. */
static void
read_topics(Object document, const char *const *topics, int ntopics,
			KiStats *stats)
{
	Object		all = object_field(document, "topics");
	Object	   *partitions = palloc(sizeof(Object) * Max(ntopics, 1));
	int			count = 0;

	for (int i = 0; i < ntopics; i++)
	{
		partitions[i] = object_field(object_field(all, topics[i]), "partitions");
		count += field_count(partitions[i]);
	}
	stats->partitions = palloc0(sizeof(KiStatPartition) * Max(count, 1));
	stats->topics = palloc0(sizeof(KiStatTopic) * Max(ntopics, 1));
	stats->ntopics = ntopics;
	for (int i = 0; i < ntopics; i++)
	{
		stats->topics[i].first = stats->npartitions;
		read_each(partitions[i], read_partition, stats);
		stats->topics[i].count = stats->npartitions - stats->topics[i].first;
	}
	pfree(partitions);
}

static KiStats *
read_stats(Object document, const char *const *topics, int ntopics)
{
	KiStats    *stats = palloc0(sizeof(KiStats));
	Object		brokers = object_field(document, "brokers");

	stats->at_us = integer_field(document, "ts", 0);
	stats->brokers = palloc0(sizeof(KiStatBroker) *
							 Max(field_count(brokers), 1));
	read_each(brokers, read_broker, stats);
	read_topics(document, topics, ntopics, stats);
	return stats;
}

KiStats *
ki_stats_parse(const char *json, size_t len, const char *const *topics,
			   int ntopics)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "kafka_ingest json",
												  ALLOCSET_DEFAULT_SIZES);
	KiStats    *stats = NULL;
	Object		document = NULL;

	MemoryContextSwitchTo(scratch);
	if (len <= PG_INT32_MAX)
		document = ki_json_list(ki_json_lister_create(), NULL, json, (int) len);
	MemoryContextSwitchTo(caller);
	if (document && document->kind == KI_JSON_OBJECT)
		stats = read_stats(document, topics, ntopics);
	MemoryContextDelete(scratch);
	return stats;
}
