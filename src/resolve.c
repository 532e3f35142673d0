/*
 * resolve.c
 *	  First positions: where partitions start that have none yet.
 *
 * At first contact the pipeline's start becomes numbers, which are stored
 * before the first fetch; partitions that appear later start at 0, in an upsert
 * not before the older ones (late.c).  Any worker may do it for all
 * partitions, one at a time.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "loader_parts.h"
#include "lock.h"
#include "start.h"

#define NETWORK_WAIT_MS 1000

/*
 * What was found: where partitions without a position start, where the older
 * ones of their topics ended, if that counts, and the topics with positions
 * that are not there.
 */
typedef struct Findings
{
	KiStartPoint *points;
	int			npoints;
	KiOffset   *ends;
	int			nends;
	char	   *vanished;
	const char *cluster_id;		/* NULL: not told */
} Findings;

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
 * The chosen partitions without a position, as points.  And the other way
 * round, the topics with positions that are not there.
 */
static void
compare_positions(const KiPipeline *pipeline, List *rows,
				  const KiCluster *cluster, Findings *findings)
{
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
	findings->points = points;
	findings->npoints = n;
	findings->vanished = ki_watch_vanished(rows, pipeline, cluster);
	findings->cluster_id = cluster->cluster_id;
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
store_late_point(const KiPipeline *pipeline, List *rows,
				 const Findings *findings, const KiStartPoint *point)
{
	ki_position_insert(pipeline->id, point->topic, point->partition, 0,
					   ki_late_waits(pipeline, rows, point->topic,
									 findings->ends, findings->nends));
}

static void
store_point(const KiPipeline *pipeline, const KiStartPoint *point)
{
	KiGap		gap = {0};

	ki_position_insert(pipeline->id, point->topic, point->partition,
					   point->offset, NULL);
	if (point->offset <= point->low_offset)
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
note_joined(const KiPipeline *stored, List *rows, const Findings *findings)
{
	const KiStartPoint *points = findings->points;

	for (int i = 0; i < findings->npoints; i++)
		if ((i == 0 || strcmp(points[i].topic, points[i - 1].topic) != 0) &&
			!has_topic(rows, points[i].topic))
			ki_event_insert(stored, "topic_joined",
							psprintf("topic \"%s\" is read from offset 0 on",
									 points[i].topic));
}

/* The group had nothing to take over for some partitions: say which. */
static void
note_uncommitted(const KiPipeline *pipeline, const Findings *findings)
{
	StringInfoData buf;
	bool		is_any = false;

	initStringInfo(&buf);
	appendStringInfo(&buf, "group \"%s\" has committed nothing where these begin at the earliest:",
					 pipeline->start_group ? pipeline->start_group : pipeline->group_id);
	for (int i = 0; i < findings->npoints; i++)
	{
		const KiStartPoint *point = &findings->points[i];

		if (!point->is_uncommitted)
			continue;
		appendStringInfo(&buf, "%s topic \"%s\" partition %d", is_any ? "," : "",
						 point->topic, point->partition);
		is_any = true;
	}
	if (is_any)
		ki_event_insert(pipeline, "start", buf.data);
}

static void
store_points(const KiPipeline *stored, const Findings *findings)
{
	List	   *rows = ki_position_all(stored->id);

	if (stored->resolved)
		note_joined(stored, rows, findings);
	else
		note_uncommitted(stored, findings);
	for (int i = 0; i < findings->npoints; i++)
	{
		const KiStartPoint *point = &findings->points[i];

		if (has_position(rows, point->topic, point->partition))
			continue;
		if (stored->resolved)
			store_late_point(stored, rows, findings, point);
		else
			store_point(stored, point);
	}
}

/*
 * Store what was found, unless the configuration changed or another worker
 * was faster (then its numbers hold).
 */
static KiStep
store(KiLoader *loader, const Findings *findings)
{
	const char *cluster_id = findings->cluster_id;
	char	   *vanished = findings->vanished;
	KiPipeline *stored;
	KiStep		step = KI_STEP_OK;
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, false);
	ki_lock_resolution(loader->pipeline_id);
	stored = ki_pipeline_load(loader->pipeline_id);
	if (!stored || stored->version != loader->pipeline->version)
		step = KI_STEP_RELOAD;
	else
	{
		store_points(stored, findings);
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
	const char *holds = point->stable_offset > point->low_offset ?
	psprintf("holds offsets from " INT64_FORMAT " up to " INT64_FORMAT,
			 point->low_offset, point->stable_offset - 1) :
	psprintf("is empty, its next offset is " INT64_FORMAT, point->stable_offset);

	return ki_loader_stop(loader, "offset_lost",
						  ki_loader_detail(loader, "The pipeline was to start topic \"%s\" partition %d at offset " INT64_FORMAT ", but the partition %s. Use seek() to say where to start.",
										   point->topic, point->partition,
										   point->offset, holds));
}

/* Both are lists in the order of the positions. */
static bool
is_same(const char *vanished, const char *stored)
{
	return strcmp(vanished ? vanished : "", stored ? stored : "") == 0;
}

/* First contact: turn the start into numbers. */
static KiStep
find_points(KiLoader *loader, const KiStart *start, Findings *findings)
{
	for (int i = 0; i < findings->npoints; i++)
	{
		KiStartPoint *point = &findings->points[i];

		CHECK_FOR_INTERRUPTS();
		if (ki_start_resolve(loader->source, start, NETWORK_WAIT_MS,
							 point) != KI_ANSWER_OK)
			return KI_STEP_TROUBLE;
		if (point->offset < point->low_offset ||
			point->offset > point->stable_offset)
			return stop_for_start(loader, point);
	}
	return KI_STEP_OK;
}

static bool
has_new_partition(const Findings *findings, const char *topic)
{
	for (int i = 0; i < findings->npoints; i++)
		if (strcmp(findings->points[i].topic, topic) == 0)
			return true;
	return false;
}

/* New partitions of an upsert: where do the older ones end now? */
static KiStep
find_ends(KiLoader *loader, List *rows, Findings *findings)
{
	const KiPipeline *pipeline = loader->pipeline;
	ListCell   *cell;

	if (!ki_pipeline_is_upsert(pipeline))
		return KI_STEP_OK;
	findings->ends = palloc0((list_length(rows) + 1) * sizeof(KiOffset));
	foreach(cell, rows)
	{
		const KiPosition *at = &((KiPositionRow *) lfirst(cell))->at;
		KiOffset   *end = &findings->ends[findings->nends];
		int64		low_offset;

		if (!ki_pipeline_reads(pipeline, at->topic, at->partition) ||
			!has_new_partition(findings, at->topic))
			continue;
		CHECK_FOR_INTERRUPTS();
		if (ki_source_watermarks(loader->source, at->topic, at->partition,
								 NETWORK_WAIT_MS, &low_offset,
								 &end->offset) != KI_ANSWER_OK)
			return KI_STEP_TROUBLE;
		end->topic = at->topic;
		end->partition = at->partition;
		findings->nends++;
	}
	return KI_STEP_OK;
}

KiStep
ki_resolve_positions(KiLoader *loader, const KiCluster *cluster)
{
	KiPipeline *pipeline = loader->pipeline;
	Findings	findings = {0};
	KiStart		start;
	List	   *rows;
	KiStep		step;
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	MemoryContextSwitchTo(old);
	rows = ki_position_all(pipeline->id);
	start = start_of(pipeline);
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);

	compare_positions(pipeline, rows, cluster, &findings);
	if (ki_watch_bears(loader, cluster, findings.vanished))
		return KI_STEP_TROUBLE;
	if (findings.npoints == 0 && pipeline->resolved &&
		(pipeline->cluster_id || !cluster->cluster_id) &&
		is_same(findings.vanished, pipeline->vanished_topics))
		return KI_STEP_OK;
	step = pipeline->resolved ? find_ends(loader, rows, &findings) :
		find_points(loader, &start, &findings);
	return step == KI_STEP_OK ? store(loader, &findings) : step;
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
