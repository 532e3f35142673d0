/*
 * statement_query.h
 *	  What a pipeline's statements may be, and what they look at; for
 *	  statement*.c alone (floor 2).
 */
#ifndef KI_STATEMENT_QUERY_H
#define KI_STATEMENT_QUERY_H

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/*
 * Parse, and raise 0A000 for anything but SELECT, INSERT, UPDATE, DELETE and
 * MERGE, 22023 for nothing at all, syntax errors with their place in the text.
 */
extern void ki_statement_check_commands(const char *sql);

/*
 * The attribute numbers of "messages" that analyzed statements use (a list of
 * CachedPlanSource).  Raises 42501 unless the current user may do all that
 * they say.
 */
extern Bitmapset *ki_statement_columns(const List *sources);

#endif							/* KI_STATEMENT_QUERY_H */
