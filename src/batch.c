/*
 * batch.c
 *	  Apply one batch: rows, dead letters and offsets, in one transaction.
 *
 * The order inside the transaction is that of the locks: pipeline, position
 * rows by partition, target.  First the pipeline is locked SHARE and its
 * version compared, then the positions are locked and compared, then rows are
 * written, then dead letters, then the positions are swapped, then it is
 * committed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "advance.h"
#include "batch_private.h"
#include "catalog.h"
#include "lock.h"
#include "session.h"

void
ki_transaction_begin(const KiTransaction *transaction)
{
	transaction->begin();
}

void
ki_transaction_commit(const KiTransaction *transaction)
{
	transaction->commit();
}

KiBatch *
ki_batch_create(const KiPipeline *pipeline, const KiTransaction *transaction,
				const bool *is_stale)
{
	KiBatch    *batch = palloc0(sizeof(KiBatch));

	batch->pipeline = pipeline;
	batch->transaction = transaction;
	batch->is_stale = is_stale;
	batch->batch_context = AllocSetContextCreate(CurrentMemoryContext,
												 "kafka_ingest batch",
												 ALLOCSET_DEFAULT_SIZES);
	batch->shape_context = AllocSetContextCreate(CurrentMemoryContext,
												 "kafka_ingest target",
												 ALLOCSET_SMALL_SIZES);
	ki_breaker_init(&batch->breaker, pipeline->max_error_ratio);
	return batch;
}

void
ki_batch_free(KiBatch *batch)
{
	ki_batch_drop_shape(batch);
	if (batch->open_keys)
		hash_destroy(batch->open_keys);
	MemoryContextDelete(batch->batch_context);
	MemoryContextDelete(batch->shape_context);
	pfree(batch);
}

bool
ki_batch_failed_on_target(const KiBatch *batch)
{
	return batch->is_on_target;
}

/* Nothing of the batch before is left. */
void
ki_batch_begin(KiBatch *batch, const KiMessages *messages,
			   KiBatchResult *result)
{
	MemoryContextReset(batch->batch_context);
	batch->piece_context = AllocSetContextCreate(batch->batch_context,
												 "kafka_ingest piece",
												 ALLOCSET_DEFAULT_SIZES);
	batch->message_context = AllocSetContextCreate(batch->batch_context,
												   "kafka_ingest message",
												   ALLOCSET_DEFAULT_SIZES);
	memset(result, 0, sizeof(KiBatchResult));
	batch->messages = messages;
	batch->result = result;
	batch->letter_context = batch->batch_context;
	batch->was_summed = false;
	batch->closed_keys = NIL;
	batch->letters = NULL;
	batch->nletters = batch->max_letters = 0;
	batch->new_bytes = batch->ignored = 0;
	batch->error = NULL;
	batch->must_raise = false;
	batch->fates = MemoryContextAllocZero(batch->batch_context,
										  Max(messages->count, 1));
	batch->rows = MemoryContextAlloc(batch->batch_context,
									 Max(messages->count, 1) * sizeof(int));
}

/* Returns false, having done nothing, when the source must be opened anew. */
static bool
apply_rows(KiBatch *batch)
{
	ki_batch_open_target(batch);
	if (ki_batch_wants_headers(batch) && !batch->had_headers)
	{
		ki_batch_close_target(batch);
		return false;
	}
	ki_batch_isolate(batch, 0, batch->messages->count);
	ki_batch_close_target(batch);
	ki_batch_store_letters(batch);
	return true;
}

/* Still the pipeline we loaded, of a role that still exists? */
static bool
is_unchanged(const KiPipeline *pipeline)
{
	return ki_catalog_is_installed() &&
		ki_pipeline_version(pipeline->id) == pipeline->version &&
		SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(pipeline->owner));
}

static KiOutcome
apply_locked(KiBatch *batch, KiAdvances *advances, KiPosition *positions,
			 int npositions, const int64 *ends)
{
	int32		pipeline = batch->pipeline->id;
	KiBatchResult *result = batch->result;

	if (!ki_catalog_is_installed())
		return KI_OUTCOME_CHANGED;
	ki_lock_pipeline(pipeline, false);
	if (*batch->is_stale || !is_unchanged(batch->pipeline))
		return KI_OUTCOME_CHANGED;
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot load pipeline \"%s\" in a read-only transaction",
						batch->pipeline->name)));
	if (!ki_advances_plan(advances, batch->messages, positions, npositions,
						  ends) ||
		!ki_advances_lock(advances, pipeline))
		return KI_OUTCOME_FENCED;
	if (batch->messages->count > 0 && !apply_rows(batch))
		return KI_OUTCOME_CHANGED;
	ki_advances_store(advances, pipeline, batch->messages, result->applied,
					  batch->fates, batch->ignored,
					  result->stop_reason == NULL);
	for (int i = 0; i < npositions; i++)
		result->loaded += advances->items[i].loaded;
	result->dead_letters = batch->nletters;
	return KI_OUTCOME_DONE;
}

static double
ms_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

KiOutcome
ki_batch_apply(KiBatch *batch, const KiMessages *messages,
			   KiPosition *positions, int npositions, const int64 *ends,
			   KiBatchResult *result)
{
	KiAdvances	advances;
	MemoryContext old = CurrentMemoryContext;
	KiSession	session;
	KiOutcome	outcome;
	instr_time	start;

	ki_batch_begin(batch, messages, result);
	INSTR_TIME_SET_CURRENT(start);

	ki_transaction_begin(batch->transaction);
	MemoryContextSwitchTo(batch->batch_context);
	ki_session_begin(&session, batch->pipeline);
	outcome = apply_locked(batch, &advances, positions, npositions, ends);
	ki_session_end(&session);
	result->apply_ms = ms_since(start);
	INSTR_TIME_SET_CURRENT(start);
	ki_transaction_commit(batch->transaction);
	result->commit_ms = ms_since(start);
	if (outcome == KI_OUTCOME_DONE)
	{
		ki_advances_remember(&advances);
		ki_breaker_remember(&batch->breaker, batch->letters, batch->nletters,
							result->applied);
		batch->letter_bytes += batch->new_bytes;
		ki_batch_forget_closed_keys(batch);
	}
	MemoryContextSwitchTo(old);
	return outcome;
}
