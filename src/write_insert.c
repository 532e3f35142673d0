/*
 * write_insert.c
 *	  Rows to the target by INSERT ... SELECT over an ephemeral relation.
 *
 * An absent field means the column's DEFAULT for that row only.  For tables it
 * is evaluated here, row by row.  A view's own and its base table's defaults
 * are the rewriter's matter, and one that could see the rows before its own is
 * the statement's, so there a run of rows with the same absent columns is one
 * statement.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "session.h"
#include "write_statement.h"

typedef struct InsertWriter
{
	KiWriter	base;
	char	   *target;			/* qualified and quoted */
	bool		is_by_shape;	/* rows with other absent columns are another
								 * run */
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
	KiRows		rows;			/* of the mapped columns; store NULL: none yet */
	Bitmapset  *absent;			/* left to the statement */
} InsertWriter;

static bool
insert_fits(const KiWriter *base, Relation target)
{
	return strcmp(((const InsertWriter *) base)->target, ki_write_target_name(target)) == 0;
}

static void
insert_begin(KiWriter *base, Relation target, int memory_kb)
{
	InsertWriter *writer = (InsertWriter *) base;

	writer->relation = target;
	writer->piece = CurrentMemoryContext;
	writer->memory_kb = memory_kb;
	writer->estate = NULL;
	writer->rows.store = NULL;
	writer->rows.count = 0;
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
	for (int i = 0; i < writer->rows.desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(writer->rows.desc, i);

		if (bms_is_member(i, writer->absent))
			continue;
		if (buf.len > 0)
			appendStringInfoString(&buf, ", ");
		appendStringInfoString(&buf, quote_identifier(NameStr(attr->attname)));
	}
	return buf.data;
}

/* Run the statement over the rows of the run. */
static void
flush(InsertWriter *writer)
{
	MemoryContext old;
	char	   *columns;

	if (!writer->rows.store)
		return;
	old = MemoryContextSwitchTo(writer->piece);
	columns = column_list(writer);
	(void) ki_write_run(writer->relation,
						psprintf("INSERT INTO %s (%s) SELECT %s FROM %s",
								 writer->target, columns, columns, KI_ROWS_NAME),
						&writer->rows, NULL, NULL);
	MemoryContextSwitchTo(old);
	tuplestore_end(writer->rows.store);
	writer->rows.store = NULL;
	writer->rows.count = 0;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
static bool
is_absent(const InsertWriter *writer, int i)
{
	return writer->base.row.absent[writer->attnums[i] - 1];
}

static bool
is_same_shape(const InsertWriter *writer)
{
	for (int i = 0; i < writer->rows.desc->natts; i++)
		if (is_absent(writer, i) != bms_is_member(i, writer->absent))
			return false;
	return true;
}

static void
start_run(InsertWriter *writer)
{
	MemoryContext rows = MemoryContextSwitchTo(writer->piece);

	writer->absent = NULL;
	for (int i = 0; writer->is_by_shape && i < writer->rows.desc->natts; i++)
		if (is_absent(writer, i))
			writer->absent = bms_add_member(writer->absent, i);
	writer->rows.store = tuplestore_begin_heap(false, false, writer->memory_kb);
	MemoryContextSwitchTo(rows);
}

static bool
insert_add(KiWriter *base, KiFault *fault)
{
	InsertWriter *writer = (InsertWriter *) base;
	KiRow	   *row = &base->row;

	if (writer->rows.store && writer->is_by_shape && !is_same_shape(writer))
	{
		base->culprit = -1;
		flush(writer);
		base->culprit = base->nadded;
		base->ran_code = true;
	}
	if (!writer->rows.store)
		start_run(writer);
	if (row->has_absent && !writer->is_by_shape)
		ki_write_fill_absent(writer->defaults, writer->relation, writer->piece,
							 &writer->estate, row);
	for (int i = 0; i < writer->rows.desc->natts; i++)
	{
		writer->values[i] = row->values[writer->attnums[i] - 1];
		writer->nulls[i] = row->nulls[writer->attnums[i] - 1];
	}
	tuplestore_putvalues(writer->rows.store, writer->rows.desc, writer->values,
						 writer->nulls);
	writer->rows.count++;
	MemoryContextReset(base->row_context);
	return true;
}

static void
insert_end(KiWriter *base)
{
	InsertWriter *writer = (InsertWriter *) base;

	flush(writer);
	ki_write_free_estate(&writer->estate);
	ki_session_check_constraints();
}

static const KiWriteRoutine routine = {insert_fits, insert_begin, insert_add, insert_end, NULL};

KiWriter *
ki_write_insert_create(Relation target, const AttrNumber *attnums, int ncolumns)
{
	InsertWriter *writer = palloc0(sizeof(InsertWriter));
	int			natts = RelationGetNumberOfAttributes(target);

	writer->base.routine = &routine;
	writer->base.row.values = palloc(natts * sizeof(Datum));
	writer->base.row.nulls = palloc(natts * sizeof(bool));
	writer->target = ki_write_target_name(target);
	writer->attnums = palloc(ncolumns * sizeof(AttrNumber));
	writer->values = palloc(ncolumns * sizeof(Datum));
	writer->nulls = palloc(ncolumns * sizeof(bool));
	writer->rows.desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
	{
		writer->attnums[i] = attnums[i];
		TupleDescCopyEntry(writer->rows.desc, i + 1, RelationGetDescr(target),
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
