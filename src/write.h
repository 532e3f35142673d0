/*
 * write.h
 *	  From rows to the target: the interface of every writer (floor 2).
 *
 * A writer lives as long as the target's shape is unchanged; per piece of a
 * batch it is begun, given rows in order of arrival, and ended.  All of it
 * runs inside the batch's transaction; whatever the target refuses is raised.
 *
 * In append mode there is one semantics, that of INSERT, and two ways to it:
 * write_multi.c puts rows straight into tables, write_insert.c runs a
 * statement, for targets where something would want to see it.  With a key
 * write_upsert.c does as INSERT ... ON CONFLICT and DELETE would, message by
 * message.
 */
#ifndef KI_WRITE_H
#define KI_WRITE_H

#include "access/attnum.h"
#include "key.h"
#include "nodes/pg_list.h"
#include "record.h"
#include "row.h"
#include "utils/relcache.h"

typedef enum KiWriteMethod
{
	KI_WRITE_INSERT = 0,		/* INSERT ... SELECT */
	KI_WRITE_MULTI_INSERT		/* table_multi_insert */
} KiWriteMethod;

typedef struct KiWriter KiWriter;

/* A row that was refused after others had been added behind it. */
typedef struct KiRefusal
{
	int64		row;			/* counted from 0 as they were added */
	KiFault		fault;
	const char *error;			/* the whole text, which may hold values */
} KiRefusal;

/* How a relation is written, from its catalog entries alone: no lock. */
extern KiWriteMethod ki_write_method(Oid relid);

/* As pipelines.write_method shows it. */
extern const char *ki_write_method_name(KiWriteMethod method);

/*
 * Make a writer for these columns of the target, in the current context.  With
 * a key rows are upserted, or skipped where their key is there, as the
 * pipeline's mode says.
 */
extern KiWriter *ki_writer_create(Relation target, const AttrNumber *attnums,
								  int ncolumns, const KiPipeline *pipeline,
								  const KiKey *key);

/* Was it made for this relation under its present name? */
extern bool ki_writer_fits(const KiWriter *writer, Relation target);

/*
 * Begin a piece of so many messages into the target, which is open and locked
 * until the piece's end.  The current memory context must last as long; rows
 * beyond memory_kb go to disk.  may_refuse: what the target refuses need not
 * be raised where it is found after later rows were added; see
 * ki_writer_refused.
 */
extern void ki_writer_begin(KiWriter *writer, Relation target, int nmessages,
							int memory_kb, bool may_refuse);

/*
 * The row to fill in next: the values, nulls and absent of all mapped columns.
 * What they point to is made in the row context, which is emptied when the
 * rows have been written.
 */
extern KiRow *ki_writer_row(KiWriter *writer);
extern MemoryContext ki_writer_row_context(const KiWriter *writer);

/*
 * Add the row that was filled in.  The current context is the row context.
 * Returns false with *fault filled (stage "write") for a row that the target
 * refuses, where that can be told without raising; nothing was done then.
 */
extern bool ki_writer_add(KiWriter *writer, KiFault *fault);

/* May user code have run with the last row, which can change settings? */
extern bool ki_writer_ran_code(const KiWriter *writer);

/*
 * After an error: the row it was raised for, counted from 0 as they were added
 * in this piece; -1: not known.
 */
extern int64 ki_writer_culprit(const KiWriter *writer);

/*
 * Upsert: delete the row whose key columns are filled in; with newer_by only
 * if that column is absent or not older than what is stored.  Otherwise as
 * ki_writer_add.
 */
extern bool ki_writer_delete(KiWriter *writer, KiFault *fault);

/*
 * insert_ignore: how many rows of the piece that was ended last were not
 * written since their key was there.
 */
extern int64 ki_writer_ignored(const KiWriter *writer);

/* Write what was added and fire triggers, deferred ones too. */
extern void ki_writer_end(KiWriter *writer);

/*
 * The rows of the piece that was ended last which the target refused without a
 * word until then, as KiRefusals in order; they were not written.  In the
 * memory context in which it was begun.
 */
extern const List *ki_writer_refused(const KiWriter *writer);

#endif							/* KI_WRITE_H */
