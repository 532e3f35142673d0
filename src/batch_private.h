/*
 * batch_private.h
 *	  The inside of a KiBatch, shared by the files batch*.c alone (floor 3).
 *
 * batch.c is the transaction, batch_shape.c what it writes into, batch_piece.c
 * the way of one message, batch_isolate.c who is to blame for an error,
 * batch_letters.c what becomes of him, batch_retry.c another attempt at that.
 */
#ifndef KI_BATCH_PRIVATE_H
#define KI_BATCH_PRIVATE_H

#include "portability/instr_time.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"
#include "utils/relcache.h"

#include "batch.h"
#include "breaker.h"
#include "key.h"
#include "map.h"
#include "session.h"
#include "statement.h"
#include "write.h"

struct KiBatch
{
	const KiPipeline *pipeline;
	const KiTransaction *transaction;
	const bool *is_stale;		/* the connection changed */
	MemoryContext batch_context;	/* reset at the start of every batch */
	MemoryContext message_context;	/* reset per message without a writer,
									 * which has its row context */
	MemoryContext piece_context;	/* reset after every attempt at a piece */

	/* the target's shape; dropped when the relation is invalidated */
	MemoryContext shape_context;
	KiMap	   *map;			/* NULL: to be made */
	KiWriter   *writer;			/* NULL: no target */
	KiKey	   *key;			/* NULL: append mode */
	KiStatement *statement;		/* NULL: none */
	Oid			target;
	uint64		shape_changes;	/* of the target, when its shape was made */
	Relation	relation;		/* the target, open while rows are applied */
	bool		had_headers;
	bool		is_on_target;	/* our own check of it is under way */

	/* what is known of the pipeline's open dead letters */
	KiBreaker	breaker;
	HTAB	   *open_keys;		/* hashes of keys; NULL: not known yet */
	int64		letter_bytes;	/* -1: not known yet */

	/* the batch under way */
	const KiMessages *messages;
	KiBatchResult *result;
	bool		is_retry;		/* of dead letters: nothing ends it */
	uint8	   *fates;			/* KiFate, per message */
	int		   *rows;			/* message of each row of the piece */
	int64		ignored;		/* rows whose key was there */
	KiLetter   *letters;		/* in order of the messages */
	int			nletters;
	int			max_letters;	/* allocated */
	int64		new_bytes;		/* of these letters */
	MemoryContext letter_context;	/* of what they hold: an attempt's own */
	bool		was_summed;		/* letter_bytes was, during this batch */
	List	   *closed_keys;	/* hashes that no open letter has any more */
	int			current;		/* message that is worked on */
	bool		is_mapping;		/* … in an input function, not in a write */
	ErrorData  *error;			/* of the last attempt that failed; freed by
								 * the next one */
	bool		must_raise;		/* until its end: no row is refused late */
	const char *raised;			/* whole text of the error that the message
								 * worked on raised; NULL: none */
	int			culprit;		/* message it was raised for; -1: not known */
	instr_time	lap;			/* when the stage of a sampled message began */
};

/* batch.c: forget the batch before, and take this one */
extern void ki_batch_begin(KiBatch *batch, const KiMessages *messages,
						   KiBatchResult *result);

/* batch_shape.c: open, check and lock the target; make what writes into it */
extern void ki_batch_open_target(KiBatch *batch);
extern void ki_batch_close_target(KiBatch *batch);
extern void ki_batch_drop_shape(KiBatch *batch);
extern bool ki_batch_wants_headers(const KiBatch *batch);

/* batch_piece.c */

/*
 * Apply messages [lo, hi).  Ends before the first one that nothing may follow,
 * and then result->stop_reason says why; else applied becomes hi.
 */
extern void ki_batch_apply_piece(KiBatch *batch, int lo, int hi);

/* The message a row of the piece was made of; -1: not known. */
extern int	ki_batch_message_of_row(const KiBatch *batch, int64 row);

/* batch_isolate.c */

/*
 * Run an action in a subtransaction of its own; on an error everything it did
 * is undone, batch->error says why, and false is returned.  With is_probe it
 * is undone in any case.
 */
typedef void (*KiAttempt) (KiBatch *batch, void *argument);
extern bool ki_batch_attempt(KiBatch *batch, KiAttempt action, void *argument,
							 bool is_probe);

/* Apply [lo, hi); messages at fault become letters. */
extern void ki_batch_isolate(KiBatch *batch, int lo, int hi);

/*
 * Message number index alone, undone again.  Returns whether it goes through;
 * otherwise *letter says why.
 */
extern bool ki_batch_try_alone(KiBatch *batch, int index, KiLetter *letter);

/* batch_letters.c */

/*
 * Message number index is bad: it becomes a letter.  False: nothing may follow
 * it, and result->stop_reason says why.  error NULL: the fault's message.
 */
extern bool ki_batch_bury(KiBatch *batch, int index, const KiFault *fault,
						  const char *error);

/*
 * Rows (KiRefusals) that the writer refused after the letters from number
 * "first" on had been added: theirs take their places among these.  False, and
 * then all of them are to be forgotten: nothing may follow one.
 */
extern bool ki_batch_bury_refused(KiBatch *batch, int first,
								  const List *refused);

/* The fault and text of an error that was raised for a message. */
extern void ki_batch_fault_of_error(const KiBatch *batch,
									const ErrorData *error, KiFault *fault,
									const char **whole);

/* Look up what is stored already, when a pipeline is loaded. */
extern void ki_batch_load_letters(KiBatch *batch);

/* Store the letters, and mark the older ones that messages supersede. */
extern void ki_batch_store_letters(KiBatch *batch);

/* It is committed: keys without an open letter need not be looked up again. */
extern void ki_batch_forget_closed_keys(KiBatch *batch);

#endif							/* KI_BATCH_PRIVATE_H */
