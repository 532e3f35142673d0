/*
 * late.c
 *	  Partitions that were added to a topic later wait for the older ones.
 *
 * When a topic gets partitions, keys move: what is in the new one is newer
 * than what the old ones held at that moment, and in an upsert must be applied
 * after it.  So the row of a late partition's position keeps where the older
 * ones ended when it was found; it is not read before their positions stand
 * there.  All workers see that in the table, whoever reads the older ones.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "loader_parts.h"
#include "lock.h"

#define LOOK_MS 1000

static const KiPositionRow *
find_row(List *rows, const char *topic, int32 partition)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		const KiPositionRow *row = lfirst(cell);

		if (row->at.partition == partition && strcmp(row->at.topic, topic) == 0)
			return row;
	}
	return NULL;
}

/* What is not read cannot be waited for. */
static bool
has_reached(const KiPipeline *pipeline, List *rows, const KiOffset *end)
{
	const KiPositionRow *row = find_row(rows, end->topic, end->partition);

	return !row || !ki_pipeline_reads(pipeline, end->topic, end->partition) ||
		row->at.next_offset >= end->offset;
}

Jsonb *
ki_late_waits(const KiPipeline *pipeline, List *rows, const char *topic,
			  const KiOffset *ends, int nends)
{
	StringInfoData buf;
	int			n = 0;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"%s\": {", topic);
	for (int i = 0; i < nends; i++)
		if (strcmp(ends[i].topic, topic) == 0 &&
			!has_reached(pipeline, rows, &ends[i]))
			appendStringInfo(&buf, "%s\"%d\": " INT64_FORMAT, n++ ? ", " : "",
							 ends[i].partition, ends[i].offset);
	appendStringInfoString(&buf, "}}");
	if (n == 0)
		return NULL;
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(buf.data)));
}

/* May a waiting partition be read by now? */
static bool
is_over(const KiPipeline *pipeline, List *rows, const KiPositionRow *row)
{
	int			nends;
	KiOffset   *ends;

	if (!ki_pipeline_is_upsert(pipeline))
		return true;			/* the mode was changed meanwhile */
	ends = ki_offsets_parse(row->waits_for, row->at.topic, "waits_for", &nends);
	for (int i = 0; i < nends; i++)
		if (!has_reached(pipeline, rows, &ends[i]))
			return false;
	return true;
}

/* The waiting partitions of this worker that may be read; of the rows. */
static List *
find_over(const KiLoader *loader, List *rows)
{
	List	   *over = NIL;
	ListCell   *cell;

	foreach(cell, rows)
	{
		KiPositionRow *row = lfirst(cell);

		if (row->waits_for && ki_loader_is_mine(loader, &row->at) &&
			is_over(loader->pipeline, rows, row))
			over = lappend(over, row);
	}
	return over;
}

KiStep
ki_late_release(KiLoader *loader)
{
	MemoryContext old = CurrentMemoryContext;
	bool		is_mine;
	ListCell   *cell;

	if (loader->nwaiting == 0)
		return KI_STEP_NOTHING;
	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, false);
	ki_lock_resolution(loader->pipeline_id);
	is_mine = ki_pipeline_version(loader->pipeline_id) == loader->pipeline->version;
	if (is_mine)
		foreach(cell, find_over(loader, ki_position_all(loader->pipeline_id)))
			ki_position_release(loader->pipeline_id, lfirst(cell));
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
	return is_mine ? KI_STEP_OK : KI_STEP_RELOAD;
}

bool
ki_late_is_over(KiLoader *loader)
{
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old = CurrentMemoryContext;
	bool		is_over;

	if (loader->nwaiting == 0 ||
		!TimestampDifferenceExceeds(loader->waited_at, now, LOOK_MS))
		return false;
	loader->waited_at = now;
	ki_transaction_begin(loader->transaction);
	is_over = find_over(loader, ki_position_all(loader->pipeline_id)) != NIL;
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
	return is_over;
}

long
ki_late_wait_ms(const KiLoader *loader)
{
	return loader->nwaiting > 0 ? LOOK_MS : LONG_MAX;
}
