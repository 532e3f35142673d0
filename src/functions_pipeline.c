/*
 * functions_pipeline.c
 *	  SQL functions create_pipeline and alter_pipeline.
 *
 * Both have the same arguments in the same order, up to the last ones; see
 * functions_options.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "functions_options.h"
#include "lock.h"
#include "owned.h"
#include "property.h"
#include "settings.h"
#include "slot.h"

PG_FUNCTION_INFO_V1(kafka_ingest_create_pipeline);
PG_FUNCTION_INFO_V1(kafka_ingest_alter_pipeline);

static KiPipeline *
pipeline_from_arguments(FunctionCallInfo fcinfo)
{
	KiPipeline *pipeline = palloc0(sizeof(KiPipeline));

	pipeline->name = ki_argument_text(fcinfo, ARG_NAME, "name");
	(void) ki_argument_text(fcinfo, ARG_TOPIC, "topic");
	ki_options_check(fcinfo);
	ki_options_refuse_nulls(fcinfo);
	pipeline->owner = GetUserId();
	pipeline->owner_name = GetUserNameFromId(pipeline->owner, false);
	ki_options_set_defaults(pipeline);
	ki_options_take(fcinfo, pipeline);
	ki_options_take_start(fcinfo, pipeline);
	pipeline->properties = PG_GETARG_JSONB_P_COPY(ARG_PROPERTIES);
	ki_guard_current(&pipeline->guard);
	return pipeline;
}

/* ------------------------------------------------------------------------
 * Create
 * ------------------------------------------------------------------------
 */
static void
check_count(const KiPipeline *pipeline)
{
	if (ki_setting_max_pipelines_per_role >= 0 && !superuser() &&
		ki_pipeline_count_of(pipeline->owner) >= ki_setting_max_pipelines_per_role)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has as many pipelines as it may",
						pipeline->owner_name),
				 errdetail("The setting kafka_ingest.max_pipelines_per_role is %d.",
						   ki_setting_max_pipelines_per_role)));
}

static char *
describe(const KiPipeline *pipeline)
{
	const char *from = pipeline->start_from;

	if (pipeline->start_offsets)
		from = "the given offsets";
	else if (pipeline->has_start_timestamp)
		from = timestamptz_to_str(pipeline->start_timestamp);
	else if (strcmp(from, "committed") == 0)
		from = psprintf("what group \"%s\" has committed",
						pipeline->start_group ? pipeline->start_group :
						pipeline->group_id);
	return psprintf("reads %s from %s into %s", pipeline->topic, from,
					pipeline->target_name ?
					quote_qualified_identifier(pipeline->target_schema,
											   pipeline->target_name) :
					"its statement");
}

static void
create(KiPipeline *pipeline)
{
	check_count(pipeline);
	ki_pipeline_check(pipeline);
	ki_pipeline_insert(pipeline);
	ki_event_insert(pipeline, "create", describe(pipeline));
	ki_slot_mark_changed();
	ereport(NOTICE, (errmsg("%s", describe(pipeline))));
}

/*
 * Another topic or another cluster: the old positions mean nothing there.
 * Topics that stay, at the same cluster, are read on: to load them again is
 * what seek() is for.  The gaps stay on record.
 */
static void
forget_positions(KiPipeline *pipeline, bool is_same_connection)
{
	if (ki_position_delete_others(pipeline->id,
								  is_same_connection ? pipeline->topic : NULL))
		ki_letter_forget_keys(pipeline->id);
	pipeline->resolved = false;
	pipeline->vanished_topics = NULL;
	pipeline->cluster_id = NULL;
	pipeline->stop.reason = NULL;
	pipeline->stop.detail = NULL;
}

/*
 * Only upserts mark letters whose key had a later message; what is open when a
 * pipeline becomes one may be stale, and is retried only if that is allowed.
 */
static void
note_mode(const KiPipeline *pipeline, const char *old_mode)
{
	if (ki_pipeline_is_upsert(pipeline) && strcmp(old_mode, "upsert") != 0)
		ki_letter_forget_keys(pipeline->id);
}

static void
store_changed(KiPipeline *pipeline, const char *what)
{
	ki_pipeline_check(pipeline);
	ki_pipeline_store(pipeline, true);
	ki_event_insert(pipeline, "alter", what);
	ki_slot_nudge(pipeline->id);
	ki_slot_mark_changed();
	ki_note_stopped(pipeline);
}

/* or_alter: exactly these arguments, but the place stays. */
static void
replace(KiPipeline *pipeline)
{
	KiPipeline *stored = ki_owned_lock(pipeline->name);

	if (strcmp(stored->topic, pipeline->topic) != 0 ||
		strcmp(stored->connection, pipeline->connection) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" exists with another topic or connection",
						pipeline->name),
				 errhint("Use alter_pipeline, which says where to start there.")));
	pipeline->id = stored->id;
	pipeline->version = stored->version;
	pipeline->owner = stored->owner;
	pipeline->owner_name = stored->owner_name;
	pipeline->created_at = stored->created_at;
	pipeline->start_from = stored->start_from;
	pipeline->has_start_timestamp = stored->has_start_timestamp;
	pipeline->start_timestamp = stored->start_timestamp;
	pipeline->start_offsets = stored->start_offsets;
	pipeline->start_group = stored->start_group;
	pipeline->resolved = stored->resolved;
	pipeline->vanished_topics = stored->vanished_topics;
	pipeline->cluster_id = stored->cluster_id;
	pipeline->guard = stored->guard;
	note_mode(pipeline, stored->mode);
	pipeline->stop = stored->stop;
	if (pipeline->group_id[0] != '\0')
		pipeline->group_id = stored->group_id;
	store_changed(pipeline, "set by create_pipeline(or_alter => true)");
}

Datum
kafka_ingest_create_pipeline(PG_FUNCTION_ARGS)
{
	KiPipeline *pipeline = pipeline_from_arguments(fcinfo);

	PreventCommandIfReadOnly("create_pipeline()");
	if (!ki_pipeline_find(pipeline->name))
		create(pipeline);
	else if (PG_GETARG_BOOL(ARG_OR_ALTER))
		replace(pipeline);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("pipeline \"%s\" already exists", pipeline->name),
				 errhint("Use alter_pipeline, or or_alter => true.")));
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * Alter
 * ------------------------------------------------------------------------
 */

static void
take_owner(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	char	   *name;
	Oid			owner;

	if (PG_ARGISNULL(ARG_OWNER))
		return;
	name = text_to_cstring(PG_GETARG_TEXT_PP(ARG_OWNER));
	owner = get_role_oid(name, false);
	ki_check_can_give_to(GetUserId(), owner);
	pipeline->owner = owner;
	pipeline->owner_name = name;
}

/* A new topic or connection needs a start, and a start needs one of them. */
static void
check_move(FunctionCallInfo fcinfo, const KiPipeline *stored, bool is_moved)
{
	bool		has_start = ki_options_has_start(fcinfo);

	if (is_moved && !has_start)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a new topic or connection of pipeline \"%s\" needs a start",
						stored->name),
				 errhint("Add start_from, start_timestamp or start_offsets.")));
	if (has_start && !is_moved)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a start can only be given with a new topic or connection"),
				 errhint("Use seek() to move the positions of a pipeline.")));
}

static bool
differs(FunctionCallInfo fcinfo, int arg, const char *stored)
{
	return !PG_ARGISNULL(arg) &&
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(arg)), stored) != 0;
}

/* Names of the arguments that were given, for the event; reset is the last one. */
static char *
names_given(FunctionCallInfo fcinfo)
{
	StringInfoData buf;
	char	  **names;
	Oid		   *types;
	char	   *modes;
	HeapTuple	tuple = SearchSysCache1(PROCOID,
										ObjectIdGetDatum(fcinfo->flinfo->fn_oid));

	initStringInfo(&buf);
	(void) get_func_arg_info(tuple, &types, &names, &modes);
	for (int i = ARG_TOPIC; i < fcinfo->nargs; i++)
		if (!PG_ARGISNULL(i))
			appendStringInfo(&buf, "%s%s", buf.len ? ", " : "", names[i]);
	if (!PG_ARGISNULL(ARG_RESET))
		appendStringInfo(&buf, " %s",
						 OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(ARG_RESET)));
	ReleaseSysCache(tuple);
	return buf.data;
}

Datum
kafka_ingest_alter_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, ARG_NAME, "name");
	KiPipeline *pipeline;
	char	   *what;
	char	   *old_mode;
	char	   *old_connection;
	bool		is_moved;

	PreventCommandIfReadOnly("alter_pipeline()");
	ki_options_check(fcinfo);
	pipeline = ki_owned_lock(name);
	what = names_given(fcinfo);
	if (what[0] == '\0')
		PG_RETURN_VOID();
	is_moved = differs(fcinfo, ARG_TOPIC, pipeline->topic) ||
		differs(fcinfo, ARG_CONNECTION, pipeline->connection);
	check_move(fcinfo, pipeline, is_moved);
	old_mode = pipeline->mode;
	old_connection = pipeline->connection;
	ki_options_reset(fcinfo, pipeline);
	ki_options_take(fcinfo, pipeline);
	if (is_moved)
	{
		ki_options_take_start(fcinfo, pipeline);
		forget_positions(pipeline, strcmp(pipeline->connection, old_connection) == 0);
	}
	ki_options_merge_properties(fcinfo, pipeline);
	take_owner(fcinfo, pipeline);
	note_mode(pipeline, old_mode);
	store_changed(pipeline, what);
	PG_RETURN_VOID();
}
