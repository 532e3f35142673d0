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

/*
 * Make a writer for these columns of the target, in the current memory
 * context.  Plans are made at first use and kept until ki_writer_free.
 */
extern KiWriter *ki_writer_create(Relation target, const AttrNumber *attnums,
								  int ncolumns);
extern void ki_writer_free(KiWriter *writer);

/* Begin a piece; rows are kept in the current memory context until flushed. */
extern void ki_writer_begin(KiWriter *writer, int memory_kb);

/* Add a row: one value per column; absent columns take their DEFAULT. */
extern void ki_writer_add(KiWriter *writer, Datum *values, bool *nulls,
						  const bool *absent);

/* Write what was added and fire triggers, deferred ones too. */
extern void ki_writer_end(KiWriter *writer);

#endif							/* KI_WRITE_H */
