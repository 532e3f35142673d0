/*
 * pipeline_check.c
 *	  What can be known of a pipeline without asking the broker is checked
 *	  when it is created or changed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "compat.h"
#include "connection.h"
#include "filter.h"
#include "key.h"
#include "map.h"
#include "offsets.h"
#include "owned.h"
#include "property.h"
#include "session.h"
#include "settings.h"
#include "source.h"
#include "statement.h"
#include "target.h"
#include "topics.h"

static void
check_name(const char *name)
{
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a pipeline must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name of pipeline \"%s\" is too long", name),
				 errdetail("It has %d bytes; the most is %d.",
						   (int) strlen(name), NAMEDATALEN - 1)));
}

static void
check_range(const char *option, int64 value, int64 least, int64 most)
{
	if (value < least || value > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is out of range: " INT64_FORMAT,
						option, value),
				 errdetail("It must be between " INT64_FORMAT " and " INT64_FORMAT ".",
						   least, most)));
}

static void
check_partitions(ArrayType *partitions)
{
	int			n;
	int32	   *items;

	if (!partitions)
		return;
	n = ArrayGetNItems(ARR_NDIM(partitions), ARR_DIMS(partitions));
	if (ARR_NDIM(partitions) != 1 || n == 0 || array_contains_nulls(partitions))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"partitions\" must be a list of partition numbers"),
				 errhint("Leave it NULL to read all partitions.")));
	items = (int32 *) ARR_DATA_PTR(partitions);
	for (int i = 0; i < n; i++)
	{
		check_range("partitions", items[i], 0, PG_INT32_MAX);
		for (int k = 0; k < i; k++)
			if (items[k] == items[i])
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"partitions\" names partition %d twice",
								items[i])));
	}
}

static void
check_sizes(const KiPipeline *pipeline)
{
	check_range("workers", pipeline->workers, 1, 256);
	check_range("batch_max_messages", pipeline->batch_max_messages, 1, 1000000);
	check_range("batch_max_ms", pipeline->batch_max_ms, 1, 3600 * 1000);
	if (!(pipeline->max_error_ratio > 0 && pipeline->max_error_ratio <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_error_ratio\" is out of range: %g",
						pipeline->max_error_ratio),
				 errdetail("It must be above 0 and at most 1.")));
	check_partitions(pipeline->partitions);
}

static void
check_start(const KiPipeline *pipeline)
{
	int			noffsets;

	if (pipeline->start_offsets)
		(void) ki_offsets_parse(pipeline->start_offsets, pipeline->topic,
								"start_offsets", &noffsets);
	if (pipeline->has_start_timestamp &&
		TIMESTAMP_NOT_FINITE(pipeline->start_timestamp))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"start_timestamp\" must be finite"),
				 errhint("Use start_from => 'earliest' or 'latest'.")));
}

/* Options that have no meaning without something that is not there. */
typedef struct Misfits
{
	const char *option;			/* the first; NULL: all fit */
	const char *needs;			/* what it needs */
	StringInfoData names;		/* all of them, for reset */
} Misfits;

/* An option, or option => 'value', and what it needs. */
static void
note_misfit(Misfits *misfits, bool is_set, const char *option, const char *needs)
{
	if (!is_set)
		return;
	if (!misfits->option)
	{
		misfits->option = option;
		misfits->needs = needs;
		initStringInfo(&misfits->names);
	}
	appendStringInfo(&misfits->names, "%s%.*s", misfits->names.len ? "," : "",
					 (int) strcspn(option, " "), option);
}

static void
refuse_misfits(const Misfits *misfits)
{
	if (misfits->option)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs %s", misfits->option,
						misfits->needs),
				 errhint("Leave it out, or set it back with alter_pipeline(reset => '{%s}').",
						 misfits->names.data)));
}

/* What a pipeline without a target has no use for. */
static void
check_target_fit(const KiPipeline *pipeline)
{
	Misfits		misfits = {0};

	if (!pipeline->target_name && !pipeline->statement)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("pipeline \"%s\" has neither a target nor a statement",
						pipeline->name),
				 errhint("Give the table to load, as in target => 'demo', or a statement to run.")));
	if (!pipeline->target_name)
		note_misfit(&misfits, pipeline->columns != NULL, "columns", "a target");
	note_misfit(&misfits, pipeline->statement &&
				strcmp(pipeline->mode, "insert_ignore") == 0, "statement",
				"another mode than 'insert_ignore', which does not tell it what was ignored");
	if (!pipeline->target_name)
	{
		note_misfit(&misfits, strcmp(pipeline->mode, "append") != 0, "mode",
					"a target");
		note_misfit(&misfits, strcmp(pipeline->on_missing, "default") != 0,
					"on_missing", "a target");
	}
	refuse_misfits(&misfits);
}

/* What has a meaning in another mode. */
static void
check_mode_fit(const KiPipeline *pipeline)
{
	Misfits		misfits = {0};

	note_misfit(&misfits, pipeline->key_columns &&
				strcmp(pipeline->mode, "append") == 0, "key_columns",
				"mode => 'upsert' or 'insert_ignore'");
	if (!ki_pipeline_is_upsert(pipeline))
	{
		note_misfit(&misfits, pipeline->newer_by != NULL, "newer_by",
					"mode => 'upsert'");
		note_misfit(&misfits, pipeline->delete_when != NULL, "delete_when",
					"mode => 'upsert'");
		note_misfit(&misfits, strcmp(pipeline->on_missing, "keep") == 0,
					"on_missing => 'keep'", "mode => 'upsert'");
		note_misfit(&misfits,
					ki_pipeline_tombstone(pipeline) == KI_TOMBSTONE_DELETE,
					"on_tombstone => 'delete'", "mode => 'upsert'");
	}
	refuse_misfits(&misfits);
}

static void
refuse_start(bool is_set, const char *option, const char *needs)
{
	if (is_set)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs %s", option, needs)));
}

/* What only has a meaning together with something else. */
static void
check_fit(const KiPipeline *pipeline)
{
	bool		is_committed = strcmp(pipeline->start_from, "committed") == 0;

	check_target_fit(pipeline);
	check_mode_fit(pipeline);
	refuse_start(!is_committed && pipeline->start_group, "start_group",
				 "start_from => 'committed'");
	refuse_start(is_committed && !pipeline->start_group &&
				 pipeline->group_id[0] == '\0',
				 "start_from => 'committed'", "a start_group");
}

/* A worker must be able to begin as the owner. */
static void
check_owner(const KiPipeline *pipeline)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID,
										ObjectIdGetDatum(pipeline->owner));
	bool		may_login;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for role %u", pipeline->owner);
	may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (KI_OWNER_NEEDS_LOGIN && !may_login)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role \"%s\" cannot own a pipeline: it may not log in",
						pipeline->owner_name),
				 errdetail("Before PostgreSQL 17 no background worker starts as such a role."),
				 errhint("ALTER ROLE ... LOGIN; it needs no password.")));
	if (ki_database_aclcheck(MyDatabaseId, pipeline->owner,
							 ACL_CONNECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" cannot own a pipeline: it may not connect to this database",
						pipeline->owner_name),
				 errhint("GRANT CONNECT ON DATABASE to the role.")));
}

static void
check_properties(Jsonb *properties)
{
	ListCell   *cell;

	foreach(cell, ki_property_list(properties, "properties", false))
	{
		DefElem    *property = lfirst(cell);
		char	   *value = strVal(property->arg);
		char	   *complaint;

		ki_property_check(property->defname, value, KI_PLACE_PIPELINE);
		complaint = ki_source_property_complaint(property->defname, value);
		if (complaint)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for property \"%s\"",
							property->defname),
					 errdetail_internal("%s", complaint)));
	}
}

static void
check_connection(const KiPipeline *pipeline)
{
	KiConnection *connection;

	check_properties(pipeline->properties);
	connection = ki_connection_load(pipeline->connection, pipeline->owner,
									pipeline->properties, false);
	if (connection->needs_secret)
		ereport(WARNING,
				(errmsg("connection \"%s\" uses SASL, and role \"%s\" has no user mapping with credentials for it",
						connection->name, pipeline->owner_name),
				 errhint("Use alter_connection(secrets => ..., secrets_for => ...) or CREATE USER MAPPING.")));
}

/* Compiling the mapping finds every fault in it. */
static void
check_target(const KiPipeline *pipeline)
{
	Relation	target = relation_open(pipeline->target, AccessShareLock);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "kafka_ingest mapping check",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	const AttrNumber *attnums;
	int			ncolumns;
	KiKey	   *key;

	ki_target_check(target, pipeline->owner);
	old = MemoryContextSwitchTo(context);
	key = ki_key_resolve(pipeline, target);
	ncolumns = ki_map_columns(ki_map_create(pipeline, RelationGetDescr(target), key),
							  &attnums);
	ki_target_check_columns(target, attnums, ncolumns, pipeline->owner);
	ki_target_check_key(target, attnums, ncolumns, pipeline, key);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	relation_close(target, NoLock);
}

/* With a target or without. */
static void
check_conditions(const KiPipeline *pipeline)
{
	(void) ki_filter_parse(pipeline, pipeline->filter, "filter");
	(void) ki_filter_parse(pipeline, pipeline->delete_when, "delete_when");
}

/*
 * Analyzing them finds what can be known: as the owner, in a restricted
 * operation since analysis may look into what is somebody else's, and under
 * the settings of a batch.
 */
static void
check_statement(const KiPipeline *pipeline)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "kafka_ingest statement check",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	int			level = NewGUCNestLevel();
	Oid			user;
	int			security_context;

	ki_session_pin(pipeline);
	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(pipeline->owner, security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	old = MemoryContextSwitchTo(context);
	ki_statement_prepare(ki_statement_create(pipeline));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	SetUserIdAndSecContext(user, security_context);
	AtEOXact_GUC(false, level);
}

void
ki_pipeline_check(const KiPipeline *pipeline)
{
	check_name(pipeline->name);
	ki_topics_check(pipeline->topic);
	check_sizes(pipeline);
	check_start(pipeline);
	check_fit(pipeline);
	(void) set_config_option("search_path", pipeline->search_path, PGC_USERSET,
							 PGC_S_TEST, GUC_ACTION_SET, false, ERROR, false);
	check_owner(pipeline);
	check_connection(pipeline);
	check_conditions(pipeline);
	if (pipeline->target_name)
		check_target(pipeline);
	if (pipeline->statement)
		check_statement(pipeline);
}
