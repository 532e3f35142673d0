/*
 * functions_options.c
 *	  The options of create_pipeline and alter_pipeline.
 *
 * An option of a later version is refused (0A000) when it is set to anything
 * but its default, so that nobody believes it works.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "functions_options.h"
#include "property.h"

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
	{ARG_MODE, "mode", {"append", "insert_ignore", "upsert"}, {NULL}},
	{ARG_ON_TOMBSTONE, "on_tombstone", {"delete", "skip", "error"}, {NULL}},
	{ARG_ON_MISSING, "on_missing", {"default", "keep", "error"}, {NULL}},
	{ARG_ON_ERROR, "on_error", {"dead_letter", "stop"}, {NULL}},
	{ARG_START_FROM, "start_from", {"earliest", "latest", "committed"}, {NULL}},
	{ARG_ON_OFFSET_LOST, "on_offset_lost", {"stop", "earliest", "latest"}, {NULL}},
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

void
ki_options_check(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < (int) lengthof(choices); i++)
		if (!PG_ARGISNULL(choices[i].arg))
			check_choice(&choices[i],
						 text_to_cstring(PG_GETARG_TEXT_PP(choices[i].arg)));
	if (!PG_ARGISNULL(ARG_FORMAT_OPTIONS) &&
		!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(ARG_FORMAT_OPTIONS)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"format_options\" must be a JSON object")));
	if (!PG_ARGISNULL(ARG_FORMAT_OPTIONS) &&
		JB_ROOT_COUNT(PG_GETARG_JSONB_P(ARG_FORMAT_OPTIONS)) != 0)
		refuse_later("format_options", NULL);
}

void
ki_options_refuse_nulls(FunctionCallInfo fcinfo)
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

bool
ki_options_has_start(FunctionCallInfo fcinfo)
{
	return !PG_ARGISNULL(ARG_START_FROM) ||
		!PG_ARGISNULL(ARG_START_TIMESTAMP) || !PG_ARGISNULL(ARG_START_OFFSETS);
}

/* At most one way to say where to start. */
void
ki_options_take_start(FunctionCallInfo fcinfo, KiPipeline *pipeline)
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
	pipeline->start_group = NULL;
	take_text(fcinfo, ARG_START_FROM, &pipeline->start_from);
	take_text(fcinfo, ARG_START_GROUP, &pipeline->start_group);
	if (pipeline->has_start_timestamp)
		pipeline->start_timestamp = PG_GETARG_TIMESTAMPTZ(ARG_START_TIMESTAMP);
	if (!PG_ARGISNULL(ARG_START_OFFSETS))
		pipeline->start_offsets = PG_GETARG_JSONB_P_COPY(ARG_START_OFFSETS);
	pipeline->resolved = false;
	pipeline->cluster_id = NULL;
}

/* 0 stands for no limit in a pipeline, and so is none here. */
static void
take_rate(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	pipeline->max_messages_per_second = PG_GETARG_INT32(ARG_MAX_MESSAGES_PER_SECOND);
	if (pipeline->max_messages_per_second <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_messages_per_second\" is out of range: %d",
						pipeline->max_messages_per_second),
				 errdetail("It must be at least 1."),
				 errhint("Leave it NULL for no limit.")));
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
	if (!PG_ARGISNULL(ARG_MAX_MESSAGES_PER_SECOND))
		take_rate(fcinfo, pipeline);
}

static void
take_jsonb(FunctionCallInfo fcinfo, int arg, Jsonb **field)
{
	if (!PG_ARGISNULL(arg))
		*field = PG_GETARG_JSONB_P_COPY(arg);
}

/* How rows are made and written. */
static void
take_writing(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	take_jsonb(fcinfo, ARG_COLUMNS, &pipeline->columns);
	take_jsonb(fcinfo, ARG_FILTER, &pipeline->filter);
	take_text(fcinfo, ARG_MODE, &pipeline->mode);
	if (!PG_ARGISNULL(ARG_KEY_COLUMNS))
		pipeline->key_columns = PG_GETARG_ARRAYTYPE_P_COPY(ARG_KEY_COLUMNS);
	take_text(fcinfo, ARG_NEWER_BY, &pipeline->newer_by);
	take_text(fcinfo, ARG_ON_TOMBSTONE, &pipeline->on_tombstone);
	take_jsonb(fcinfo, ARG_DELETE_WHEN, &pipeline->delete_when);
	take_text(fcinfo, ARG_ON_MISSING, &pipeline->on_missing);
	take_text(fcinfo, ARG_ON_ERROR, &pipeline->on_error);
}

void
ki_options_take(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	take_text(fcinfo, ARG_TOPIC, &pipeline->topic);
	take_target(fcinfo, pipeline);
	take_text(fcinfo, ARG_STATEMENT, &pipeline->statement);
	take_text(fcinfo, ARG_CONNECTION, &pipeline->connection);
	take_text(fcinfo, ARG_FORMAT, &pipeline->format);
	take_text(fcinfo, ARG_KEY_FORMAT, &pipeline->key_format);
	take_writing(fcinfo, pipeline);
	take_text(fcinfo, ARG_ON_OFFSET_LOST, &pipeline->on_offset_lost);
	take_sizes(fcinfo, pipeline);
	take_text(fcinfo, ARG_SEARCH_PATH, &pipeline->search_path);
	take_text(fcinfo, ARG_GROUP_ID, &pipeline->group_id);
	if (!PG_ARGISNULL(ARG_PAUSED))
		pipeline->paused = PG_GETARG_BOOL(ARG_PAUSED);
}

void
ki_options_set_defaults(KiPipeline *pipeline)
{
	pipeline->format = pstrdup("json");
	pipeline->key_format = pstrdup("text");
	pipeline->mode = pstrdup("append");
	pipeline->on_missing = pstrdup("default");
	pipeline->on_error = pstrdup("dead_letter");
	pipeline->on_offset_lost = pstrdup("stop");
	pipeline->max_error_ratio = 0.5;
	pipeline->workers = 1;
	pipeline->batch_max_messages = 10000;
	pipeline->batch_max_ms = 200;
	pipeline->search_path = pstrdup(namespace_search_path);
	pipeline->group_id = psprintf("kafka_ingest.%s.%s",
								  get_database_name(MyDatabaseId),
								  pipeline->name);
	pipeline->properties = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															  CStringGetDatum("{}")));
}

/* ------------------------------------------------------------------------
 * Reset
 * ------------------------------------------------------------------------
 */

/* Fields of a pipeline that reset sets back, by the option's name. */
static const struct
{
	const char *name;
	size_t		offset;
	size_t		size;
}			resettable[] =

{
#define OPTION(field) \
	{#field, offsetof(KiPipeline, field), sizeof(((KiPipeline *) NULL)->field)}
	OPTION(statement), OPTION(format), OPTION(key_format), OPTION(columns),
	OPTION(filter), OPTION(mode), OPTION(key_columns), OPTION(newer_by),
	OPTION(on_tombstone), OPTION(delete_when), OPTION(on_missing),
	OPTION(on_error), OPTION(max_error_ratio), OPTION(on_offset_lost),
	OPTION(start_group), OPTION(partitions), OPTION(workers),
	OPTION(batch_max_messages), OPTION(batch_max_ms),
	OPTION(max_messages_per_second),
	OPTION(search_path), OPTION(group_id), OPTION(properties)
#undef OPTION
};

/* Set one option back to its default; false: there is no such option. */
static bool
reset_option(KiPipeline *pipeline, const KiPipeline *defaults, const char *name)
{
	const char *always_default[] = {"format_options", "envelope", NULL};

	for (int i = 0; i < (int) lengthof(resettable); i++)
	{
		if (strcmp(resettable[i].name, name) != 0)
			continue;
		memcpy((char *) pipeline + resettable[i].offset,
			   (const char *) defaults + resettable[i].offset,
			   resettable[i].size);
		return true;
	}
	if (strcmp(name, "target") != 0)
		return is_among(name, always_default);
	pipeline->target = InvalidOid;
	pipeline->target_schema = pipeline->target_name = NULL;
	return true;
}

void
ki_options_reset(FunctionCallInfo fcinfo, KiPipeline *pipeline)
{
	KiPipeline	defaults = {0};
	Datum	   *names;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(ARG_RESET))
		return;
	defaults.name = pipeline->name;
	ki_options_set_defaults(&defaults);
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
void
ki_options_merge_properties(FunctionCallInfo fcinfo, KiPipeline *pipeline)
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
