/*
 * slot.c
 *	  Shared memory: the slots, the partitions' offsets, and who waits.
 *
 * Rules: every field is read and written under shared->lock; no error may be
 * raised and nothing may be allocated while it is held.  Latches are set by
 * pid through the ProcArray, since a PGPROC may belong to someone else by the
 * time it is used.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "settings.h"
#include "slot.h"

#define MAX_DIRTY 64
#define MAX_NUDGES 64
#define MAX_ASIDE 32

typedef struct Shared
{
	LWLock	   *lock;
	ConditionVariable committed;
	int			launcher_pid;
	TimestampTz kept_since;
	int			nslots;
	int			ndirty;			/* MAX_DIRTY + 1: all databases */
	Oid			dirty[MAX_DIRTY];
	Oid			starved;		/* a database with unmet wishes */
	KiAside		aside[MAX_ASIDE];
	KiSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} Shared;

static Shared *shared = NULL;
static KiSlot *my_slot = NULL;

/* What the transaction under way will publish when it commits. */
static bool change_is_pending = false;
static int32 nudges[MAX_NUDGES];
static int	nnudges = 0;		/* MAX_NUDGES + 1: all pipelines */

/* ------------------------------------------------------------------------
 * Life
 * ------------------------------------------------------------------------
 */
static Size
shared_size(void)
{
	return add_size(offsetof(Shared, slots),
					mul_size(ki_setting_max_workers, sizeof(KiSlot)));
}

void
ki_slot_request_shmem(void)
{
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("kafka_ingest", 1);
}

void
ki_slot_init_shmem(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("kafka_ingest", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &(GetNamedLWLockTranche("kafka_ingest"))->lock;
		shared->nslots = ki_setting_max_workers;
		shared->kept_since = GetCurrentTimestamp();
		ConditionVariableInit(&shared->committed);
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
ki_slot_available(void)
{
	return shared != NULL;
}

TimestampTz
ki_slot_kept_since(void)
{
	return shared ? shared->kept_since : 0;
}

int
ki_slot_count(void)
{
	return shared ? shared->nslots : 0;
}

static void
wake(int pid)
{
	PGPROC	   *proc = pid ? BackendPidGetProc(pid) : NULL;

	if (proc)
		SetLatch(&proc->procLatch);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
void
ki_slot_read(int i, KiSlot *copy)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	memcpy(copy, &shared->slots[i], offsetof(KiSlot, batches));
	LWLockRelease(shared->lock);
}

int
ki_slot_read_batches(int i, KiBatchReport *batches)
{
	KiSlot	   *slot = &shared->slots[i];
	int			count;
	int64		first;

	LWLockAcquire(shared->lock, LW_SHARED);
	count = Min(slot->nbatches, KI_RECENT_BATCHES);
	first = slot->nbatches - count;
	for (int k = 0; k < count; k++)
		batches[k] = slot->batches[(first + k) % KI_RECENT_BATCHES];
	LWLockRelease(shared->lock);
	return count;
}

/* Lock held. */
static int
find_slot(Oid database, int32 pipeline, int32 worker)
{
	for (int i = 0; i < shared->nslots; i++)
	{
		KiSlot	   *slot = &shared->slots[i];

		if (slot->database == database && slot->pipeline == pipeline &&
			slot->worker == worker)
			return i;
	}
	return -1;
}

int
ki_slot_find(Oid database, int32 pipeline, int32 worker)
{
	int			i;

	if (!shared)
		return -1;
	LWLockAcquire(shared->lock, LW_SHARED);
	i = find_slot(database, pipeline, worker);
	LWLockRelease(shared->lock);
	return i;
}

/* ------------------------------------------------------------------------
 * Reconciler
 * ------------------------------------------------------------------------
 */

/*
 * A slot for a new wish, lock held: a free one, else one whose worker is no
 * longer wanted (what it remembers of its errors and batches is given up).
 */
static int
claimable_slot(void)
{
	int			reusable = -1;

	for (int i = 0; i < shared->nslots; i++)
	{
		KiSlot	   *slot = &shared->slots[i];

		if (!OidIsValid(slot->database))
			return i;
		if (!slot->is_wanted && slot->pid == 0 &&
			slot->activity == KI_ACTIVITY_NONE && reusable < 0)
			reusable = i;
	}
	return reusable;
}

static bool
grant_wish(Oid database, const KiWish *wish)
{
	int			i = find_slot(database, wish->pipeline, wish->worker);
	KiSlot	   *slot;

	if (i < 0)
	{
		int64		generation;

		i = claimable_slot();
		if (i < 0)
			return false;
		slot = &shared->slots[i];
		generation = slot->generation;
		memset(slot, 0, sizeof(KiSlot));
		slot->generation = generation;
		slot->database = database;
		slot->pipeline = wish->pipeline;
		slot->worker = wish->worker;
		slot->since = GetCurrentTimestamp();
	}
	slot = &shared->slots[i];
	if (!slot->is_wanted || slot->owner != wish->owner)
	{
		slot->not_before = 0;
		slot->failures = 0;
	}
	strlcpy(slot->name, wish->name, NAMEDATALEN);
	slot->owner = wish->owner;
	slot->is_wanted = true;
	slot->is_seen = true;
	return true;
}

bool
ki_slot_publish(Oid database, const KiWish *wishes, int nwishes)
{
	bool		all_granted = true;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
		shared->slots[i].is_seen = false;
	for (int i = 0; i < nwishes; i++)
		if (!grant_wish(database, &wishes[i]))
			all_granted = false;
	for (int i = 0; i < shared->nslots; i++)
		if (shared->slots[i].database == database && !shared->slots[i].is_seen)
			shared->slots[i].is_wanted = false;
	if (!all_granted)
		shared->starved = database;
	wake(shared->launcher_pid);
	LWLockRelease(shared->lock);
	return all_granted;
}

/* ------------------------------------------------------------------------
 * Launcher
 * ------------------------------------------------------------------------
 */
void
ki_slot_set_launcher(int pid)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_pid = pid;
	LWLockRelease(shared->lock);
}

/* *database becomes InvalidOid when all databases are to be looked at. */
bool
ki_slot_take_dirty(Oid *database)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->ndirty > MAX_DIRTY)
	{
		shared->ndirty = 0;
		*database = InvalidOid;
		found = true;
	}
	else if (shared->ndirty > 0)
	{
		*database = shared->dirty[--shared->ndirty];
		found = true;
	}
	LWLockRelease(shared->lock);
	return found;
}

/* A database whose wishes were not all met, when there is room again. */
bool
ki_slot_take_starved(Oid *database)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (OidIsValid(shared->starved) && claimable_slot() >= 0)
	{
		*database = shared->starved;
		shared->starved = InvalidOid;
		found = true;
	}
	LWLockRelease(shared->lock);
	return found;
}

int64
ki_slot_prepare_start(int i)
{
	KiSlot	   *slot = &shared->slots[i];
	int64		generation;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	generation = ++slot->generation;
	slot->activity = KI_ACTIVITY_STARTING;
	slot->since = GetCurrentTimestamp();
	slot->reason[0] = slot->detail[0] = '\0';
	slot->next_retry_at = 0;
	slot->had_success = false;
	LWLockRelease(shared->lock);
	return generation;
}

/* Back-off of a worker that ended without having done anything: 1 s doubling. */
static TimestampTz
next_start(int failures)
{
	int64		wait_ms = failures > 0 ? INT64CONST(1000) << Min(failures - 1, 20) : 0;

	wait_ms = Min(wait_ms, Max(ki_setting_retry_backoff_max_ms, 1000));
	return wait_ms == 0 ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														  wait_ms);
}

void
ki_slot_start_failed(int i, const char *reason, const char *detail)
{
	KiSlot	   *slot = &shared->slots[i];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->activity = KI_ACTIVITY_NONE;
	strlcpy(slot->reason, reason, KI_REASON_MAX);
	strlcpy(slot->detail, detail, KI_DETAIL_MAX);
	slot->since = GetCurrentTimestamp();
	slot->not_before = next_start(1);
	slot->next_retry_at = slot->not_before;
	LWLockRelease(shared->lock);
}

/* The process of slot i is gone, whether it had attached or not. */
void
ki_slot_process_ended(int i)
{
	KiSlot	   *slot = &shared->slots[i];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->activity = KI_ACTIVITY_NONE;
	slot->busy_since = 0;
	slot->failures = slot->had_success ? 1 : slot->failures + 1;
	slot->not_before = next_start(slot->failures);
	slot->next_retry_at = slot->is_wanted ? slot->not_before : 0;
	slot->since = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

/* ------------------------------------------------------------------------
 * Process
 * ------------------------------------------------------------------------
 */
bool
ki_slot_attach(int i, int64 generation)
{
	KiSlot	   *slot = &shared->slots[i];
	bool		is_mine;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	is_mine = slot->generation == generation && slot->is_wanted && slot->pid == 0;
	if (is_mine)
	{
		slot->pid = MyProcPid;
		slot->attached_at = GetCurrentTimestamp();
		my_slot = slot;
	}
	LWLockRelease(shared->lock);
	return is_mine;
}

void
ki_slot_detach(void)
{
	if (!my_slot)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->pid = 0;
	my_slot->busy_since = 0;
	my_slot->activity = KI_ACTIVITY_NONE;
	wake(shared->launcher_pid);
	LWLockRelease(shared->lock);
	my_slot = NULL;
}

void
ki_slot_set_activity(KiActivity activity, const char *reason,
					 const char *detail)
{
	if (!my_slot)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->activity != activity ||
		strcmp(my_slot->reason, reason ? reason : "") != 0)
		my_slot->since = GetCurrentTimestamp();
	my_slot->activity = activity;
	strlcpy(my_slot->reason, reason ? reason : "", KI_REASON_MAX);
	strlcpy(my_slot->detail, detail ? detail : "", KI_DETAIL_MAX);
	my_slot->next_retry_at = 0;
	if (activity == KI_ACTIVITY_RUNNING)
		my_slot->had_success = true;
	LWLockRelease(shared->lock);
}

void
ki_slot_set_retry(TimestampTz next_retry_at)
{
	if (!my_slot)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->next_retry_at = next_retry_at;
	LWLockRelease(shared->lock);
}

void
ki_slot_set_busy(bool is_busy)
{
	if (!my_slot)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->busy_since = is_busy ? GetCurrentTimestamp() : 0;
	LWLockRelease(shared->lock);
}

void
ki_slot_set_error(const char *message)
{
	if (!my_slot)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	strlcpy(my_slot->last_error, message, KI_DETAIL_MAX);
	my_slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

static void
count_rate(KiSlot *slot, int64 messages)
{
	int64		second = GetCurrentTimestamp() / USECS_PER_SEC;
	int			k = second % lengthof(slot->rate_second);

	if (slot->rate_second[k] != second)
		slot->rate_count[k] = 0;
	slot->rate_second[k] = second;
	slot->rate_count[k] += messages;
}

void
ki_slot_report_batch(const KiBatchReport *report)
{
	if (!shared)
		return;
	if (my_slot)
	{
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		my_slot->failures = 0;
		my_slot->had_success = true;
		if (report->messages > 0)
		{
			count_rate(my_slot, report->messages);
			my_slot->batches[my_slot->nbatches++ % KI_RECENT_BATCHES] = *report;
		}
		LWLockRelease(shared->lock);
	}
	ConditionVariableBroadcast(&shared->committed);
}

/* ------------------------------------------------------------------------
 * Marks and wake-ups
 * ------------------------------------------------------------------------
 */
static void
add_dirty(Oid database)
{
	for (int i = 0; i < Min(shared->ndirty, MAX_DIRTY); i++)
		if (shared->dirty[i] == database)
			return;
	if (shared->ndirty < MAX_DIRTY)
		shared->dirty[shared->ndirty] = database;
	if (shared->ndirty <= MAX_DIRTY)
		shared->ndirty++;
}

/* Lock held: let one worker, or one that is to start, try at once. */
static void
nudge(KiSlot *slot)
{
	slot->failures = 0;
	slot->not_before = 0;
	slot->is_nudged = true;
	wake(slot->pid);
}

/* Lock held: the nudges this transaction asked for. */
static void
publish_nudges(void)
{
	for (int i = 0; i < shared->nslots; i++)
	{
		KiSlot	   *slot = &shared->slots[i];
		bool		is_meant = nnudges > MAX_NUDGES;

		if (slot->database != MyDatabaseId)
			continue;
		for (int k = 0; k < Min(nnudges, MAX_NUDGES); k++)
			is_meant |= nudges[k] == slot->pipeline;
		if (is_meant)
			nudge(slot);
	}
}

void
ki_slot_nudge(int32 pipeline)
{
	if (pipeline == KI_ALL_PIPELINES)
		nnudges = MAX_NUDGES + 1;
	else if (nnudges < MAX_NUDGES)
		nudges[nnudges++] = pipeline;
	else
		nnudges = MAX_NUDGES + 1;
	ki_slot_mark_changed();
}

/* Wake the launcher once a transaction, and only when it commits. */
static void
publish_change(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && change_is_pending)
	{
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		add_dirty(MyDatabaseId);
		publish_nudges();
		wake(shared->launcher_pid);
		for (int i = 0; i < shared->nslots; i++)
			if (shared->slots[i].database == MyDatabaseId)
				wake(shared->slots[i].pid);
		LWLockRelease(shared->lock);
		ConditionVariableBroadcast(&shared->committed);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
	{
		change_is_pending = false;
		nnudges = 0;
	}
}

void
ki_slot_mark_changed(void)
{
	static bool is_registered = false;

	if (!shared)
		return;
	if (!is_registered)
		RegisterXactCallback(publish_change, NULL);
	is_registered = true;
	change_is_pending = true;
}

/* Was this process nudged since it asked last? */
bool
ki_slot_take_nudge(void)
{
	bool		is_nudged;

	if (!my_slot)
		return false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	is_nudged = my_slot->is_nudged;
	my_slot->is_nudged = false;
	LWLockRelease(shared->lock);
	return is_nudged;
}

void
ki_slot_prepare_wait(void)
{
	if (shared)
		ConditionVariablePrepareToSleep(&shared->committed);
}

void
ki_slot_cancel_wait(void)
{
	if (shared)
		(void) ConditionVariableCancelSleep();
}

void
ki_slot_wait_for_commit(long wait_ms)
{
	if (shared)
		(void) ConditionVariableTimedSleep(&shared->committed, wait_ms,
										   PG_WAIT_EXTENSION);
	else
	{
		/* No shared memory: other sessions can only be seen by looking. */
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(wait_ms, 100), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

/* ------------------------------------------------------------------------
 * Stepping aside
 * ------------------------------------------------------------------------
 */
bool
ki_slot_step_aside(Oid database)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_ASIDE && !found; i++)
		if (shared->aside[i].pid == 0)
		{
			shared->aside[i].database = database;
			shared->aside[i].pid = MyProcPid;
			found = true;
		}
	LWLockRelease(shared->lock);
	return found;
}

void
ki_slot_come_back(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_ASIDE; i++)
		if (shared->aside[i].pid == MyProcPid)
		{
			add_dirty(shared->aside[i].database);
			shared->aside[i].pid = 0;
		}
	wake(shared->launcher_pid);
	LWLockRelease(shared->lock);
}

bool
ki_slot_is_aside(Oid database)
{
	bool		is_aside = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_ASIDE; i++)
		if (shared->aside[i].pid != 0 && shared->aside[i].database == database)
			is_aside = true;
	LWLockRelease(shared->lock);
	return is_aside;
}
