/*
 * foreign_worker.c
 *		A background worker of another library, which calls something of ours.
 *
 * Schedulers do so; unlike a worker of ours it leaves as a session does.  SQL:
 * foreign_worker(command text, library text) returns its process id; library is
 * this file's path.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/portal.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(foreign_worker);

extern PGDLLEXPORT void foreign_worker_main(Datum ignored);

/* As a session does with a command: not atomically, so it may commit. */
static void
run_command(const char *command)
{
	RawStmt    *parsed = linitial_node(RawStmt, pg_parse_query(command));
	List	   *queries = pg_analyze_and_rewrite_fixedparams(parsed, command, NULL, 0, NULL);
	List	   *plans = pg_plan_queries(queries, command, 0, NULL);
	Portal		portal = CreatePortal("", true, true);
	QueryCompletion completion;

	PortalDefineQuery(portal, NULL, command, CreateCommandTag(parsed->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
#if PG_VERSION_NUM >= 180000
	(void) PortalRun(portal, FETCH_ALL, true, None_Receiver, None_Receiver, &completion);
#else
	(void) PortalRun(portal, FETCH_ALL, true, true, None_Receiver, None_Receiver, &completion);
#endif
	PortalDrop(portal, false);
}

void
foreign_worker_main(Datum ignored)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);
	StartTransactionCommand();
	run_command(MyBgworkerEntry->bgw_extra);
	CommitTransactionCommand();
}

Datum
foreign_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART
	};
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	strlcpy(worker.bgw_library_name, text_to_cstring(PG_GETARG_TEXT_PP(1)), BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "foreign_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "foreign worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "foreign worker", BGW_MAXLEN);
	strlcpy(worker.bgw_extra, text_to_cstring(PG_GETARG_TEXT_PP(0)), BGW_EXTRALEN);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle) ||
		WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		elog(ERROR, "cannot start a worker");
	PG_RETURN_INT32(pid);
}
