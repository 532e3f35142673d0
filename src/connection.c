/*
 * connection.c
 *	  Connections to Kafka clusters: foreign servers of the wrapper
 *	  kafka_ingest and their user mappings (floor 1).
 *
 * Loading checks every stored property against the allow-list again, as far
 * as it does not depend on who set it: the options may be older than the
 * list.  Who may set what was checked when it was set.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "compat.h"
#include "connection.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "nodes/value.h"
#include "property.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* The server, or NULL with missing_ok; raises unless it is one of ours. */
static ForeignServer *
find_server(const char *name, bool missing_ok)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
	{
		if (!missing_ok)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("connection \"%s\" does not exist", name),
					 errhint("Make it with kafka_ingest.create_connection(), or CREATE SERVER.")));
		return NULL;
	}
	if (server->fdwid != get_foreign_data_wrapper_oid(KI_SCHEMA, true))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" is not a Kafka connection", name),
				 errdetail("It belongs to another foreign-data wrapper."),
				 errhint("Connections are servers of the wrapper %s.",
						 KI_SCHEMA)));
	return server;
}

/* The options of the user's mapping, else of PUBLIC's, else NIL. */
static List *
mapping_options(Oid server, Oid user, bool *found)
{
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;
	List	   *list = NIL;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
							ObjectIdGetDatum(user), ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
								ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	*found = HeapTupleIsValid(tuple);
	if (!*found)
		return NIL;

	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		list = untransformRelOptions(options);
	ReleaseSysCache(tuple);
	return list;
}

static KiProperty *
find_property(const KiConnection *connection, const char *name)
{
	for (int i = 0; i < connection->nproperties; i++)
	{
		if (strcmp(connection->properties[i].name, name) == 0)
			return &connection->properties[i];
	}
	return NULL;
}

/* Add properties in place of those of the same names; the array has room. */
static void
add_properties(KiConnection *connection, List *options, KiPropertyPlace place)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		char	   *value = strVal(option->arg);
		KiProperty *property;

		if (ki_property_is_ours(option->defname))
			continue;
		ki_property_check_as(option->defname, value, place, true);
		property = find_property(connection, option->defname);
		if (property == NULL)
			property = &connection->properties[connection->nproperties++];
		property->name = pstrdup(option->defname);
		/* Kafka speaks UTF-8, whatever the database does. */
		property->value = pstrdup(pg_server_to_any(value, strlen(value),
												   PG_UTF8));
		property->is_secret = ki_property_is_secret(option->defname);
	}
}

/* The option's value without its blanks; raises when there is none. */
static char *
server_brokers(const ForeignServer *server)
{
	ListCell   *lc;

	foreach(lc, server->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		char	   *brokers;
		char	   *to;

		if (strcmp(option->defname, "brokers") != 0)
			continue;
		ki_property_check_brokers(strVal(option->arg));
		brokers = to = pstrdup(strVal(option->arg));
		for (char *from = brokers; *from; from++)
		{
			if (*from != ' ')
				*to++ = *from;
		}
		*to = '\0';
		return brokers;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("connection \"%s\" names no brokers", server->servername)));
	return NULL;				/* not reached */
}

/*
 * With OAUTHBEARER any secret will do, and the metadata service of a cloud
 * needs none; GSSAPI uses the server's own tickets.
 */
static bool
has_credentials(const KiConnection *connection, const char *mechanism)
{
	if (strcmp(mechanism, "GSSAPI") == 0)
		return true;
	if (strcmp(mechanism, "OAUTHBEARER") != 0)
		return find_property(connection, "sasl.username") != NULL &&
			find_property(connection, "sasl.password") != NULL;

	for (int i = 0; i < connection->nproperties; i++)
	{
		const char *name = connection->properties[i].name;

		if (strncmp(name, "sasl.oauthbearer.", strlen("sasl.oauthbearer.")) == 0 &&
			(connection->properties[i].is_secret ||
			 strstr(name, ".metadata.") != NULL))
			return true;
	}
	return false;
}

/*
 * The library's default mechanism, GSSAPI, runs kinit on the server; that
 * must never happen by omission.
 */
static void
check_sasl(KiConnection *connection)
{
	KiProperty *protocol = find_property(connection, "security.protocol");
	KiProperty *mechanism = find_property(connection, "sasl.mechanisms");

	if (protocol == NULL || pg_strncasecmp(protocol->value, "sasl", 4) != 0)
		return;
	if (mechanism == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("connection \"%s\" uses SASL but names no mechanism",
						connection->name),
				 errhint("Set the property sasl.mechanisms to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.")));
	connection->needs_secret = !has_credentials(connection, mechanism->value);
}

KiConnection *
ki_connection_load(const char *name, Oid user, Jsonb *extra, bool missing_ok)
{
	ForeignServer *server = find_server(name, missing_ok);
	KiConnection *connection;
	List	   *mapping;
	List	   *pipeline;
	AclResult	acl;

	if (server == NULL)
		return NULL;
	acl = ki_server_aclcheck(server->serverid, user, ACL_USAGE);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FOREIGN_SERVER, name);

	connection = palloc0_object(KiConnection);
	connection->name = pstrdup(server->servername);
	connection->server = server->serverid;
	connection->brokers = server_brokers(server);
	mapping = mapping_options(server->serverid, user, &connection->has_mapping);
	pipeline = ki_property_list(extra, "properties", false);

	connection->properties = palloc0_array(KiProperty,
										   list_length(server->options) +
										   list_length(mapping) +
										   list_length(pipeline) + 1);
	add_properties(connection, server->options, KI_PLACE_SERVER);
	add_properties(connection, mapping, KI_PLACE_MAPPING);
	add_properties(connection, pipeline, KI_PLACE_PIPELINE);
	check_sasl(connection);
	return connection;
}

bool
ki_connection_equal(const KiConnection *a, const KiConnection *b)
{
	if (strcmp(a->brokers, b->brokers) != 0 ||
		a->nproperties != b->nproperties)
		return false;

	/* Names are unique, so the same number of matches is the same set. */
	for (int i = 0; i < a->nproperties; i++)
	{
		KiProperty *other = find_property(b, a->properties[i].name);

		if (other == NULL || strcmp(a->properties[i].value, other->value) != 0)
			return false;
	}
	return true;
}
