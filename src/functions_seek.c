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
	KiOffset   *offsets;
	int			noffsets;
	KiStartPoint *points;		/* of all partitions */
	int			npoints;
	char	   *reason;			/* NULL: none given */
	bool		allow_duplicates;
	StringInfoData what;		/* for the event */
} Seek;

static void
refuse_what_comes_later(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(1) || !PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("seek() takes only start_offsets in this version"),
				 errhint("Use seek(name, start_offsets => '{\"0\": 100}').")));
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"start_offsets\" must not be null"),
				 errhint("Give offsets by partition, as in {\"0\": 100, \"1\": -50}.")));
}

/* Ask the broker where the given offsets lie, before anything is locked. */
static void
ask_broker(Seek *seek)
{
	KiSource   *source = ki_ask_open(seek->pipeline);
	KiStart		start = {0};
	bool		is_missing;

	start.offsets = seek->offsets;
	start.noffsets = seek->noffsets;
	seek->points = ki_ask_points(source, seek->pipeline, &start,
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
		old_offset <= point->stable_offset)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("seek of pipeline \"%s\" back to offset " INT64_FORMAT " of partition %d would load rows again",
						seek->pipeline->name, point->offset, point->partition),
				 errdetail("It stands at offset " INT64_FORMAT ".", old_offset),
				 errhint("Use allow_duplicates => true if that is meant.")));
}

static void
record_gap(const Seek *seek, const KiStartPoint *point, int64 old_offset)
{
	KiGap		gap = {0};

	if (old_offset < 0)
		old_offset = point->low_offset; /* it had not begun */
	if (point->offset <= old_offset)
		return;
	gap.topic = point->topic;
	gap.partition = point->partition;
	gap.from_offset = old_offset;
	gap.to_offset = point->offset - 1;
	gap.reason = "seek";
	gap.detail = seek->reason;
	ki_gap_insert(seek->pipeline->id, &gap);
}

static void
move_one(FunctionCallInfo fcinfo, Seek *seek, const KiOffset *offset)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const KiStartPoint *point = point_of(seek, offset->topic, offset->partition);
	KiPositionRow *row = ki_position_find(seek->pipeline->id, point->topic,
										  point->partition);
	int64		old_offset = row ? row->at.next_offset : -1;
	Datum		values[4];
	bool		nulls[4] = {false};

	check_move(seek, point, old_offset);
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

/* The place is a new one: what stopped for the old one may go on. */
static void
finish(Seek *seek)
{
	KiPipeline *pipeline = seek->pipeline;

	pipeline->stop.reason = NULL;
	pipeline->stop.detail = NULL;
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
	refuse_what_comes_later(fcinfo);
	InitMaterializedSRF(fcinfo, 0);
	seek.pipeline = ki_owned_find(name);
	seek.reason = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	seek.allow_duplicates = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	seek.offsets = ki_offsets_parse(PG_GETARG_JSONB_P(3), seek.pipeline->topic,
									"start_offsets", &seek.noffsets);
	if (seek.noffsets == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_offsets names no partition"),
				 errhint("Give offsets by partition, as in {\"0\": 100, \"1\": -50}.")));
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
	for (int i = 0; i < seek.noffsets; i++)
		move_one(fcinfo, &seek, &seek.offsets[i]);
	finish(&seek);
	PG_RETURN_VOID();
}
