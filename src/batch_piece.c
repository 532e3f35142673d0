/*
 * batch_piece.c
 *	  The way of messages through the stages: decode, map, write.
 *
 * A message is found bad without an error, where its stage can tell, and
 * becomes a letter while the others of its piece go on; or an error is raised
 * and the piece is undone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "advance.h"
#include "batch_private.h"
#include "fault.h"
#include "settings.h"
#include "stage.h"

/* Every so many messages the time of each stage is taken. */
#define SAMPLE_EVERY 64

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

typedef struct Mapping
{
	const KiMessage *message;
	KiDecoded  *decoded;
	KiVerdict	verdict;
	KiFault    *fault;
	bool		is_good;
} Mapping;

/* Fill the writer's row; what deletes has only its key. */
static void
map_row(KiBatch *batch, void *argument)
{
	Mapping    *mapping = argument;
	KiRow	   *row = ki_writer_row(batch->writer);

	mapping->is_good = mapping->verdict == KI_VERDICT_DELETE ?
		ki_map_key(batch->map, mapping->message, mapping->decoded, row,
				   mapping->fault) :
		ki_map_row(batch->map, mapping->message, mapping->decoded, row,
				   mapping->fault);
}

/* An input function that raised before is given a subtransaction from then on. */
static bool
map_carefully(KiBatch *batch, Mapping *mapping)
{
	MemoryContext rows = CurrentMemoryContext;
	bool		is_done;

	ki_map_let_raise(batch->map, true);
	is_done = ki_batch_attempt(batch, map_row, mapping, false);
	ki_map_let_raise(batch->map, false);
	if (!is_done && ki_error_class(batch->error->sqlerrcode) != KI_ERROR_MESSAGE)
		ReThrowError(batch->error);
	if (!is_done)
		ki_batch_fault_of_error(batch, batch->error, mapping->fault,
								&batch->raised);
	MemoryContextSwitchTo(rows);
	return is_done && mapping->is_good;
}

static bool
map(KiBatch *batch, Mapping *mapping)
{
	map_row(batch, mapping);
	return mapping->is_good ||
		(mapping->fault->is_unsure && map_carefully(batch, mapping));
}

static bool
write_row(KiBatch *batch, const Mapping *mapping)
{
	batch->is_mapping = false;
	if (mapping->verdict == KI_VERDICT_DELETE ?
		!ki_writer_delete(batch->writer, mapping->fault) :
		!ki_writer_add(batch->writer, mapping->fault))
		return false;
	if (ki_writer_ran_code(batch->writer))
		ki_session_pin(batch->pipeline);
	return true;
}

/* What a message without a value leads to; false: it is bad. */
static bool
judge_tombstone(KiBatch *batch, KiVerdict *verdict, bool *is_skipped,
				KiFault *fault)
{
	switch (ki_pipeline_tombstone(batch->pipeline))
	{
		case KI_TOMBSTONE_ERROR:
			return ki_fault_set(fault, ERRCODE_NULL_VALUE_NOT_ALLOWED,
								KI_STAGE_DECODE, "the message is a tombstone");
		case KI_TOMBSTONE_SKIP:
			*is_skipped = batch->writer || batch->pipeline->on_tombstone;
			break;
		case KI_TOMBSTONE_DELETE:
			*verdict = KI_VERDICT_DELETE;
	}
	return true;
}

/* Decode, map and give one message to writer and statement; false: it is bad. */
static bool
work_on(KiBatch *batch, const KiMessage *message, int64 *nrows, KiFault *fault)
{
	bool		is_sampled = batch->current % SAMPLE_EVERY == 0;
	bool		is_skipped = false;
	Mapping		mapping = {.message = message,.fault = fault};

	if (is_sampled)
		INSTR_TIME_SET_CURRENT(batch->lap);
	mapping.decoded = ki_map_decode(batch->map, message, fault);
	if (!mapping.decoded)
		return false;
	if (is_sampled)
		add_lap(batch, &batch->result->decode_ms);
	mapping.verdict = ki_map_judge(batch->map, message, mapping.decoded);
	if (mapping.verdict == KI_VERDICT_FILTERED)
	{
		batch->fates[batch->current] = KI_FATE_FILTERED;
		return true;
	}
	if (!message->value &&
		!judge_tombstone(batch, &mapping.verdict, &is_skipped, fault))
		return false;
	batch->fates[batch->current] = is_skipped ? KI_FATE_IGNORED : KI_FATE_LOADED;
	if (is_skipped)
		return true;
	if (batch->writer && !map(batch, &mapping))
		return false;
	if (is_sampled)
		add_lap(batch, &batch->result->map_ms);
	if (batch->statement && !ki_statement_take(batch->statement, message, fault))
		return false;
	batch->rows[*nrows] = batch->current;
	if (batch->writer && !write_row(batch, &mapping))
		return false;
	*nrows += 1;
	if (batch->statement)
		ki_statement_add(batch->statement);
	return true;
}

/*
 * May rows be refused when later messages were taken already?  Not where these
 * might have to be taken back (on_error 'stop') or are in a statement's hands,
 * nor where a message is tried alone to learn what it raises.
 */
static bool
may_refuse_late(const KiBatch *batch, int count)
{
	return count > 1 && !batch->must_raise && !batch->statement &&
		(batch->is_retry || strcmp(batch->pipeline->on_error, "stop") != 0);
}

static void
begin_piece(KiBatch *batch, int count)
{
	int			memory_kb = ki_setting_worker_memory_kb / 4;

	ki_session_pin(batch->pipeline);
	if (batch->statement)
		ki_statement_begin(batch->statement, memory_kb);
	if (!batch->writer)
	{
		MemoryContextSwitchTo(batch->message_context);
		return;
	}
	ki_writer_begin(batch->writer, batch->relation, count, memory_kb,
					may_refuse_late(batch, count));
	MemoryContextSwitchTo(ki_writer_row_context(batch->writer));
}

static void
end_piece(KiBatch *batch)
{
	MemoryContextSwitchTo(batch->piece_context);
	batch->is_mapping = false;
	if (batch->writer)
	{
		ki_writer_end(batch->writer);
		batch->ignored += ki_writer_ignored(batch->writer);
	}
	if (!batch->statement)
		return;
	ki_session_pin(batch->pipeline);	/* after triggers */
	ki_statement_end(batch->statement);
}

/*
 * Rows refused late become letters, too.  If nothing may follow one of them,
 * the rest of the batch is worked on in the way that ends just before it.
 */
static void
bury_refused(KiBatch *batch, int first)
{
	const List *refused = batch->writer ? ki_writer_refused(batch->writer) : NIL;

	if (refused == NIL ||
		(!batch->result->stop_reason &&
		 ki_batch_bury_refused(batch, first, refused)))
		return;
	batch->must_raise = true;
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("nothing may follow one of the rows")));
}

void
ki_batch_apply_piece(KiBatch *batch, int lo, int hi)
{
	int64		nrows = 0;
	int			nletters = batch->nletters;
	int			i;

	begin_piece(batch, hi - lo);
	for (i = lo; i < hi; i++)
	{
		KiFault		fault = {0};

		CHECK_FOR_INTERRUPTS();
		if (!batch->writer)
			MemoryContextReset(batch->message_context);
		batch->current = i;
		batch->is_mapping = true;
		batch->raised = NULL;
		if (!work_on(batch, &batch->messages->items[i], &nrows, &fault) &&
			!ki_batch_bury(batch, i, &fault, batch->raised))
			break;
	}
	end_piece(batch);
	bury_refused(batch, nletters);
	batch->result->applied = i;
}

int
ki_batch_message_of_row(const KiBatch *batch, int64 row)
{
	return row < 0 ? -1 : batch->rows[row];
}
