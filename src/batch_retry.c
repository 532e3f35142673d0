/*
 * batch_retry.c
 *	  Dead letters through the stages once more, and messages tried without
 *	  leaving a trace.
 *
 * Both run in the caller's transaction and move no position.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "advance.h"
#include "batch_private.h"

/* Nothing is written to other pipelines' rows here, so no lock but the target's. */
static void
check_may_write(const KiBatch *batch)
{
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot load pipeline \"%s\" in a read-only transaction",
						batch->pipeline->name)));
}

const KiLetter *
ki_batch_retry(KiBatch *batch, const KiMessages *messages,
			   KiBatchResult *result)
{
	MemoryContext old = CurrentMemoryContext;
	KiSession	session;

	check_may_write(batch);
	ki_batch_begin(batch, messages, result);
	batch->is_retry = true;
	MemoryContextSwitchTo(batch->batch_context);
	ki_session_begin(&session, batch->pipeline);
	ki_batch_open_target(batch);
	ki_batch_isolate(batch, 0, messages->count);
	ki_batch_close_target(batch);
	ki_session_end(&session);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < messages->count; i++)
		result->loaded += batch->fates[i] == KI_FATE_LOADED;
	result->dead_letters = batch->nletters;
	return batch->letters;
}
