/*
 * batch.h
 *	  The unit of work: one batch of messages, applied in one transaction with
 *	  its offsets (floor 3).
 */
#ifndef KI_BATCH_H
#define KI_BATCH_H

#include "letter.h"
#include "message.h"
#include "pipeline.h"
#include "record.h"

/*
 * Whose transaction a batch is: a top-level one in a background worker, one
 * committed by SPI in run(), or the caller's own in run() in a block.
 */
typedef struct KiTransaction
{
	void		(*begin) (void);	/* leaves an active snapshot */
	void		(*commit) (void);
	bool		is_callers;		/* commit only hands over: nobody outside may
								 * be told what may still be rolled back */
} KiTransaction;

extern void ki_transaction_begin(const KiTransaction *transaction);
extern void ki_transaction_commit(const KiTransaction *transaction);

typedef enum KiOutcome
{
	KI_OUTCOME_DONE,			/* committed, perhaps only up to a message
								 * that stops the pipeline */
	KI_OUTCOME_CHANGED,			/* the pipeline is another one or gone: reload */
	KI_OUTCOME_FENCED			/* another process moved a position */
} KiOutcome;

typedef struct KiBatchResult
{
	int			applied;		/* messages, from the first on */
	int64		loaded;
	int64		dead_letters;
	const char *stop_reason;	/* nothing may follow before message number
								 * "applied" became a letter; NULL: it may */
	KiFault		fault;			/* of that message; texts live until the next
								 * batch */
	double		apply_ms;
	double		decode_ms;		/* of it, estimated from samples */
	double		map_ms;			/* likewise */
	double		commit_ms;
} KiBatchResult;

typedef struct KiBatch KiBatch;

/*
 * What applies the batches of a pipeline; keeps the compiled mapping and the
 * writer while the target is unchanged.  In the current memory context, which
 * must live as long as pipeline does.  *is_stale is set by invalidations when
 * what the messages were read through has changed: they are not applied then.
 */
extern KiBatch *ki_batch_create(const KiPipeline *pipeline,
								const KiTransaction *transaction,
								const bool *is_stale);
extern void ki_batch_free(KiBatch *batch);

/* One that only retries and previews, in the transaction of its caller. */
extern KiBatch *ki_batch_create_for_caller(const KiPipeline *pipeline);

/*
 * Check the target and compile the mapping, in a transaction of the caller;
 * tells whether messages are needed with their headers.
 */
extern bool ki_batch_prepare(KiBatch *batch);

/* The relation it found then. */
extern Oid	ki_batch_target(const KiBatch *batch);

/*
 * Apply messages and move positions[i] to after the last of them, or to
 * ends[i] where that is further (-1: no end seen).  Updates positions when
 * done.  Raises what is no message's fault; the caller then aborts, and may
 * call again with the same messages.
 */
extern KiOutcome ki_batch_apply(KiBatch *batch, const KiMessages *messages,
								KiPosition *positions, int npositions,
								const int64 *ends, KiBatchResult *result);

/*
 * Apply the messages of dead letters once more, in the transaction of the
 * caller, who holds the pipeline EXCLUSIVE; no position moves and nothing
 * stops.  Returns the letters of those that failed again,
 * result->dead_letters of them, which live until the next batch.
 */
extern const KiLetter *ki_batch_retry(KiBatch *batch,
									  const KiMessages *messages,
									  KiBatchResult *result);

/* What would become of one message. */
typedef struct KiPreview
{
	Datum		row;			/* jsonb: the columns that get a value; 0:
								 * none */
	const char *note;			/* what happens instead of a new row; NULL:
								 * nothing else */
	bool		is_bad;
	KiLetter	letter;			/* why */
} KiPreview;

/*
 * Try message number index of these, and leave no trace; for the owner's eyes.
 * Runs in the caller's transaction.  What it returns lives until the next
 * batch.
 */
extern void ki_batch_preview(KiBatch *batch, const KiMessages *messages,
							 int index, KiPreview *preview);

/* Was the last error raised by our own check of the target? */
extern bool ki_batch_failed_on_target(const KiBatch *batch);

#endif							/* KI_BATCH_H */
