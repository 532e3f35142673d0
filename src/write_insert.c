/*
 * write_insert.c
 *	  Rows to the target by INSERT ... SELECT over an ephemeral relation.
 *
 * The rows of a piece are put into a tuplestore, which the statement reads
 * under the name kafka_ingest_rows.  So every kind of target that takes INSERT
 * behaves as it always does: defaults, generated columns, identity, triggers,
 * constraints, routing, views.  An absent field means the column's DEFAULT for
 * that row only, so a run of rows with the same absent columns is one
 * statement; its plan is kept, since topics rarely have many shapes.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "write.h"

#define ROWS_NAME "kafka_ingest_rows"
#define MAX_PLANS 64			/* shapes whose plans are kept */

/* The plan for rows in which just these columns are absent. */
typedef struct ShapePlan
{
	Bitmapset  *absent;
	SPIPlanPtr	plan;
} ShapePlan;

struct KiWriter
{
	MemoryContext context;
	char	   *target;			/* qualified and quoted */
	TupleDesc	desc;			/* of the mapped columns */
	ShapePlan	plans[MAX_PLANS];
	int			nplans;

	/* the run under way */
	int			memory_kb;
	Tuplestorestate *rows;		/* NULL: no row yet */
	int64		nrows;
	Bitmapset  *absent;
};

KiWriter *
ki_writer_create(Relation target, const AttrNumber *attnums, int ncolumns)
{
	KiWriter   *writer = palloc0(sizeof(KiWriter));
	char	   *schema = get_namespace_name(RelationGetNamespace(target));

	writer->context = CurrentMemoryContext;
	writer->target = quote_qualified_identifier(schema,
												RelationGetRelationName(target));
	writer->desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
		TupleDescCopyEntry(writer->desc, i + 1,
						   RelationGetDescr(target), attnums[i]);
	return writer;
}

void
ki_writer_free(KiWriter *writer)
{
	for (int i = 0; i < writer->nplans; i++)
		(void) SPI_freeplan(writer->plans[i].plan);
	writer->nplans = 0;
}

void
ki_writer_begin(KiWriter *writer, int memory_kb)
{
	writer->memory_kb = memory_kb;
	writer->rows = NULL;
	writer->nrows = 0;
	writer->absent = NULL;
}

/* Names of the columns that are given, as a comma list. */
static char *
column_list(const KiWriter *writer, const Bitmapset *absent)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(writer->desc, i);

		if (bms_is_member(i, absent))
			continue;
		if (buf.len > 0)
			appendStringInfoString(&buf, ", ");
		appendStringInfoString(&buf, quote_identifier(NameStr(attr->attname)));
	}
	return buf.data;
}

static SPIPlanPtr
prepare(const KiWriter *writer, const Bitmapset *absent)
{
	char	   *columns = column_list(writer, absent);
	SPIPlanPtr	plan;
	char	   *sql;

	sql = psprintf("INSERT INTO %s (%s) SELECT %s FROM %s",
				   writer->target, columns, columns, ROWS_NAME);
	plan = SPI_prepare(sql, 0, NULL);
	if (!plan)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* The plan for the run's shape: a kept one, or a new one (kept if it can). */
static SPIPlanPtr
plan_for_run(KiWriter *writer)
{
	MemoryContext old;
	ShapePlan  *shape;
	SPIPlanPtr	plan;

	for (int i = 0; i < writer->nplans; i++)
		if (bms_equal(writer->plans[i].absent, writer->absent))
			return writer->plans[i].plan;

	plan = prepare(writer, writer->absent);
	if (writer->nplans == MAX_PLANS)
		return plan;			/* freed by SPI_finish */
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	old = MemoryContextSwitchTo(writer->context);
	shape = &writer->plans[writer->nplans];
	shape->absent = bms_copy(writer->absent);
	shape->plan = plan;
	writer->nplans++;
	MemoryContextSwitchTo(old);
	return plan;
}

static void
register_rows(KiWriter *writer)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));
	int			result;

	relation->md.name = ROWS_NAME;
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = writer->desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = writer->nrows;
	relation->reldata = writer->rows;
	result = SPI_register_relation(relation);
	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "SPI_register_relation failed: %s",
			 SPI_result_code_string(result));
}

/* Run the statement over the rows of the run. */
static void
flush(KiWriter *writer)
{
	SPIPlanPtr	plan;
	int			result;

	if (!writer->rows)
		return;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	register_rows(writer);
	plan = plan_for_run(writer);
	result = SPI_execute_plan(plan, NULL, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(result));
	SPI_finish();
	tuplestore_end(writer->rows);
	writer->rows = NULL;
	writer->nrows = 0;
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
	for (int i = 0; i < writer->desc->natts; i++)
		if (absent[i])
			writer->absent = bms_add_member(writer->absent, i);
	writer->rows = tuplestore_begin_heap(false, false, writer->memory_kb);
}

void
ki_writer_add(KiWriter *writer, Datum *values, bool *nulls, const bool *absent)
{
	if (writer->rows && !is_same_shape(writer, absent))
		flush(writer);
	if (!writer->rows)
		start_run(writer, absent);
	tuplestore_putvalues(writer->rows, writer->desc, values, nulls);
	writer->nrows++;
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
	immediate->constraints = NIL;
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
}
