/*
 * functions_connection.c
 *	  SQL functions over connections: the validator of the foreign-data
 *	  wrapper, create_connection, alter_connection, drop_connection (floor 6).
 *
 * A connection is a foreign server and its user mappings.  These functions
 * run PostgreSQL's own commands as the caller, from parse nodes: privileges,
 * ownership and the validator are PostgreSQL's, and no secret ever stands in
 * the text of a statement that we make.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "connection.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "property.h"
#include "slot.h"
#include "source.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(kafka_ingest_fdw_validator);
PG_FUNCTION_INFO_V1(kafka_ingest_create_connection);
PG_FUNCTION_INFO_V1(kafka_ingest_alter_connection);
PG_FUNCTION_INFO_V1(kafka_ingest_drop_connection);

/* --- keeping secrets out of the log --- */

/*
 * The server logs the statement of an error, and here it may hold secrets.
 * As a context callback this hides it for errors of the server's own, too.
 */
static void
hide_statement(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

/* Until "pop"; an error ends it by itself. */
static void
push_hide_statement(ErrorContextCallback *callback)
{
	callback->callback = hide_statement;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static void
pop_hide_statement(ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}

/* --- the validator --- */

/*
 * Allowed by us; now, does the library that we run with have it, and take the
 * value?  Its complaint repeats the value, so a secret's is not passed on.
 */
static void
check_property(const char *name, const char *value, KiPropertyPlace place)
{
	char	   *complaint;

	ki_property_check(name, value, place);
	if (ki_property_is_ours(name))
		return;
	complaint = ki_source_property_complaint(name, value);
	if (complaint == NULL)
		return;
	if (strstr(complaint, "No such configuration property") != NULL ||
		strstr(complaint, "not supported in this build") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("property \"%s\" is not supported by librdkafka %s, as it is installed here",
						name, ki_source_library_version()),
				 errhint("It needs a newer librdkafka, or one built with more features.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("librdkafka %s does not accept the value of property \"%s\"",
					ki_source_library_version(), name),
			 ki_property_is_secret(name) ? 0 : errdetail("%s", complaint)));
}

static void
validate_server(List *options)
{
	bool		has_brokers = false;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		const char *name = option->defname;
		const char *value = strVal(option->arg);

		if (strcmp(name, "brokers") == 0)
		{
			ki_property_check_brokers(value);
			has_brokers = true;
		}
		else if (strcmp(name, "schema_registry_url") == 0)
			ki_property_check_url(name, value, false);
		else
			check_property(name, value, KI_PLACE_SERVER);
	}
	if (!has_brokers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"brokers\" is required"),
				 errhint("Give host:port of at least one broker, separated by commas.")));
}

Datum
kafka_ingest_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ErrorContextCallback callback;
	ListCell   *lc;

	push_hide_statement(&callback);
	switch (catalog)
	{
		case ForeignServerRelationId:
			validate_server(options);
			break;
		case UserMappingRelationId:
			foreach(lc, options)
			{
				DefElem    *option = lfirst_node(DefElem, lc);

				check_property(option->defname, strVal(option->arg),
							   KI_PLACE_MAPPING);
			}
			break;
		case ForeignDataWrapperRelationId:
			if (options != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("the foreign-data wrapper of kafka_ingest has no options"),
						 errhint("Give them to servers and user mappings.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("foreign tables on Kafka connections are not supported"),
					 errhint("Load topics into tables with kafka_ingest.create_pipeline().")));
	}
	pop_hide_statement(&callback);
	PG_RETURN_VOID();
}

/* --- arguments --- */

static void
raise_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("argument \"%s\" must not be null", argument)));
}

static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static bool
bool_argument(FunctionCallInfo fcinfo, int number, const char *argument)
{
	if (PG_ARGISNULL(number))
		raise_null(argument);
	return PG_GETARG_BOOL(number);
}

static char *
name_argument(FunctionCallInfo fcinfo, int number)
{
	char	   *name = text_argument(fcinfo, number);

	if (name == NULL)
		raise_null("name");
	if (*name == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a connection must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a connection may have up to %d bytes",
						NAMEDATALEN - 1),
				 errdetail("\"%s...\" has %zu.",
						   pnstrdup(name, pg_mbcliplen(name, strlen(name),
													   NAMEDATALEN - 1)),
						   strlen(name))));
	return name;
}

/*
 * The pairs of a jsonb argument, checked: values by the allow-list, and the
 * names of removals (arg NULL).
 */
static List *
pairs_argument(FunctionCallInfo fcinfo, int number, const char *argument,
			   KiPropertyPlace place, bool null_removes)
{
	List	   *pairs;
	ListCell   *lc;

	if (PG_ARGISNULL(number))
		return NIL;
	pairs = ki_property_list(PG_GETARG_JSONB_P(number), argument, null_removes);
	foreach(lc, pairs)
	{
		DefElem    *pair = lfirst_node(DefElem, lc);

		if (pair->arg == NULL)
			ki_property_check_name(pair->defname, place);
		else
			ki_property_check(pair->defname, strVal(pair->arg), place);
	}
	return pairs;
}

static List *
append_option(List *options, const char *name, const char *value)
{
	if (value == NULL)
		return options;
	return lappend(options,
				   makeDefElem(pstrdup(name),
							   (Node *) makeString(pstrdup(value)), -1));
}

/* NULL is the current user; "public" is everybody. */
static RoleSpec *
role_argument(const char *role)
{
	RoleSpec   *spec = makeNode(RoleSpec);

	spec->location = -1;
	if (role == NULL)
		spec->roletype = ROLESPEC_CURRENT_USER;
	else if (strcmp(role, "public") == 0)
		spec->roletype = ROLESPEC_PUBLIC;
	else
	{
		spec->roletype = ROLESPEC_CSTRING;
		spec->rolename = pstrdup(role);
	}
	return spec;
}

/* --- from what is wanted to ADD, SET and DROP --- */

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

/*
 * The actions that turn the current options into the wanted ones.  An option
 * wanted without a value is removed; with exactly, those not wanted are, too.
 */
static List *
option_actions(List *current, List *wanted, bool exactly)
{
	List	   *actions = NIL;
	ListCell   *lc;

	foreach(lc, wanted)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		bool		exists = find_option(current, option->defname) != NULL;
		DefElemAction action = DEFELEM_ADD;

		if (option->arg == NULL && !exists)
			continue;
		if (exists)
			action = option->arg == NULL ? DEFELEM_DROP : DEFELEM_SET;
		actions = lappend(actions,
						  makeDefElemExtended(NULL, option->defname,
											  option->arg, action, -1));
	}
	foreach(lc, current)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (exactly && find_option(wanted, option->defname) == NULL)
			actions = lappend(actions,
							  makeDefElemExtended(NULL, option->defname, NULL,
												  DEFELEM_DROP, -1));
	}
	return actions;
}

/* --- servers --- */

/* Before any change: commands run from C pass by the checks of utilities. */
static void
prevent_unless_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	PreventCommandDuringRecovery(function);
}

/* NULL when there is none; raises when it is another wrapper's. */
static ForeignServer *
find_connection(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server != NULL &&
		server->fdwid != get_foreign_data_wrapper_oid(KI_SCHEMA, true))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a Kafka connection", name),
				 errdetail("It belongs to another foreign-data wrapper."),
				 errhint("Choose another name.")));
	return server;
}

static void
raise_missing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("connection \"%s\" does not exist", name),
			 errhint("Make it with kafka_ingest.create_connection().")));
}

static Oid
create_server(const char *name, List *options)
{
	CreateForeignServerStmt *stmt = makeNode(CreateForeignServerStmt);
	ObjectAddress address;

	stmt->servername = pstrdup(name);
	stmt->fdwname = KI_SCHEMA;
	stmt->options = options;
	address = CreateForeignServer(stmt);
	CommandCounterIncrement();
	return address.objectId;
}

static void
alter_server(const char *name, List *actions)
{
	AlterForeignServerStmt *stmt = makeNode(AlterForeignServerStmt);

	stmt->servername = pstrdup(name);
	stmt->options = actions;
	AlterForeignServer(stmt);
	CommandCounterIncrement();
}

/* --- user mappings --- */

static void
drop_mapping(const char *server, RoleSpec *role)
{
	DropUserMappingStmt *stmt = makeNode(DropUserMappingStmt);

	stmt->user = role;
	stmt->servername = pstrdup(server);
	stmt->missing_ok = false;
	RemoveUserMapping(stmt);
	CommandCounterIncrement();
}

/* The options of the role's own mapping; *exists: is there one? */
static List *
mapping_options(Oid server, RoleSpec *role, bool *exists)
{
	Oid			user = InvalidOid;
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;
	List	   *list = NIL;

	if (role->roletype != ROLESPEC_PUBLIC)
		user = get_rolespec_oid(role, false);
	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
							ObjectIdGetDatum(user), ObjectIdGetDatum(server));
	*exists = HeapTupleIsValid(tuple);
	if (!*exists)
		return NIL;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		list = untransformRelOptions(options);
	ReleaseSysCache(tuple);
	return list;
}

static List *
without_removals(List *wanted)
{
	List	   *options = NIL;
	ListCell   *lc;

	foreach(lc, wanted)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (option->arg != NULL)
			options = lappend(options, option);
	}
	return options;
}

static void
create_mapping(const char *server, RoleSpec *role, List *options)
{
	CreateUserMappingStmt *stmt = makeNode(CreateUserMappingStmt);

	stmt->user = role;
	stmt->servername = pstrdup(server);
	stmt->options = options;
	CreateUserMapping(stmt);
	CommandCounterIncrement();
}

static void
alter_mapping(const char *server, RoleSpec *role, List *actions)
{
	AlterUserMappingStmt *stmt = makeNode(AlterUserMappingStmt);

	stmt->user = role;
	stmt->servername = pstrdup(server);
	stmt->options = actions;
	AlterUserMapping(stmt);
	CommandCounterIncrement();
}

/*
 * Bring a role's secrets to what is wanted.  A mapping without any is
 * dropped: it would only hide PUBLIC's.
 */
static void
set_secrets(const char *name, Oid server, const char *role_name, List *wanted,
			bool exactly)
{
	RoleSpec   *role = role_argument(role_name);
	bool		exists;
	List	   *current = mapping_options(server, role, &exists);
	List	   *added = without_removals(wanted);
	List	   *actions;

	if (!exists)
	{
		if (added != NIL)
			create_mapping(name, role, added);
		return;
	}
	actions = option_actions(current, wanted, exactly);
	if (actions != NIL)
		alter_mapping(name, role, actions);
	if (mapping_options(server, role, &exists) == NIL)
		drop_mapping(name, role);
}

/* The roles that have a mapping at a server, as a List of RoleSpec. */
static List *
mapped_roles(Oid server)
{
	Relation	catalog = table_open(UserMappingRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL,
										  0, NULL);
	HeapTuple	tuple;
	List	   *roles = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_user_mapping form = (Form_pg_user_mapping) GETSTRUCT(tuple);
		RoleSpec   *role;

		if (form->umserver != server)
			continue;
		role = role_argument(MappingUserName(form->umuser));
		role->roletype = OidIsValid(form->umuser) ? ROLESPEC_CSTRING :
			ROLESPEC_PUBLIC;
		roles = lappend(roles, role);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return roles;
}

/* --- the functions --- */

static void
create_connection(FunctionCallInfo fcinfo)
{
	char	   *name = name_argument(fcinfo, 0);
	char	   *brokers = text_argument(fcinfo, 1);
	bool		or_alter = bool_argument(fcinfo, 6, "or_alter");
	List	   *secrets;
	List	   *options;
	ForeignServer *server;
	Oid			oid;

	if (brokers == NULL)
		raise_null("brokers");
	prevent_unless_writable("create_connection()");
	options = append_option(NIL, "brokers", brokers);
	options = append_option(options, "schema_registry_url",
							text_argument(fcinfo, 5));
	options = list_concat(options,
						  pairs_argument(fcinfo, 2, "properties",
										 KI_PLACE_SERVER, false));
	secrets = pairs_argument(fcinfo, 3, "secrets", KI_PLACE_MAPPING, false);

	server = find_connection(name);
	if (server != NULL && !or_alter)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("connection \"%s\" already exists", name),
				 errhint("Use alter_connection(), or or_alter => true.")));
	if (server == NULL)
		oid = create_server(name, options);
	else
	{
		oid = server->serverid;
		alter_server(name, option_actions(server->options, options, true));
	}
	set_secrets(name, oid, text_argument(fcinfo, 4), secrets, true);
}

static void
alter_connection(FunctionCallInfo fcinfo)
{
	char	   *name = name_argument(fcinfo, 0);
	char	   *registry = text_argument(fcinfo, 5);
	List	   *options;
	List	   *secrets;
	ForeignServer *server;

	prevent_unless_writable("alter_connection()");
	options = append_option(NIL, "brokers", text_argument(fcinfo, 1));
	if (registry != NULL && *registry == '\0')
		options = lappend(options,
						  makeDefElem("schema_registry_url", NULL, -1));
	else
		options = append_option(options, "schema_registry_url", registry);
	options = list_concat(options,
						  pairs_argument(fcinfo, 2, "properties",
										 KI_PLACE_SERVER, true));
	secrets = pairs_argument(fcinfo, 3, "secrets", KI_PLACE_MAPPING, true);

	server = find_connection(name);
	if (server == NULL)
		raise_missing(name);

	/* One who may only use the server may still change his own secrets. */
	if (options != NIL)
		alter_server(name, option_actions(server->options, options, false));
	if (secrets != NIL)
		set_secrets(name, server->serverid, text_argument(fcinfo, 4), secrets,
					false);
}

/*
 * create_connection(name, brokers, properties, secrets, secrets_for,
 *					 schema_registry_url, or_alter)
 */
Datum
kafka_ingest_create_connection(PG_FUNCTION_ARGS)
{
	ErrorContextCallback callback;

	push_hide_statement(&callback);
	create_connection(fcinfo);
	pop_hide_statement(&callback);
	ki_slot_nudge(KI_ALL_PIPELINES);
	PG_RETURN_VOID();
}

/*
 * alter_connection(name, brokers, properties, secrets, secrets_for,
 *					schema_registry_url)
 */
Datum
kafka_ingest_alter_connection(PG_FUNCTION_ARGS)
{
	ErrorContextCallback callback;

	push_hide_statement(&callback);
	alter_connection(fcinfo);
	pop_hide_statement(&callback);
	ki_slot_nudge(KI_ALL_PIPELINES);
	PG_RETURN_VOID();
}

/* drop_connection(name, if_exists) */
Datum
kafka_ingest_drop_connection(PG_FUNCTION_ARGS)
{
	char	   *name = name_argument(fcinfo, 0);
	bool		if_exists = bool_argument(fcinfo, 1, "if_exists");
	ForeignServer *server;
	DropStmt   *stmt;
	char	   *pipeline;
	ListCell   *lc;

	prevent_unless_writable("drop_connection()");
	server = find_connection(name);
	if (server == NULL)
	{
		if (!if_exists)
			raise_missing(name);
		ereport(NOTICE,
				(errmsg("connection \"%s\" does not exist, skipping", name)));
		PG_RETURN_VOID();
	}
	/* Only the owner may learn of the pipelines that use it. */
	if (!has_privs_of_role(GetUserId(), server->owner))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, name);
	if (ki_catalog_connection_in_use(name, &pipeline))
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop connection \"%s\" because a pipeline uses it",
						name),
				 errdetail("Pipeline \"%s\" uses it.", pipeline),
				 errhint("Drop the pipeline with kafka_ingest.drop_pipeline() first.")));

	foreach(lc, mapped_roles(server->serverid))
		drop_mapping(name, lfirst_node(RoleSpec, lc));
	stmt = makeNode(DropStmt);
	stmt->removeType = OBJECT_FOREIGN_SERVER;
	stmt->objects = list_make1(makeString(pstrdup(name)));
	stmt->behavior = DROP_RESTRICT;
	RemoveObjects(stmt);
	CommandCounterIncrement();
	ki_slot_nudge(KI_ALL_PIPELINES);
	PG_RETURN_VOID();
}
