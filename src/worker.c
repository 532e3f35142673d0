/*
 * worker.c
 *	  The life of one background worker.
 *
 * It runs as the pipeline's owner for its whole life.  It goes round load,
 * open, collect, apply (loader.c), and sleeps on its latch and on the
 * client's socket in between: nothing is polled.  Errors of the database's
 * side are shown and tried again with the batch still in memory; the process
 * ends only when it is told to, or when an error says that a new session is
 * needed.  The launcher starts it again.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "catalog.h"
#include "compat.h"
#include "fault.h"
#include "loader.h"
#include "lock.h"
#include "settings.h"
#include "slot.h"
#include "worker.h"

#define FIRST_BACKOFF_MS 100
#define STANDING_BACKOFF_MS (60 * 1000)
#define OPEN_BACKOFF_MS 1000
#define LOOK_AGAIN_MS 200

/* The context to go on in after a commit, which deletes its own. */
static MemoryContext outer_context = NULL;

/* A batch is a top-level transaction of this process. */
static void
begin_top_level(void)
{
	outer_context = CurrentMemoryContext;
	ki_slot_set_busy(true);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_top_level(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(outer_context);
	ki_slot_set_busy(false);
	pgstat_report_stat(true);
}

static const KiTransaction top_level = {begin_top_level, commit_top_level, false};

/* What keeps a second process out. */
static KiWorkerLocks locks;

/* The error that ended a step, and how often one did in a row. */
typedef struct Failure
{
	ErrorData  *error;
	int			count;
} Failure;

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------
 */

/*
 * Sleep until woken; the client's socket counts when there is a client.
 * Returns whether it was the latch: then something may have been changed.
 */
static bool
sleep_on(const KiLoader *loader, long wait_ms)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int			woken_by;

	if (loader->source)
		woken_by = WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE,
									 ki_source_socket(loader->source), wait_ms,
									 PG_WAIT_EXTENSION);
	else
		woken_by = WaitLatch(MyLatch, events, wait_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return (woken_by & WL_LATCH_SET) != 0;
}

/* Sleep out a back-off; only resume() and the like end it early. */
static void
sleep_out(int wait_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	long		left_ms = wait_ms;

	ki_slot_set_retry(until);
	while (left_ms > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		/* A nudge comes a moment before others see what was committed. */
		if (ki_slot_take_nudge())
			until = Min(until, TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														   LOOK_AGAIN_MS));
		left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	}
	ki_slot_set_retry(0);
}

/* Every transaction of ours waits for locks only so long. */
static void
set_lock_timeout(void)
{
	char		ms[32];

	snprintf(ms, sizeof(ms), "%d", ki_setting_lock_timeout_ms);
	SetConfigOption("lock_timeout", ms, PGC_SUSET, PGC_S_OVERRIDE);
}

static void
serve_process(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		set_lock_timeout();
	}
}

/* ------------------------------------------------------------------------
 * Steps
 * ------------------------------------------------------------------------
 */
static void
show_health(const KiLoader *loader)
{
	const char *reason;
	const char *detail;

	ki_loader_shortcoming(loader, &reason, &detail);
	if (reason)
		ki_slot_set_activity(KI_ACTIVITY_RECONNECTING, reason, detail);
	else if (loader->is_open)
		ki_slot_set_activity(KI_ACTIVITY_RUNNING, NULL, NULL);
}

/* The broker's side is in the way; wait, and see whether we are to change. */
static KiStep
bear_trouble(KiLoader *loader)
{
	const char *reason;
	const char *detail;

	ki_loader_trouble(loader, &reason, &detail);
	ki_slot_set_activity(KI_ACTIVITY_RECONNECTING,
						 reason ? reason : "broker_unreachable",
						 detail ? detail : "The broker has not answered yet.");
	/* Not on the client's socket: its own log lines would wake us at once. */
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 OPEN_BACKOFF_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (loader->source)
	{
		ki_source_drain(loader->source);
		ki_source_serve(loader->source);
	}
	return ki_loader_is_stale(loader) ? KI_STEP_RELOAD : KI_STEP_NOTHING;
}

/*
 * Nothing to do: sleep.  What woke us may be a change to take up at once.  It
 * is looked for a second time, since the latch is set a moment before other
 * sessions can see what was committed.
 */
static KiStep
rest(KiLoader *loader)
{
	static bool looks_again = false;
	long		wait_ms = ki_loader_wait_ms(loader);
	bool		was_woken;
	bool		looks;

	serve_process();
	was_woken = sleep_on(loader, looks_again ? Min(wait_ms, LOOK_AGAIN_MS) : wait_ms);
	looks = was_woken || looks_again;
	looks_again = was_woken;
	return looks && ki_loader_is_stale(loader) ? KI_STEP_RELOAD : KI_STEP_NOTHING;
}

static KiStep
read_on(KiLoader *loader)
{
	const char *end_reason;
	KiStep		step = ki_loader_collect(loader, &end_reason);

	if (step == KI_STEP_OK)
		step = ki_loader_apply(loader, end_reason);
	if (step == KI_STEP_OK || step == KI_STEP_NOTHING)
	{
		KiStep		observed = ki_loader_observe(loader);

		show_health(loader);
		if (observed == KI_STEP_RELOAD && loader->messages->count == 0)
			return KI_STEP_RELOAD;
	}
	return step == KI_STEP_NOTHING ? rest(loader) : step;
}

/* One turn; what it returns says whether to wait. */
static KiStep
turn(KiLoader *loader)
{
	KiStep		step;

	if (!loader->pipeline || !loader->connection)
		step = ki_loader_load(loader);
	else if (!loader->is_open)
		step = ki_loader_open(loader);
	else
		step = read_on(loader);

	if (step == KI_STEP_TROUBLE)
		step = bear_trouble(loader);
	if (step == KI_STEP_RELOAD)
		ki_loader_reset(loader);
	return step;
}

/*
 * One turn, with its error kept: the batch stays in memory, so that the same
 * messages can be applied again.
 */
static KiStep
guarded_turn(KiLoader *loader, Failure *failure)
{
	MemoryContext old = CurrentMemoryContext;
	volatile KiStep step = KI_STEP_NOTHING;

	failure->error = NULL;
	PG_TRY();
	{
		step = turn(loader);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		failure->error = CopyErrorData();
		FlushErrorState();
		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		ki_slot_set_busy(false);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return step;
}

/* ------------------------------------------------------------------------
 * Failures
 * ------------------------------------------------------------------------
 */
static int
backoff_ms(const Failure *failure)
{
	int64		wait_ms = INT64CONST(100) << Min(failure->count - 1, 20);

	if (ki_error_class(failure->error->sqlerrcode) != KI_ERROR_PASSING)
		wait_ms = STANDING_BACKOFF_MS;
	return (int) Min(wait_ms, ki_setting_retry_backoff_max_ms);
}

/* Show the failure, wait, and let the same batch be tried again. */
static void
bear_failure(KiLoader *loader, Failure *failure)
{
	ErrorData  *error = failure->error;
	bool		in_rows = loader->phase == KI_PHASE_ROWS &&
	!ki_batch_failed_on_target(loader->batch);
	bool		is_target = !in_rows && loader->phase >= KI_PHASE_TARGET;
	const char *reason = ki_error_reason(error->sqlerrcode, is_target);
	char	   *message = ki_error_text(error, is_target);

	failure->count++;
	(void) ki_slot_take_nudge();	/* of before the failure */
	ereport(LOG,
			(errmsg("pipeline \"%s\" cannot load now and tries again: %s",
					loader->pipeline ? loader->pipeline->name : "(not loaded)",
					message)));
	ki_slot_set_error(message);
	ki_slot_set_activity(KI_ACTIVITY_RETRYING, reason, message);

	/* Changed role and database settings count for new sessions only. */
	if (error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		proc_exit(1);

	/* Without a batch at work there is nothing to keep: look at it anew. */
	if (!loader->is_open || is_target)
		ki_loader_reset(loader);
	sleep_out(backoff_ms(failure));
	FreeErrorData(error);
	pfree(message);
}

static void
work(KiLoader *loader)
{
	Failure		failure = {0};

	for (;;)
	{
		KiStep		step;

		serve_process();
		if (!ki_lock_worker_holds(&locks))
			proc_exit(1);		/* a new process takes them again */

		/*
		 * While there is a backlog nothing waits on the latch, and an orphan
		 * would keep the server from starting again until it has caught up.
		 */
		if (!PostmasterIsAlive())
			proc_exit(1);
		step = guarded_turn(loader, &failure);
		if (failure.error)
		{
			bear_failure(loader, &failure);
			continue;
		}
		if (step == KI_STEP_GONE || step == KI_STEP_STOPPED)
			return;
		if (step == KI_STEP_OK && loader->is_open)
			failure.count = 0;
	}
}

/* ------------------------------------------------------------------------
 * Life
 * ------------------------------------------------------------------------
 */
static void
detach(int code, Datum arg)
{
	ki_slot_detach();
}

/*
 * Registered first and so called last: end without the C library's own exit
 * functions, which would take OpenSSL away from under the client's threads.
 */
static void
leave(int code, Datum arg)
{
	fflush(stderr);
	_exit(code);
}

/* Loading must not end because a session was idle or slow. */
static void
set_up_session(void)
{
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	if (KI_TRANSACTION_TIMEOUT)
		SetConfigOption(KI_TRANSACTION_TIMEOUT, "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Take the session's locks; waits while run() holds the pipeline, without a
 * transaction and for as long as it takes.
 */
static bool
take_locks(int32 pipeline, int worker)
{
	bool		is_installed;

	begin_top_level();
	is_installed = ki_catalog_is_installed();
	if (is_installed)
		locks = ki_lock_worker_tags(pipeline, worker);
	commit_top_level();
	if (!is_installed)
		return false;
	if (ki_lock_worker(&locks, false))
		return true;
	ki_slot_set_activity(KI_ACTIVITY_WAITING, "fenced",
						 "Another process, such as run(), loads this pipeline now.");
	(void) ki_lock_worker(&locks, true);
	ki_slot_set_activity(KI_ACTIVITY_STARTING, NULL, NULL);
	return true;
}

void
kafka_ingest_worker_main(Datum arg)
{
	KiWorkerArgument argument;
	KiSlot		slot;
	KiLoader   *loader;

	on_proc_exit(leave, (Datum) 0);
	memcpy(&argument, MyBgworkerEntry->bgw_extra, sizeof(argument));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (!ki_slot_attach(argument.slot, argument.generation))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	ki_slot_read(argument.slot, &slot);
	BackgroundWorkerInitializeConnectionByOid(slot.database, slot.owner,
											  KI_WORKER_CONNECT_FLAGS);
	set_up_session();
	pgstat_report_activity(STATE_RUNNING, "kafka_ingest");

	if (take_locks(slot.pipeline, slot.worker))
	{
		MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext,
													"kafka_ingest loader",
													ALLOCSET_DEFAULT_SIZES));
		set_lock_timeout();
		loader = ki_loader_create(slot.pipeline, slot.worker, &top_level);
		work(loader);
	}
	proc_exit(0);
}
