/*
 * functions_pipeline.c
 *	  SQL functions create_pipeline and alter_pipeline.
 *
 * Both have the same arguments in the same order, up to the last ones.  An
 * option of a later version is refused (0A000) when it is set to anything but
 * its default, so that nobody believes it works.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "lock.h"
#include "owned.h"
#include "property.h"
#include "settings.h"
#include "slot.h"

PG_FUNCTION_INFO_V1(kafka_ingest_create_pipeline);
PG_FUNCTION_INFO_V1(kafka_ingest_alter_pipeline);

/* Arguments, in order. */
enum
{
	ARG_NAME, ARG_TOPIC, ARG_TARGET, ARG_STATEMENT, ARG_CONNECTION,
	ARG_FORMAT, ARG_FORMAT_OPTIONS, ARG_ENVELOPE, ARG_KEY_FORMAT, ARG_COLUMNS,
	ARG_FILTER, ARG_MODE, ARG_KEY_COLUMNS, ARG_NEWER_BY, ARG_ON_TOMBSTONE,
	ARG_DELETE_WHEN, ARG_ON_MISSING, ARG_ON_ERROR, ARG_MAX_ERROR_RATIO,
	ARG_START_FROM, ARG_START_TIMESTAMP, ARG_START_OFFSETS, ARG_START_GROUP,
	ARG_ON_OFFSET_LOST, ARG_PARTITIONS, ARG_WORKERS, ARG_BATCH_MAX_MESSAGES,
	ARG_BATCH_MAX_MS, ARG_MAX_MESSAGES_PER_SECOND, ARG_SEARCH_PATH,
	ARG_GROUP_ID, ARG_PROPERTIES, ARG_PAUSED,
	ARG_OR_ALTER,				/* create_pipeline */
	ARG_OWNER = ARG_OR_ALTER,	/* alter_pipeline */
	ARG_RESET
};

/* ------------------------------------------------------------------------
 * Refusals
 * ------------------------------------------------------------------------
 */

/* Options with words for values: those that work, and those that will. */
typedef struct Choice
{
	int			arg;
	const char *name;
	const char *const now[4];
	const char *const later[5];
} Choice;

static const Choice choices[] =
{
	{ARG_FORMAT, "format", {"json"}, {"text", "csv", "raw", "avro"}},
	{ARG_ENVELOPE, "envelope", {NULL}, {"debezium", "connect"}},
	{ARG_KEY_FORMAT, "key_format", {"text", "json"}, {"raw", "avro"}},
	{ARG_MODE, "mode", {"append"}, {"insert_ignore", "upsert"}},
	{ARG_ON_TOMBSTONE, "on_tombstone", {"skip", "error"}, {"delete"}},
	{ARG_ON_MISSING, "on_missing", {"default", "error"}, {"keep"}},
	{ARG_ON_ERROR, "on_error", {"dead_letter", "stop"}, {NULL}},
	{ARG_START_FROM, "start_from", {"earliest", "latest"}, {"committed"}},
	{ARG_ON_OFFSET_LOST, "on_offset_lost", {"stop"}, {"earliest", "latest"}},
};

/* Options that do nothing yet, and may only be left alone. */
static const struct
{
	int			arg;
	const char *name;
}			later_options[] =

{
	{ARG_STATEMENT, "statement"},
	{ARG_FILTER, "filter"},
	{ARG_KEY_COLUMNS, "key_columns"},
	{ARG_NEWER_BY, "newer_by"},
	{ARG_DELETE_WHEN, "delete_when"},
	{ARG_START_GROUP, "start_group"},
	{ARG_MAX_MESSAGES_PER_SECOND, "max_messages_per_second"},
};

/* Options of create_pipeline that have a default and so no meaning as NULL. */
static const struct
{
	int			arg;
	const char *name;
}			not_null_options[] =

{
	{ARG_CONNECTION, "connection"}, {ARG_FORMAT, "format"},
	{ARG_FORMAT_OPTIONS, "format_options"}, {ARG_ON_MISSING, "on_missing"},
	{ARG_ON_ERROR, "on_error"}, {ARG_MAX_ERROR_RATIO, "max_error_ratio"},
	{ARG_ON_OFFSET_LOST, "on_offset_lost"}, {ARG_WORKERS, "workers"},
	{ARG_BATCH_MAX_MESSAGES, "batch_max_messages"},
	{ARG_BATCH_MAX_MS, "batch_max_ms"}, {ARG_PROPERTIES, "properties"},
	{ARG_PAUSED, "paused"}, {ARG_OR_ALTER, "or_alter"},
};

static void
refuse_later(const char *option, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 value ? errmsg("%s => '%s' is not supported yet", option, value)
			 : errmsg("option \"%s\" is not supported yet", option),
			 errdetail("This is kafka_ingest %s.", KI_VERSION),
			 errhint("Leave the option at its default.")));
}

static bool
is_among(const char *value, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(value, *words) == 0)
			return true;
	return false;
}

static void
check_choice(const Choice *choice, const char *value)
{
	StringInfoData buf;

	if (is_among(value, choice->now))
		return;
	if (is_among(value, choice->later))
		refuse_later(choice->name, value);
	initStringInfo(&buf);
	for (int i = 0; choice->now[i]; i++)
		appendStringInfo(&buf, "%s'%s'", i ? ", " : "", choice->now[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", choice->name, value),
			 buf.len ? errhint("Valid values are: %s.", buf.data) :
			 errhint("Leave the option NULL in this version.")));
}

static void
refuse_what_comes_later(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < (int) lengthof(choices); i++)
		if (!PG_ARGISNULL(choices[i].arg))
			check_choice(&choices[i],
						 text_to_cstring(PG_GETARG_TEXT_PP(choices[i].arg)));
	for (int i = 0; i < (int) lengthof(later_options); i++)
		if (!PG_ARGISNULL(later_options[i].arg))
			refuse_later(later_options[i].name, NULL);
	if (!PG_ARGISNULL(ARG_FORMAT_OPTIONS) &&
		!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(ARG_FORMAT_OPTIONS)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"format_options\" must be a JSON object")));
	if (!PG_ARGISNULL(ARG_FORMAT_OPTIONS) &&
		JB_ROOT_COUNT(PG_GETARG_JSONB_P(ARG_FORMAT_OPTIONS)) != 0)
		refuse_later("format_options", NULL);
	if (!PG_ARGISNULL(ARG_GROUP_ID) &&
		VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(ARG_GROUP_ID)) != 0)
		refuse_later("group_id", NULL);
}

static void
refuse_nulls(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < (int) lengthof(not_null_options); i++)
		if (PG_ARGISNULL(not_null_options[i].arg))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null",
							not_null_options[i].name)));
}

/* ------------------------------------------------------------------------
 * Arguments into a pipeline
 * ------------------------------------------------------------------------
 */
static void
take_text(FunctionCallInfo fcinfo, int arg, char **field)
{
	if (!PG_ARGISNULL(arg))
		*field = text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static void
take_target(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	char	   *name;

	if (PG_ARGISNULL(ARG_TARGET))
		return;
	pipeline->target = PG_GETARG_OID(ARG_TARGET);
	name = get_rel_name(pipeline->target);
	if (!name)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("target with OID %u does not exist", pipeline->target)));
	pipeline->target_name = name;
	pipeline->target_schema = get_namespace_name(get_rel_namespace(pipeline->target));
}

/* At most one way to say where to start. */
static void
take_start(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	int			ways = !PG_ARGISNULL(ARG_START_FROM) +
	!PG_ARGISNULL(ARG_START_TIMESTAMP) + !PG_ARGISNULL(ARG_START_OFFSETS);

	if (ways > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_from, start_timestamp and start_offsets exclude each other")));
	pipeline->start_from = pstrdup("earliest");
	pipeline->has_start_timestamp = !PG_ARGISNULL(ARG_START_TIMESTAMP);
	pipeline->start_offsets = NULL;
	take_text(fcinfo, ARG_START_FROM, &pipeline->start_from);
	if (pipeline->has_start_timestamp)
		pipeline->start_timestamp = PG_GETARG_TIMESTAMPTZ(ARG_START_TIMESTAMP);
	if (!PG_ARGISNULL(ARG_START_OFFSETS))
		pipeline->start_offsets = PG_GETARG_JSONB_P_COPY(ARG_START_OFFSETS);
	pipeline->resolved = false;
	pipeline->cluster_id = NULL;
}

static void
take_sizes(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	if (!PG_ARGISNULL(ARG_MAX_ERROR_RATIO))
		pipeline->max_error_ratio = PG_GETARG_FLOAT4(ARG_MAX_ERROR_RATIO);
	if (!PG_ARGISNULL(ARG_PARTITIONS))
		pipeline->partitions = PG_GETARG_ARRAYTYPE_P_COPY(ARG_PARTITIONS);
	if (!PG_ARGISNULL(ARG_WORKERS))
		pipeline->workers = PG_GETARG_INT32(ARG_WORKERS);
	if (!PG_ARGISNULL(ARG_BATCH_MAX_MESSAGES))
		pipeline->batch_max_messages = PG_GETARG_INT32(ARG_BATCH_MAX_MESSAGES);
	if (!PG_ARGISNULL(ARG_BATCH_MAX_MS))
		pipeline->batch_max_ms = PG_GETARG_INT32(ARG_BATCH_MAX_MS);
}

/* What is the same for create and alter: whatever is given is taken. */
static void
take_options(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	take_text(fcinfo, ARG_TOPIC, &pipeline->topic);
	take_target(fcinfo, pipeline);
	take_text(fcinfo, ARG_CONNECTION, &pipeline->connection);
	take_text(fcinfo, ARG_FORMAT, &pipeline->format);
	take_text(fcinfo, ARG_KEY_FORMAT, &pipeline->key_format);
	if (!PG_ARGISNULL(ARG_COLUMNS))
		pipeline->columns = PG_GETARG_JSONB_P_COPY(ARG_COLUMNS);
	take_text(fcinfo, ARG_ON_TOMBSTONE, &pipeline->on_tombstone);
	take_text(fcinfo, ARG_ON_MISSING, &pipeline->on_missing);
	take_text(fcinfo, ARG_ON_ERROR, &pipeline->on_error);
	take_sizes(fcinfo, pipeline);
	take_text(fcinfo, ARG_SEARCH_PATH, &pipeline->search_path);
	take_text(fcinfo, ARG_GROUP_ID, &pipeline->group_id);
	if (!PG_ARGISNULL(ARG_PAUSED))
		pipeline->paused = PG_GETARG_BOOL(ARG_PAUSED);
}

static void
set_defaults(KiPipeline *pipeline)
{
	pipeline->format = pstrdup("json");
	pipeline->key_format = pstrdup("text");
	pipeline->columns = NULL;
	pipeline->on_tombstone = pstrdup("skip");
	pipeline->on_missing = pstrdup("default");
	pipeline->on_error = pstrdup("dead_letter");
	pipeline->max_error_ratio = 0.5;
	pipeline->partitions = NULL;
	pipeline->workers = 1;
	pipeline->batch_max_messages = 10000;
	pipeline->batch_max_ms = 200;
	pipeline->search_path = pstrdup(namespace_search_path);
	pipeline->properties = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															  CStringGetDatum("{}")));
}

static KiPipeline *
pipeline_from_arguments(FunctionCallInfo fcinfo)
{
	KiPipeline *pipeline = palloc0(sizeof(KiPipeline));

	pipeline->name = ki_argument_text(fcinfo, ARG_NAME, "name");
	(void) ki_argument_text(fcinfo, ARG_TOPIC, "topic");
	refuse_what_comes_later(fcinfo);
	refuse_nulls(fcinfo);
	if (PG_ARGISNULL(ARG_TARGET))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("pipeline \"%s\" has no target", pipeline->name),
				 errhint("Give the table to load, as in target => 'demo'.")));
	set_defaults(pipeline);
	pipeline->owner = GetUserId();
	pipeline->owner_name = GetUserNameFromId(pipeline->owner, false);
	pipeline->group_id = psprintf("kafka_ingest.%s.%s",
								  get_database_name(MyDatabaseId),
								  pipeline->name);
	take_options(fcinfo, pipeline);
	take_start(fcinfo, pipeline);
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
	return psprintf("reads %s from %s into %s", pipeline->topic, from,
					quote_qualified_identifier(pipeline->target_schema,
											   pipeline->target_name));
}

static void
note_on_error(const KiPipeline *pipeline)
{
	if (strcmp(pipeline->on_error, "dead_letter") == 0)
		ereport(NOTICE,
				(errmsg("there are no dead letters in this version: a bad message stops pipeline \"%s\"",
						pipeline->name)));
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
	note_on_error(pipeline);
}

/*
 * Another topic or another cluster: the old positions mean nothing there.
 * The gaps stay on record.
 */
static void
forget_positions(KiPipeline *pipeline)
{
	ki_position_delete_all(pipeline->id);
	pipeline->resolved = false;
	pipeline->cluster_id = NULL;
	pipeline->stop.reason = NULL;
	pipeline->stop.detail = NULL;
}

static void
store_changed(KiPipeline *pipeline, const char *what)
{
	ki_pipeline_check(pipeline);
	ki_pipeline_store(pipeline, true);
	ki_event_insert(pipeline, "alter", what);
	ki_slot_nudge(pipeline->id);
	ki_slot_mark_changed();
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
	pipeline->resolved = stored->resolved;
	pipeline->cluster_id = stored->cluster_id;
	pipeline->guard = stored->guard;
	pipeline->stop = stored->stop;
	if (pipeline->group_id[0] != '\0')
		pipeline->group_id = stored->group_id;
	store_changed(pipeline, "set by create_pipeline(or_alter => true)");
	note_on_error(pipeline);
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

/* Set one option back to its default; false: there is no such option. */
static bool
reset_option(KiPipeline *pipeline, const KiPipeline *defaults, const char *name)
{
	const char *nothing_to_do[] = {"format", "format_options", "statement",
		"envelope", "filter", "mode", "key_columns", "newer_by", "delete_when",
	"on_offset_lost", "max_messages_per_second", "start_group", NULL};

	if (strcmp(name, "columns") == 0)
		pipeline->columns = NULL;
	else if (strcmp(name, "partitions") == 0)
		pipeline->partitions = NULL;
	else if (strcmp(name, "key_format") == 0)
		pipeline->key_format = defaults->key_format;
	else if (strcmp(name, "on_tombstone") == 0)
		pipeline->on_tombstone = defaults->on_tombstone;
	else if (strcmp(name, "on_missing") == 0)
		pipeline->on_missing = defaults->on_missing;
	else if (strcmp(name, "on_error") == 0)
		pipeline->on_error = defaults->on_error;
	else if (strcmp(name, "max_error_ratio") == 0)
		pipeline->max_error_ratio = defaults->max_error_ratio;
	else if (strcmp(name, "workers") == 0)
		pipeline->workers = defaults->workers;
	else if (strcmp(name, "batch_max_messages") == 0)
		pipeline->batch_max_messages = defaults->batch_max_messages;
	else if (strcmp(name, "batch_max_ms") == 0)
		pipeline->batch_max_ms = defaults->batch_max_ms;
	else if (strcmp(name, "search_path") == 0)
		pipeline->search_path = defaults->search_path;
	else if (strcmp(name, "properties") == 0)
		pipeline->properties = defaults->properties;
	else if (strcmp(name, "group_id") == 0)
		pipeline->group_id = psprintf("kafka_ingest.%s.%s",
									  get_database_name(MyDatabaseId),
									  pipeline->name);
	else
		return is_among(name, nothing_to_do);
	return true;
}

static void
take_reset(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	KiPipeline	defaults = {0};
	Datum	   *names;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(ARG_RESET))
		return;
	set_defaults(&defaults);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(ARG_RESET), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *name = nulls[i] ? "NULL" : TextDatumGetCString(names[i]);

		if (!reset_option(pipeline, &defaults, name))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" cannot be reset", name),
					 errhint("reset takes names of options that have a default, such as columns or workers.")));
	}
}

/* A name that is removed must at least be one that could be there. */
static void
check_property_names(Jsonb *properties)
{
	ListCell   *cell;

	foreach(cell, ki_property_list(properties, "properties", true))
		ki_property_check_name(((DefElem *) lfirst(cell))->defname,
							   KI_PLACE_PIPELINE);
}

/* Merge key by key; JSON null removes. */
static void
merge_properties(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	Datum		merged;

	if (PG_ARGISNULL(ARG_PROPERTIES))
		return;
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(ARG_PROPERTIES)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"properties\" must be a JSON object")));
	check_property_names(PG_GETARG_JSONB_P(ARG_PROPERTIES));
	merged = DirectFunctionCall2(jsonb_concat,
								 JsonbPGetDatum(pipeline->properties),
								 PG_GETARG_DATUM(ARG_PROPERTIES));
	merged = DirectFunctionCall1(jsonb_strip_nulls, merged);
	pipeline->properties = DatumGetJsonbPCopy(merged);
}

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
	bool		has_start = !PG_ARGISNULL(ARG_START_FROM) ||
	!PG_ARGISNULL(ARG_START_TIMESTAMP) || !PG_ARGISNULL(ARG_START_OFFSETS);

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

/* Names of the arguments that were given, for the event. */
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
	ReleaseSysCache(tuple);
	return buf.data;
}

Datum
kafka_ingest_alter_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = ki_argument_text(fcinfo, ARG_NAME, "name");
	KiPipeline *pipeline;
	char	   *what;
	bool		is_moved;

	PreventCommandIfReadOnly("alter_pipeline()");
	refuse_what_comes_later(fcinfo);
	pipeline = ki_owned_lock(name);
	what = names_given(fcinfo);
	if (what[0] == '\0')
		PG_RETURN_VOID();
	is_moved = differs(fcinfo, ARG_TOPIC, pipeline->topic) ||
		differs(fcinfo, ARG_CONNECTION, pipeline->connection);
	check_move(fcinfo, pipeline, is_moved);
	take_reset(fcinfo, pipeline);
	take_options(fcinfo, pipeline);
	if (is_moved)
	{
		take_start(fcinfo, pipeline);
		forget_positions(pipeline);
	}
	merge_properties(fcinfo, pipeline);
	take_owner(fcinfo, pipeline);
	store_changed(pipeline, what);
	if (!PG_ARGISNULL(ARG_ON_ERROR))
		note_on_error(pipeline);
	PG_RETURN_VOID();
}
