/*
 * catalog_journal.c
 *	  The tables kafka_ingest.gap and kafka_ingest.event: what was not loaded,
 *	  and who did what.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog.h"

enum
{
	GAP_PIPELINE = 1, GAP_TOPIC, GAP_PARTITION, GAP_FROM_OFFSET,
	GAP_TO_OFFSET, GAP_REASON, GAP_DETAIL, GAP_RECORDED_AT, GAP_RECORDED_BY,
	GAP_NCOLS = GAP_RECORDED_BY
};

enum
{
	EVENT_AT = 1, EVENT_PIPELINE, EVENT_OWNER, EVENT_EVENT, EVENT_DETAIL,
	EVENT_BY,
	EVENT_NCOLS = EVENT_BY
};

static Datum
current_user_text(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
}

static void
insert_row(const char *table, Datum *values, bool *nulls)
{
	Relation	rel = ki_catalog_open(table, RowExclusiveLock);

	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel),
											values, nulls));
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

static bool
is_same_text(Datum value, bool isnull, const char *other)
{
	if (isnull || !other)
		return isnull && !other;
	return strcmp(TextDatumGetCString(value), other) == 0;
}

/* Is a row about the same topic, for the same reason, with the same detail? */
static bool
is_alike(const Datum *values, const bool *nulls, const KiGap *gap)
{
	return is_same_text(values[GAP_TOPIC - 1], false, gap->topic) &&
		is_same_text(values[GAP_REASON - 1], false, gap->reason) &&
		is_same_text(values[GAP_DETAIL - 1], nulls[GAP_DETAIL - 1], gap->detail);
}

/* The gaps of a partition that begin before or right behind this one. */
static SysScanDesc
scan_neighbours(Relation rel, Relation index, int32 pipeline,
				const KiGap *gap)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], GAP_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	ScanKeyInit(&keys[1], GAP_PARTITION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(gap->partition));
	ScanKeyInit(&keys[2], GAP_FROM_OFFSET, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(gap->to_offset + 1));
	return systable_beginscan_ordered(rel, index, NULL, 3, keys);
}

/*
 * Take over the rows that the gap touches: it grows by them, and they go.
 * Alike rows never touch each other, so seen from the end the first one that
 * is too far away is the last to look at.  The tables of SQL version 0.2.0
 * have no index to look by; there the rows stay beside each other.
 */
static void
absorb_neighbours(int32 pipeline, KiGap *gap)
{
	Oid			index_id = ki_catalog_find("gap_place");
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(index_id))
		return;
	rel = ki_catalog_open("gap", RowExclusiveLock);
	index = index_open(index_id, AccessShareLock);
	scan = scan_neighbours(rel, index, pipeline, gap);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan,
															 BackwardScanDirection)))
	{
		Datum		values[GAP_NCOLS];
		bool		nulls[GAP_NCOLS];
		int64		from;
		int64		to;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		if (!is_alike(values, nulls, gap))
			continue;
		from = DatumGetInt64(values[GAP_FROM_OFFSET - 1]);
		to = DatumGetInt64(values[GAP_TO_OFFSET - 1]);
		if (to < gap->from_offset - 1)
			break;
		gap->from_offset = Min(gap->from_offset, from);
		gap->to_offset = Max(gap->to_offset, to);
		CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, RowExclusiveLock);
}

void
ki_gap_insert(int32 pipeline, const KiGap *given)
{
	KiGap		grown = *given;
	const KiGap *gap = &grown;
	Datum		values[GAP_NCOLS];
	bool		nulls[GAP_NCOLS] = {false};

	absorb_neighbours(pipeline, &grown);
	values[GAP_PIPELINE - 1] = Int32GetDatum(pipeline);
	values[GAP_TOPIC - 1] = CStringGetTextDatum(gap->topic);
	values[GAP_PARTITION - 1] = Int32GetDatum(gap->partition);
	values[GAP_FROM_OFFSET - 1] = Int64GetDatum(gap->from_offset);
	values[GAP_TO_OFFSET - 1] = Int64GetDatum(gap->to_offset);
	values[GAP_REASON - 1] = CStringGetTextDatum(gap->reason);
	values[GAP_DETAIL - 1] = ki_text_or_null(gap->detail, &nulls[GAP_DETAIL - 1]);
	values[GAP_RECORDED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[GAP_RECORDED_BY - 1] = current_user_text();
	insert_row("gap", values, nulls);
}

/* Visit the gaps of a pipeline: count them, and delete them if asked to. */
static int64
scan_gaps(int32 pipeline, bool deletes)
{
	Relation	rel = ki_catalog_open("gap", RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		count = 0;

	ScanKeyInit(&key, GAP_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	scan = systable_beginscan(rel, ki_catalog_relation_id("gap_pipeline"),
							  true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		count++;
		if (deletes)
			CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	return count;
}

int64
ki_gap_count(int32 pipeline)
{
	return scan_gaps(pipeline, false);
}

void
ki_gap_delete_all(int32 pipeline)
{
	(void) scan_gaps(pipeline, true);
	CommandCounterIncrement();
}

void
ki_event_insert(const KiPipeline *pipeline, const char *event,
				const char *detail)
{
	Datum		values[EVENT_NCOLS];
	bool		nulls[EVENT_NCOLS] = {false};

	values[EVENT_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[EVENT_PIPELINE - 1] = CStringGetTextDatum(pipeline->name);
	values[EVENT_OWNER - 1] = ObjectIdGetDatum(pipeline->owner);
	values[EVENT_EVENT - 1] = CStringGetTextDatum(event);
	values[EVENT_DETAIL - 1] = ki_text_or_null(detail, &nulls[EVENT_DETAIL - 1]);
	values[EVENT_BY - 1] = current_user_text();
	insert_row("event", values, nulls);
}
