/*
 * write.c
 *	  Which writer suits a target, and the way to it.
 *
 * Rows go straight into tables where nothing could tell the difference from
 * INSERT; COPY makes the same decision for the same reasons.  A statement is
 * for everything else: views, rules, BEFORE triggers of the target itself,
 * statement triggers that see the rows (transition tables), and tables that
 * another extension spreads elsewhere by hooks which only statements meet.
 * With a key there is only one way.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "write_routine.h"

/* Extensions whose tables are more than what is stored in them. */
static const char *const spreading_extensions[] = {"citus", "timescaledb"};

/* Does a trigger have to see the statement, or the row before it is there? */
static bool
needs_statement(HeapTuple trigger, TupleDesc desc)
{
	int16		type = ((Form_pg_trigger) GETSTRUCT(trigger))->tgtype;
	bool		has_no_transition;

	(void) heap_getattr(trigger, Anum_pg_trigger_tgnewtable, desc,
						&has_no_transition);
	return TRIGGER_FOR_INSERT(type) &&
		((TRIGGER_FOR_ROW(type) && !TRIGGER_FOR_AFTER(type)) ||
		 !has_no_transition);
}

static bool
has_such_trigger(Oid relid)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	trigger;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(triggers, TriggerRelidNameIndexId, true, NULL,
							  1, &key);
	while (!found && HeapTupleIsValid(trigger = systable_getnext(scan)))
		found = needs_statement(trigger, RelationGetDescr(triggers));
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return found;
}

static bool
may_be_spread(void)
{
	for (int i = 0; i < (int) lengthof(spreading_extensions); i++)
		if (OidIsValid(get_extension_oid(spreading_extensions[i], true)))
			return true;
	return false;
}

KiWriteMethod
ki_write_method(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class class;
	bool		is_table;
	bool		has_triggers;

	if (!HeapTupleIsValid(tuple))
		return KI_WRITE_INSERT;
	class = (Form_pg_class) GETSTRUCT(tuple);
	is_table = (class->relkind == RELKIND_RELATION ||
				class->relkind == RELKIND_PARTITIONED_TABLE) &&
		!class->relhasrules;
	has_triggers = class->relhastriggers;
	ReleaseSysCache(tuple);
	if (!is_table || (has_triggers && has_such_trigger(relid)) ||
		may_be_spread())
		return KI_WRITE_INSERT;
	return KI_WRITE_MULTI_INSERT;
}

const char *
ki_write_method_name(KiWriteMethod method)
{
	return method == KI_WRITE_INSERT ? "insert" : "multi_insert";
}

KiWriter *
ki_writer_create(Relation target, const AttrNumber *attnums, int ncolumns,
				 const KiPipeline *pipeline, const KiKey *key)
{
	int			natts = RelationGetNumberOfAttributes(target);
	KiWriter   *writer;

	if (key)
		writer = ki_write_upsert_create(target, attnums, ncolumns, pipeline, key);
	else if (ki_write_method(RelationGetRelid(target)) == KI_WRITE_INSERT)
		writer = ki_write_insert_create(target, attnums, ncolumns);
	else
		writer = ki_write_multi_create(target, attnums, ncolumns);
	writer->relid = RelationGetRelid(target);
	writer->row_context = AllocSetContextCreate(CurrentMemoryContext,
												"kafka_ingest rows",
												ALLOCSET_DEFAULT_MINSIZE,
												ALLOCSET_DEFAULT_MAXSIZE / 64,
												ALLOCSET_DEFAULT_MAXSIZE);
	writer->row.absent = palloc(natts * sizeof(bool));
	memset(writer->row.absent, true, natts * sizeof(bool));
	return writer;
}

bool
ki_writer_fits(const KiWriter *writer, Relation target)
{
	return writer->relid == RelationGetRelid(target) &&
		writer->routine->fits(writer, target);
}

void
ki_writer_begin(KiWriter *writer, Relation target, int nmessages,
				int memory_kb, bool may_refuse)
{
	MemoryContextReset(writer->row_context);
	writer->nmessages = nmessages;
	writer->nadded = 0;
	writer->culprit = -1;
	writer->ignored = 0;
	writer->may_refuse = may_refuse;
	writer->refused = NIL;
	writer->routine->begin(writer, target, memory_kb);
}

KiRow *
ki_writer_row(KiWriter *writer)
{
	return &writer->row;
}

MemoryContext
ki_writer_row_context(const KiWriter *writer)
{
	return writer->row_context;
}

bool
ki_writer_add(KiWriter *writer, KiFault *fault)
{
	writer->ran_code = false;
	writer->culprit = writer->nadded;
	if (!writer->routine->add(writer, fault))
		return false;
	writer->nadded++;
	writer->culprit = -1;
	return true;
}

bool
ki_writer_ran_code(const KiWriter *writer)
{
	return writer->ran_code;
}

int64
ki_writer_culprit(const KiWriter *writer)
{
	return writer->culprit;
}

bool
ki_writer_delete(KiWriter *writer, KiFault *fault)
{
	writer->ran_code = false;
	writer->culprit = writer->nadded;
	writer->routine->delete(writer);
	writer->nadded++;
	writer->culprit = -1;
	return true;
}

int64
ki_writer_ignored(const KiWriter *writer)
{
	return writer->ignored;
}

void
ki_writer_end(KiWriter *writer)
{
	writer->routine->end(writer);
}

const List *
ki_writer_refused(const KiWriter *writer)
{
	return writer->refused;
}
