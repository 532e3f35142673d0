/*
 * json.c
 *	  The wall around jansson: librdkafka's statistics become plain structs.
 *
 * Rules of this file: it never calls json_object(), since the server exports a
 * function of that name which wins symbol resolution (a crash of the whole
 * server), and it includes neither utils/builtins.h nor fmgrprotos.h, whose
 * prototypes conflict with jansson.h.
 *
 * Memory: the parsed tree is jansson's own (malloc) and hangs on a reset
 * callback of a short-lived context, so an error on the way leaks nothing;
 * the result is palloc'd in the caller's context.
 */
#include "postgres.h"

#include "json.h"

#include <jansson.h>

#include "utils/memutils.h"

static void
free_tree(void *tree)
{
	json_decref(tree);
}

/* An integer field; absent or of another type: the default. */
static int64
integer_field(json_t *object, const char *name, int64 absent)
{
	json_t	   *value = json_object_get(object, name);

	return json_is_integer(value) ? (int64) json_integer_value(value) : absent;
}

/* An offset field: librdkafka's negative placeholders all become -1. */
static int64
offset_field(json_t *object, const char *name)
{
	int64		offset = integer_field(object, name, -1);

	return offset < 0 ? -1 : offset;
}

static int32
number_field(json_t *object, const char *name)
{
	int64		number = integer_field(object, name, -1);

	return number < 0 || number > PG_INT32_MAX ? -1 : (int32) number;
}

static const char *
string_field(json_t *object, const char *name)
{
	const char *string = json_string_value(json_object_get(object, name));

	return string ? string : "";
}

static void
read_broker(json_t *object, KiStatBroker *broker)
{
	const char *source = string_field(object, "source");
	const char *state = string_field(object, "state");

	broker->id = number_field(object, "nodeid");
	broker->name = pstrdup(string_field(object, "name"));
	broker->is_named = strcmp(source, "configured") == 0 ||
		strcmp(source, "learned") == 0;
	broker->is_up = strcmp(state, "UP") == 0 ||
		strcmp(state, "UPDATE") == 0 || strcmp(state, "REAUTH") == 0;
	broker->waiting = integer_field(object, "waitresp_cnt", 0);
	broker->received = integer_field(object, "rx", 0);
	broker->receive_idle_us = integer_field(object, "rxidle", -1);
	broker->send_idle_us = integer_field(object, "txidle", -1);
	broker->unanswered_us = 0;
}

static void
read_brokers(json_t *object, KiStats *stats)
{
	const char *key;
	json_t	   *value;

	stats->brokers = palloc0(sizeof(KiStatBroker) *
							 Max(json_object_size(object), 1));
	json_object_foreach(object, key, value)
		read_broker(value, &stats->brokers[stats->nbrokers++]);
}

/* The one numbered -1 only holds what belongs to no partition: passed over. */
static void
read_partitions(json_t *object, KiStats *stats)
{
	const char *key;
	json_t	   *value;

	stats->partitions = palloc0(sizeof(KiStatPartition) *
								Max(json_object_size(object), 1));
	json_object_foreach(object, key, value)
	{
		KiStatPartition *partition = &stats->partitions[stats->npartitions];

		partition->partition = number_field(value, "partition");
		if (partition->partition < 0)
			continue;
		partition->broker = number_field(value, "broker");
		partition->is_unknown = json_is_true(json_object_get(value, "unknown"));
		partition->fetch_offset = offset_field(value, "next_offset");
		partition->low_offset = offset_field(value, "lo_offset");
		partition->stable_offset = offset_field(value, "ls_offset");
		partition->high_offset = offset_field(value, "hi_offset");
		stats->npartitions++;
	}
}

/*
 * The tree with its owner: a child of the current context, to be deleted.
 * The callback is in place before there is anything to free.
 */
static json_t *
load_tree(const char *json, size_t len, MemoryContext *owner)
{
	MemoryContextCallback *callback;
	json_t	   *tree;

	*owner = AllocSetContextCreate(CurrentMemoryContext, "kafka_ingest json",
								   ALLOCSET_SMALL_SIZES);
	callback = MemoryContextAllocZero(*owner, sizeof(MemoryContextCallback));
	tree = json_loadb(json, len, 0, NULL);
	if (tree != NULL)
	{
		callback->func = free_tree;
		callback->arg = tree;
		MemoryContextRegisterResetCallback(*owner, callback);
	}
	return tree;
}

KiStats *
ki_stats_parse(const char *json, size_t len, const char *topic)
{
	MemoryContext owner;
	KiStats    *stats = NULL;
	json_t	   *tree = load_tree(json, len, &owner);

	if (json_is_object(tree))
	{
		stats = palloc0(sizeof(KiStats));
		stats->at_us = integer_field(tree, "ts", 0);
		read_brokers(json_object_get(tree, "brokers"), stats);
		if (topic != NULL)
		{
			json_t	   *topics = json_object_get(tree, "topics");
			json_t	   *ours = json_object_get(topics, topic);

			read_partitions(json_object_get(ours, "partitions"), stats);
		}
	}
	MemoryContextDelete(owner);
	return stats;
}
