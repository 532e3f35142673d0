/*
 * write_insert.c
 *	  Rows to the target by INSERT ... SELECT over an ephemeral relation.
 *
 * The rows of a piece are put into a tuplestore, which the statement reads
 * under the name kafka_ingest_rows.  So every kind of target that takes INSERT
 * behaves as it always does: generated columns, identity, triggers,
 * constraints, routing, views.
 *
 * The statement is analyzed for every piece, and what it writes into must be
 * the very relation that was checked and locked: a name can come to mean
 * another relation at any time, and a kept plan would follow it.
 *
 * An absent field means the column's DEFAULT for that row only.  For tables it
 * is evaluated here, row by row.  A view's own and its base table's defaults
 * are the rewriter's matter, and one that could see the rows before its own is
 * the statement's, so there a run of rows with the same absent columns is one
 * statement.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "session.h"
#include "write_routine.h"

#define ROWS_NAME "kafka_ingest_rows"

typedef struct InsertWriter
{
	KiWriter	base;
	char	   *target;			/* qualified and quoted */
	bool		is_by_shape;	/* rows with other absent columns are another
								 * run */
	TupleDesc	desc;			/* of the mapped columns */
	AttrNumber *attnums;		/* per column */
	Datum	   *values;			/* per column */
	bool	   *nulls;
	KiDefaults *defaults;		/* of a table's columns */

	/* the piece under way */
	Relation	relation;		/* the target */
	MemoryContext piece;		/* lasts until its end */
	int			memory_kb;
	EState	   *estate;			/* evaluates defaults; NULL: not yet */

	/* the run under way */
	Tuplestorestate *rows;		/* NULL: no row yet */
	int64		nrows;
	Bitmapset  *absent;			/* left to the statement */
} InsertWriter;

static char *
name_of(Relation target)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)),
									  RelationGetRelationName(target));
}

static bool
insert_fits(const KiWriter *base, Relation target)
{
	return strcmp(((const InsertWriter *) base)->target, name_of(target)) == 0;
}

static void
insert_begin(KiWriter *base, Relation target, int memory_kb)
{
	InsertWriter *writer = (InsertWriter *) base;

	writer->relation = target;
	writer->piece = CurrentMemoryContext;
	writer->memory_kb = memory_kb;
	writer->estate = NULL;
	writer->rows = NULL;
	writer->nrows = 0;
	writer->absent = NULL;
}

/* ------------------------------------------------------------------------
 * The statement
 * ------------------------------------------------------------------------
 */

/* Names of the columns that are given, as a comma list. */
static char *
column_list(const InsertWriter *writer)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(writer->desc, i);

		if (bms_is_member(i, writer->absent))
			continue;
		if (buf.len > 0)
			appendStringInfoString(&buf, ", ");
		appendStringInfoString(&buf, quote_identifier(NameStr(attr->attname)));
	}
	return buf.data;
}

static QueryEnvironment *
environment_of_run(const InsertWriter *writer)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = ROWS_NAME;
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = writer->desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = writer->nrows;
	relation->reldata = writer->rows;
	register_ENR(environment, relation);
	return environment;
}

/* Analyze; afterwards the relation written into is locked and the right one. */
static Query *
analyze(const InsertWriter *writer, const char *sql, QueryEnvironment *environment)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	Query	   *query = parse_analyze_fixedparams(raw, sql, NULL, 0, environment);

	if (rt_fetch(query->resultRelation, query->rtable)->relid != writer->base.relid)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("%s became another relation while it was loaded",
						writer->target)));
	return query;
}

/*
 * Rules may write elsewhere: what they write must be as durable, and in this
 * transaction.
 */
static void
check_written(const Query *query)
{
	Oid			relid;

	if (query->resultRelation == 0)
		return;
	relid = rt_fetch(query->resultRelation, query->rtable)->relid;
	if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE ||
		get_rel_persistence(relid) != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule of the target writes into \"%s\", which is no permanent table of this server",
						get_rel_name(relid))));
}

static void
execute(Query *query, const char *sql, QueryEnvironment *environment)
{
	PlannedStmt *plan;
	QueryDesc  *desc;

	if (query->commandType == CMD_UTILITY)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rules of a target cannot run utility commands")));
	plan = pg_plan_query(query, sql, CURSOR_OPT_PARALLEL_OK, NULL);
	CommandCounterIncrement();
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	desc = CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot,
						   None_Receiver, NULL, environment, 0);
	ExecutorStart(desc, 0);
	ki_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
}

/* Run the statement, and what rules make of it, over the rows of the run. */
static void
flush(InsertWriter *writer)
{
	QueryEnvironment *environment;
	MemoryContext statement;
	MemoryContext old;
	char	   *columns;
	char	   *sql;
	List	   *queries;
	ListCell   *cell;

	if (!writer->rows)
		return;
	statement = AllocSetContextCreate(writer->piece, "kafka_ingest statement",
									  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(statement);
	environment = environment_of_run(writer);
	columns = column_list(writer);
	sql = psprintf("INSERT INTO %s (%s) SELECT %s FROM %s",
				   writer->target, columns, columns, ROWS_NAME);

	/* The rows were put in by this transaction; triggers see a fresh view. */
	PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_rewrite_query(analyze(writer, sql, environment));
	if (queries == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule of %s makes nothing of an INSERT", writer->target)));
	foreach(cell, queries)
	{
		check_written(lfirst_node(Query, cell));
		execute(lfirst_node(Query, cell), sql, environment);
	}
	PopActiveSnapshot();
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(statement);
	tuplestore_end(writer->rows);
	writer->rows = NULL;
	writer->nrows = 0;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
/* A table's columns that no field was given for. */
static void
fill_absent(InsertWriter *writer)
{
	if (!writer->estate)
	{
		MemoryContext rows = MemoryContextSwitchTo(writer->piece);

		/* they see what was there before the piece, as in the statement */
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		writer->estate = CreateExecutorState();
		MemoryContextSwitchTo(rows);
		ki_defaults_begin(writer->defaults, writer->relation, writer->estate);
	}
	ki_defaults_fill(writer->defaults, &writer->base.row);
	ResetPerTupleExprContext(writer->estate);
}

static bool
is_absent(const InsertWriter *writer, int i)
{
	return writer->base.row.absent[writer->attnums[i] - 1];
}

static bool
is_same_shape(const InsertWriter *writer)
{
	for (int i = 0; i < writer->desc->natts; i++)
		if (is_absent(writer, i) != bms_is_member(i, writer->absent))
			return false;
	return true;
}

static void
start_run(InsertWriter *writer)
{
	MemoryContext rows = MemoryContextSwitchTo(writer->piece);

	writer->absent = NULL;
	for (int i = 0; writer->is_by_shape && i < writer->desc->natts; i++)
		if (is_absent(writer, i))
			writer->absent = bms_add_member(writer->absent, i);
	writer->rows = tuplestore_begin_heap(false, false, writer->memory_kb);
	MemoryContextSwitchTo(rows);
}

static bool
insert_add(KiWriter *base, KiFault *fault)
{
	InsertWriter *writer = (InsertWriter *) base;
	KiRow	   *row = &base->row;

	if (writer->rows && writer->is_by_shape && !is_same_shape(writer))
	{
		base->culprit = -1;
		flush(writer);
		base->culprit = base->nadded;
		base->ran_code = true;
	}
	if (!writer->rows)
		start_run(writer);
	if (row->has_absent && !writer->is_by_shape)
		fill_absent(writer);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		writer->values[i] = row->values[writer->attnums[i] - 1];
		writer->nulls[i] = row->nulls[writer->attnums[i] - 1];
	}
	tuplestore_putvalues(writer->rows, writer->desc, writer->values,
						 writer->nulls);
	writer->nrows++;
	MemoryContextReset(base->row_context);
	return true;
}

static void
insert_end(KiWriter *base)
{
	InsertWriter *writer = (InsertWriter *) base;

	flush(writer);
	if (writer->estate)
	{
		FreeExecutorState(writer->estate);
		PopActiveSnapshot();
	}
	writer->estate = NULL;
	ki_session_check_constraints();
}

static const KiWriteRoutine routine = {insert_fits, insert_begin, insert_add, insert_end};

KiWriter *
ki_write_insert_create(Relation target, const AttrNumber *attnums, int ncolumns)
{
	InsertWriter *writer = palloc0(sizeof(InsertWriter));
	int			natts = RelationGetNumberOfAttributes(target);

	writer->base.routine = &routine;
	writer->base.row.values = palloc(natts * sizeof(Datum));
	writer->base.row.nulls = palloc(natts * sizeof(bool));
	writer->target = name_of(target);
	writer->attnums = palloc(ncolumns * sizeof(AttrNumber));
	writer->values = palloc(ncolumns * sizeof(Datum));
	writer->nulls = palloc(ncolumns * sizeof(bool));
	writer->desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
	{
		writer->attnums[i] = attnums[i];
		TupleDescCopyEntry(writer->desc, i + 1, RelationGetDescr(target),
						   attnums[i]);
	}
	writer->is_by_shape = target->rd_rel->relkind == RELKIND_VIEW;
	if (!writer->is_by_shape)
	{
		writer->defaults = ki_defaults_create(target, attnums, ncolumns, false);
		writer->is_by_shape = ki_defaults_look(writer->defaults);
	}
	return &writer->base;
}
