/*
 * open.c
 *	  Opening a pipeline's source: reach the broker, compare what is stored with
 *	  what the log holds, assign.
 *
 * Nothing is fetched before every position was found in the log's range: a
 * position that is not there stops the pipeline with the numbers, or is moved
 * as its owner chose, since what is missing was lost or belongs to another
 * topic.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "loader_parts.h"
#include "settings.h"

#define NETWORK_WAIT_MS 1000	/* longest single wait for an answer */

/*
 * The group of the client.  At first contact it is the one whose offsets are
 * to be taken over, which is asked in its own name.
 */
static const char *
group_of(KiLoader *loader)
{
	const KiPipeline *pipeline = loader->pipeline;

	loader->has_start_group = !pipeline->resolved && pipeline->start_group &&
		strcmp(pipeline->start_from, "committed") == 0;
	if (loader->has_start_group)
		return pipeline->start_group;
	return pipeline->group_id[0] ? pipeline->group_id : "kafka_ingest";
}

static void
create_source(KiLoader *loader)
{
	MemoryContext old = MemoryContextSwitchTo(loader->load_context);
	KiSourceOptions options = {0};

	options.connection = loader->connection;
	options.topics = loader->pipeline->topic;
	options.group_id = group_of(loader);
	options.memory_bytes = (int64) ki_setting_worker_memory_kb * 1024;
	options.npartitions = loader->npositions;
	options.want_headers = loader->wants_headers;
	loader->source = ki_source_create(&options);
	MemoryContextSwitchTo(old);
}

/*
 * Compare a position with what the log holds.  Positions beyond its end stop
 * the pipeline, with the numbers.
 */
static KiStep
check_position(KiLoader *loader, KiPosition *position, bool *check_last,
			   int64 *stable_offset)
{
	int64		low;
	int64		stable;
	KiAnswer	answer = ki_source_watermarks(loader->source, position->topic,
											  position->partition,
											  NETWORK_WAIT_MS, &low, &stable);

	if (answer == KI_ANSWER_MISSING && loader->missing_answers++ == 0)
		loader->missing_since = GetCurrentTimestamp();
	if (answer != KI_ANSWER_OK)
		return KI_STEP_TROUBLE;
	if (position->next_offset < low)
	{
		KiStep		step = ki_loader_meet_loss(loader, position, low, stable);

		if (step != KI_STEP_OK)
			return step;
	}
	if (position->next_offset > stable)
		return ki_loader_stop(loader, "topic_recreated",
							  ki_loader_detail(loader, "Topic \"%s\" partition %d ends at offset " INT64_FORMAT ", before the next one to read, " INT64_FORMAT ": the topic was made again or cut off. Use seek() to say where to go on.",
											   position->topic, position->partition,
											   stable, position->next_offset));
	*check_last = position->last_offset >= low;
	*stable_offset = stable;
	return KI_STEP_OK;
}

static KiStep
assign(KiLoader *loader)
{
	bool	   *check_last = palloc0((loader->npositions + 1) * sizeof(bool));

	for (int i = 0; i < loader->npositions; i++)
	{
		KiStep		step;

		CHECK_FOR_INTERRUPTS();
		loader->ends[i] = -1;
		step = check_position(loader, &loader->positions[i], &check_last[i],
							  &loader->stable_offsets[i]);
		if (step != KI_STEP_OK)
			return step;
	}
	ki_source_assign(loader->source, loader->positions, check_last,
					 loader->npositions);
	loader->is_open = true;
	ki_publish_begin(loader);
	loader->idle_since = GetCurrentTimestamp();
	return KI_STEP_OK;
}

static KiStep
check_cluster(KiLoader *loader, const KiCluster *cluster)
{
	const char *expected = loader->pipeline->cluster_id;

	if (expected && cluster->cluster_id &&
		strcmp(expected, cluster->cluster_id) != 0)
		return ki_loader_stop(loader, "topic_recreated",
							  ki_loader_detail(loader, "Connection \"%s\" now leads to Kafka cluster %s, and the positions belong to cluster %s. Use seek() to say where to go on.",
											   loader->connection->name,
											   cluster->cluster_id, expected));
	return KI_STEP_OK;
}

/* Read the positions again, which opening has added to. */
static void
reload_positions(KiLoader *loader)
{
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	MemoryContextSwitchTo(old);
	ki_loader_read_positions(loader);
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
}

/* One attempt; what it allocates may be forgotten afterwards. */
static KiStep
try_open(KiLoader *loader)
{
	KiCluster	cluster = {0};
	KiAnswer	answer;
	KiStep		step;

	ki_source_serve(loader->source);
	answer = ki_source_cluster(loader->source, NETWORK_WAIT_MS, &cluster);
	if (answer == KI_ANSWER_MISSING)
		return ki_resolve_missing_topic(loader, &cluster);
	if (answer != KI_ANSWER_OK)
	{
		loader->missing_answers = 0;
		return KI_STEP_TROUBLE;
	}
	loader->npartitions = ki_source_partition_count(loader->source);
	ki_watch_note_missing(loader, &cluster);
	step = check_cluster(loader, &cluster);
	if (step == KI_STEP_OK)
		step = ki_resolve_positions(loader, &cluster);
	if (step != KI_STEP_OK)
		return step;
	loader->missing_answers = 0;
	if (loader->has_start_group)
		return KI_STEP_RELOAD;	/* it has served, ours comes now */
	reload_positions(loader);
	step = ki_late_release(loader);
	if (step == KI_STEP_RELOAD)
		return step;
	if (step == KI_STEP_OK)
		reload_positions(loader);
	if (loader->npositions > ki_source_shares(loader->source))
		return KI_STEP_RELOAD;	/* with room for all of them */
	ki_watch_opened(loader, &cluster);
	return assign(loader);
}

KiStep
ki_loader_open(KiLoader *loader)
{
	MemoryContext attempt;
	MemoryContext old;
	KiStep		step;

	loader->phase = KI_PHASE_CONNECTION;
	if (!loader->source)
		create_source(loader);
	attempt = AllocSetContextCreate(loader->load_context, "kafka_ingest opening",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(attempt);
	step = try_open(loader);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(attempt);
	return step;
}
