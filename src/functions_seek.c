/*
 * functions_seek.c
 *	  SQL function seek: move positions, and leave a record of it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "ask.h"
#include "catalog.h"
#include "owned.h"
#include "slot.h"
#include "topics.h"

PG_FUNCTION_INFO_V1(kafka_ingest_seek);

#define LONGEST_WAIT_MS 10000	/* for the broker's answers */

typedef struct Seek
{
	KiPipeline *pipeline;
	KiStart		start;
	KiStartPoint *points;		/* of all partitions */
	int			npoints;
	char	   *reason;			/* NULL: none given */
	bool		allow_duplicates;
	StringInfoData what;		/* for the event */
} Seek;

/* Exactly one of the three ways to say where. */
static void
check_ways(FunctionCallInfo fcinfo)
{
	int			ways = !PG_ARGISNULL(1) + !PG_ARGISNULL(2) + !PG_ARGISNULL(3);

	if (ways != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("seek() needs exactly one of start_from, start_timestamp and start_offsets"),
				 errhint("For example start_from => 'latest', or start_offsets => '{\"0\": 100, \"1\": -50}'.")));
}

static void
take_start(FunctionCallInfo fcinfo, Seek *seek)
{
	KiStart    *start = &seek->start;

	start->from = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (start->from && strcmp(start->from, "earliest") != 0 &&
		strcmp(start->from, "latest") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for argument \"start_from\": \"%s\"",
						start->from),
				 errhint("Valid values are: 'earliest', 'latest'.")));
	start->has_timestamp = !PG_ARGISNULL(2);
	if (start->has_timestamp)
		start->timestamp = PG_GETARG_TIMESTAMPTZ(2);
	if (start->has_timestamp && TIMESTAMP_NOT_FINITE(start->timestamp))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"start_timestamp\" must be finite"),
				 errhint("Use start_from => 'earliest' or 'latest'.")));
	if (PG_ARGISNULL(3))
		return;
	start->offsets = ki_offsets_parse(PG_GETARG_JSONB_P(3), seek->pipeline->topic,
									  "start_offsets", &start->noffsets);
	if (start->noffsets == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_offsets names no partition"),
				 errhint("Give offsets by partition, as in {\"0\": 100, \"1\": -50}.")));
}

/* Ask the broker where the start lies, before anything is locked. */
static void
ask_broker(Seek *seek)
{
	KiSource   *source = ki_ask_open(seek->pipeline);
	bool		is_missing;

	seek->points = ki_ask_points(source, seek->pipeline, &seek->start,
								 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
															 LONGEST_WAIT_MS),
								 &seek->npoints, &is_missing);
	if (!seek->points)
		ereport(ERROR,
				(errcode(is_missing ? ERRCODE_UNDEFINED_OBJECT :
						 ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 is_missing ?
				 errmsg("topic \"%s\" does not exist", seek->pipeline->topic) :
				 errmsg("the broker of connection \"%s\" did not tell the offsets of topic \"%s\"",
						seek->pipeline->connection, seek->pipeline->topic),
				 ki_source_trouble(source)->detail ?
				 errdetail_internal("%s", ki_source_trouble(source)->detail) : 0));
	ki_source_close(source);
}

static const KiStartPoint *
point_of(const Seek *seek, const char *topic, int32 partition)
{
	for (int i = 0; i < seek->npoints; i++)
		if (seek->points[i].partition == partition &&
			strcmp(seek->points[i].topic, topic) == 0)
			return &seek->points[i];
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("pipeline \"%s\" does not read partition %d of topic \"%s\"",
					seek->pipeline->name, partition, topic),
			 errdetail("There are %d partitions that it reads.", seek->npoints)));
	return NULL;				/* not reached */
}

/*
 * Does loading again change nothing?  A statement beside the target does what
 * it does twice.
 */
static bool
is_idempotent(const KiPipeline *pipeline)
{
	return strcmp(pipeline->mode, "append") != 0 && !pipeline->statement;
}

/*
 * Did it stop since the log is not the one that was read?  With several topics
 * only what ends before its position is known to be meant.
 */
static bool
is_another_log(const KiPipeline *pipeline, const KiStartPoint *point,
			   int64 old_offset)
{
	return pipeline->stop.reason &&
		strcmp(pipeline->stop.reason, "topic_recreated") == 0 &&
		(ki_topics_is_one(pipeline->topic) || old_offset > point->stable_offset);
}

static void
check_move(const Seek *seek, const KiStartPoint *point, int64 old_offset)
{
	if (point->offset > point->stable_offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset " INT64_FORMAT " is beyond the end of topic \"%s\" partition %d",
						point->offset, point->topic, point->partition),
				 errdetail("The partition ends at offset " INT64_FORMAT ".",
						   point->stable_offset)));
	if (point->offset < point->low_offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset " INT64_FORMAT " is before the beginning of topic \"%s\" partition %d",
						point->offset, point->topic, point->partition),
				 errdetail("The partition begins at offset " INT64_FORMAT ".",
						   point->low_offset)));
	if (point->offset < old_offset && !seek->allow_duplicates &&
		!is_idempotent(seek->pipeline) &&
		!is_another_log(seek->pipeline, point, old_offset) &&
		old_offset <= point->stable_offset)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("seek of pipeline \"%s\" back to offset " INT64_FORMAT " of partition %d would load rows again",
						seek->pipeline->name, point->offset, point->partition),
				 errdetail("It stands at offset " INT64_FORMAT ".", old_offset),
				 errhint("Use allow_duplicates => true if that is meant.")));
}

/*
 * What is jumped over.  Of a topic that was made again nothing has been read,
 * whatever the position says.
 */
static void
record_gap(const Seek *seek, const KiStartPoint *point, int64 old_offset)
{
	bool		is_another = is_another_log(seek->pipeline, point, old_offset);
	KiGap		gap = {0};

	gap.topic = point->topic;
	gap.partition = point->partition;
	gap.from_offset = old_offset < 0 || is_another ? point->low_offset : old_offset;
	gap.to_offset = point->offset - 1;
	gap.reason = is_another ? "topic_recreated" : "seek";
	gap.detail = seek->reason;
	if (gap.to_offset >= gap.from_offset)
		ki_gap_insert(seek->pipeline->id, &gap);
}

static void
move_one(FunctionCallInfo fcinfo, Seek *seek, const KiStartPoint *point)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	KiPositionRow *row = ki_position_find(seek->pipeline->id, point->topic,
										  point->partition);
	int64		old_offset = row ? row->at.next_offset : -1;
	Datum		values[4];
	bool		nulls[4] = {false};

	check_move(seek, point, old_offset);
	if (is_another_log(seek->pipeline, point, old_offset))
		ki_letter_forget_keys(seek->pipeline->id);	/* offsets begin anew */
	ki_position_move(seek->pipeline->id, point->topic, point->partition,
					 point->offset);
	record_gap(seek, point, old_offset);
	values[0] = CStringGetTextDatum(point->topic);
	values[1] = Int32GetDatum(point->partition);
	values[2] = Int64GetDatum(old_offset);
	nulls[2] = old_offset < 0;
	values[3] = Int64GetDatum(point->offset);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	appendStringInfoString(&seek->what, seek->what.len ? ", " : "");
	if (!ki_topics_is_one(seek->pipeline->topic))
		appendStringInfo(&seek->what, "topic \"%s\" ", point->topic);
	appendStringInfo(&seek->what, "partition %d from " INT64_FORMAT " to " INT64_FORMAT,
					 point->partition, old_offset, point->offset);
}

/* Move what was named, or everything. */
static void
move_all(FunctionCallInfo fcinfo, Seek *seek)
{
	const KiOffset *named = seek->start.offsets;

	for (int i = 0; i < seek->start.noffsets; i++)
		move_one(fcinfo, seek, point_of(seek, named[i].topic, named[i].partition));
	for (int i = 0; i < seek->npoints && seek->start.noffsets == 0; i++)
		move_one(fcinfo, seek, &seek->points[i]);
}

/*
 * The place is a new one: what stopped for the old one may go on.  Another
 * stop has nothing to do with it.
 */
static void
clear_stop(KiPipeline *pipeline)
{
	const char *reasons[] = {"offset_lost", "topic_recreated", "corrupt",
	"bad_message"};

	if (!pipeline->stop.reason)
		return;
	for (int i = 0; i < (int) lengthof(reasons); i++)
		if (strcmp(pipeline->stop.reason, reasons[i]) == 0)
		{
			pipeline->stop.reason = NULL;
			pipeline->stop.detail = NULL;
			return;
		}
	ki_note_stopped(pipeline);
}

static void
finish(Seek *seek)
{
	KiPipeline *pipeline = seek->pipeline;

	clear_stop(pipeline);
	pipeline->cluster_id = NULL;
	ki_pipeline_store(pipeline, true);
	if (seek->reason)
		appendStringInfo(&seek->what, ": %s", seek->reason);
	ki_event_insert(pipeline, "seek", seek->what.data);
	ki_slot_nudge(pipeline->id);
	ki_slot_mark_changed();
}

Datum
kafka_ingest_seek(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, 0, "name");
	Seek		seek = {0};
	KiPipeline *asked;

	PreventCommandIfReadOnly("seek()");
	check_ways(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	seek.pipeline = ki_owned_find(name);
	seek.reason = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	seek.allow_duplicates = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	take_start(fcinfo, &seek);
	initStringInfo(&seek.what);
	ask_broker(&seek);
	asked = seek.pipeline;
	seek.pipeline = ki_owned_lock(name);
	if (seek.pipeline->id != asked->id ||
		strcmp(seek.pipeline->topic, asked->topic) != 0 ||
		strcmp(seek.pipeline->connection, asked->connection) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("pipeline \"%s\" was changed while the broker was asked",
						name),
				 errhint("Call seek() again.")));
	move_all(fcinfo, &seek);
	finish(&seek);
	PG_RETURN_VOID();
}
