/*
 * statement.h
 *	  A pipeline's own statements, run over its messages (floor 2).
 *
 * Once per batch: prepare.  Per piece of it: begin, add, end.  All of it runs
 * inside the batch's transaction as the pipeline's owner with its search_path;
 * what a statement raises is raised.
 */
#ifndef KI_STATEMENT_H
#define KI_STATEMENT_H

#include "message.h"
#include "pipeline.h"
#include "record.h"

typedef struct KiStatement KiStatement;

/* In the current memory context; everything it ever has lives there. */
extern KiStatement *ki_statement_create(const KiPipeline *pipeline);

/*
 * Parse and analyze.  Raises what the parser raises, with the place in the
 * statements; 0A000 for anything but SELECT, INSERT, UPDATE, DELETE and MERGE;
 * 22023 for no statement at all; 42501 for tables the current user may not use
 * so.  Nothing of it is a message's fault, and no value is in its text.  Locks
 * the tables.
 */
extern void ki_statement_prepare(KiStatement *statement);

/* Do they look at the messages' headers?  After prepare. */
extern bool ki_statement_wants_headers(const KiStatement *statement);

/*
 * Begin a piece; the current memory context must last until its end.  Messages
 * beyond memory_kb go to disk.
 */
extern void ki_statement_begin(KiStatement *statement, int memory_kb);

/*
 * Take a message, which must last until the piece's end: false with *fault
 * filled when its key or value is not of its format.  Add it then, or take
 * another one instead.
 */
extern bool ki_statement_take(KiStatement *statement, const KiMessage *message,
							  KiFault *fault);
extern void ki_statement_add(KiStatement *statement);

/*
 * Run the statements over what was added, and what they deferred.  Nothing is
 * run when there is nothing.
 */
extern void ki_statement_end(KiStatement *statement);

#endif							/* KI_STATEMENT_H */
