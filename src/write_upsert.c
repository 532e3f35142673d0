/*
 * write_upsert.c
 *	  Rows to the target by key: upsert and insert_ignore.
 *
 * The rows of a piece are folded by key (write_fold.c) and applied at its end,
 * or when they take too much memory, in the order of the keys.  For upsert
 * that is INSERT ... ON CONFLICT DO UPDATE of the mapped columns; an absent
 * one is set to its DEFAULT, evaluated here as for INSERT, or with on_missing
 * 'keep' left out of the statement, so that rows with other absent columns are
 * another statement.
 *
 * Two workers that take the same keys in another order would wait for each
 * other.  So the first statement goes through all keys in their order: it
 * writes the rows that are no more than that, and locks, where they are there,
 * the rows that are to be deleted, or written with other columns, by later
 * statements.  Of a delete and a row of one key it does the latter at once, if
 * there is nothing to delete, for a new key cannot be locked.  The deletes go
 * by the same snapshot, so they hit what was locked and nothing else: a row
 * that somebody else wrote meanwhile came after them.  What remains is rows of
 * new keys with other columns (on_missing 'keep'): of two workers in such a
 * circle one tries again.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "session.h"
#include "write_fold.h"
#include "write_statement.h"

/* What a statement does to a step's row. */
typedef enum Mark
{
	MARK_WRITE,
	MARK_WRITE_NEW,				/* lock it; if there is none, write it */
	MARK_LOCK,					/* lock it, if there is one */
	MARK_DELETE,
	MARK_DELETE_OLDER
} Mark;

typedef struct UpsertWriter
{
	KiWriter	base;
	bool		is_ignore;		/* insert_ignore */
	bool		is_keep;		/* on_missing = 'keep' */
	bool		may_lock;		/* there are columns to update, and so the
								 * right to lock rows */
	int			ncolumns;		/* mapped ones */
	AttrNumber *attnums;
	const char **names;			/* quoted */
	bool	   *is_key;
	int			newer;			/* column of newer_by; -1: none */
	KiDefaults *defaults;
	KiFold	   *fold;

	/* parts of statements, in which the target is t and the rows are r */
	char	   *target;			/* qualified and quoted */
	char	   *table;			/* the target with its alias, to read */
	char	   *rows_alias;		/* the rows with theirs */
	char	   *key_list;
	char	   *match;			/* r's key is t's */
	const char *newer_operator; /* of newer_by: not older than */

	/* the piece under way */
	Relation	relation;
	MemoryContext piece;		/* lasts until its end */
	int			memory_kb;
	EState	   *estate;			/* evaluates defaults; NULL: not yet */
	Snapshot	snapshot;		/* of statements up to the deletes; NULL:
								 * later */

	/* the mapped columns, the step's number, and its Mark */
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} UpsertWriter;

static bool
upsert_fits(const KiWriter *base, Relation target)
{
	return strcmp(((const UpsertWriter *) base)->target,
				  ki_write_target_name(target)) == 0;
}

static void
upsert_begin(KiWriter *base, Relation target, int memory_kb)
{
	UpsertWriter *writer = (UpsertWriter *) base;

	writer->relation = target;
	writer->piece = CurrentMemoryContext;
	writer->memory_kb = memory_kb / 2;	/* as much again for statements */
	writer->estate = NULL;
	writer->snapshot = NULL;	/* one of a failed piece is gone */
	ki_fold_reset(writer->fold);
}

/* ------------------------------------------------------------------------
 * Rows of a statement
 * ------------------------------------------------------------------------
 */
static KiRows
start_rows(const UpsertWriter *writer)
{
	KiRows		rows = {writer->desc, NULL, 0};

	rows.store = tuplestore_begin_heap(false, false, writer->memory_kb);
	return rows;
}

static void
put_step(UpsertWriter *writer, KiRows *rows, const KiFoldStep *step, int number,
		 Mark mark)
{
	memcpy(writer->values, step->values, writer->ncolumns * sizeof(Datum));
	memcpy(writer->nulls, step->nulls, writer->ncolumns * sizeof(bool));
	if (mark == MARK_DELETE_OLDER)
	{
		writer->values[writer->newer] = step->limit;
		writer->nulls[writer->newer] = step->limit_is_null;
	}
	writer->values[writer->ncolumns] = Int32GetDatum(number);
	writer->values[writer->ncolumns + 1] = Int32GetDatum(mark);
	tuplestore_putvalues(rows->store, rows->desc, writer->values, writer->nulls);
	rows->count++;
}

static int64
run(const UpsertWriter *writer, const char *sql, KiRows *rows,
	Tuplestorestate *result)
{
	int64		processed = 0;

	if (rows->count > 0)
		processed = ki_write_run(writer->relation, sql, rows, result,
								 writer->snapshot);
	tuplestore_end(rows->store);
	return processed;
}

/* May what is given change the row that t has? */
static char *
newer_condition(const UpsertWriter *writer, const char *given)
{
	const char *name = writer->names[writer->newer];

	return psprintf("(t.%s IS NULL OR %s %s t.%s)", name, given,
					writer->newer_operator, name);
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

/* What becomes of a row whose key is there. */
static void
append_conflict(StringInfo sql, const UpsertWriter *writer, const bool *absent)
{
	const char *separator = "DO UPDATE SET ";

	appendStringInfo(sql, " ON CONFLICT (%s) ", writer->key_list);
	for (int i = 0; i < writer->ncolumns && !writer->is_ignore; i++)
	{
		if (writer->is_key[i] || absent[i])
			continue;
		appendStringInfo(sql, "%s%s = excluded.%s", separator,
						 writer->names[i], writer->names[i]);
		separator = ", ";
	}
	if (separator[0] != ',')
		appendStringInfoString(sql, "DO NOTHING");
	else if (writer->newer >= 0 && !absent[writer->newer])
		appendStringInfo(sql, " WHERE %s",
						 newer_condition(writer,
										 psprintf("excluded.%s",
												  writer->names[writer->newer])));
}

/* Lock the rows of t that r's marks say, in the order of r. */
static char *
lock_clause(const UpsertWriter *writer)
{
	return psprintf("LATERAL (SELECT true AS held FROM %s WHERE r.mark OPERATOR(pg_catalog.>) %d AND %s FOR UPDATE) AS l",
					writer->table, MARK_WRITE, writer->match);
}

/* Write rows; with has_locks some of them are only locked. */
static char *
upsert_statement(const UpsertWriter *writer, const bool *absent, bool has_locks)
{
	StringInfoData columns;
	StringInfoData values;
	StringInfoData sql;

	initStringInfo(&columns);
	initStringInfo(&values);
	for (int i = 0; i < writer->ncolumns; i++)
	{
		if (absent[i])
			continue;
		appendStringInfo(&columns, "%s%s", columns.len ? ", " : "",
						 writer->names[i]);
		appendStringInfo(&values, "%sr.c%d", values.len ? ", " : "", i);
	}
	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s AS t (%s) SELECT %s FROM %s",
					 writer->target, columns.data, values.data,
					 writer->rows_alias);
	if (has_locks)
		appendStringInfo(&sql, " LEFT JOIN %s ON true WHERE NOT coalesce(l.held, r.mark OPERATOR(pg_catalog.=) %d)",
						 lock_clause(writer), MARK_LOCK);
	append_conflict(&sql, writer, absent);
	return sql.data;
}

static bool
has_shape(const UpsertWriter *writer, const KiFoldStep *step, const bool *absent)
{
	return step->has_row && !step->is_done &&
		memcmp(step->absent, absent, writer->ncolumns * sizeof(bool)) == 0;
}

/*
 * Write the rows that lack just these columns.  The first statement leaves
 * what has to be deleted first, and locks whatever it leaves.
 */
static void
upsert_steps(UpsertWriter *writer, KiFoldStep **steps, int nsteps,
			 const bool *absent, bool is_first)
{
	KiRows		rows = start_rows(writer);
	bool		has_locks = false;
	int64		written;

	for (int i = 0; i < nsteps; i++)
	{
		KiFoldStep *step = steps[i];
		Mark		mark = MARK_WRITE;

		if (!has_shape(writer, step, absent))
			mark = MARK_LOCK;
		else if (is_first && step->deletes != KI_DELETES_NOT)
			mark = MARK_WRITE_NEW;
		if (mark != MARK_WRITE && !(is_first && writer->may_lock))
			continue;
		put_step(writer, &rows, step, i, mark);
		has_locks |= mark != MARK_WRITE;
		step->is_done |= mark == MARK_WRITE;
	}
	written = run(writer, upsert_statement(writer, absent, has_locks), &rows, NULL);
	if (writer->is_ignore)
		writer->base.ignored += rows.count - written;
}

/* ------------------------------------------------------------------------
 * Locking and deleting
 * ------------------------------------------------------------------------
 */

/* Lock what is there, in the order of the keys. */
static void
lock_steps(UpsertWriter *writer, KiFoldStep **steps, int nsteps)
{
	KiRows		rows = start_rows(writer);

	for (int i = 0; i < nsteps; i++)
		put_step(writer, &rows, steps[i], i, MARK_LOCK);
	(void) run(writer, psprintf("SELECT FROM %s CROSS JOIN %s",
								writer->rows_alias, lock_clause(writer)),
			   &rows, NULL);
}

/* Take step numbers out of a statement's result, which ends with it. */
static void
read_numbers(Tuplestorestate *result, bool *is_among)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);
	TupleTableSlot *slot;
	bool		isnull;

	TupleDescInitEntry(desc, 1, "n", INT4OID, -1, 0);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result, true, false, slot))
		is_among[DatumGetInt32(slot_getattr(slot, 1, &isnull))] = true;
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result);
}

/*
 * Which rows of this shape did the first statement write, since there was
 * nothing to delete?  Those of which there is still nothing to lock.
 */
static void
note_written(UpsertWriter *writer, KiFoldStep **steps, int nsteps, const bool *absent)
{
	KiRows		rows = start_rows(writer);
	bool	   *is_held = palloc0(nsteps * sizeof(bool));
	Tuplestorestate *held = tuplestore_begin_heap(false, false, writer->memory_kb);

	for (int i = 0; i < nsteps; i++)
		if (has_shape(writer, steps[i], absent))
			put_step(writer, &rows, steps[i], i, MARK_LOCK);
	(void) run(writer, psprintf("SELECT r.n FROM %s CROSS JOIN %s",
								writer->rows_alias, lock_clause(writer)),
			   &rows, held);
	read_numbers(held, is_held);
	for (int i = 0; i < nsteps; i++)
		if (has_shape(writer, steps[i], absent))
			steps[i]->is_done = !is_held[i];
}

static void
delete_steps(UpsertWriter *writer, KiFoldStep **steps, int nsteps)
{
	KiRows		rows = start_rows(writer);
	StringInfoData sql;

	for (int i = 0; i < nsteps; i++)
		if (steps[i]->deletes != KI_DELETES_NOT)
			put_step(writer, &rows, steps[i], i,
					 steps[i]->deletes == KI_DELETES_OLDER ?
					 MARK_DELETE_OLDER : MARK_DELETE);
	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s USING %s WHERE %s", writer->table,
					 writer->rows_alias, writer->match);
	if (writer->newer >= 0)
		appendStringInfo(&sql, " AND (r.mark OPERATOR(pg_catalog.=) %d OR %s)", MARK_DELETE,
						 newer_condition(writer, psprintf("r.c%d", writer->newer)));
	(void) run(writer, sql.data, &rows, NULL);
}

/* ------------------------------------------------------------------------
 * Applying
 * ------------------------------------------------------------------------
 */
static KiFoldStep *
find_row(KiFoldStep **steps, int nsteps)
{
	for (int i = 0; i < nsteps; i++)
		if (steps[i]->has_row && !steps[i]->is_done)
			return steps[i];
	return NULL;
}

static void
count_deletes(KiFoldStep **steps, int nsteps, int *deletes, int *with_row)
{
	*deletes = *with_row = 0;
	for (int i = 0; i < nsteps; i++)
		if (steps[i]->deletes != KI_DELETES_NOT)
		{
			(*deletes)++;
			*with_row += steps[i]->has_row;
		}
}

/* Apply steps of different keys, in the order of the keys. */
static void
apply(UpsertWriter *writer, KiFoldStep **steps, int nsteps)
{
	KiFoldStep *step = find_row(steps, nsteps);
	int			deletes;
	int			with_row;

	count_deletes(steps, nsteps, &deletes, &with_row);
	CommandCounterIncrement();
	writer->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	if (step)
		upsert_steps(writer, steps, nsteps, step->absent, true);
	else if (nsteps > 1 && writer->may_lock)
		lock_steps(writer, steps, nsteps);
	if (with_row > 0 && writer->may_lock)
		note_written(writer, steps, nsteps, step->absent);
	if (deletes > 0)
		delete_steps(writer, steps, nsteps);
	UnregisterSnapshot(writer->snapshot);
	writer->snapshot = NULL;
	while ((step = find_row(steps, nsteps)) != NULL)
		upsert_steps(writer, steps, nsteps, step->absent, false);
}

static void
flush(UpsertWriter *writer)
{
	MemoryContext context = AllocSetContextCreate(writer->piece,
												  "kafka_ingest upsert",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	KiFoldStep **steps;
	int			nsteps;

	while ((nsteps = ki_fold_take(writer->fold, &steps)) > 0)
		apply(writer, steps, nsteps);
	ki_fold_reset(writer->fold);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
flush_if_full(UpsertWriter *writer)
{
	MemoryContextReset(writer->base.row_context);
	if (ki_fold_memory(writer->fold) <= writer->memory_kb * (Size) 1024)
		return;
	writer->base.culprit = -1;
	flush(writer);
	writer->base.ran_code = true;
}

static bool
upsert_add(KiWriter *base, KiFault *fault)
{
	UpsertWriter *writer = (UpsertWriter *) base;

	if (base->row.has_absent && !writer->is_keep)
	{
		ki_write_fill_absent(writer->defaults, writer->relation, writer->piece,
							 &writer->estate, &base->row);
		base->ran_code = ki_defaults_look(writer->defaults);
	}
	if (!ki_fold_add(writer->fold, &base->row))
		base->ignored++;
	flush_if_full(writer);
	return true;
}

static void
upsert_delete(KiWriter *base)
{
	UpsertWriter *writer = (UpsertWriter *) base;

	ki_fold_delete(writer->fold, &base->row);
	flush_if_full(writer);
}

static void
upsert_end(KiWriter *base)
{
	UpsertWriter *writer = (UpsertWriter *) base;

	flush(writer);
	ki_write_free_estate(&writer->estate);
	ki_session_check_constraints();
}

/* ------------------------------------------------------------------------
 * Making one
 * ------------------------------------------------------------------------
 */
static const KiWriteRoutine routine = {upsert_fits, upsert_begin, upsert_add, upsert_end, upsert_delete};

/* An operator of a type's order as a statement names it, whatever is in the way. */
static char *
operator_name(Oid type, StrategyNumber strategy)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			operator = get_opfamily_member(entry->btree_opf,
											   entry->btree_opintype,
											   entry->btree_opintype, strategy);
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

/* Parts of statements that name all key columns. */
static void
make_key_parts(UpsertWriter *writer)
{
	StringInfoData list;
	StringInfoData match;

	initStringInfo(&list);
	initStringInfo(&match);
	for (int i = 0; i < writer->ncolumns; i++)
	{
		Oid			type = TupleDescAttr(writer->desc, i)->atttypid;

		if (!writer->is_key[i])
			continue;
		appendStringInfo(&list, "%s%s", list.len ? ", " : "", writer->names[i]);
		appendStringInfo(&match, "%st.%s %s r.c%d", match.len ? " AND " : "",
						 writer->names[i],
						 operator_name(type, BTEqualStrategyNumber), i);
	}
	writer->key_list = list.data;
	writer->match = match.data;
}

/* How statements name the target and the rows; no column can be in the way. */
static void
make_aliases(UpsertWriter *writer, Relation target)
{
	bool		is_partitioned = target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	StringInfoData rows;

	writer->target = ki_write_target_name(target);
	writer->table = psprintf("%s%s AS t", is_partitioned ? "" : "ONLY ",
							 writer->target);
	initStringInfo(&rows);
	appendStringInfo(&rows, "%s AS r (", KI_ROWS_NAME);
	for (int i = 0; i < writer->ncolumns; i++)
		appendStringInfo(&rows, "c%d, ", i);
	appendStringInfoString(&rows, "n, mark)");
	writer->rows_alias = rows.data;
}

static void
make_newer_part(UpsertWriter *writer)
{
	if (writer->newer >= 0)
		writer->newer_operator =
			operator_name(TupleDescAttr(writer->desc, writer->newer)->atttypid,
						  BTGreaterEqualStrategyNumber);
}

static void
take_columns(UpsertWriter *writer, Relation target, const KiKey *key)
{
	int			ncolumns = writer->ncolumns;

	writer->names = palloc(ncolumns * sizeof(char *));
	writer->is_key = palloc(ncolumns * sizeof(bool));
	writer->values = palloc0((ncolumns + 2) * sizeof(Datum));
	writer->nulls = palloc0((ncolumns + 2) * sizeof(bool));
	writer->desc = CreateTemplateTupleDesc(ncolumns + 2);
	writer->newer = -1;
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber	attnum = writer->attnums[i];

		TupleDescCopyEntry(writer->desc, i + 1, RelationGetDescr(target), attnum);
		writer->names[i] = quote_identifier(NameStr(TupleDescAttr(writer->desc, i)->attname));
		writer->is_key[i] = ki_key_has(key, attnum);
		writer->may_lock |= !writer->is_key[i];
		if (attnum == key->newer_by)
			writer->newer = i;
	}
	TupleDescInitEntry(writer->desc, ncolumns + 1, "n", INT4OID, -1, 0);
	TupleDescInitEntry(writer->desc, ncolumns + 2, "mark", INT4OID, -1, 0);
}

KiWriter *
ki_write_upsert_create(Relation target, const AttrNumber *attnums, int ncolumns,
					   const KiPipeline *pipeline, const KiKey *key)
{
	UpsertWriter *writer = palloc0(sizeof(UpsertWriter));
	int			natts = RelationGetNumberOfAttributes(target);

	writer->base.routine = &routine;
	writer->base.row.values = palloc(natts * sizeof(Datum));
	writer->base.row.nulls = palloc(natts * sizeof(bool));
	writer->is_ignore = !ki_pipeline_is_upsert(pipeline);
	writer->is_keep = strcmp(pipeline->on_missing, "keep") == 0;
	writer->ncolumns = ncolumns;
	writer->attnums = palloc(ncolumns * sizeof(AttrNumber));
	memcpy(writer->attnums, attnums, ncolumns * sizeof(AttrNumber));
	take_columns(writer, target, key);
	make_aliases(writer, target);
	make_key_parts(writer);
	make_newer_part(writer);
	writer->defaults = ki_defaults_create(target, attnums, ncolumns, false);
	writer->fold = ki_fold_create(target, attnums, ncolumns, key,
								  writer->is_keep, writer->is_ignore);
	return &writer->base;
}
