/*
 * write_statement.h
 *	  Statements over the rows of a piece, shared by the files write_*.c alone
 *	  (floor 2).
 */
#ifndef KI_WRITE_STATEMENT_H
#define KI_WRITE_STATEMENT_H

#include "utils/snapshot.h"
#include "utils/tuplestore.h"
#include "write_routine.h"

/* What a statement reads them as. */
#define KI_ROWS_NAME "kafka_ingest_rows"

/* The rows of one statement. */
typedef struct KiRows
{
	TupleDesc	desc;
	Tuplestorestate *store;
	int64		count;
} KiRows;

/* The target as a statement names it.  palloc'd. */
extern char *ki_write_target_name(Relation target);

/*
 * Run a statement, and what rules make of it, over rows; returns how many rows
 * it wrote.  The relation it names must be the target; that and nothing else
 * is what it reads and writes.  What it returns goes to result (NULL:
 * nowhere).  It sees what snapshot sees; NULL: all that there is now, what was
 * written before it by this transaction included.  Its memory is a child of
 * the current context.
 */
extern int64 ki_write_run(Relation target, const char *sql, const KiRows *rows,
						  Tuplestorestate *result, Snapshot snapshot);

/*
 * Fill in the DEFAULTs of a row's absent columns; *estate is made with the
 * first of a piece, in the context given, and freed at its end.
 */
extern void ki_write_fill_absent(KiDefaults *defaults, Relation target,
								 MemoryContext piece, EState **estate,
								 KiRow *row);
extern void ki_write_free_estate(EState **estate);

#endif							/* KI_WRITE_STATEMENT_H */
