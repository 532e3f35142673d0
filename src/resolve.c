/*
 * resolve.c
 *	  First positions: where partitions start that have none yet.
 *
 * At first contact the pipeline's start becomes numbers, which are stored
 * before the first fetch; partitions that appear later start at 0.  Any worker
 * may do it for all partitions, one at a time.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "loader.h"
#include "lock.h"
#include "start.h"

#define NETWORK_WAIT_MS 1000

static bool
has_position(List *rows, const char *topic, int32 partition)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		KiPositionRow *row = lfirst(cell);

		if (row->at.partition == partition && strcmp(row->at.topic, topic) == 0)
			return true;
	}
	return false;
}

static bool
has_topic(List *rows, const char *topic)
{
	ListCell   *cell;

	foreach(cell, rows)
		if (strcmp(((KiPositionRow *) lfirst(cell))->at.topic, topic) == 0)
		return true;
	return false;
}

/*
 * The chosen partitions without a position, as points; in a transaction.  And
 * the other way round, the topics with positions that are not there.
 */
static KiStartPoint *
missing_positions(const KiPipeline *pipeline, const KiCluster *cluster,
				  int *npoints, char **vanished)
{
	List	   *rows = ki_position_all(pipeline->id);
	KiStartPoint *points = palloc0(sizeof(KiStartPoint) * (cluster->npartitions + 1));
	int			n = 0;

	for (int i = 0; i < cluster->npartitions; i++)
	{
		const char *topic = cluster->partitions[i].topic;
		int32		partition = cluster->partitions[i].partition;

		if (!ki_pipeline_reads(pipeline, topic, partition) ||
			has_position(rows, topic, partition))
			continue;
		points[n].topic = topic;
		points[n++].partition = partition;
	}
	*npoints = n;
	*vanished = ki_watch_vanished(rows, pipeline, cluster);
	return points;
}

static KiStart
start_of(const KiPipeline *pipeline)
{
	KiStart		start = {0};

	start.from = pipeline->start_from;
	start.has_timestamp = pipeline->has_start_timestamp;
	start.timestamp = pipeline->start_timestamp;
	if (pipeline->start_offsets)
		start.offsets = ki_offsets_parse(pipeline->start_offsets, pipeline->topic,
										 "start_offsets", &start.noffsets);
	return start;
}

/* A partition that appeared after first contact starts at 0. */
static void
store_point(const KiPipeline *pipeline, const KiStartPoint *point, bool is_late)
{
	KiGap		gap = {0};

	ki_position_insert(pipeline->id, point->topic, point->partition,
					   is_late ? 0 : point->offset);
	if (is_late || point->offset <= point->low_offset)
		return;
	gap.topic = point->topic;
	gap.partition = point->partition;
	gap.from_offset = point->low_offset;
	gap.to_offset = Min(point->offset, point->stable_offset) - 1;
	gap.reason = "start";
	gap.detail = "The pipeline was told to start behind these messages.";
	if (gap.to_offset >= gap.from_offset)
		ki_gap_insert(pipeline->id, &gap);
}

/*
 * In the transaction that stores the points, before: a topic that has no
 * position yet joins.
 */
static void
note_joined(const KiPipeline *stored, List *rows, const KiStartPoint *points,
			int npoints)
{
	for (int i = 0; i < npoints; i++)
		if ((i == 0 || strcmp(points[i].topic, points[i - 1].topic) != 0) &&
			!has_topic(rows, points[i].topic))
			ki_event_insert(stored, "topic_joined",
							psprintf("topic \"%s\" is read from offset 0 on",
									 points[i].topic));
}

/*
 * Store what was found, unless the configuration changed or another worker
 * was faster (then its numbers hold).
 */
static KiStep
store(KiLoader *loader, const KiStartPoint *points, int npoints,
	  const char *cluster_id, char *vanished)
{
	KiPipeline *stored;
	KiStep		step = KI_STEP_OK;
	List	   *rows;
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, false);
	ki_lock_resolution(loader->pipeline_id);
	stored = ki_pipeline_load(loader->pipeline_id);
	if (!stored || stored->version != loader->pipeline->version)
		step = KI_STEP_RELOAD;
	else
	{
		rows = ki_position_all(stored->id);
		if (stored->resolved)
			note_joined(stored, rows, points, npoints);
		for (int i = 0; i < npoints; i++)
			if (!has_position(rows, points[i].topic, points[i].partition))
				store_point(stored, &points[i], stored->resolved);
		ki_watch_store(stored, vanished);
		stored->resolved = true;
		if (cluster_id && !stored->cluster_id)
			stored->cluster_id = pstrdup(cluster_id);
		ki_pipeline_store(stored, false);
	}
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
	if (step != KI_STEP_OK)
		return step;
	loader->pipeline->resolved = true;
	loader->pipeline->vanished_topics = vanished ?
		MemoryContextStrdup(loader->load_context, vanished) : NULL;
	if (cluster_id && !loader->pipeline->cluster_id)
		loader->pipeline->cluster_id = MemoryContextStrdup(loader->load_context,
														   cluster_id);
	return step;
}

/* start_offsets names a place that is not in the log. */
static KiStep
stop_for_start(KiLoader *loader, const KiStartPoint *point)
{
	return ki_loader_stop(loader, "offset_lost",
						  ki_loader_detail(loader, "The pipeline was to start topic \"%s\" partition %d at offset " INT64_FORMAT ", but the partition holds offsets from " INT64_FORMAT " up to " INT64_FORMAT ". Use seek() to say where to start.",
										   point->topic, point->partition,
										   point->offset, point->low_offset,
										   point->stable_offset - 1));
}

/* Both are lists in the order of the positions. */
static bool
is_same(const char *vanished, const char *stored)
{
	return strcmp(vanished ? vanished : "", stored ? stored : "") == 0;
}

KiStep
ki_resolve_positions(KiLoader *loader, const KiCluster *cluster)
{
	KiPipeline *pipeline = loader->pipeline;
	KiStart		start;
	KiStartPoint *points;
	int			npoints;
	char	   *vanished;
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	MemoryContextSwitchTo(old);
	points = missing_positions(pipeline, cluster, &npoints, &vanished);
	start = start_of(pipeline);
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);

	if (ki_watch_bears(loader, cluster, vanished))
		return KI_STEP_TROUBLE;
	for (int i = 0; i < npoints && !pipeline->resolved; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (ki_start_resolve(loader->source, &start, NETWORK_WAIT_MS,
							 &points[i]) != KI_ANSWER_OK)
			return KI_STEP_TROUBLE;
		if (points[i].offset < points[i].low_offset ||
			points[i].offset > points[i].stable_offset)
			return stop_for_start(loader, &points[i]);
	}
	if (npoints == 0 && pipeline->resolved &&
		(pipeline->cluster_id || !cluster->cluster_id) &&
		is_same(vanished, pipeline->vanished_topics))
		return KI_STEP_OK;
	return store(loader, points, npoints, cluster->cluster_id, vanished);
}

KiStep
ki_resolve_missing_topic(KiLoader *loader, const KiCluster *cluster)
{
	KiStep		step = KI_STEP_OK;

	if (loader->missing_answers++ == 0)
		loader->missing_since = GetCurrentTimestamp();

	/*
	 * Before first contact only "latest" means something else for a topic
	 * that was not there: all of it is new.
	 */
	if (loader->pipeline->resolved ||
		strcmp(loader->pipeline->start_from, "latest") == 0)
		step = ki_resolve_positions(loader, cluster);
	return step == KI_STEP_OK ? KI_STEP_TROUBLE : step;
}
