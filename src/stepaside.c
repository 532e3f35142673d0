/*
 * stepaside.c
 *	  Workers leave a database for commands that need it empty.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE wait five seconds for other sessions and then give up,
 * and ask no background worker to go.  So before such a command runs, the
 * workers of its database are ended and no new one is started until the
 * command's transaction is over, however it ends.
 *
 * The same hook notices the commands that change what workers use.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "slot.h"
#include "stepaside.h"

#define LONGEST_WAIT_MS 4000	/* the command itself waits 5 s */

static ProcessUtility_hook_type previous_hook = NULL;
static bool is_asking = false;

static const char *
template_of(const CreatedbStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			return defGetString(option);
	}
	return "template1";
}

static bool
moves_tablespace(const AlterDatabaseStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
		if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
		return true;
	return false;
}

/* The database that a command needs for itself, or NULL. */
static const char *
database_needed(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_CreatedbStmt:
			return template_of((CreatedbStmt *) stmt);
		case T_AlterDatabaseStmt:
			return moves_tablespace((AlterDatabaseStmt *) stmt) ?
				((AlterDatabaseStmt *) stmt)->dbname : NULL;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) stmt)->subname : NULL;
		default:
			return NULL;
	}
}

/* Nobody may end our workers by a command that will be refused. */
static bool
may_ask(Node *stmt, Oid database)
{
	HeapTuple	tuple;
	bool		is_template;

	if (ki_database_ownercheck(database, GetUserId()))
		return true;
	if (!IsA(stmt, CreatedbStmt))
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return is_template;
}

/* End the workers of a database; returns how many are still there. */
static int
terminate_workers(Oid database)
{
	int			count = 0;

	for (int i = 0; i < ki_slot_count(); i++)
	{
		KiSlot		slot;

		ki_slot_read(i, &slot);
		if (slot.database != database || slot.pid == 0)
			continue;
		(void) kill(slot.pid, SIGTERM);
		count++;
	}
	return count;
}

static void
come_back(XactEvent event, void *arg)
{
	if (!is_asking || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	is_asking = false;
	ki_slot_come_back();
}

static void
ask_aside(Oid database)
{
	static bool is_registered = false;
	TimestampTz since = GetCurrentTimestamp();

	if (!is_registered)
		RegisterXactCallback(come_back, NULL);
	is_registered = true;
	is_asking = ki_slot_step_aside(database) || is_asking;
	while (terminate_workers(database) > 0 &&
		   !TimestampDifferenceExceeds(since, GetCurrentTimestamp(),
									   LONGEST_WAIT_MS))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Commands other than our functions that workers should hear of when they are
 * committed: DROP EXTENSION, and whatever changes servers and mappings.
 */
static bool
changes_what_we_use(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_AlterForeignServerStmt:
		case T_CreateForeignServerStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
			return true;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_FOREIGN_SERVER;
		case T_AlterOwnerStmt:
			return ((AlterOwnerStmt *) stmt)->objectType == OBJECT_FOREIGN_SERVER;
		case T_DropStmt:
			return ((DropStmt *) stmt)->removeType == OBJECT_EXTENSION ||
				((DropStmt *) stmt)->removeType == OBJECT_FOREIGN_SERVER;
		default:
			return false;
	}
}

static void
before_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			   ProcessUtilityContext context, ParamListInfo params,
			   QueryEnvironment *environment, DestReceiver *receiver,
			   QueryCompletion *completion)
{
	const char *name = database_needed(planned->utilityStmt);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && database != MyDatabaseId &&
		may_ask(planned->utilityStmt, database))
		ask_aside(database);
	if (changes_what_we_use(planned->utilityStmt))
		ki_slot_nudge(KI_ALL_PIPELINES);
	if (previous_hook)
		previous_hook(planned, query, read_only_tree, context, params,
					  environment, receiver, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params,
								environment, receiver, completion);
}

void
ki_stepaside_install(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = before_utility;
}
