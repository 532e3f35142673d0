/*
 * statement.h
 *	  A pipeline's own statements, run over its messages (floor 2).
 *
 * Per piece of a batch: begin, add, end.  All of it runs inside the batch's
 * transaction as the pipeline's owner with its search_path; what a statement
 * raises is raised.
 */
#ifndef KI_STATEMENT_H
#define KI_STATEMENT_H

#include "message.h"
#include "pipeline.h"
#include "record.h"

typedef struct KiStatement KiStatement;

/*
 * Parse and analyze, in the current memory context, which must live as long.
 * Raises what the parser raises, and 0A000 for anything but SELECT, INSERT,
 * UPDATE, DELETE and MERGE.
 */
extern KiStatement *ki_statement_create(const KiPipeline *pipeline);

/* Give back the plans; its memory goes with its context. */
extern void ki_statement_free(KiStatement *statement);

/* Does it look at the messages' headers? */
extern bool ki_statement_wants_headers(const KiStatement *statement);

/*
 * Begin a piece; the current memory context must last until its end.  Messages
 * beyond memory_kb go to disk.
 */
extern void ki_statement_begin(KiStatement *statement, int memory_kb);

/*
 * Take a message: false with *fault filled (stage "decode") when its key or
 * value is not of its format.  Add it then, or take another one instead.
 */
extern bool ki_statement_take(KiStatement *statement, const KiMessage *message,
							  KiFault *fault);
extern void ki_statement_add(KiStatement *statement);

/* Run the statements over what was added, and what they deferred. */
extern void ki_statement_end(KiStatement *statement);

#endif							/* KI_STATEMENT_H */
