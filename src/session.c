/*
 * session.c
 *	  The settings and the role under which rows are worked on.
 *
 * Pinned anew for every batch: ALTER ROLE, ALTER DATABASE, the server's
 * configuration or a trigger's SET must not change what a message means.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"

#include "session.h"
#include "settings.h"

static const struct
{
	const char *name;
	const char *value;
}			pinned[] =

{
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"extra_float_digits", "1"},
	{"xmloption", "content"},
	{"bytea_output", "hex"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"standard_conforming_strings", "on"},
	{"row_security", "off"},
	{"session_replication_role", "origin"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"timezone_abbreviations", "Default"},
};

/* Mostly it is so already, and setting some of them reads files. */
static void
pin(const char *name, const char *value)
{
	const char *current = GetConfigOption(name, false, false);

	if (current && strcmp(current, value) == 0)
		return;
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
ki_session_check_constraints(void)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	immediate->constraints = NIL;
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
}

/*
 * In a restricted operation a trigger cannot be deferred at all, so make
 * constraints immediate before the first row.
 */
static void
become_owner(KiSession *session, Oid owner)
{
	GetUserIdAndSecContext(&session->user, &session->security_context);
	session->is_switched = session->user != owner;
	if (!session->is_switched)
		return;
	ki_session_check_constraints();
	SetUserIdAndSecContext(owner, session->security_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

void
ki_session_pin(const KiPipeline *pipeline)
{
	char		lock_timeout[32];

	for (int i = 0; i < (int) lengthof(pinned); i++)
		pin(pinned[i].name, pinned[i].value);
	snprintf(lock_timeout, sizeof(lock_timeout), "%d", ki_setting_lock_timeout_ms);
	pin("lock_timeout", lock_timeout);
	pin("search_path", pipeline->search_path);
}

void
ki_session_begin(KiSession *session, const KiPipeline *pipeline)
{
	session->guc_level = NewGUCNestLevel();
	ki_session_pin(pipeline);
	become_owner(session, pipeline->owner);
}

void
ki_session_end(KiSession *session)
{
	if (session->is_switched)
		SetUserIdAndSecContext(session->user, session->security_context);
	AtEOXact_GUC(false, session->guc_level);
}
