/*
 * functions_run.c
 *	  SQL procedure run: load in the foreground.
 *
 * The same loader as a background worker's goes to the end of every partition
 * as it was at the call.  Outside a transaction block each batch is committed
 * by the procedure; inside one, a single batch becomes part of the caller's
 * transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "loader.h"
#include "lock.h"
#include "owned.h"
#include "session.h"
#include "slot.h"

PG_FUNCTION_INFO_V1(kafka_ingest_run);

/* --- transactions of a procedure --- */
static void
begin_in_procedure(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_in_procedure(void)
{
	PopActiveSnapshot();
	SPI_commit();
}

/*
 * What the caller deferred is checked now, so that it cannot be mistaken for
 * a message's fault; constraints stay immediate for the rest of the block.
 */
static void
begin_in_block(void)
{
	begin_in_procedure();
	ki_session_check_constraints();
}

static void
commit_in_block(void)
{
	PopActiveSnapshot();
	CommandCounterIncrement();
}

static const KiTransaction in_procedure = {begin_in_procedure, commit_in_procedure, false};
static const KiTransaction in_block = {begin_in_block, commit_in_block, true};

typedef struct KiGoal
{
	const char *topic;
	int32		partition;
	int64		end;
} KiGoal;

typedef struct Run
{
	const char *name;
	KiLoader   *loader;
	int			max_batches;	/* INT_MAX: no limit */
	TimestampTz deadline;		/* DT_NOEND: none */
	KiGoal	   *goals;			/* where partitions ended at the call */
	int			ngoals;
	TimestampTz trouble_since;	/* the broker does not answer; 0: it does */
	int64		seen_messages;	/* when it last did */
	bool		is_caught_up;
} Run;

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
static bool
is_over(const Run *run)
{
	return GetCurrentTimestamp() >= run->deadline;
}

static void
wait_for_source(const Run *run, long wait_ms)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (run->deadline != DT_NOEND)
		wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															   run->deadline));
	(void) WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE,
							 ki_source_socket(run->loader->source), wait_ms,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * A connection that fails for good must not be waited for for ever; one whose
 * time is over is no error, but has loaded nothing.
 */
static void
report_trouble(const Run *run, int elevel)
{
	const char *reason;
	const char *detail;

	ki_loader_trouble(run->loader, &reason, &detail);
	ereport(elevel,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("pipeline \"%s\" cannot read its topic: %s", run->name,
					reason ? reason : "broker_unreachable"),
			 errdetail_internal("%s", detail ? detail :
								"The broker has not answered."),
			 errhint("check_connection() tells more about the brokers, topics() which topics there are.")));
}

#define TROUBLE_MS 10000		/* how long trouble is borne without a timeout */

/* Load and open; false when the time is over before. */
static bool
open_loader(Run *run)
{
	TimestampTz started = GetCurrentTimestamp();

	for (;;)
	{
		KiStep		step = KI_STEP_OK;

		CHECK_FOR_INTERRUPTS();
		if (!run->loader->pipeline)
			step = ki_loader_load(run->loader);
		if (step == KI_STEP_OK)
			step = ki_loader_open(run->loader);
		if (step == KI_STEP_OK)
			return true;
		if (step == KI_STEP_GONE || step == KI_STEP_STOPPED)
			return true;		/* seen by the caller */
		if (is_over(run))
		{
			if (step != KI_STEP_RELOAD)
				report_trouble(run, WARNING);
			return false;
		}
		if (step == KI_STEP_RELOAD)
			ki_loader_reset(run->loader);
		else if (!run->loader->source ||
				 TimestampDifferenceExceeds(started, GetCurrentTimestamp(),
											TROUBLE_MS))
			report_trouble(run, ERROR);
		else
		{
			wait_for_source(run, 500);
			ki_source_drain(run->loader->source);
		}
	}
}

/*
 * Trouble is borne until the caller's time is over, or for TROUBLE_MS when
 * there is no limit.
 */
static void
bear_trouble(Run *run)
{
	TimestampTz now = GetCurrentTimestamp();

	CHECK_FOR_INTERRUPTS();
	if (run->trouble_since == 0)
		run->trouble_since = now;
	if (run->deadline == DT_NOEND &&
		TimestampDifferenceExceeds(run->trouble_since, now, TROUBLE_MS))
		report_trouble(run, ERROR);
}

/* The end of every partition, as opening found it during this call. */
static void
note_ends(Run *run)
{
	KiLoader   *loader = run->loader;

	run->goals = MemoryContextAllocZero(loader->life_context,
										(loader->npositions + 1) * sizeof(KiGoal));
	for (int i = 0; i < loader->npositions; i++)
	{
		run->goals[i].topic = MemoryContextStrdup(loader->life_context,
												  loader->positions[i].topic);
		run->goals[i].partition = loader->positions[i].partition;
		run->goals[i].end = loader->stable_offsets[i];
	}
	run->ngoals = loader->npositions;
}

static bool
has_reached(const KiLoader *loader, const KiGoal *goal)
{
	for (int i = 0; i < loader->npositions; i++)
	{
		const KiPosition *position = &loader->positions[i];

		if (position->partition == goal->partition &&
			position->next_offset < goal->end &&
			strcmp(position->topic, goal->topic) == 0)
			return false;
	}
	return true;
}

static bool
has_reached_ends(const Run *run)
{
	for (int i = 0; i < run->ngoals; i++)
		if (!has_reached(run->loader, &run->goals[i]))
			return false;
	return true;
}

/* In a block the error undoes what came before, and the stop with it. */
static const char *
hint_in_block(const char *reason)
{
	return ki_stop_is_of_letters(reason) ?
		"The transaction is undone; use run() outside a block." :
		"The transaction is undone; use run() outside a block, or seek().";
}

/*
 * The pipeline stopped: what came before is in, unless the transaction is the
 * caller's; say why it goes no further.
 */
static void
raise_stop(const Run *run)
{
	KiPipeline *pipeline;

	PushActiveSnapshot(GetTransactionSnapshot());
	pipeline = ki_pipeline_find(run->name);
	PopActiveSnapshot();
	if (!pipeline || !pipeline->stop.reason)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" was dropped or belongs to a copied database",
						run->name),
				 errhint("adopt() lets a copy load.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("pipeline \"%s\" stopped: %s", run->name,
					pipeline->stop.reason),
			 errdetail_internal("%s", pipeline->stop.detail),
			 run->loader->transaction->is_callers ?
			 errhint("%s", hint_in_block(pipeline->stop.reason)) :
			 errhint("Messages before it are loaded. %s",
					 ki_stop_hint(pipeline->stop.reason))));
}

/*
 * Partitions that waited for what is loaded now: open again, and their ends
 * are goals, too.  False: it stays as it is.
 */
static bool
take_up_waiting(Run *run)
{
	int			before = run->loader->nwaiting;

	if (before == 0)
		return false;
	ki_loader_reset(run->loader);
	if (!open_loader(run))
		return true;			/* the time is over */
	if (!run->loader->is_open)
		raise_stop(run);
	note_ends(run);
	return run->loader->nwaiting < before;
}

/* A broker that went away while we read must not be waited for for ever. */
static void
check_health(Run *run)
{
	const char *reason;
	const char *detail;

	ki_loader_trouble(run->loader, &reason, &detail);
	if (reason)
		bear_trouble(run);
	else if (run->loader->total_messages > run->seen_messages)
	{
		run->seen_messages = run->loader->total_messages;
		run->trouble_since = 0;
	}
}

/* One round; false: nothing more to do. */
static bool
go_round(Run *run)
{
	const char *end_reason;
	KiStep		step;

	if (has_reached_ends(run) && !take_up_waiting(run))
	{
		run->is_caught_up = true;
		return false;
	}
	if (run->loader->total_batches >= run->max_batches || is_over(run))
		return false;
	step = ki_loader_collect(run->loader, &end_reason);
	if (!ki_lock_run_holds())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run() of pipeline \"%s\" lost its lock", run->name),
				 errdetail("A trigger or function released all advisory locks of the session.")));
	if (step == KI_STEP_OK)
		step = ki_loader_apply(run->loader, end_reason);
	else
	{
		check_health(run);
		wait_for_source(run, Min(ki_loader_wait_ms(run->loader), 1000));
	}
	if (step == KI_STEP_STOPPED || step == KI_STEP_GONE)
		raise_stop(run);
	if (step == KI_STEP_RELOAD)
		ki_loader_reset(run->loader);
	if (step == KI_STEP_TROUBLE)
	{
		bear_trouble(run);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 500, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	if (step == KI_STEP_RELOAD || step == KI_STEP_TROUBLE)
	{
		if (!open_loader(run))
			return false;
		if (!run->loader->is_open)
			raise_stop(run);
	}
	return true;
}

static void
run_to_end(Run *run)
{
	if (!open_loader(run))
		return;
	if (!run->loader->is_open)
		raise_stop(run);
	note_ends(run);
	while (go_round(run))
		CHECK_FOR_INTERRUPTS();
}

/* ------------------------------------------------------------------------
 * The call
 * ------------------------------------------------------------------------
 */
#define LEAVING_MS 5000			/* how long a paused worker may take to leave */

/*
 * Lock out others that load.  After pause() the worker needs a moment to
 * leave, which is waited for.
 */
static bool
take_lock(const KiPipeline *pipeline, bool is_atomic)
{
	TimestampTz since = GetCurrentTimestamp();

	while (!ki_lock_try_run(pipeline->id, is_atomic))
	{
		if ((!pipeline->paused && !pipeline->stop.reason) ||
			TimestampDifferenceExceeds(since, GetCurrentTimestamp(), LEAVING_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

static void
check_call(FunctionCallInfo fcinfo, const KiPipeline *pipeline, bool is_atomic)
{
	PreventCommandIfReadOnly("run()");
	if (is_atomic && (PG_ARGISNULL(1) || PG_GETARG_INT32(1) != 1))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("run() in a transaction block needs max_batches => 1"),
				 errdetail("The batch becomes part of the transaction.")));
	if (!PG_ARGISNULL(1) && PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_batches\" must be at least 1")));
	if (!ki_guard_matches(&pipeline->guard))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" belongs to another database, of which this one is a copy",
						pipeline->name),
				 errhint("adopt() lets the copy load.")));
	if (!take_lock(pipeline, is_atomic))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("pipeline \"%s\" is being loaded by another process",
						pipeline->name),
				 errhint("Use pause() first, or create the pipeline with paused => true.")));
}

/* resume() is implied: a person asks for another try. */
static void
clear_stop(const char *name, const KiTransaction *transaction)
{
	KiPipeline *pipeline;

	ki_transaction_begin(transaction);
	pipeline = ki_owned_lock(name);
	if (pipeline->stop.reason)
	{
		pipeline->stop.reason = NULL;
		pipeline->stop.detail = NULL;
		ki_pipeline_store(pipeline, true);
		ki_event_insert(pipeline, "resume", "by run()");
		ki_slot_mark_changed();
	}
	ki_transaction_commit(transaction);
}

static Datum
result(FunctionCallInfo fcinfo, const Run *run)
{
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(run->loader->total_messages);
	values[1] = Int64GetDatum(run->loader->total_dead_letters);
	values[2] = BoolGetDatum(run->is_caught_up);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
kafka_ingest_run(PG_FUNCTION_ARGS)
{
	bool		is_atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
							  !castNode(CallContext, fcinfo->context)->atomic);
	const KiTransaction *transaction = is_atomic ? &in_block : &in_procedure;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext life = AllocSetContextCreate(is_atomic ? CurTransactionContext :
											   PortalContext, "kafka_ingest run",
											   ALLOCSET_DEFAULT_SIZES);
	Run			run = {0};
	KiPipeline *pipeline;
	Datum		returned;

	MemoryContextSwitchTo(life);
	run.name = ki_argument_text(fcinfo, 0, "name");
	run.max_batches = PG_ARGISNULL(1) ? PG_INT32_MAX : PG_GETARG_INT32(1);
	run.deadline = PG_ARGISNULL(2) ? DT_NOEND :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									ki_argument_ms(fcinfo, 2, "timeout"));
	pipeline = ki_owned_find(run.name);
	check_call(fcinfo, pipeline, is_atomic);
	if (SPI_connect_ext(is_atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	MemoryContextSwitchTo(life);
	clear_stop(run.name, transaction);
	MemoryContextSwitchTo(life);
	run.loader = ki_loader_create(pipeline->id, KI_ALL_PARTITIONS, transaction);
	run_to_end(&run);
	SPI_finish();
	MemoryContextSwitchTo(caller);
	returned = result(fcinfo, &run);
	ki_loader_close(run.loader);
	MemoryContextDelete(life);
	ki_lock_release_run();
	PG_RETURN_DATUM(returned);
}
