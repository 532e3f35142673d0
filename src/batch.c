/*
 * batch.c
 *	  Apply one batch: rows and offsets, in one transaction.
 *
 * The order inside the transaction is that of the locks: pipeline, position
 * rows by partition, target.  First the pipeline is locked SHARE and its
 * version compared, then the positions are locked and compared, then rows are
 * written, then the positions are swapped, then it is committed.
 *
 * Rows are first tried all at once, in one subtransaction.  When that fails
 * for a message's fault, the batch is cut by order of arrival into halves
 * until the culprit is alone, each attempt in a subtransaction of its own; so
 * one bad message in 10,000 costs about 14 attempts.  In this version the
 * first bad message ends the batch: what came before it is committed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "advance.h"
#include "batch.h"
#include "catalog.h"
#include "fault.h"
#include "lock.h"
#include "map.h"
#include "session.h"
#include "settings.h"
#include "slot.h"
#include "stage.h"
#include "target.h"
#include "write.h"

/* Most single attempts to find out whether a suspect error is general. */
#define MAX_PROBES 64

/* Every so many messages the time of each stage is taken. */
#define SAMPLE_EVERY 64

struct KiBatch
{
	const KiPipeline *pipeline;
	const KiTransaction *transaction;
	const bool *is_stale;		/* the connection changed */
	MemoryContext batch_context;	/* reset at the start of every batch */

	/* the target's shape; dropped when the relation is invalidated */
	MemoryContext shape_context;
	KiMap	   *map;			/* NULL: to be made */
	KiWriter   *writer;
	Oid			target;
	Relation	relation;		/* the target, open while rows are applied */
	bool		had_headers;
	bool		is_on_target;	/* our own check of it is under way */

	/* the batch under way */
	const KiMessages *messages;
	KiBatchResult *result;
	uint8	   *fates;
	int			current;		/* message that is worked on */
	bool		is_mapping;		/* … in an input function, not in a write */
	ErrorData  *error;			/* of the last attempt that failed */
	instr_time	lap;			/* when the stage of a sampled message began */
};

/* Relations that changed since a shape was made; one batch lives at a time. */
static Oid	watched_target = InvalidOid;
static bool target_is_stale = false;

static void
note_invalidation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == watched_target)
		target_is_stale = true;
}

/* What a writer may do depends on the functions of defaults and checks. */
static void
note_function_change(Datum arg, int cacheid, uint32 hashvalue)
{
	target_is_stale = true;
}

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
	static bool is_registered = false;
	KiBatch    *batch = palloc0(sizeof(KiBatch));

	if (!is_registered)
	{
		CacheRegisterRelcacheCallback(note_invalidation, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, note_function_change, (Datum) 0);
	}
	is_registered = true;

	batch->pipeline = pipeline;
	batch->transaction = transaction;
	batch->is_stale = is_stale;
	batch->batch_context = AllocSetContextCreate(CurrentMemoryContext,
												 "kafka_ingest batch",
												 ALLOCSET_DEFAULT_SIZES);
	batch->shape_context = AllocSetContextCreate(CurrentMemoryContext,
												 "kafka_ingest target",
												 ALLOCSET_SMALL_SIZES);
	return batch;
}

static void
drop_shape(KiBatch *batch)
{
	batch->writer = NULL;
	batch->map = NULL;
	MemoryContextReset(batch->shape_context);
}

void
ki_batch_free(KiBatch *batch)
{
	drop_shape(batch);
	MemoryContextDelete(batch->batch_context);
	MemoryContextDelete(batch->shape_context);
	pfree(batch);
}

bool
ki_batch_failed_on_target(const KiBatch *batch)
{
	return batch->is_on_target;
}

/* ------------------------------------------------------------------------
 * Target
 * ------------------------------------------------------------------------
 */
static void
make_shape(KiBatch *batch, Relation target)
{
	MemoryContext old;
	const AttrNumber *attnums;
	int			ncolumns;

	drop_shape(batch);
	old = MemoryContextSwitchTo(batch->shape_context);
	watched_target = batch->target = RelationGetRelid(target);
	batch->map = ki_map_create(batch->pipeline, RelationGetDescr(target), NULL);
	ncolumns = ki_map_columns(batch->map, &attnums);
	batch->writer = ki_writer_create(target, attnums, ncolumns, batch->pipeline, NULL);
	target_is_stale = false;
	MemoryContextSwitchTo(old);
}

/* Open, check and lock the target; the map and the writer are made for it. */
static void
open_target(KiBatch *batch)
{
	const AttrNumber *attnums;
	int			ncolumns;
	bool		was_found_by_name;
	Relation	target;

	batch->is_on_target = true;
	target = ki_target_open(batch->pipeline, &was_found_by_name);
	if (target_is_stale || !batch->writer || watched_target != batch->target ||
		!ki_writer_fits(batch->writer, target))
		make_shape(batch, target);
	ncolumns = ki_map_columns(batch->map, &attnums);
	ki_target_check_columns(target, attnums, ncolumns, batch->pipeline->owner);
	batch->relation = target;
	batch->is_on_target = false;
}

/* The lock stays until the transaction ends. */
static void
close_target(KiBatch *batch)
{
	table_close(batch->relation, NoLock);
	batch->relation = NULL;
}

Oid
ki_batch_target(const KiBatch *batch)
{
	return batch->target;
}

bool
ki_batch_prepare(KiBatch *batch)
{
	KiSession	session;

	/* whatever of the owner's may run while the target is looked at */
	ki_session_begin(&session, batch->pipeline);
	open_target(batch);
	close_target(batch);
	ki_session_end(&session);
	batch->had_headers = ki_map_wants_headers(batch->map);
	return batch->had_headers;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
static void
set_reject(KiBatch *batch, int index, const KiFault *fault)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch_context);
	KiFault    *kept = &batch->result->fault;

	batch->result->has_reject = true;
	batch->result->applied = index;
	*kept = *fault;
	kept->message = pstrdup(fault->message ? fault->message :
							ki_error_condition(fault->sqlerrcode));
	if (fault->column_name)
		kept->column_name = pstrdup(fault->column_name);
	if (fault->constraint_name)
		kept->constraint_name = pstrdup(fault->constraint_name);
	MemoryContextSwitchTo(old);
}

static bool
tombstone(KiBatch *batch, KiFault *fault)
{
	if (strcmp(batch->pipeline->on_tombstone, "error") != 0)
	{
		batch->fates[batch->current] = KI_FATE_IGNORED;
		return true;
	}
	fault->sqlerrcode = ERRCODE_NULL_VALUE_NOT_ALLOWED;
	fault->stage = KI_STAGE_DECODE;
	fault->message = "the message is a tombstone";
	return false;
}

/* The time since the last lap stands for SAMPLE_EVERY messages. */
static void
add_lap(KiBatch *batch, double *ms)
{
	instr_time	now;
	instr_time	lap;

	INSTR_TIME_SET_CURRENT(now);
	lap = now;
	INSTR_TIME_SUBTRACT(lap, batch->lap);
	*ms += INSTR_TIME_GET_MILLISEC(lap) * SAMPLE_EVERY;
	batch->lap = now;
}

/* Decode, map and give one message to the writer; false: it is bad. */
static bool
work_on(KiBatch *batch, const KiMessage *message, KiFault *fault)
{
	bool		is_sampled = batch->current % SAMPLE_EVERY == 0;
	KiDecoded  *decoded;

	if (!message->value)
		return tombstone(batch, fault);
	if (is_sampled)
		INSTR_TIME_SET_CURRENT(batch->lap);
	decoded = ki_map_decode(batch->map, message, fault);
	if (!decoded)
		return false;
	if (is_sampled)
		add_lap(batch, &batch->result->decode_ms);
	if (!ki_map_row(batch->map, message, decoded, ki_writer_row(batch->writer),
					fault))
		return false;
	if (is_sampled)
		add_lap(batch, &batch->result->map_ms);
	batch->is_mapping = false;
	if (!ki_writer_add(batch->writer, fault))
		return false;
	if (ki_writer_ran_code(batch->writer))
		ki_session_pin(batch->pipeline);
	batch->fates[batch->current] = KI_FATE_LOADED;
	return true;
}

/*
 * Apply messages [lo, hi).  Ends at the first one that is found bad without
 * an error, which becomes the reject; else applied becomes hi.
 */
static void
apply_piece(KiBatch *batch, int lo, int hi)
{
	int			i;

	ki_session_pin(batch->pipeline);
	ki_writer_begin(batch->writer, batch->relation,
					ki_setting_worker_memory_kb / 4);
	MemoryContextSwitchTo(ki_writer_row_context(batch->writer));
	for (i = lo; i < hi; i++)
	{
		KiFault		fault = {0};

		CHECK_FOR_INTERRUPTS();
		batch->current = i;
		batch->is_mapping = true;
		if (!work_on(batch, &batch->messages->items[i], &fault))
		{
			set_reject(batch, i, &fault);
			break;
		}
	}
	MemoryContextSwitchTo(batch->batch_context);
	batch->is_mapping = false;
	ki_writer_end(batch->writer);
	batch->result->applied = i;
}

/*
 * One attempt at [lo, hi) in a subtransaction; on an error everything it did
 * is undone, batch->error says why, and false is returned.  With is_probe it
 * is undone in any case.
 */
static bool
try_piece(KiBatch *batch, int lo, int hi, bool is_probe)
{
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool is_good = true;

	batch->result->has_reject = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(batch->batch_context);
	PG_TRY();
	{
		apply_piece(batch, lo, hi);
		if (is_probe)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(batch->batch_context);
		batch->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		is_good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(batch->batch_context);
	CurrentResourceOwner = owner;
	return is_good;
}

static void
reject_for_error(KiBatch *batch, int index, const ErrorData *error,
				 const char *column, const char *stage)
{
	KiFault		fault = {0};

	fault.sqlerrcode = error->sqlerrcode;
	fault.stage = stage;
	fault.column_name = error->column_name ? error->column_name : column;
	fault.constraint_name = error->constraint_name;
	set_reject(batch, index, &fault);
}

/* Does any message of [lo, hi) go through, of a few that are tried alone? */
static bool
another_succeeds(KiBatch *batch, int lo, int hi)
{
	int			step = Max((hi - lo) / MAX_PROBES, 1);

	for (int i = lo; i < hi; i += step)
	{
		if (try_piece(batch, i, i + 1, true))
		{
			if (!batch->result->has_reject && batch->fates[i] == KI_FATE_LOADED)
				return true;
		}
		else if (ki_error_class(batch->error->sqlerrcode) == KI_ERROR_PASSING)
			ki_error_rethrow(batch->error);
	}
	return false;
}

/* Message number index failed alone: is it to blame? */
static void
judge(KiBatch *batch, int index)
{
	ErrorData  *error = batch->error;
	const char *column = batch->is_mapping ?
	ki_map_current_column(batch->map) : NULL;
	const char *stage = batch->is_mapping ? KI_STAGE_MAP : KI_STAGE_WRITE;
	bool		is_to_blame = ki_error_class(error->sqlerrcode) == KI_ERROR_MESSAGE;

	for (int i = 0; i < index && !is_to_blame; i++)
		is_to_blame = batch->fates[i] == KI_FATE_LOADED;
	if (!is_to_blame &&
		!another_succeeds(batch, index + 1, batch->messages->count))
		ki_error_rethrow(error);
	reject_for_error(batch, index, error, column, stage);
}

/*
 * Apply [lo, hi) up to the first bad message.  Afterwards either there is a
 * reject, or all are applied.
 */
static void
isolate(KiBatch *batch, int lo, int hi)
{
	ErrorData  *error;
	int			mid = lo + (hi - lo) / 2;

	if (try_piece(batch, lo, hi, false))
		return;
	error = batch->error;
	if (ki_error_class(error->sqlerrcode) == KI_ERROR_PASSING)
		ki_error_rethrow(error);

	/* An input function failed: the culprit is known. */
	if (batch->is_mapping && ki_error_class(error->sqlerrcode) == KI_ERROR_MESSAGE)
	{
		int			culprit = batch->current;
		const char *column = ki_map_current_column(batch->map);

		if (culprit > lo)
			isolate(batch, lo, culprit);
		if (!batch->result->has_reject)
			reject_for_error(batch, culprit, error, column,
							 column ? KI_STAGE_MAP : KI_STAGE_DECODE);
	}
	else if (hi - lo == 1)
		judge(batch, lo);
	else
	{
		isolate(batch, lo, mid);
		if (!batch->result->has_reject)
			isolate(batch, mid, hi);
	}
}

/* Returns false, having done nothing, when the source must be opened anew. */
static bool
apply_rows(KiBatch *batch)
{
	open_target(batch);
	if (ki_map_wants_headers(batch->map) && !batch->had_headers)
	{
		close_target(batch);
		return false;
	}
	batch->fates = palloc0(batch->messages->count);
	batch->error = NULL;
	isolate(batch, 0, batch->messages->count);
	close_target(batch);
	return true;
}

/* ------------------------------------------------------------------------
 * The batch
 * ------------------------------------------------------------------------
 */

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
					  batch->fates, !result->has_reject);
	for (int i = 0; i < npositions; i++)
		result->loaded += advances->items[i].loaded;
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

	memset(result, 0, sizeof(KiBatchResult));
	MemoryContextReset(batch->batch_context);
	batch->messages = messages;
	batch->result = result;
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
		ki_advances_remember(&advances);
	MemoryContextSwitchTo(old);
	return outcome;
}
