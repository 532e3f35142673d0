/*
 * catalog.c
 *	  The ground of our tables, and the table kafka_ingest.pipeline.
 *
 * Reads use a fresh snapshot whatever the isolation level of the caller: a
 * version that was changed by a committed transaction must be seen.  Results
 * live in the current memory context.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "catalog.h"
#include "settings.h"
#include "topics.h"

/* Columns of kafka_ingest.pipeline. */
enum
{
	COL_ID = 1, COL_NAME, COL_VERSION, COL_OWNER, COL_OWNER_NAME,
	COL_CONNECTION, COL_TOPIC, COL_TARGET, COL_TARGET_SCHEMA,
	COL_TARGET_NAME, COL_FORMAT, COL_KEY_FORMAT, COL_COLUMNS,
	COL_ON_TOMBSTONE, COL_ON_MISSING, COL_ON_ERROR, COL_MAX_ERROR_RATIO,
	COL_START_FROM, COL_START_TIMESTAMP, COL_START_OFFSETS, COL_PARTITIONS,
	COL_WORKERS, COL_BATCH_MAX_MESSAGES, COL_BATCH_MAX_MS, COL_SEARCH_PATH,
	COL_GROUP_ID, COL_PROPERTIES, COL_PAUSED, COL_RESOLVED, COL_CLUSTER_ID,
	COL_STOP_REASON, COL_STOP_DETAIL, COL_STOP_AT, COL_GUARD_TOKEN,
	COL_GUARD_DATABASE, COL_GUARD_SITE, COL_CREATED_AT, COL_CHANGED_AT,
	/* from 0.3.0 on */
	COL_STATEMENT, COL_FILTER, COL_MODE, COL_KEY_COLUMNS, COL_NEWER_BY,
	COL_DELETE_WHEN, COL_START_GROUP, COL_ON_OFFSET_LOST,
	COL_MAX_MESSAGES_PER_SECOND, COL_VANISHED_TOPICS,
	NCOLS = COL_VANISHED_TOPICS
};


/* One row taken apart. */
typedef struct Row
{
	Datum		values[NCOLS + 1];	/* from 1, as attribute numbers */
	bool		nulls[NCOLS + 1];
} Row;

/* ------------------------------------------------------------------------
 * Ground
 * ------------------------------------------------------------------------
 */
Oid
ki_catalog_find(const char *name)
{
	Oid			schema = get_namespace_oid(KI_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

Oid
ki_catalog_relation_id(const char *name)
{
	Oid			relid = ki_catalog_find(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s.%s\" does not exist", KI_SCHEMA, name),
				 errhint("Use CREATE EXTENSION kafka_ingest.")));
	return relid;
}

bool
ki_catalog_is_installed(void)
{
	return OidIsValid(get_extension_oid("kafka_ingest", true)) &&
		OidIsValid(ki_catalog_find("position"));
}

Relation
ki_catalog_open(const char *name, LOCKMODE mode)
{
	return table_open(ki_catalog_relation_id(name), mode);
}

int64
ki_catalog_next(const char *sequence)
{
	return nextval_internal(ki_catalog_relation_id(sequence), false);
}

Datum
ki_text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

/* ------------------------------------------------------------------------
 * Row to struct
 * ------------------------------------------------------------------------
 */
static char *
row_text(const Row *row, int col)
{
	return row->nulls[col] ? NULL : TextDatumGetCString(row->values[col]);
}

static Jsonb *
row_jsonb(const Row *row, int col)
{
	return row->nulls[col] ? NULL : DatumGetJsonbPCopy(row->values[col]);
}

static ArrayType *
row_array(const Row *row, int col)
{
	return row->nulls[col] ? NULL : DatumGetArrayTypePCopy(row->values[col]);
}

static TimestampTz
row_time(const Row *row, int col)
{
	return row->nulls[col] ? 0 : DatumGetTimestampTz(row->values[col]);
}

static void
load_start(KiPipeline *pipeline, const Row *row)
{
	pipeline->start_from = row_text(row, COL_START_FROM);
	pipeline->has_start_timestamp = !row->nulls[COL_START_TIMESTAMP];
	pipeline->start_timestamp = row_time(row, COL_START_TIMESTAMP);
	pipeline->start_offsets = row_jsonb(row, COL_START_OFFSETS);
	pipeline->start_group = row_text(row, COL_START_GROUP);
	pipeline->on_offset_lost = row_text(row, COL_ON_OFFSET_LOST);
	pipeline->partitions = row_array(row, COL_PARTITIONS);
	pipeline->resolved = DatumGetBool(row->values[COL_RESOLVED]);
	pipeline->vanished_topics = row_text(row, COL_VANISHED_TOPICS);
	pipeline->cluster_id = row_text(row, COL_CLUSTER_ID);
}

static void
load_guard(KiPipeline *pipeline, const Row *row)
{
	pg_uuid_t  *token = palloc(sizeof(pg_uuid_t));

	*token = *DatumGetUUIDP(row->values[COL_GUARD_TOKEN]);
	pipeline->guard.token = token;
	pipeline->guard.database = DatumGetObjectId(row->values[COL_GUARD_DATABASE]);
	pipeline->guard.site = row_text(row, COL_GUARD_SITE);
}

static void
load_target(KiPipeline *pipeline, const Row *row)
{
	pipeline->target = row->nulls[COL_TARGET] ? InvalidOid :
		DatumGetObjectId(row->values[COL_TARGET]);
	pipeline->target_schema = row_text(row, COL_TARGET_SCHEMA);
	pipeline->target_name = row_text(row, COL_TARGET_NAME);
	pipeline->statement = row_text(row, COL_STATEMENT);
	pipeline->format = row_text(row, COL_FORMAT);
	pipeline->key_format = row_text(row, COL_KEY_FORMAT);
	pipeline->columns = row_jsonb(row, COL_COLUMNS);
	pipeline->filter = row_jsonb(row, COL_FILTER);
	pipeline->mode = row_text(row, COL_MODE);
	pipeline->key_columns = row_array(row, COL_KEY_COLUMNS);
	pipeline->newer_by = row_text(row, COL_NEWER_BY);
	pipeline->delete_when = row_jsonb(row, COL_DELETE_WHEN);
	pipeline->on_tombstone = row_text(row, COL_ON_TOMBSTONE);
	pipeline->on_missing = row_text(row, COL_ON_MISSING);
	pipeline->on_error = row_text(row, COL_ON_ERROR);
	pipeline->max_error_ratio = DatumGetFloat4(row->values[COL_MAX_ERROR_RATIO]);
}

static KiPipeline *
pipeline_from_row(const Row *row)
{
	KiPipeline *pipeline = palloc0(sizeof(KiPipeline));

	pipeline->id = DatumGetInt32(row->values[COL_ID]);
	pipeline->name = row_text(row, COL_NAME);
	pipeline->version = DatumGetInt64(row->values[COL_VERSION]);
	pipeline->owner = DatumGetObjectId(row->values[COL_OWNER]);
	pipeline->owner_name = row_text(row, COL_OWNER_NAME);
	pipeline->connection = row_text(row, COL_CONNECTION);
	pipeline->topic = row_text(row, COL_TOPIC);
	load_target(pipeline, row);
	load_start(pipeline, row);
	pipeline->workers = DatumGetInt32(row->values[COL_WORKERS]);
	pipeline->batch_max_messages = DatumGetInt32(row->values[COL_BATCH_MAX_MESSAGES]);
	pipeline->batch_max_ms = DatumGetInt32(row->values[COL_BATCH_MAX_MS]);
	pipeline->max_messages_per_second =
		DatumGetInt32(row->values[COL_MAX_MESSAGES_PER_SECOND]);
	pipeline->search_path = row_text(row, COL_SEARCH_PATH);
	pipeline->group_id = row_text(row, COL_GROUP_ID);
	pipeline->properties = row_jsonb(row, COL_PROPERTIES);
	pipeline->paused = DatumGetBool(row->values[COL_PAUSED]);
	pipeline->stop.reason = row_text(row, COL_STOP_REASON);
	pipeline->stop.detail = row_text(row, COL_STOP_DETAIL);
	pipeline->stop.at = row_time(row, COL_STOP_AT);
	load_guard(pipeline, row);
	pipeline->created_at = row_time(row, COL_CREATED_AT);
	pipeline->changed_at = row_time(row, COL_CHANGED_AT);
	return pipeline;
}

/* What columns that are not there yet would hold. */
static void
fill_missing(Row *row, int natts)
{
	for (int col = natts + 1; col <= NCOLS; col++)
	{
		row->values[col] = (Datum) 0;
		row->nulls[col] = true;
	}
	if (natts >= COL_ON_OFFSET_LOST)
		return;
	row->values[COL_MODE] = CStringGetTextDatum("append");
	row->values[COL_ON_OFFSET_LOST] = CStringGetTextDatum("stop");
	row->nulls[COL_MODE] = row->nulls[COL_ON_OFFSET_LOST] = false;
}

static KiPipeline *
pipeline_from_tuple(HeapTuple tuple, TupleDesc desc)
{
	Row			row;

	heap_deform_tuple(tuple, desc, row.values + 1, row.nulls + 1);
	fill_missing(&row, desc->natts);
	return pipeline_from_row(&row);
}

/* ------------------------------------------------------------------------
 * Struct to row
 * ------------------------------------------------------------------------
 */
static void
put_text(Row *row, int col, const char *value)
{
	row->values[col] = ki_text_or_null(value, &row->nulls[col]);
}

static void
put_pointer(Row *row, int col, void *value)
{
	row->values[col] = PointerGetDatum(value);
	row->nulls[col] = value == NULL;
}

static void
put_time(Row *row, int col, TimestampTz value, bool isnull)
{
	row->values[col] = TimestampTzGetDatum(value);
	row->nulls[col] = isnull;
}

static void
put_target(Row *row, const KiPipeline *pipeline)
{
	row->values[COL_TARGET] = ObjectIdGetDatum(pipeline->target);
	row->nulls[COL_TARGET] = pipeline->target_name == NULL;
	put_text(row, COL_TARGET_SCHEMA, pipeline->target_schema);
	put_text(row, COL_TARGET_NAME, pipeline->target_name);
	put_text(row, COL_STATEMENT, pipeline->statement);
	put_text(row, COL_FORMAT, pipeline->format);
	put_text(row, COL_KEY_FORMAT, pipeline->key_format);
	put_pointer(row, COL_COLUMNS, pipeline->columns);
	put_pointer(row, COL_FILTER, pipeline->filter);
	put_text(row, COL_MODE, pipeline->mode);
	put_pointer(row, COL_KEY_COLUMNS, pipeline->key_columns);
	put_text(row, COL_NEWER_BY, pipeline->newer_by);
	put_pointer(row, COL_DELETE_WHEN, pipeline->delete_when);
	put_text(row, COL_ON_TOMBSTONE, pipeline->on_tombstone);
	put_text(row, COL_ON_MISSING, pipeline->on_missing);
	put_text(row, COL_ON_ERROR, pipeline->on_error);
	row->values[COL_MAX_ERROR_RATIO] = Float4GetDatum(pipeline->max_error_ratio);
}

static void
put_start(Row *row, const KiPipeline *pipeline)
{
	put_text(row, COL_START_FROM, pipeline->start_from);
	put_time(row, COL_START_TIMESTAMP, pipeline->start_timestamp,
			 !pipeline->has_start_timestamp);
	put_pointer(row, COL_START_OFFSETS, pipeline->start_offsets);
	put_text(row, COL_START_GROUP, pipeline->start_group);
	put_text(row, COL_ON_OFFSET_LOST, pipeline->on_offset_lost);
	put_pointer(row, COL_PARTITIONS, pipeline->partitions);
	row->values[COL_RESOLVED] = BoolGetDatum(pipeline->resolved);
	put_text(row, COL_VANISHED_TOPICS, pipeline->vanished_topics);
	put_text(row, COL_CLUSTER_ID, pipeline->cluster_id);
}

static void
put_state(Row *row, const KiPipeline *pipeline)
{
	row->values[COL_PAUSED] = BoolGetDatum(pipeline->paused);
	put_text(row, COL_STOP_REASON, pipeline->stop.reason);
	put_text(row, COL_STOP_DETAIL, pipeline->stop.detail);
	put_time(row, COL_STOP_AT, pipeline->stop.at, pipeline->stop.reason == NULL);
	row->values[COL_GUARD_TOKEN] = UUIDPGetDatum(pipeline->guard.token);
	row->values[COL_GUARD_DATABASE] = ObjectIdGetDatum(pipeline->guard.database);
	put_text(row, COL_GUARD_SITE, pipeline->guard.site);
	put_time(row, COL_CREATED_AT, pipeline->created_at, false);
	put_time(row, COL_CHANGED_AT, pipeline->changed_at, false);
}

/*
 * With the tables of 0.2.0 what has no column must be at its default.  That a
 * topic vanished is only remembered by the process then.
 */
static void
check_missing(Row *row, int natts)
{
	bool		is_default = true;

	if (natts >= NCOLS)
		return;
	for (int col = natts + 1; col <= NCOLS; col++)
		is_default = is_default && (row->nulls[col] || col == COL_MODE ||
									col == COL_ON_OFFSET_LOST ||
									col == COL_VANISHED_TOPICS);
	if (!is_default ||
		strcmp(row_text(row, COL_MODE), "append") != 0 ||
		strcmp(row_text(row, COL_ON_OFFSET_LOST), "stop") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this option needs the SQL objects of kafka_ingest %s",
						KI_VERSION),
				 errhint("Use ALTER EXTENSION kafka_ingest UPDATE.")));
	if (row->nulls[COL_ON_TOMBSTONE])
	{
		row->values[COL_ON_TOMBSTONE] = CStringGetTextDatum("skip");
		row->nulls[COL_ON_TOMBSTONE] = false;
	}
}

static HeapTuple
pipeline_to_tuple(const KiPipeline *pipeline, TupleDesc desc)
{
	Row			row;

	memset(&row, 0, sizeof(row));
	row.values[COL_ID] = Int32GetDatum(pipeline->id);
	put_text(&row, COL_NAME, pipeline->name);
	row.values[COL_VERSION] = Int64GetDatum(pipeline->version);
	row.values[COL_OWNER] = ObjectIdGetDatum(pipeline->owner);
	put_text(&row, COL_OWNER_NAME, pipeline->owner_name);
	put_text(&row, COL_CONNECTION, pipeline->connection);
	put_text(&row, COL_TOPIC, pipeline->topic);
	put_target(&row, pipeline);
	put_start(&row, pipeline);
	row.values[COL_WORKERS] = Int32GetDatum(pipeline->workers);
	row.values[COL_BATCH_MAX_MESSAGES] = Int32GetDatum(pipeline->batch_max_messages);
	row.values[COL_BATCH_MAX_MS] = Int32GetDatum(pipeline->batch_max_ms);
	row.values[COL_MAX_MESSAGES_PER_SECOND] =
		Int32GetDatum(pipeline->max_messages_per_second);
	row.nulls[COL_MAX_MESSAGES_PER_SECOND] =
		pipeline->max_messages_per_second == 0;
	put_text(&row, COL_SEARCH_PATH, pipeline->search_path);
	put_text(&row, COL_GROUP_ID, pipeline->group_id);
	put_pointer(&row, COL_PROPERTIES, pipeline->properties);
	put_state(&row, pipeline);
	check_missing(&row, desc->natts);
	return heap_form_tuple(desc, row.values + 1, row.nulls + 1);
}

/* ------------------------------------------------------------------------
 * Reading and writing pipelines
 * ------------------------------------------------------------------------
 */

/* The tuple with this id (as a copy), or NULL. */
static HeapTuple
find_tuple(Relation rel, const char *index, AttrNumber attnum,
		   RegProcedure equal, Datum value)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, attnum, BTEqualStrategyNumber, equal, value);
	scan = systable_beginscan(rel, ki_catalog_relation_id(index), true,
							  NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static HeapTuple
find_by_id(Relation rel, int32 id)
{
	return find_tuple(rel, "pipeline_pkey", COL_ID, F_INT4EQ,
					  Int32GetDatum(id));
}

KiPipeline *
ki_pipeline_load(int32 id)
{
	Relation	rel = ki_catalog_open("pipeline", AccessShareLock);
	HeapTuple	tuple = find_by_id(rel, id);
	KiPipeline *pipeline = NULL;

	if (tuple)
		pipeline = pipeline_from_tuple(tuple, RelationGetDescr(rel));
	table_close(rel, AccessShareLock);
	return pipeline;
}

KiPipeline *
ki_pipeline_find(const char *name)
{
	Relation	rel = ki_catalog_open("pipeline", AccessShareLock);
	HeapTuple	tuple = find_tuple(rel, "pipeline_name_key", COL_NAME,
								   F_TEXTEQ, CStringGetTextDatum(name));
	KiPipeline *pipeline = NULL;

	if (tuple)
		pipeline = pipeline_from_tuple(tuple, RelationGetDescr(rel));
	table_close(rel, AccessShareLock);
	return pipeline;
}

List *
ki_pipeline_all(void)
{
	Relation	rel = ki_catalog_open("pipeline", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel,
										  ki_catalog_relation_id("pipeline_name_key"),
										  true, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *pipelines = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		pipelines = lappend(pipelines,
							pipeline_from_tuple(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return pipelines;
}

int64
ki_pipeline_version(int32 id)
{
	Relation	rel = ki_catalog_open("pipeline", AccessShareLock);
	HeapTuple	tuple = find_by_id(rel, id);
	int64		version = -1;
	bool		isnull;

	if (tuple)
		version = DatumGetInt64(heap_getattr(tuple, COL_VERSION,
											 RelationGetDescr(rel), &isnull));
	table_close(rel, AccessShareLock);
	return version;
}

void
ki_pipeline_insert(KiPipeline *pipeline)
{
	Relation	rel = ki_catalog_open("pipeline", RowExclusiveLock);

	pipeline->id = (int32) ki_catalog_next("pipeline_id");
	pipeline->version = 1;
	pipeline->created_at = pipeline->changed_at = GetCurrentTimestamp();
	CatalogTupleInsert(rel, pipeline_to_tuple(pipeline, RelationGetDescr(rel)));
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* The caller holds the pipeline EXCLUSIVE, so nobody else writes the row. */
void
ki_pipeline_store(KiPipeline *pipeline, bool bump_version)
{
	Relation	rel = ki_catalog_open("pipeline", RowExclusiveLock);
	HeapTuple	old = find_by_id(rel, pipeline->id);

	if (!old)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pipeline \"%s\" does not exist", pipeline->name)));
	if (bump_version)
	{
		pipeline->version++;
		pipeline->changed_at = GetCurrentTimestamp();
	}
	CatalogTupleUpdate(rel, &old->t_self,
					   pipeline_to_tuple(pipeline, RelationGetDescr(rel)));
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

void
ki_pipeline_delete(int32 id)
{
	Relation	rel = ki_catalog_open("pipeline", RowExclusiveLock);
	HeapTuple	old = find_by_id(rel, id);

	if (old)
		CatalogTupleDelete(rel, &old->t_self);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

int
ki_pipeline_count_of(Oid owner)
{
	ListCell   *cell;
	int			count = 0;

	foreach(cell, ki_pipeline_all())
		count += ((KiPipeline *) lfirst(cell))->owner == owner;
	return count;
}

bool
ki_pipeline_reads(const KiPipeline *pipeline, const char *topic,
				  int32 partition)
{
	int			n;
	int32	   *chosen;

	if (!ki_topics_match(pipeline->topic, topic))
		return false;
	if (!pipeline->partitions)
		return true;
	n = ArrayGetNItems(ARR_NDIM(pipeline->partitions),
					   ARR_DIMS(pipeline->partitions));
	chosen = (int32 *) ARR_DATA_PTR(pipeline->partitions);
	for (int i = 0; i < n; i++)
		if (chosen[i] == partition)
			return true;
	return false;
}

bool
ki_pipeline_misses(const KiPipeline *pipeline, const char *topic)
{
	return pipeline->vanished_topics &&
		ki_topics_match(pipeline->vanished_topics, topic);
}

bool
ki_catalog_connection_in_use(const char *connection, char **pipeline)
{
	ListCell   *cell;

	foreach(cell, ki_pipeline_all())
	{
		KiPipeline *each = lfirst(cell);

		if (strcmp(each->connection, connection) == 0)
		{
			*pipeline = each->name;
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------------------
 * Guard
 * ------------------------------------------------------------------------
 */
void
ki_guard_current(KiGuard *guard)
{
	Relation	rel = ki_catalog_open("installation", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple = systable_getnext(scan);
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.installation\" is empty", KI_SCHEMA),
				 errdetail("It holds the token that tells this installation from its copies.")));
	guard->token = palloc(sizeof(pg_uuid_t));
	*guard->token = *DatumGetUUIDP(heap_getattr(tuple, 1, RelationGetDescr(rel),
												&isnull));
	guard->database = MyDatabaseId;
	guard->site = pstrdup(ki_setting_site);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

bool
ki_guard_matches(const KiGuard *guard)
{
	KiGuard		current;

	ki_guard_current(&current);
	return memcmp(guard->token, current.token, sizeof(pg_uuid_t)) == 0 &&
		guard->database == current.database &&
		strcmp(guard->site, current.site) == 0;
}
