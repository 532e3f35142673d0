/*
 * functions_status.c
 *	  Rows of the views status, partition_status and recent_batches.
 *
 * They never ask the broker: the log's offsets are those the workers saw last,
 * and count for ten seconds.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "owned.h"
#include "slot.h"
#include "state.h"
#include "watermark.h"
#include "write.h"

PG_FUNCTION_INFO_V1(kafka_ingest_is_mine);
PG_FUNCTION_INFO_V1(kafka_ingest_status_rows);
PG_FUNCTION_INFO_V1(kafka_ingest_partition_status_rows);
PG_FUNCTION_INFO_V1(kafka_ingest_recent_batches_rows);
PG_FUNCTION_INFO_V1(kafka_ingest_recent_stages_rows);
PG_FUNCTION_INFO_V1(kafka_ingest_write_method);

#define LAG_IS_OLD_MS 10000

/* One row under construction. */
typedef struct Out
{
	Datum		values[32];
	bool		nulls[32];
	int			n;
} Out;

static void
put(Out *out, Datum value, bool isnull)
{
	out->values[out->n] = value;
	out->nulls[out->n] = isnull;
	out->n++;
}

static void
put_text(Out *out, const char *value)
{
	put(out, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

static void
put_int64(Out *out, int64 value, bool isnull)
{
	put(out, Int64GetDatum(value), isnull);
}

static void
put_time(Out *out, TimestampTz value)
{
	put(out, TimestampTzGetDatum(value), value == 0);
}

/* Milliseconds since 1970; negative: NULL. */
static void
put_message_time(Out *out, int64 timestamp_ms)
{
	TimestampTz at;
	bool		is_known = ki_time_from_ms(timestamp_ms, &at);

	put(out, TimestampTzGetDatum(at), !is_known);
}

static void
finish(FunctionCallInfo fcinfo, Out *out)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	Assert(out->n == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, out->values,
						 out->nulls);
}

/* Owners see theirs, members of pg_monitor see all. */
static List *
visible_pipelines(void)
{
	if (has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		return ki_pipeline_all();
	return ki_owned_all();
}

/* ------------------------------------------------------------------------
 * Lag
 * ------------------------------------------------------------------------
 */
typedef struct Lag
{
	bool		is_known;
	int64		lag;
	bool		has_headroom;
	int64		headroom;
	KiWatermark view;
} Lag;

static Lag
lag_of(const KiPipeline *pipeline, const KiPositionRow *row)
{
	Lag			lag = {0};

	lag.view.low_offset = lag.view.stable_offset = lag.view.high_offset = -1;
	if (!ki_watermark_get(MyDatabaseId, pipeline->id, row->at.topic,
						  row->at.partition, &lag.view))
		return lag;
	if (TimestampDifferenceExceeds(lag.view.at, GetCurrentTimestamp(),
								   LAG_IS_OLD_MS))
		return lag;
	lag.is_known = lag.view.stable_offset >= 0;
	lag.lag = Max(lag.view.stable_offset - row->at.next_offset, 0);
	lag.has_headroom = lag.view.low_offset >= 0;
	lag.headroom = row->at.next_offset - lag.view.low_offset;
	return lag;
}

/* ------------------------------------------------------------------------
 * status
 * ------------------------------------------------------------------------
 */
typedef struct Totals
{
	int			partitions;
	int64		messages;
	int64		loaded;
	int64		filtered;
	int64		ignored;
	int64		dead_letters;
	TimestampTz committed_at;
	int64		last_timestamp_ms;
	bool		is_lag_known;
	int64		lag;
	TimestampTz lag_at;
	bool		has_headroom;
	int64		headroom;
} Totals;

static void
add_lag(Totals *totals, const Lag *lag)
{
	totals->is_lag_known = totals->is_lag_known && lag->is_known;
	totals->lag += lag->lag;
	if (lag->view.at != 0 && (totals->lag_at == 0 || lag->view.at < totals->lag_at))
		totals->lag_at = lag->view.at;
	if (lag->has_headroom &&
		(!totals->has_headroom || lag->headroom < totals->headroom))
	{
		totals->has_headroom = true;
		totals->headroom = lag->headroom;
	}
}

static Totals
total(const KiPipeline *pipeline)
{
	Totals		totals = {0};
	ListCell   *cell;

	totals.is_lag_known = true;
	totals.last_timestamp_ms = -1;
	foreach(cell, ki_position_all(pipeline->id))
	{
		KiPositionRow *row = lfirst(cell);
		Lag			lag = lag_of(pipeline, row);
		bool		is_read = ki_pipeline_reads(pipeline, row->at.topic,
												row->at.partition);

		totals.partitions += is_read;
		totals.messages += row->messages;
		totals.loaded += row->loaded;
		totals.filtered += row->filtered;
		totals.ignored += row->ignored;
		totals.dead_letters += row->dead_letters;
		totals.committed_at = Max(totals.committed_at, row->committed_at);
		totals.last_timestamp_ms = Max(totals.last_timestamp_ms,
									   row->at.last_timestamp_ms);

		/* A topic that is gone has no lag. */
		if (is_read && !ki_pipeline_misses(pipeline, row->at.topic))
			add_lag(&totals, &lag);
	}
	totals.is_lag_known = totals.is_lag_known && totals.lag_at != 0;
	return totals;
}

/* 0 without lag, else the age of the last message applied. */
static void
put_time_lag(Out *out, const Totals *totals)
{
	Interval   *age = palloc0(sizeof(Interval));
	int64		now_ms = ki_time_to_ms(GetCurrentTimestamp());

	if (totals->lag > 0)
		age->time = (now_ms - totals->last_timestamp_ms) * 1000;
	put(out, IntervalPGetDatum(age), !totals->is_lag_known ||
		(totals->lag > 0 && totals->last_timestamp_ms < 0));
}

static void
put_pids(Out *out, const KiState *state)
{
	Datum	   *pids = palloc(sizeof(Datum) * (state->npids + 1));

	for (int i = 0; i < state->npids; i++)
		pids[i] = Int32GetDatum(state->pids[i]);
	put(out, Int32GetDatum(state->npids), false);
	put(out, PointerGetDatum(construct_array(pids, state->npids, INT4OID,
											 sizeof(int32), true,
											 TYPALIGN_INT)), false);
}

static void
status_row(FunctionCallInfo fcinfo, const KiPipeline *pipeline)
{
	Out			out = {0};
	KiState		state;
	Totals		totals = total(pipeline);
	bool		shows_errors = ki_is_mine(pipeline);
	int64		open_letters;
	int64		letter_bytes;

	ki_letter_sum(pipeline->id, &open_letters, &letter_bytes);
	ki_state_derive(pipeline, &state);
	if (state.detail == NULL && strcmp(state.state, "running") == 0)
		state.detail = ki_state_no_topic(pipeline);
	if (state.detail == NULL && strcmp(state.state, "running") == 0 &&
		totals.is_lag_known && totals.lag == 0)
		state.detail = ki_state_held_back(pipeline);
	put_text(&out, pipeline->name);
	put_text(&out, state.state);
	put_text(&out, state.reason);
	put_text(&out, state.detail);
	put_int64(&out, totals.lag, !totals.is_lag_known);
	put_time_lag(&out, &totals);
	put(&out, Float8GetDatum(state.messages_per_second), false);
	put_int64(&out, totals.messages, false);
	put_int64(&out, totals.loaded, false);
	put_int64(&out, totals.filtered, false);
	put_int64(&out, totals.ignored, false);
	put_int64(&out, open_letters, false);
	put_int64(&out, totals.dead_letters, false);
	put_int64(&out, ki_gap_count(pipeline->id), false);
	put_time(&out, totals.committed_at);
	put_message_time(&out, totals.last_timestamp_ms);
	put_text(&out, shows_errors ? state.last_error : NULL);
	put_time(&out, state.last_error_at);
	put_time(&out, state.next_retry_at);
	put_time(&out, state.since);
	put_pids(&out, &state);
	put(&out, Int32GetDatum(totals.partitions), false);
	put_time(&out, totals.lag_at);
	put_int64(&out, totals.headroom, !totals.has_headroom);
	finish(fcinfo, &out);
}

Datum
kafka_ingest_is_mine(PG_FUNCTION_ARGS)
{
	KiPipeline *pipeline = ki_pipeline_load(PG_GETARG_INT32(0));

	PG_RETURN_BOOL(pipeline && ki_is_mine(pipeline));
}

Datum
kafka_ingest_status_rows(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, visible_pipelines())
		status_row(fcinfo, lfirst(cell));
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * partition_status
 * ------------------------------------------------------------------------
 */
static void
partition_row(FunctionCallInfo fcinfo, const KiPipeline *pipeline,
			  const KiPositionRow *row)
{
	Out			out = {0};
	Lag			lag = lag_of(pipeline, row);
	int			pid = 0;

	if (ki_pipeline_reads(pipeline, row->at.topic, row->at.partition) &&
		!ki_pipeline_misses(pipeline, row->at.topic))
		pid = ki_state_worker_pid(pipeline, row->at.topic, row->at.partition);

	put_text(&out, pipeline->name);
	put_text(&out, row->at.topic);
	put(&out, Int32GetDatum(row->at.partition), false);
	put(&out, Int32GetDatum(pid), pid == 0);
	put_int64(&out, row->at.next_offset, false);
	put_int64(&out, lag.view.low_offset, lag.view.low_offset < 0);
	put_int64(&out, lag.view.stable_offset, lag.view.stable_offset < 0);
	put_int64(&out, lag.view.high_offset, lag.view.high_offset < 0);
	put_int64(&out, lag.lag, !lag.is_known);
	put_time(&out, lag.view.at);
	put_int64(&out, lag.headroom, !lag.has_headroom);
	put_int64(&out, row->messages, false);
	put_message_time(&out, row->at.last_timestamp_ms);
	put_time(&out, row->committed_at);
	finish(fcinfo, &out);
}

Datum
kafka_ingest_partition_status_rows(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, visible_pipelines())
	{
		KiPipeline *pipeline = lfirst(cell);
		ListCell   *position;

		foreach(position, ki_position_all(pipeline->id))
			partition_row(fcinfo, pipeline, lfirst(position));
	}
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * recent_batches
 * ------------------------------------------------------------------------
 */

/* The ranges of the topic whose name begins there. */
static void
append_ranges(StringInfo buf, const KiBatchReport *batch, int topic)
{
	const char *separator = "";

	appendStringInfo(buf, "\"%s\": {", batch->topics + topic);
	for (int i = 0; i < batch->nranges; i++)
	{
		const KiBatchRange *range = &batch->ranges[i];

		if (range->topic != topic)
			continue;
		appendStringInfo(buf, "%s\"%d\": [" INT64_FORMAT ", " INT64_FORMAT "]",
						 separator, range->partition, range->first_offset,
						 range->last_offset);
		separator = ", ";
	}
	appendStringInfoChar(buf, '}');
}

/* {"topic": {"0": [first, last], …}, …} */
static Datum
offsets_json(const KiBatchReport *batch)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int topic = 0; topic < batch->topics_len;
		 topic += strlen(batch->topics + topic) + 1)
	{
		if (topic > 0)
			appendStringInfoString(&buf, ", ");
		append_ranges(&buf, batch, topic);
	}
	appendStringInfoChar(&buf, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}

static void
batch_row(FunctionCallInfo fcinfo, const KiPipeline *pipeline,
		  const KiBatchReport *batch)
{
	Out			out = {0};

	put_text(&out, pipeline->name);
	put(&out, Int32GetDatum(batch->pid), false);
	put_time(&out, batch->finished_at);
	put(&out, offsets_json(batch), false);
	put_int64(&out, batch->messages, false);
	put_int64(&out, batch->loaded, false);
	put_int64(&out, batch->dead_letters, false);
	put_int64(&out, batch->bytes, false);
	put_message_time(&out, batch->first_timestamp_ms);
	put_message_time(&out, batch->last_timestamp_ms);
	put(&out, Float8GetDatum(batch->collect_ms), false);
	put(&out, Float8GetDatum(batch->apply_ms), false);
	put(&out, Float8GetDatum(batch->commit_ms), false);
	put_text(&out, batch->end_reason);
	finish(fcinfo, &out);
}

/* Where the time of a batch went: what is neither decoding nor mapping writes. */
static void
stages_row(FunctionCallInfo fcinfo, const KiPipeline *pipeline,
		   const KiBatchReport *batch)
{
	Out			out = {0};

	put_text(&out, pipeline->name);
	put(&out, Int32GetDatum(batch->pid), false);
	put_time(&out, batch->finished_at);
	put_int64(&out, batch->messages, false);
	put(&out, Float8GetDatum(batch->decode_ms), false);
	put(&out, Float8GetDatum(batch->map_ms), false);
	put(&out, Float8GetDatum(batch->apply_ms - batch->decode_ms - batch->map_ms),
		false);
	finish(fcinfo, &out);
}

/* A row for each recent batch of each pipeline that may be seen. */
static void
batch_rows(FunctionCallInfo fcinfo,
		   void (*row) (FunctionCallInfo, const KiPipeline *,
						const KiBatchReport *))
{
	KiBatchReport *batches = palloc(sizeof(KiBatchReport) * KI_RECENT_BATCHES);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, visible_pipelines())
	{
		KiPipeline *pipeline = lfirst(cell);

		for (int worker = 0; worker < pipeline->workers; worker++)
		{
			int			i = ki_slot_find(MyDatabaseId, pipeline->id, worker);
			int			count = i < 0 ? 0 : ki_slot_read_batches(i, batches);

			for (int k = 0; k < count; k++)
				row(fcinfo, pipeline, &batches[k]);
		}
	}
}

Datum
kafka_ingest_recent_batches_rows(PG_FUNCTION_ARGS)
{
	batch_rows(fcinfo, batch_row);
	PG_RETURN_VOID();
}

Datum
kafka_ingest_recent_stages_rows(PG_FUNCTION_ARGS)
{
	batch_rows(fcinfo, stages_row);
	PG_RETURN_VOID();
}

Datum
kafka_ingest_write_method(PG_FUNCTION_ARGS)
{
	KiWriteMethod method = ki_write_method(PG_GETARG_OID(0));

	PG_RETURN_TEXT_P(cstring_to_text(ki_write_method_name(method)));
}
