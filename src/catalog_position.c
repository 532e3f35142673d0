/*
 * catalog_position.c
 *	  The table kafka_ingest.position: the only place there is.
 *
 * A batch first locks each row it will move and compares it with what it
 * expects (ki_position_lock), then writes the target, then swaps in the new
 * place (ki_position_advance): a compare-and-swap spread over the transaction,
 * safe since the row stays locked in between.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "topics.h"

/* Columns of kafka_ingest.position. */
enum
{
	COL_PIPELINE = 1, COL_TOPIC, COL_PARTITION, COL_NEXT_OFFSET, COL_MESSAGES,
	COL_LOADED, COL_FILTERED, COL_IGNORED, COL_DEAD_LETTERS, COL_LAST_OFFSET,
	COL_LAST_TIMESTAMP, COL_LAST_CRC, COL_COMMITTED_AT,
	COL_WAITS_FOR,				/* from 0.3.0 on */
	NCOLS = COL_WAITS_FOR
};

typedef struct Row
{
	Datum		values[NCOLS + 1];	/* from 1, as attribute numbers */
	bool		nulls[NCOLS + 1];
} Row;

#define EPOCH_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY / 1000)

int64
ki_time_to_ms(TimestampTz at)
{
	return at / 1000 + EPOCH_MS;
}

bool
ki_time_from_ms(int64 timestamp_ms, TimestampTz *at)
{
	*at = 0;
	return timestamp_ms != -1 &&
		!pg_mul_s64_overflow(timestamp_ms - EPOCH_MS, 1000, at) &&
		IS_VALID_TIMESTAMP(*at);
}

static int64
row_int64(const Row *row, int col, int64 if_null)
{
	return row->nulls[col] ? if_null : DatumGetInt64(row->values[col]);
}

static KiPositionRow *
position_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	KiPositionRow *position = palloc0(sizeof(KiPositionRow));
	Row			row;

	/* The tables of SQL version 0.2.0 end before waits_for. */
	row.nulls[COL_WAITS_FOR] = true;
	heap_deform_tuple(tuple, desc, row.values + 1, row.nulls + 1);
	position->tid = tuple->t_self;
	position->at.topic = TextDatumGetCString(row.values[COL_TOPIC]);
	position->at.partition = DatumGetInt32(row.values[COL_PARTITION]);
	position->at.next_offset = DatumGetInt64(row.values[COL_NEXT_OFFSET]);
	position->at.last_offset = row_int64(&row, COL_LAST_OFFSET, -1);
	position->at.last_crc = (uint32) row_int64(&row, COL_LAST_CRC, 0);
	position->at.last_timestamp_ms = row.nulls[COL_LAST_TIMESTAMP] ? -1 :
		ki_time_to_ms(DatumGetTimestampTz(row.values[COL_LAST_TIMESTAMP]));
	position->messages = DatumGetInt64(row.values[COL_MESSAGES]);
	position->loaded = DatumGetInt64(row.values[COL_LOADED]);
	position->filtered = DatumGetInt64(row.values[COL_FILTERED]);
	position->ignored = DatumGetInt64(row.values[COL_IGNORED]);
	position->dead_letters = DatumGetInt64(row.values[COL_DEAD_LETTERS]);
	position->committed_at = row_int64(&row, COL_COMMITTED_AT, 0);
	if (!row.nulls[COL_WAITS_FOR])
		position->waits_for = DatumGetJsonbPCopy(row.values[COL_WAITS_FOR]);
	return position;
}

/* Rows of a pipeline; with a topic, only that topic and partition. */
static List *
scan_positions(Relation rel, int32 pipeline, const char *topic, int32 partition)
{
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	ScanKeyInit(&keys[0], COL_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	if (topic)
	{
		ScanKeyInit(&keys[1], COL_TOPIC, BTEqualStrategyNumber, F_TEXTEQ,
					CStringGetTextDatum(topic));
		ScanKeyInit(&keys[2], COL_PARTITION, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(partition));
	}
	scan = systable_beginscan(rel, ki_catalog_relation_id("position_pkey"),
							  true, NULL, topic ? 3 : 1, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, position_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	return rows;
}

List *
ki_position_all(int32 pipeline)
{
	Relation	rel = ki_catalog_open("position", AccessShareLock);
	List	   *rows = scan_positions(rel, pipeline, NULL, 0);

	table_close(rel, AccessShareLock);
	return rows;
}

KiPositionRow *
ki_position_find(int32 pipeline, const char *topic, int32 partition)
{
	Relation	rel = ki_catalog_open("position", AccessShareLock);
	List	   *rows = scan_positions(rel, pipeline, topic, partition);

	table_close(rel, AccessShareLock);
	return rows == NIL ? NULL : linitial(rows);
}

/* Wait for and lock the very row version at tid; false: it was changed. */
static bool
lock_tuple(Relation rel, ItemPointer tid)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_lock(rel, tid, snapshot, slot, GetCurrentCommandId(true),
							  LockTupleNoKeyExclusive, LockWaitBlock, 0,
							  &failure);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return result == TM_Ok;
}

KiPositionRow *
ki_position_lock(int32 pipeline, const KiPosition *expected)
{
	Relation	rel = ki_catalog_open("position", RowExclusiveLock);
	List	   *rows = scan_positions(rel, pipeline, expected->topic,
									  expected->partition);
	KiPositionRow *row = rows == NIL ? NULL : linitial(rows);

	if (row && (row->at.next_offset != expected->next_offset ||
				!lock_tuple(rel, &row->tid)))
		row = NULL;
	table_close(rel, RowExclusiveLock);
	return row;
}

/* Replace these columns of the row at tid. */
static void
update_row(Relation rel, int32 pipeline, const KiPositionRow *old, Row *row,
		   bool *replaces)
{
	TupleDesc	desc = RelationGetDescr(rel);
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], COL_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	ScanKeyInit(&keys[1], COL_TOPIC, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(old->at.topic));
	ScanKeyInit(&keys[2], COL_PARTITION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(old->at.partition));
	scan = systable_beginscan(rel, ki_catalog_relation_id("position_pkey"),
							  true, NULL, 3, keys);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple) ||
		!ItemPointerEquals(&tuple->t_self, (ItemPointer) &old->tid))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("position of topic \"%s\" partition %d was changed under its lock",
						old->at.topic, old->at.partition)));
	tuple = heap_modify_tuple(tuple, desc, row->values + 1, row->nulls + 1,
							  replaces + 1);
	systable_endscan(scan);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
}

/* Set a column to be replaced. */
static void
put(Row *row, bool *replaces, int col, Datum value, bool isnull)
{
	row->values[col] = value;
	row->nulls[col] = isnull;
	replaces[col] = true;
}

static void
put_last(Row *row, bool *replaces, const KiAdvance *advance)
{
	TimestampTz at = 0;
	bool		is_known = ki_time_from_ms(advance->last_timestamp_ms, &at);

	put(row, replaces, COL_LAST_OFFSET,
		Int64GetDatum(advance->last_offset), false);
	put(row, replaces, COL_LAST_TIMESTAMP, TimestampTzGetDatum(at), !is_known);
	put(row, replaces, COL_LAST_CRC, Int64GetDatum(advance->last_crc), false);
}

void
ki_position_advance(int32 pipeline, const KiAdvance *advance)
{
	Relation	rel = ki_catalog_open("position", RowExclusiveLock);
	const KiPositionRow *old = advance->row;
	Row			row;
	bool		replaces[NCOLS + 1] = {false};

	Assert(advance->next_offset >= old->at.next_offset);
	put(&row, replaces, COL_NEXT_OFFSET,
		Int64GetDatum(advance->next_offset), false);
	put(&row, replaces, COL_MESSAGES,
		Int64GetDatum(old->messages + advance->messages), false);
	put(&row, replaces, COL_LOADED,
		Int64GetDatum(old->loaded + advance->loaded), false);
	put(&row, replaces, COL_FILTERED,
		Int64GetDatum(old->filtered + advance->filtered), false);
	put(&row, replaces, COL_IGNORED,
		Int64GetDatum(old->ignored + advance->ignored), false);
	put(&row, replaces, COL_DEAD_LETTERS,
		Int64GetDatum(old->dead_letters + advance->dead_letters), false);
	if (advance->last_offset >= 0)
		put_last(&row, replaces, advance);
	put(&row, replaces, COL_COMMITTED_AT,
		TimestampTzGetDatum(GetCurrentTimestamp()), false);
	update_row(rel, pipeline, old, &row, replaces);
	table_close(rel, RowExclusiveLock);
}

void
ki_position_insert(int32 pipeline, const char *topic, int32 partition,
				   int64 next_offset, Jsonb *waits_for)
{
	Relation	rel = ki_catalog_open("position", RowExclusiveLock);
	Row			row;

	memset(&row, 0, sizeof(row));
	row.values[COL_PIPELINE] = Int32GetDatum(pipeline);
	row.values[COL_TOPIC] = CStringGetTextDatum(topic);
	row.values[COL_PARTITION] = Int32GetDatum(partition);
	row.values[COL_NEXT_OFFSET] = Int64GetDatum(next_offset);
	row.nulls[COL_LAST_OFFSET] = true;
	row.nulls[COL_LAST_TIMESTAMP] = true;
	row.nulls[COL_LAST_CRC] = true;
	row.nulls[COL_COMMITTED_AT] = true;
	row.values[COL_WAITS_FOR] = PointerGetDatum(waits_for);
	row.nulls[COL_WAITS_FOR] = waits_for == NULL;
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel),
											row.values + 1, row.nulls + 1));
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

void
ki_position_move(int32 pipeline, const char *topic, int32 partition,
				 int64 next_offset)
{
	KiPositionRow *old = ki_position_find(pipeline, topic, partition);
	Relation	rel;
	Row			row;
	bool		replaces[NCOLS + 1] = {false};

	if (!old)
	{
		ki_position_insert(pipeline, topic, partition, next_offset, NULL);
		return;
	}
	rel = ki_catalog_open("position", RowExclusiveLock);
	put(&row, replaces, COL_NEXT_OFFSET, Int64GetDatum(next_offset), false);
	put(&row, replaces, COL_LAST_OFFSET, (Datum) 0, true);
	put(&row, replaces, COL_LAST_CRC, (Datum) 0, true);
	put(&row, replaces, COL_WAITS_FOR, (Datum) 0, true);
	update_row(rel, pipeline, old, &row, replaces);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

void
ki_position_release(int32 pipeline, const KiPositionRow *row)
{
	Relation	rel = ki_catalog_open("position", RowExclusiveLock);
	Row			changed;
	bool		replaces[NCOLS + 1] = {false};

	put(&changed, replaces, COL_WAITS_FOR, (Datum) 0, true);
	update_row(rel, pipeline, row, &changed, replaces);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

bool
ki_position_delete_others(int32 pipeline, const char *topics)
{
	Relation	rel = ki_catalog_open("position", RowExclusiveLock);
	bool		any = false;
	ListCell   *cell;

	foreach(cell, scan_positions(rel, pipeline, NULL, 0))
	{
		KiPositionRow *row = lfirst(cell);

		if (topics && ki_topics_match(topics, row->at.topic))
			continue;
		CatalogTupleDelete(rel, &row->tid);
		any = true;
	}
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
	return any;
}
