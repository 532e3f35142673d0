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
 * are the rewriter's matter, so there a run of rows with the same absent
 * columns is one statement.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
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
#include "write.h"

#define ROWS_NAME "kafka_ingest_rows"

struct KiWriter
{
	MemoryContext context;
	Oid			relid;
	char	   *target;			/* qualified and quoted */
	bool		is_view;
	TupleDesc	desc;			/* of the mapped columns */
	Node	  **defaults;		/* per column; NULL: none */
	bool	   *is_domain;		/* per column: NULL must be checked, too */

	/* the piece under way */
	int			memory_kb;
	EState	   *estate;			/* evaluates defaults */
	ExprState **default_states; /* made at first use */
	void	  **domain_states;	/* what domain_check keeps between rows */

	/* the run under way */
	Tuplestorestate *rows;		/* NULL: no row yet */
	int64		nrows;
	Bitmapset  *absent;			/* of a view */
};

static char *
name_of(Relation target)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)),
									  RelationGetRelationName(target));
}

KiWriter *
ki_writer_create(Relation target, const AttrNumber *attnums, int ncolumns)
{
	KiWriter   *writer = palloc0(sizeof(KiWriter));

	writer->context = CurrentMemoryContext;
	writer->relid = RelationGetRelid(target);
	writer->target = name_of(target);
	writer->is_view = target->rd_rel->relkind == RELKIND_VIEW;
	writer->desc = CreateTemplateTupleDesc(ncolumns);
	writer->defaults = palloc0(ncolumns * sizeof(Node *));
	writer->is_domain = palloc0(ncolumns * sizeof(bool));
	for (int i = 0; i < ncolumns; i++)
	{
		TupleDescCopyEntry(writer->desc, i + 1,
						   RelationGetDescr(target), attnums[i]);
		writer->is_domain[i] =
			get_typtype(TupleDescAttr(writer->desc, i)->atttypid) == TYPTYPE_DOMAIN;
		if (!writer->is_view)
			writer->defaults[i] = build_column_default(target, attnums[i]);
	}
	return writer;
}

bool
ki_writer_fits(const KiWriter *writer, Relation target)
{
	return writer->relid == RelationGetRelid(target) &&
		strcmp(writer->target, name_of(target)) == 0;
}

void
ki_writer_begin(KiWriter *writer, int memory_kb)
{
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
column_list(const KiWriter *writer)
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
environment_of_run(const KiWriter *writer)
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
analyze(const KiWriter *writer, const char *sql, QueryEnvironment *environment)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	Query	   *query = parse_analyze_fixedparams(raw, sql, NULL, 0, environment);

	if (rt_fetch(query->resultRelation, query->rtable)->relid != writer->relid)
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
flush(KiWriter *writer)
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
	statement = AllocSetContextCreate(CurrentMemoryContext,
									  "kafka_ingest statement",
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
/* What absent fields need, from the first one of a piece on. */
static void
prepare_defaults(KiWriter *writer)
{
	if (writer->estate)
		return;
	writer->estate = CreateExecutorState();
	writer->default_states = palloc0(writer->desc->natts * sizeof(ExprState *));
	writer->domain_states = palloc0(writer->desc->natts * sizeof(void *));
}

static void
evaluate_default(KiWriter *writer, int i, Datum *value, bool *isnull)
{
	ExprContext *econtext;

	if (!writer->default_states[i])
		writer->default_states[i] = ExecPrepareExpr((Expr *) writer->defaults[i],
													writer->estate);
	econtext = GetPerTupleExprContext(writer->estate);
	*value = ExecEvalExprSwitchContext(writer->default_states[i], econtext, isnull);
}

/* A column of a table that no field was given for. */
static void
fill_absent(KiWriter *writer, int i, Datum *value, bool *isnull)
{
	Form_pg_attribute attr = TupleDescAttr(writer->desc, i);

	*value = (Datum) 0;
	*isnull = true;
	if (writer->defaults[i] || writer->is_domain[i])
		prepare_defaults(writer);
	if (writer->defaults[i])
		evaluate_default(writer, i, value, isnull);
	if (writer->is_domain[i])
		domain_check(*value, *isnull, attr->atttypid, &writer->domain_states[i],
					 writer->estate->es_query_cxt);
}

static bool
is_same_shape(const KiWriter *writer, const bool *absent)
{
	for (int i = 0; i < writer->desc->natts; i++)
		if (absent[i] != bms_is_member(i, writer->absent))
			return false;
	return true;
}

static void
start_run(KiWriter *writer, const bool *absent)
{
	writer->absent = NULL;
	for (int i = 0; writer->is_view && i < writer->desc->natts; i++)
		if (absent[i])
			writer->absent = bms_add_member(writer->absent, i);
	writer->rows = tuplestore_begin_heap(false, false, writer->memory_kb);
}

void
ki_writer_add(KiWriter *writer, Datum *values, bool *nulls, const bool *absent)
{
	if (writer->rows && writer->is_view && !is_same_shape(writer, absent))
		flush(writer);
	if (!writer->rows)
		start_run(writer, absent);
	for (int i = 0; !writer->is_view && i < writer->desc->natts; i++)
		if (absent[i])
			fill_absent(writer, i, &values[i], &nulls[i]);
	tuplestore_putvalues(writer->rows, writer->desc, values, nulls);
	writer->nrows++;
	if (writer->estate)
		ResetPerTupleExprContext(writer->estate);
}

/*
 * Deferred triggers and constraints are run here and not at commit, so that
 * what a message violates is found while the message is known.
 */
void
ki_writer_end(KiWriter *writer)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	flush(writer);
	if (writer->estate)
		FreeExecutorState(writer->estate);
	writer->estate = NULL;
	immediate->constraints = NIL;
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
}
