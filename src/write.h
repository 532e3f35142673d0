/*
 * write.h
 *	  From rows to the target: the interface of every writer (floor 2).
 *
 * A writer lives as long as the target's shape is unchanged; per piece of a
 * batch it is begun, given rows in order of arrival, and ended.  All of it
 * runs inside the batch's transaction; whatever the target refuses is raised.
 */
#ifndef KI_WRITE_H
#define KI_WRITE_H

#include "access/attnum.h"
#include "utils/relcache.h"

typedef struct KiWriter KiWriter;

/* Make a writer for these columns of the target, in the current context. */
extern KiWriter *ki_writer_create(Relation target, const AttrNumber *attnums,
								  int ncolumns);

/* Was it made for this relation under its present name? */
extern bool ki_writer_fits(const KiWriter *writer, Relation target);

/*
 * Begin a piece.  The current memory context must last until its end; rows
 * beyond memory_kb go to disk.
 */
extern void ki_writer_begin(KiWriter *writer, int memory_kb);

/*
 * Add a row: one value per column.  Absent columns take their DEFAULT, which
 * is filled in where it is known here.
 */
extern void ki_writer_add(KiWriter *writer, Datum *values, bool *nulls,
						  const bool *absent);

/* Write what was added and fire triggers, deferred ones too. */
extern void ki_writer_end(KiWriter *writer);

#endif							/* KI_WRITE_H */
