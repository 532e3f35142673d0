/*
 * batch_retry.c
 *	  Dead letters through the stages once more, and messages tried without
 *	  leaving a trace.
 *
 * Both run in the caller's transaction and move no position.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

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

/* The transaction is the caller's, and nothing of ours begins or ends one. */
static void
begin_nothing(void)
{
}

KiBatch *
ki_batch_create_for_caller(const KiPipeline *pipeline)
{
	static const KiTransaction of_caller = {begin_nothing, begin_nothing, true};
	static const bool never = false;

	return ki_batch_create(pipeline, &of_caller, &never);
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
	result->loaded -= batch->ignored;
	result->dead_letters = batch->nletters;
	return batch->letters;
}

/* ------------------------------------------------------------------------
 * Preview
 * ------------------------------------------------------------------------
 */

/* The columns of the writer's row that are not left to their defaults. */
static Datum
row_to_jsonb(const KiBatch *batch, const KiRow *row)
{
	const AttrNumber *attnums;
	int			ncolumns = ki_map_columns(batch->map, &attnums);
	Datum	   *values = palloc(sizeof(Datum) * ncolumns);
	bool	   *nulls = palloc(sizeof(bool) * ncolumns);
	TupleDesc	desc;
	Datum		tuple;
	Datum		json;
	int			n = 0;

	for (int i = 0; i < ncolumns; i++)
		n += !row->absent[attnums[i] - 1];
	desc = CreateTemplateTupleDesc(n);
	n = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		int			attribute = attnums[i] - 1;

		if (row->absent[attribute])
			continue;
		values[n] = row->values[attribute];
		nulls[n++] = row->nulls[attribute];
		TupleDescCopyEntry(desc, n, RelationGetDescr(batch->relation),
						   attnums[i]);
	}
	tuple = HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
	json = DirectFunctionCall1(row_to_json, tuple);
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(TextDatumGetCString(json)));
}

typedef struct Look
{
	int			index;
	KiPreview  *preview;
	KiFault		fault;
} Look;

/* What happens to a message instead of becoming a new row; NULL: nothing. */
static const char *
note_of(const KiBatch *batch, const KiMessage *message, KiVerdict verdict)
{
	if (verdict == KI_VERDICT_FILTERED)
		return "the filter does not let this message in";
	if (message->value)
		return verdict == KI_VERDICT_DELETE ?
			"the row of this key is deleted" : NULL;
	return ki_pipeline_tombstone(batch->pipeline) == KI_TOMBSTONE_DELETE ?
		"a tombstone: the row of its key is deleted" :
		"a tombstone, which writes no row";
}

/* Decode and map a message, and keep what came of it. */
static void
look(KiBatch *batch, void *argument)
{
	Look	   *one = argument;
	const KiMessage *message = &batch->messages->items[one->index];
	KiDecoded  *decoded = ki_map_decode(batch->map, message, &one->fault);
	KiVerdict	verdict;
	KiRow	   *row;

	if (!decoded)
		return;
	verdict = ki_map_judge(batch->map, message, decoded);
	one->preview->note = note_of(batch, message, verdict);
	if (!batch->writer || verdict == KI_VERDICT_FILTERED ||
		(!message->value &&
		 ki_pipeline_tombstone(batch->pipeline) != KI_TOMBSTONE_DELETE))
		return;
	ki_writer_begin(batch->writer, batch->relation, 1, 1024, false);
	row = ki_writer_row(batch->writer);
	if (message->value && verdict != KI_VERDICT_DELETE ?
		ki_map_row(batch->map, message, decoded, row, &one->fault) :
		ki_map_key(batch->map, message, decoded, row, &one->fault))
		one->preview->row = row_to_jsonb(batch, row);
}

void
ki_batch_preview(KiBatch *batch, const KiMessages *messages, int index,
				 KiPreview *preview)
{
	MemoryContext old = CurrentMemoryContext;
	Look		one = {.index = index,.preview = preview};
	KiBatchResult result;
	KiSession	session;

	memset(preview, 0, sizeof(KiPreview));
	ki_batch_begin(batch, messages, &result);
	batch->is_retry = true;
	MemoryContextSwitchTo(batch->batch_context);
	ki_session_begin(&session, batch->pipeline);
	ki_batch_open_target(batch);
	batch->current = index;
	batch->is_mapping = true;
	ki_map_let_raise(batch->map, true);
	(void) ki_batch_attempt(batch, look, &one, true);
	ki_map_let_raise(batch->map, false);
	preview->is_bad = !ki_batch_try_alone(batch, index, &preview->letter);
	ki_batch_close_target(batch);
	ki_session_end(&session);
	MemoryContextSwitchTo(old);
}
