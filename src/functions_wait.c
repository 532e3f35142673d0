/*
 * functions_wait.c
 *	  SQL functions wait_until_caught_up and wait_for.
 *
 * They sleep until some pipeline commits, then look at the positions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "ask.h"
#include "catalog.h"
#include "owned.h"
#include "slot.h"
#include "state.h"

PG_FUNCTION_INFO_V1(kafka_ingest_wait_until_caught_up);
PG_FUNCTION_INFO_V1(kafka_ingest_wait_for);

/* A place that must be passed: next_offset must become at least this. */
typedef struct Goal
{
	const char *topic;			/* NULL: every topic that has the partition */
	int32		partition;
	int64		next_offset;
} Goal;

/* Waiting makes no sense while nothing will move by itself. */
static void
check_moves(const KiPipeline *pipeline)
{
	KiState		state;

	ki_state_derive(pipeline, &state);
	if (strcmp(state.state, "paused") != 0 &&
		strcmp(state.state, "stopped") != 0 &&
		strcmp(state.state, "waiting") != 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pipeline \"%s\" is %s%s%s", pipeline->name, state.state,
					state.reason ? ": " : "", state.reason ? state.reason : ""),
			 state.detail ? errdetail_internal("%s", state.detail) : 0,
			 strcmp(state.state, "paused") == 0 ?
			 errhint("resume() lets it go on.") :
			 strcmp(state.state, "stopped") == 0 ?
			 errhint("%s", ki_stop_hint(state.reason)) : 0));
}

/* Topics that are gone are not waited for by their number alone. */
static bool
is_meant(const KiPipeline *pipeline, const KiPositionRow *row, const Goal *goal)
{
	if (row->at.partition != goal->partition ||
		!ki_pipeline_reads(pipeline, row->at.topic, row->at.partition))
		return false;
	return goal->topic ? strcmp(row->at.topic, goal->topic) == 0 :
		!ki_pipeline_misses(pipeline, row->at.topic);
}

static bool
is_past(const KiPipeline *pipeline, List *rows, const Goal *goal)
{
	bool		is_there = false;
	ListCell   *cell;

	foreach(cell, rows)
	{
		KiPositionRow *row = lfirst(cell);

		if (!is_meant(pipeline, row, goal))
			continue;
		if (row->at.next_offset < goal->next_offset)
			return false;
		is_there = true;
	}
	return is_there;
}

static bool
is_reached(const KiPipeline *pipeline, const Goal *goals, int ngoals)
{
	List	   *rows = ki_position_all(pipeline->id);

	for (int i = 0; i < ngoals; i++)
		if (!is_past(pipeline, rows, &goals[i]))
			return false;
	return true;
}

/* One look; false: go on waiting. */
static bool
look(const char *name, const Goal *goals, int ngoals)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "kafka_ingest wait",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	KiPipeline *pipeline = ki_owned_find(name);
	bool		reached = is_reached(pipeline, goals, ngoals);

	if (!reached)
		check_moves(pipeline);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return reached;
}

static bool
wait_for_goals(const char *name, const Goal *goals, int ngoals,
			   TimestampTz deadline)
{
	bool		reached;

	ki_slot_prepare_wait();
	while (!(reached = look(name, goals, ngoals)))
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now >= deadline)
			break;

		/* States change without a commit, so look at them once a second. */
		ki_slot_wait_for_commit(Min(TimestampDifferenceMilliseconds(now, deadline) + 1,
									1000));
	}
	ki_slot_cancel_wait();
	return reached;
}

/* The ends of all partitions now, as goals; NULL: the time was over. */
static Goal *
ask_ends(const KiPipeline *pipeline, TimestampTz deadline, int *ngoals)
{
	KiSource   *source = ki_ask_open(pipeline);
	KiStart		end = {0};
	KiStartPoint *points;
	bool		is_missing;
	Goal	   *goals = NULL;

	end.from = "latest";
	*ngoals = 0;
	points = ki_ask_points(source, pipeline, &end, deadline, ngoals, &is_missing);
	if (points)
	{
		goals = palloc0(sizeof(Goal) * (*ngoals + 1));
		for (int i = 0; i < *ngoals; i++)
		{
			goals[i].topic = points[i].topic;
			goals[i].partition = points[i].partition;
			goals[i].next_offset = points[i].offset;
		}
	}
	else if (is_missing)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", pipeline->topic),
				 errhint("Pipeline \"%s\" begins to load when it does.",
						 pipeline->name)));
	else
		ereport(WARNING,
				(errmsg("the broker of connection \"%s\" did not tell the end of topic \"%s\" in time",
						pipeline->connection, pipeline->topic),
				 errdetail_internal("%s", ki_source_trouble(source)->detail ?
									ki_source_trouble(source)->detail : "No answer.")));
	ki_source_close(source);
	return goals;
}

static TimestampTz
deadline_of(FunctionCallInfo fcinfo, int n)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   ki_argument_ms(fcinfo, n, "timeout"));
}

Datum
kafka_ingest_wait_until_caught_up(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, 0, "name");
	TimestampTz deadline = deadline_of(fcinfo, 1);
	KiPipeline *pipeline = ki_owned_find(name);
	Goal	   *goals;
	int			ngoals;

	check_moves(pipeline);
	goals = ask_ends(pipeline, deadline, &ngoals);
	PG_RETURN_BOOL(goals && wait_for_goals(name, goals, ngoals, deadline));
}

Datum
kafka_ingest_wait_for(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, 0, "name");
	Goal		goal;
	TimestampTz deadline;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("arguments \"partition\" and \"message_offset\" must not be null")));
	goal.topic = NULL;
	goal.partition = PG_GETARG_INT32(1);
	if (goal.partition < 0 || PG_GETARG_INT64(2) < 0 ||
		PG_GETARG_INT64(2) == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition and message_offset must not be negative or too large")));
	goal.next_offset = PG_GETARG_INT64(2) + 1;
	deadline = deadline_of(fcinfo, 3);
	(void) ki_owned_find(name);
	PG_RETURN_BOOL(wait_for_goals(name, &goal, 1, deadline));
}
