/*
 * launcher.c
 *	  Which workers should run, do they: start and stop them.
 *
 * The launcher is connected to no database, so it stands in nobody's way.  For
 * every database it may serve it starts a short-lived reconciler, one at a
 * time, when a transaction there changed pipelines, and every minute in case
 * a wake-up got lost.  The reconciler fills the slots; the launcher compares
 * wanted slots with running processes.  The launcher alone decides about
 * restarts: workers never restart by themselves.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "launcher.h"
#include "settings.h"
#include "slot.h"
#include "watermark.h"
#include "worker.h"

#define LOOK_MS (60 * 1000)		/* all databases are looked at this often */

/* What the launcher itself knows of a slot's process. */
typedef struct Process
{
	BackgroundWorkerHandle *handle; /* NULL: none was started by us */
} Process;

typedef struct Launcher
{
	Process    *processes;		/* one per slot */
	MemoryContext context;		/* until the process ends */
	MemoryContext round_context;	/* reset every round */
	List	   *databases;		/* waiting for their reconciler; Oids */
	BackgroundWorkerHandle *reconciler; /* the one that runs; NULL: none */
	TimestampTz next_look;
} Launcher;

static void
fill_worker(BackgroundWorker *worker, const char *main, const char *type)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "kafka_ingest", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, main, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
}

void
ki_launcher_register(void)
{
	BackgroundWorker worker;

	fill_worker(&worker, "kafka_ingest_launcher_main", "kafka_ingest launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* ------------------------------------------------------------------------
 * Databases
 * ------------------------------------------------------------------------
 */
static bool
may_serve(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate &&
		database->datconnlimit != -2 &&
		!ki_slot_is_aside(database->oid) &&
		ki_setting_serves_database(NameStr(database->datname));
}

/*
 * Databases to reconcile: of all, or just the one asked for.  What is no
 * longer served, or gone, has its slots given up here, since no reconciler
 * can run there.
 */
static List *
databases_to_look_at(Oid only)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *served = NIL;
	MemoryContext old = CurrentMemoryContext;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext inner = MemoryContextSwitchTo(old);

		if (ki_setting_enabled && may_serve(database))
			served = lappend_oid(served, database->oid);
		MemoryContextSwitchTo(inner);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);

	for (int i = 0; i < ki_slot_count(); i++)
	{
		KiSlot		slot;

		ki_slot_read(i, &slot);
		if (!slot.is_wanted || list_member_oid(served, slot.database))
			continue;
		(void) ki_slot_publish(slot.database, NULL, 0);
		ki_watermark_keep_only(slot.database, NULL, 0);
	}
	if (!OidIsValid(only))
		return served;
	return list_member_oid(served, only) ? list_make1_oid(only) : NIL;
}

static void
queue_databases(Launcher *launcher, List *databases)
{
	MemoryContext old = MemoryContextSwitchTo(launcher->context);

	launcher->databases = list_concat_unique_oid(launcher->databases, databases);
	MemoryContextSwitchTo(old);
}

/* Queue the databases that changed, or all of them when it is time. */
static void
find_databases(Launcher *launcher)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid			database;

	if (now >= launcher->next_look)
	{
		queue_databases(launcher, databases_to_look_at(InvalidOid));
		launcher->next_look = TimestampTzPlusMilliseconds(now, LOOK_MS);
	}
	while (ki_slot_take_dirty(&database) || ki_slot_take_starved(&database))
		queue_databases(launcher, databases_to_look_at(database));
}

/* Run the reconcilers of the queued databases, one at a time. */
static void
reconcile(Launcher *launcher)
{
	BackgroundWorker worker;
	pid_t		pid;

	if (launcher->reconciler)
	{
		if (GetBackgroundWorkerPid(launcher->reconciler, &pid) != BGWH_STOPPED)
			return;
		pfree(launcher->reconciler);
		launcher->reconciler = NULL;
	}
	if (launcher->databases == NIL)
		return;
	fill_worker(&worker, "kafka_ingest_reconciler_main", "kafka_ingest reconciler");
	worker.bgw_main_arg = ObjectIdGetDatum(linitial_oid(launcher->databases));
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &launcher->reconciler))
		launcher->databases = list_delete_first(launcher->databases);
}

/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------
 */
static void
start_worker(Launcher *launcher, int i, const KiSlot *slot)
{
	BackgroundWorker worker;
	KiWorkerArgument argument = {0};

	fill_worker(&worker, "kafka_ingest_worker_main", "kafka_ingest worker");
	snprintf(worker.bgw_name, BGW_MAXLEN, "kafka_ingest pipeline %d worker %d",
			 slot->pipeline, slot->worker);
	worker.bgw_notify_pid = MyProcPid;
	argument.slot = i;
	argument.generation = ki_slot_prepare_start(i);
	memcpy(worker.bgw_extra, &argument, sizeof(argument));
	StaticAssertStmt(sizeof(KiWorkerArgument) <= BGW_EXTRALEN,
					 "argument of a worker is too long");
	if (!RegisterDynamicBackgroundWorker(&worker,
										 &launcher->processes[i].handle))
	{
		launcher->processes[i].handle = NULL;
		ki_slot_start_failed(i, "no_worker_slot",
							 "No background worker slot of the server is free; raise max_worker_processes.");
	}
}

/* Compare one slot with its process. */
static void
supervise(Launcher *launcher, int i)
{
	Process    *process = &launcher->processes[i];
	KiSlot		slot;
	pid_t		pid;

	if (process->handle &&
		GetBackgroundWorkerPid(process->handle, &pid) == BGWH_STOPPED)
	{
		pfree(process->handle);
		process->handle = NULL;
		ki_slot_process_ended(i);
		SetLatch(MyLatch);
	}
	ki_slot_read(i, &slot);
	if (!OidIsValid(slot.database))
		return;
	if (!process->handle && slot.pid == 0 && !slot.is_wanted &&
		slot.activity != KI_ACTIVITY_NONE)
		ki_slot_process_ended(i);	/* of an earlier launcher */
	if (process->handle && (!slot.is_wanted || !ki_setting_enabled))
		TerminateBackgroundWorker(process->handle);
	if (!process->handle && slot.pid != 0 && (!slot.is_wanted || !ki_setting_enabled))
		(void) kill(slot.pid, SIGTERM); /* started by an earlier launcher */
	if (!process->handle && slot.pid == 0 && slot.is_wanted &&
		ki_setting_enabled && !ki_slot_is_aside(slot.database) &&
		slot.not_before <= GetCurrentTimestamp())
		start_worker(launcher, i, &slot);
}

/* Milliseconds until a look, or a worker whose back-off ends, is due. */
static long
time_to_wait(const Launcher *launcher)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = launcher->next_look;

	for (int i = 0; i < ki_slot_count(); i++)
	{
		KiSlot		slot;

		ki_slot_read(i, &slot);
		if (slot.is_wanted && !launcher->processes[i].handle && slot.pid == 0 &&
			!ki_slot_is_aside(slot.database))
			until = Min(until, Max(slot.not_before, now + 100 * 1000));
	}
	if (launcher->databases != NIL && !launcher->reconciler)
		until = Min(until, now + 1000 * 1000);	/* no slot was free for it */
	return TimestampDifferenceMilliseconds(now, until);
}

/* ------------------------------------------------------------------------
 * Life
 * ------------------------------------------------------------------------
 */
static void
forget_launcher(int code, Datum arg)
{
	ki_slot_set_launcher(0);
}

static void
round_of(Launcher *launcher)
{
	MemoryContextReset(launcher->round_context);
	MemoryContextSwitchTo(launcher->round_context);
	find_databases(launcher);
	MemoryContextSwitchTo(launcher->context);
	reconcile(launcher);
	for (int i = 0; i < ki_slot_count(); i++)
		supervise(launcher, i);
}

void
kafka_ingest_launcher_main(Datum arg)
{
	Launcher	launcher = {0};

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	launcher.context = AllocSetContextCreate(TopMemoryContext,
											 "kafka_ingest launcher",
											 ALLOCSET_DEFAULT_SIZES);
	launcher.round_context = AllocSetContextCreate(launcher.context,
												   "kafka_ingest launcher round",
												   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(launcher.context);
	launcher.processes = palloc0(sizeof(Process) * Max(ki_slot_count(), 1));
	ki_slot_set_launcher(MyProcPid);
	before_shmem_exit(forget_launcher, (Datum) 0);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			launcher.next_look = 0;
		}
		round_of(&launcher);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_to_wait(&launcher), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
