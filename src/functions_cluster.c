/*
 * functions_cluster.c
 *	  SQL function cluster_status: the workers of all databases, as far as
 *	  shared memory knows them.
 *
 * Pipelines that nobody wants to run (paused, stopped) have no worker and so
 * no row; each database's own status shows them.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "state.h"

PG_FUNCTION_INFO_V1(kafka_ingest_cluster_status);

#define NCOLUMNS 11

static void
check_caller(void)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function cluster_status"),
				 errdetail("Only members of pg_monitor see other databases.")));
	if (!ki_slot_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are no workers"),
				 errdetail("The server was started without kafka_ingest in shared_preload_libraries.")));
}

static void
put_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = string == NULL;
	*value = string ? CStringGetTextDatum(string) : (Datum) 0;
}

static void
put_time(Datum *value, bool *isnull, TimestampTz at)
{
	*isnull = at == 0;
	*value = TimestampTzGetDatum(at);
}

static void
put_slot(ReturnSetInfo *result, const KiSlot *slot, const char *database)
{
	KiState		state = {0};
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS] = {false};

	ki_state_of_slot(slot, &state);
	put_text(&values[0], &nulls[0], database);
	put_text(&values[1], &nulls[1], slot->name);
	values[2] = Int32GetDatum(slot->worker);
	values[3] = Int32GetDatum(slot->pid);
	nulls[3] = slot->pid == 0;
	put_text(&values[4], &nulls[4], state.state);
	put_text(&values[5], &nulls[5], state.reason);
	put_text(&values[6], &nulls[6], state.detail);
	put_time(&values[7], &nulls[7], state.since);
	values[8] = Float8GetDatum(state.messages_per_second);
	put_time(&values[9], &nulls[9], state.last_error_at);
	put_time(&values[10], &nulls[10], state.next_retry_at);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
kafka_ingest_cluster_status(PG_FUNCTION_ARGS)
{
	check_caller();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < ki_slot_count(); i++)
	{
		KiSlot		slot;
		char	   *database;

		ki_slot_read(i, &slot);
		if (!OidIsValid(slot.database) || (!slot.is_wanted && slot.pid == 0))
			continue;
		database = get_database_name(slot.database);
		if (database != NULL)	/* it was not dropped meanwhile */
			put_slot((ReturnSetInfo *) fcinfo->resultinfo, &slot, database);
	}
	PG_RETURN_VOID();
}
