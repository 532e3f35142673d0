/*
 * batch_isolate.c
 *	  Whose fault an error is: a message alone against all others.
 *
 * A batch is first tried whole, in one subtransaction.  When that fails for a
 * message's fault, what the writer knows about the row, or else halving, leads
 * to the culprit: smaller pieces, larger ones again when they succeed.  So one
 * bad message in 10,000 costs about 14 attempts that fail, and many of them do
 * not cost as many times more.  Each piece is a prefix of what is left, hence
 * in order within every partition.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "advance.h"
#include "batch_private.h"
#include "fault.h"
#include "stage.h"

/* Most single attempts to find out whether a suspect error is general. */
#define MAX_PROBES 64

bool
ki_batch_attempt(KiBatch *batch, KiAttempt action, void *argument,
				 bool is_probe)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	volatile bool is_good = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		action(batch, argument);
		if (is_probe)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(batch->batch_context);
		if (batch->error)
			FreeErrorData(batch->error);
		batch->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		is_good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return is_good;
}

/* ------------------------------------------------------------------------
 * Pieces
 * ------------------------------------------------------------------------
 */
typedef struct Range
{
	int			lo;
	int			hi;
} Range;

static void
apply_range(KiBatch *batch, void *argument)
{
	Range	   *range = argument;

	ki_batch_apply_piece(batch, range->lo, range->hi);
}

/* Which message the error was raised for, if that is known. */
static void
note_culprit(KiBatch *batch)
{
	batch->culprit = -1;
	if (batch->is_mapping)
	{
		batch->culprit = batch->current;
		ki_map_note_error(batch->map);
	}
	else if (batch->writer)
		batch->culprit = ki_batch_message_of_row(batch,
												 ki_writer_culprit(batch->writer));
}

/* One attempt at [lo, hi); what it added is forgotten when it fails. */
static bool
try_piece(KiBatch *batch, int lo, int hi, bool is_probe)
{
	Range		range = {lo, hi};
	int			nletters = batch->nletters;
	int64		new_bytes = batch->new_bytes;
	int64		ignored = batch->ignored;
	MemoryContext old = MemoryContextSwitchTo(batch->piece_context);
	MemoryContext letters = AllocSetContextCreate(batch->batch_context,
												  "kafka_ingest letters",
												  ALLOCSET_SMALL_SIZES);
	bool		is_good;

	batch->result->stop_reason = NULL;
	batch->letter_context = letters;
	is_good = ki_batch_attempt(batch, apply_range, &range, is_probe);
	MemoryContextSwitchTo(old);
	MemoryContextReset(batch->piece_context);
	batch->letter_context = batch->batch_context;
	if (is_good && !is_probe)
		return true;
	if (!is_good)
		MemoryContextDelete(letters);	/* a probe's are looked at */
	batch->nletters = nletters;
	batch->new_bytes = new_bytes;
	batch->ignored = ignored;
	if (!is_good)
	{
		batch->result->stop_reason = NULL;
		note_culprit(batch);
	}
	return is_good;
}

/* ------------------------------------------------------------------------
 * Blame
 * ------------------------------------------------------------------------
 */

/* Does any message of [lo, hi) go through, of a few that are tried alone? */
static bool
another_succeeds(KiBatch *batch, int lo, int hi)
{
	int			step = Max((hi - lo) / MAX_PROBES, 1);

	for (int i = lo; i < hi; i += step)
	{
		if (try_piece(batch, i, i + 1, true))
		{
			if (!batch->result->stop_reason &&
				batch->fates[i] == KI_FATE_LOADED)
				return true;
		}
		else if (ki_error_class(batch->error->sqlerrcode) == KI_ERROR_PASSING)
			ki_error_rethrow(batch->error);
	}
	return false;
}

static bool
any_succeeded(const KiBatch *batch, int before)
{
	for (int i = 0; i < before; i++)
		if (batch->fates[i] == KI_FATE_LOADED)
			return true;
	return false;
}

/*
 * Message number index failed alone: is it to blame?  What is a letter already
 * stays one in any case.
 */
static bool
is_to_blame(KiBatch *batch, int index, const ErrorData *error)
{
	return batch->is_retry ||
		ki_error_class(error->sqlerrcode) == KI_ERROR_MESSAGE ||
		any_succeeded(batch, index) ||
		another_succeeds(batch, index + 1, batch->messages->count);
}

/* If so it becomes a letter; false: nothing may follow it. */
static bool
judge(KiBatch *batch, int index)
{
	ErrorData  *error = batch->error;
	KiFault		fault;
	const char *whole;

	batch->error = NULL;		/* that of others must not replace it */
	ki_batch_fault_of_error(batch, error, &fault, &whole);
	if (!is_to_blame(batch, index, error))
		ki_error_rethrow(error);
	batch->result->applied = index;
	if (!ki_batch_bury(batch, index, &fault, whole))
		return false;
	batch->result->applied = index + 1;
	FreeErrorData(error);
	return true;
}

/*
 * How many messages to try next, after the last "size" went through and with a
 * culprit known to stand between lo and bad_end.
 */
static int
next_size(int lo, int hi, int bad_end, int size)
{
	return lo < bad_end ? Max((bad_end - lo) / 2, 1) :
		(int) Min((int64) size * 2, hi - lo);
}

void
ki_batch_isolate(KiBatch *batch, int lo, int hi)
{
	int			size = hi - lo;
	int			bad_end = lo;
	int			after_last = lo;	/* culprit, or the beginning */

	while (lo < hi && !batch->result->stop_reason)
	{
		int			end = Min((int64) lo + size, hi);

		if (try_piece(batch, lo, end, false))
		{
			lo = end;
			size = next_size(lo, hi, bad_end, size);
			continue;
		}
		if (ki_error_class(batch->error->sqlerrcode) == KI_ERROR_PASSING)
			ki_error_rethrow(batch->error);
		if (end - lo > 1)
		{
			bool		is_known = batch->culprit >= lo && batch->culprit < end;

			/* all before the culprit, or else one half */
			bad_end = is_known ? batch->culprit + 1 : end;
			size = is_known ? Max(batch->culprit - lo, 1) : (end - lo) / 2;
			continue;
		}
		if (!judge(batch, lo))
			return;
		/* Errors come at distances: begin with the last one. */
		size = Max(lo - after_last, 1);
		after_last = bad_end = ++lo;
	}
}

bool
ki_batch_try_alone(KiBatch *batch, int index, KiLetter *letter)
{
	int			nletters = batch->nletters;
	bool		is_good = try_piece(batch, index, index + 1, true);

	if (is_good && batch->fates[index] != KI_FATE_DEAD)
		return true;
	if (is_good)
		*letter = batch->letters[nletters]; /* undone, but still there */
	else
		ki_batch_fault_of_error(batch, batch->error, &letter->fault,
								&letter->error);
	letter->index = index;
	return false;
}
