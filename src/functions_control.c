/*
 * functions_control.c
 *	  SQL functions pause, resume, adopt, drop_pipeline.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "lock.h"
#include "owned.h"
#include "slot.h"
#include "target.h"

PG_FUNCTION_INFO_V1(kafka_ingest_pause);
PG_FUNCTION_INFO_V1(kafka_ingest_resume);
PG_FUNCTION_INFO_V1(kafka_ingest_adopt);
PG_FUNCTION_INFO_V1(kafka_ingest_drop_pipeline);

/* ------------------------------------------------------------------------
 * Pause and resume
 * ------------------------------------------------------------------------
 */
static void
pause_one(const char *name)
{
	KiPipeline *pipeline = ki_owned_lock(name);

	if (pipeline->paused)
		return;
	pipeline->paused = true;
	ki_pipeline_store(pipeline, true);
	ki_event_insert(pipeline, "pause", NULL);
	ki_slot_mark_changed();
}

static void
resume_one(const char *name)
{
	KiPipeline *pipeline = ki_owned_lock(name);

	/* What retries by itself at least need not wait any longer. */
	ki_slot_nudge(pipeline->id);
	ki_slot_mark_changed();
	if (!pipeline->paused && !pipeline->stop.reason)
		return;
	ki_event_insert(pipeline, "resume", pipeline->stop.reason);
	pipeline->paused = false;
	pipeline->stop.reason = NULL;
	pipeline->stop.detail = NULL;
	ki_pipeline_store(pipeline, true);
}

/* Apply to the named pipeline, or to all of mine, in order of name. */
static void
for_each(FunctionCallInfo fcinfo, void (*action) (const char *name))
{
	ListCell   *cell;

	if (!PG_ARGISNULL(0))
	{
		action(text_to_cstring(PG_GETARG_TEXT_PP(0)));
		return;
	}
	foreach(cell, ki_owned_all())
		action(((KiPipeline *) lfirst(cell))->name);
}

Datum
kafka_ingest_pause(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("pause()");
	for_each(fcinfo, pause_one);
	PG_RETURN_VOID();
}

Datum
kafka_ingest_resume(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("resume()");
	for_each(fcinfo, resume_one);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Adopt
 * ------------------------------------------------------------------------
 */

/* OIDs of a copy mean nothing here: find the owner again by its name. */
static void
resolve_owner(KiPipeline *pipeline)
{
	pipeline->owner = get_role_oid(pipeline->owner_name, true);
	if (!OidIsValid(pipeline->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("owner \"%s\" of pipeline \"%s\" does not exist here",
						pipeline->owner_name, pipeline->name),
				 errhint("Create the role, then adopt the pipeline.")));
	if (!ki_is_mine(pipeline))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of pipeline \"%s\"", pipeline->name)));
}

static void
resolve_target(KiPipeline *pipeline)
{
	Relation	target;
	bool		was_found_by_name;

	pipeline->target = InvalidOid;
	target = ki_target_open(pipeline, &was_found_by_name);
	pipeline->target = RelationGetRelid(target);
	relation_close(target, NoLock);
}

/* group_id NULL: it keeps its own. */
static void
adopt(KiPipeline *pipeline, char *group_id)
{
	ki_lock_pipeline(pipeline->id, true);
	pipeline = ki_pipeline_load(pipeline->id);
	if (!pipeline || ki_guard_matches(&pipeline->guard))
		return;					/* somebody else was faster */
	resolve_owner(pipeline);
	if (pipeline->target_name)
		resolve_target(pipeline);
	ki_guard_current(&pipeline->guard);
	if (group_id)
		pipeline->group_id = group_id;
	ki_pipeline_store(pipeline, true);
	ki_event_insert(pipeline, "adopt", group_id ?
					psprintf("with group \"%s\"", group_id) : NULL);
	ki_slot_mark_changed();
	if (!group_id && pipeline->group_id[0] != '\0')
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" publishes to group \"%s\", as the original does",
						pipeline->name, pipeline->group_id),
				 errhint("alter_pipeline(group_id => '') publishes nothing.")));
}

static void
adopt_all(char *group_id)
{
	ListCell   *cell;

	foreach(cell, ki_pipeline_all())
	{
		KiPipeline *pipeline = lfirst(cell);

		if (!ki_guard_matches(&pipeline->guard) && ki_is_mine(pipeline))
			adopt(pipeline, group_id);
	}
}

static void
adopt_one(const char *name, char *group_id)
{
	KiPipeline *pipeline = ki_pipeline_find(name);

	/* A copy's owner is found by adopting it. */
	if (pipeline && !ki_guard_matches(&pipeline->guard))
		adopt(pipeline, group_id);
	else
	{
		(void) ki_owned_find(name);
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" belongs to this database already", name),
				 group_id ? errhint("alter_pipeline() sets its group_id.") : 0));
	}
}

Datum
kafka_ingest_adopt(PG_FUNCTION_ARGS)
{
	char	   *group_id = PG_ARGISNULL(1) ? NULL :
	text_to_cstring(PG_GETARG_TEXT_PP(1));

	PreventCommandIfReadOnly("adopt()");
	if (PG_ARGISNULL(0) && group_id && group_id[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a group_id can only be given for one pipeline"),
				 errdetail("Pipelines of one group would overwrite each other's offsets."),
				 errhint("Name the pipeline, or use group_id => '' to publish nothing.")));
	if (PG_ARGISNULL(0))
		adopt_all(group_id);
	else
		adopt_one(text_to_cstring(PG_GETARG_TEXT_PP(0)), group_id);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Drop
 * ------------------------------------------------------------------------
 */

/* Return where it stood, and say it in the event too. */
static void
return_positions(FunctionCallInfo fcinfo, List *positions, StringInfo event)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *cell;

	foreach(cell, positions)
	{
		KiPositionRow *row = lfirst(cell);
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = CStringGetTextDatum(row->at.topic);
		values[1] = Int32GetDatum(row->at.partition);
		values[2] = Int64GetDatum(row->at.next_offset);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		appendStringInfo(event, "%s%s/%d at " INT64_FORMAT,
						 event->len ? ", " : "", row->at.topic,
						 row->at.partition, row->at.next_offset);
	}
}

/* They are the only copy of what could not be written. */
static void
drop_letters(const KiPipeline *pipeline, bool discard, StringInfo event)
{
	List	   *letters = ki_letter_all(pipeline->id);
	int			count = list_length(letters);
	ListCell   *cell;

	if (count > 0 && !discard)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg_plural("pipeline \"%s\" has %d open dead letter",
							   "pipeline \"%s\" has %d open dead letters",
							   count, pipeline->name, count),
				 errhint("Use retry_dead_letters(), or discard => true to lose them.")));
	foreach(cell, letters)
	{
		CHECK_FOR_INTERRUPTS();
		ki_letter_delete(lfirst(cell));
	}
	if (count > 0)
		appendStringInfo(event, "%s%s lost", event->len ? "; " : "",
						 ki_count_letters(count));
}

Datum
kafka_ingest_drop_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, 0, "name");
	KiPipeline *pipeline;
	StringInfoData event;

	PreventCommandIfReadOnly("drop_pipeline()");
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1) && !ki_pipeline_find(name))
	{
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" does not exist, skipping", name)));
		PG_RETURN_VOID();
	}
	pipeline = ki_owned_lock(name);
	initStringInfo(&event);
	return_positions(fcinfo, ki_position_all(pipeline->id), &event);
	drop_letters(pipeline, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2), &event);
	ki_event_insert(pipeline, "drop", event.data);
	(void) ki_position_delete_others(pipeline->id, NULL);
	ki_gap_delete_all(pipeline->id);
	ki_pipeline_delete(pipeline->id);
	ki_slot_mark_changed();
	PG_RETURN_VOID();
}
