/*
 * functions_definition.c
 *	  SQL function pipeline_definition, and version.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "owned.h"
#include "rdkafka_alloc.h"
#include "source.h"

PG_FUNCTION_INFO_V1(kafka_ingest_pipeline_definition);
PG_FUNCTION_INFO_V1(kafka_ingest_version);

static void
add(StringInfo buf, const char *name, const char *value)
{
	appendStringInfo(buf, ",\n    %s => %s", name, quote_literal_cstr(value));
}

static void
add_if(StringInfo buf, const char *name, const char *value)
{
	if (value)
		add(buf, name, value);
}

/* Only what is not the default. */
static void
add_unless(StringInfo buf, const char *name, const char *value,
		   const char *default_value)
{
	if (strcmp(value, default_value) != 0)
		add(buf, name, value);
}

static void
add_int_unless(StringInfo buf, const char *name, int value, int default_value)
{
	if (value != default_value)
		appendStringInfo(buf, ",\n    %s => %d", name, value);
}

static char *
jsonb_text(Jsonb *value)
{
	return JsonbToCString(NULL, &value->root, VARSIZE(value));
}

static char *
array_text(ArrayType *array, Oid type)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	return OidOutputFunctionCall(output, PointerGetDatum(array));
}

static void
add_jsonb(StringInfo buf, const char *name, Jsonb *value)
{
	if (value)
		add(buf, name, jsonb_text(value));
}

/* Whatever DateStyle and TimeZone the session that reads it has. */
static char *
iso_time(TimestampTz timestamp)
{
	int			tz = 0;
	struct pg_tm tm;
	fsec_t		fsec;
	char		shown[MAXDATELEN + 1];

	if (timestamp2tm(timestamp, &tz, &tm, &fsec, NULL, pg_tzset("UTC")) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("start_timestamp is out of range")));
	EncodeDateTime(&tm, fsec, true, 0, NULL, USE_ISO_DATES, shown);
	return pstrdup(shown);
}

static void
add_start(StringInfo buf, const KiPipeline *pipeline)
{
	add_unless(buf, "start_from", pipeline->start_from, "earliest");
	if (pipeline->has_start_timestamp)
		add(buf, "start_timestamp", iso_time(pipeline->start_timestamp));
	add_jsonb(buf, "start_offsets", pipeline->start_offsets);
	add_if(buf, "start_group", pipeline->start_group);
	add_unless(buf, "on_offset_lost", pipeline->on_offset_lost, "stop");
}

static void
add_options(StringInfo buf, const KiPipeline *pipeline)
{
	add_unless(buf, "connection", pipeline->connection, "kafka");
	add_unless(buf, "format", pipeline->format, "json");
	add_unless(buf, "key_format", pipeline->key_format, "text");
	add_jsonb(buf, "columns", pipeline->columns);
	add_jsonb(buf, "filter", pipeline->filter);
	add_unless(buf, "mode", pipeline->mode, "append");
	if (pipeline->key_columns)
		add(buf, "key_columns", array_text(pipeline->key_columns, TEXTARRAYOID));
	add_if(buf, "newer_by", pipeline->newer_by);
	add_if(buf, "on_tombstone", pipeline->on_tombstone);
	add_jsonb(buf, "delete_when", pipeline->delete_when);
	add_unless(buf, "on_missing", pipeline->on_missing, "default");
	add_unless(buf, "on_error", pipeline->on_error, "dead_letter");
	if (pipeline->max_error_ratio != 0.5)
		appendStringInfo(buf, ",\n    max_error_ratio => %s",
						 DatumGetCString(DirectFunctionCall1(float4out,
															 Float4GetDatum(pipeline->max_error_ratio))));
	add_start(buf, pipeline);
	if (pipeline->partitions)
		add(buf, "partitions", array_text(pipeline->partitions, INT4ARRAYOID));
	add_int_unless(buf, "workers", pipeline->workers, 1);
	add_int_unless(buf, "batch_max_messages", pipeline->batch_max_messages, 10000);
	add_int_unless(buf, "batch_max_ms", pipeline->batch_max_ms, 200);
	add_int_unless(buf, "max_messages_per_second",
				   pipeline->max_messages_per_second, 0);
	add(buf, "search_path", pipeline->search_path);
	add_unless(buf, "group_id", pipeline->group_id,
			   psprintf("kafka_ingest.%s.%s", get_database_name(MyDatabaseId),
						pipeline->name));
	if (JB_ROOT_COUNT(pipeline->properties) != 0)
		add(buf, "properties", jsonb_text(pipeline->properties));
	if (pipeline->paused)
		appendStringInfoString(buf, ",\n    paused => true");
}

/* Under its present name, or the last one known. */
static void
add_target(StringInfo buf, const KiPipeline *pipeline)
{
	char	   *schema = get_namespace_name(get_rel_namespace(pipeline->target));
	char	   *name = get_rel_name(pipeline->target);

	if (pipeline->target_name)
		add(buf, "target",
			name ? quote_qualified_identifier(schema, name) :
			quote_qualified_identifier(pipeline->target_schema,
									   pipeline->target_name));
}

Datum
kafka_ingest_pipeline_definition(PG_FUNCTION_ARGS)
{
	KiPipeline *pipeline = ki_owned_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT kafka_ingest.create_pipeline(%s",
					 quote_literal_cstr(pipeline->name));
	add(&buf, "topic", pipeline->topic);
	add_target(&buf, pipeline);
	add_if(&buf, "statement", pipeline->statement);
	add_options(&buf, pipeline);
	appendStringInfoString(&buf, ");");
	PG_RETURN_TEXT_P(cstring_to_text(buf.data));
}

/* The version of the SQL objects, which may lag behind the library's. */
static char *
sql_version(void)
{
	Oid			extension = get_extension_oid("kafka_ingest", false);
	HeapTuple	tuple;
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	char	   *version = NULL;
	bool		isnull;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		version = TextDatumGetCString(heap_getattr(tuple,
												   Anum_pg_extension_extversion,
												   RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/*
 * What the client library can do, and how it was built in; a defect that a DBA
 * must know is named like a feature: these versions can crash, and so restart
 * the server, when a topic that is read is deleted and made again.
 */
static char *
features(void)
{
	int			major = 0;
	int			minor = 0;
	char	   *list = ki_source_library_features();

	(void) sscanf(ki_source_library_version(), "%d.%d", &major, &minor);
	if (major == 2 && minor >= 4 && minor < 10)
		list = psprintf("%s,unsafe_topic_recreation", list);
	return psprintf("%s,librdkafka=%s", list, ki_rdkafka_linkage());
}

Datum
kafka_ingest_version(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(KI_VERSION);
	values[1] = ki_text_or_null(sql_version(), &nulls[1]);
	values[2] = CStringGetTextDatum(ki_source_library_version());
	values[3] = DirectFunctionCall2Coll(text_to_array, C_COLLATION_OID,
										CStringGetTextDatum(features()),
										CStringGetTextDatum(","));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
