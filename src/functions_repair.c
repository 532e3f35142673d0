/*
 * functions_repair.c
 *	  SQL functions retry_dead_letters and discard_dead_letters.
 *
 * Both hold the pipeline EXCLUSIVE, so that no batch adds or marks a letter
 * meanwhile, and commit with the caller.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "catalog.h"
#include "owned.h"
#include "session.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(kafka_ingest_retry_dead_letters);
PG_FUNCTION_INFO_V1(kafka_ingest_discard_dead_letters);

/* The ids that were asked for; all if none were. */
typedef struct Choice
{
	bool		is_all;
	int64	   *ids;			/* in growing order, each once */
	int			nids;
} Choice;

static int
compare_ids(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return (left > right) - (left < right);
}

static Choice
take_choice(FunctionCallInfo fcinfo, int arg)
{
	Choice		choice = {.is_all = PG_ARGISNULL(arg)};
	Datum	   *items;
	bool	   *nulls;
	int			count;

	if (choice.is_all)
		return choice;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &items, &nulls, &count);
	choice.ids = palloc(sizeof(int64) * Max(count, 1));
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			choice.ids[choice.nids++] = DatumGetInt64(items[i]);
	qsort(choice.ids, choice.nids, sizeof(int64), compare_ids);
	choice.nids = qunique(choice.ids, choice.nids, sizeof(int64), compare_ids);
	return choice;
}

static bool
is_chosen(const Choice *choice, int64 id)
{
	return choice->is_all ||
		bsearch(&id, choice->ids, choice->nids, sizeof(int64),
				compare_ids) != NULL;
}

/* Ids that are no open letters may be typing errors: say how many. */
static void
note_unknown(const KiPipeline *pipeline, const Choice *choice)
{
	int			unknown = choice->nids;
	ListCell   *cell;

	if (choice->is_all)
		return;
	foreach(cell, ki_letter_all(pipeline->id))
		unknown -= is_chosen(choice, ((KiLetterRow *) lfirst(cell))->id);
	if (unknown > 0)
		ereport(NOTICE,
				(errmsg_plural("%d of the ids is no open dead letter of pipeline \"%s\"",
							   "%d of the ids are no open dead letters of pipeline \"%s\"",
							   unknown, unknown, pipeline->name),
				 errhint("The view dead_letters shows the ids of those that are.")));
}

static KiPipeline *
lock_pipeline(FunctionCallInfo fcinfo)
{
	KiPipeline *pipeline = ki_owned_lock(ki_argument_text(fcinfo, 0, "name"));

	if (!ki_guard_matches(&pipeline->guard))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" belongs to another database, of which this one is a copy",
						pipeline->name),
				 errhint("adopt() makes it this one's.")));
	return pipeline;
}

/* ------------------------------------------------------------------------
 * Retry
 * ------------------------------------------------------------------------
 */
typedef struct Retry
{
	KiPipeline *pipeline;
	KiBatch    *batch;
	MemoryContext chunk;		/* what is tried together */
	bool		allow_stale;
	int64		retried;
	int64		loaded;
	int64		superseded;
	int64		failed;
	int64		keyless;		/* left alone */
} Retry;

/* The letters to try, in order of their places. */
static List *
choose(Retry *retry, const Choice *choice, int64 most)
{
	bool		is_upsert = ki_pipeline_is_upsert(retry->pipeline);
	List	   *chosen = NIL;
	ListCell   *cell;

	foreach(cell, ki_letter_all(retry->pipeline->id))
	{
		KiLetterRow *row = lfirst(cell);

		if (!is_chosen(choice, row->id))
			continue;
		if (row->is_superseded)
			retry->superseded++;
		else if (is_upsert && !row->has_key && !retry->allow_stale)
			retry->keyless++;
		else if (list_length(chosen) < most)
			chosen = lappend(chosen, row);
	}
	return chosen;
}

/* As many as a batch would hold, from the list's element "first" on. */
static KiMessages *
read_chunk(const Retry *retry, List *rows, int first)
{
	int			most = Min(list_length(rows) - first,
						   retry->pipeline->batch_max_messages);
	KiMessages *messages = palloc0(sizeof(KiMessages));
	int64		bytes = 0;

	messages->items = palloc(sizeof(KiMessage) * most);
	while (messages->count < most &&
		   bytes < (int64) ki_setting_worker_memory_kb * 1024 / 4)
	{
		KiLetterRow *row = list_nth(rows, first + messages->count);

		CHECK_FOR_INTERRUPTS();
		ki_letter_message(row, &messages->items[messages->count++]);
		bytes += row->bytes;
	}
	return messages;
}

/* Loaded ones go, failed ones stay with their new fault. */
static void
settle(Retry *retry, List *rows, int first, int count,
	   const KiLetter *letters, int nletters)
{
	int			next = 0;

	for (int i = 0; i < count; i++)
	{
		KiLetterRow *row = list_nth(rows, first + i);

		CHECK_FOR_INTERRUPTS();
		if (next < nletters && letters[next].index == i)
			ki_letter_fail_again(row, &letters[next++]);
		else
			ki_letter_delete(row);
	}
	Assert(next == nletters);
	CommandCounterIncrement();
}

static void
try_all(Retry *retry, List *rows)
{
	for (int first = 0; first < list_length(rows);)
	{
		MemoryContext old = MemoryContextSwitchTo(retry->chunk);
		KiMessages *messages = read_chunk(retry, rows, first);
		KiBatchResult result;
		const KiLetter *letters;

		letters = ki_batch_retry(retry->batch, messages, &result);
		settle(retry, rows, first, messages->count, letters,
			   (int) result.dead_letters);
		retry->retried += messages->count;
		retry->loaded += result.loaded;
		retry->failed += result.dead_letters;
		first += messages->count;
		MemoryContextSwitchTo(old);
		MemoryContextReset(retry->chunk);
	}
}

static void
record(const Retry *retry)
{
	if (retry->keyless > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld dead letter of pipeline \"%s\" was left alone",
							   "%lld dead letters of pipeline \"%s\" were left alone",
							   retry->keyless, (long long) retry->keyless,
							   retry->pipeline->name),
				 errdetail("It is not known whether a later message had the same key."),
				 errhint("Use allow_stale => true to load what may be stale.")));
	if (retry->retried > 0)
		ki_event_insert(retry->pipeline, "retry",
						psprintf("%s: " INT64_FORMAT " loaded, " INT64_FORMAT " failed again",
								 ki_count_letters(retry->retried),
								 retry->loaded, retry->failed));
}

static Datum
retry_result(FunctionCallInfo fcinfo, const Retry *retry)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(retry->retried);
	values[1] = Int64GetDatum(retry->loaded);
	values[2] = Int64GetDatum(retry->superseded);
	values[3] = Int64GetDatum(retry->failed);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
kafka_ingest_retry_dead_letters(PG_FUNCTION_ARGS)
{
	Retry		retry = {0};
	Choice		choice;
	int64		most = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT32(2);

	PreventCommandIfReadOnly("retry_dead_letters()");
	if (most < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_messages\" must be at least 1")));
	retry.pipeline = lock_pipeline(fcinfo);
	retry.allow_stale = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	choice = take_choice(fcinfo, 1);
	note_unknown(retry.pipeline, &choice);
	retry.chunk = AllocSetContextCreate(CurrentMemoryContext,
										"kafka_ingest dead letters",
										ALLOCSET_DEFAULT_SIZES);
	retry.batch = ki_batch_create_for_caller(retry.pipeline);
	ki_session_check_constraints(); /* the caller's own are not a letter's
									 * fault */
	try_all(&retry, choose(&retry, &choice, most));
	ki_batch_free(retry.batch);
	record(&retry);
	PG_RETURN_DATUM(retry_result(fcinfo, &retry));
}

/* ------------------------------------------------------------------------
 * Discard
 * ------------------------------------------------------------------------
 */

/* An interval before now; DT_NOEND: any time will do. */
static TimestampTz
take_limit(FunctionCallInfo fcinfo)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz limit;

	if (PG_ARGISNULL(2))
		return DT_NOEND;
	limit = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													TimestampTzGetDatum(now),
													PG_GETARG_DATUM(2)));
	if (limit > now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"older_than\" must not be negative")));
	return limit;
}

/* Letters come in order of their places: one gap for each stretch. */
static void
discard(const KiPipeline *pipeline, const KiLetterRow *row, KiGap *gap)
{
	bool		is_next = gap->topic && strcmp(gap->topic, row->topic) == 0 &&
	gap->partition == row->partition && row->message_offset <= gap->to_offset + 1;

	if (gap->topic && !is_next)
		ki_gap_insert(pipeline->id, gap);
	if (!is_next)
	{
		gap->topic = row->topic;
		gap->partition = row->partition;
		gap->from_offset = row->message_offset;
	}
	gap->to_offset = row->message_offset;
	ki_letter_delete(row);
}

Datum
kafka_ingest_discard_dead_letters(PG_FUNCTION_ARGS)
{
	KiPipeline *pipeline;
	Choice		choice;
	TimestampTz limit;
	KiGap		gap = {.reason = "discarded",.detail = "Dead letters that were discarded."};
	int64		count = 0;
	ListCell   *cell;

	PreventCommandIfReadOnly("discard_dead_letters()");
	pipeline = lock_pipeline(fcinfo);
	choice = take_choice(fcinfo, 1);
	note_unknown(pipeline, &choice);
	limit = take_limit(fcinfo);
	foreach(cell, ki_letter_all(pipeline->id))
	{
		KiLetterRow *row = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (!is_chosen(&choice, row->id) || row->first_failed_at >= limit)
			continue;
		discard(pipeline, row, &gap);
		count++;
	}
	if (gap.topic)
		ki_gap_insert(pipeline->id, &gap);
	CommandCounterIncrement();
	if (count > 0)
		ki_event_insert(pipeline, "discard", ki_count_letters(count));
	PG_RETURN_INT64(count);
}
