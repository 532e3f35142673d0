/*
 * lock.c
 *	  Locks on a pipeline.
 *
 * The tag is that of an object of this database: (table kafka_ingest.pipeline,
 * pipeline id, part).  Advisory locks would not do, since anybody can take
 * them and so stop a pipeline.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "catalog.h"
#include "compat.h"
#include "lock.h"
#include "settings.h"

/* The parts of a pipeline that can be locked, as objsubid (16 bits). */
enum
{
	PART_PIPELINE = 0,
	PART_PROCESS = 1,
	PART_RESOLUTION = 2,
	PART_WORKER = 3				/* and up: worker 0, 1, … */
};

static LOCKTAG
lock_tag(int32 pipeline, int part)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ki_catalog_relation_id("pipeline"),
					   (Oid) pipeline, part);
	return tag;
}

void
ki_lock_pipeline(int32 pipeline, bool is_change)
{
	LOCKTAG		tag = lock_tag(pipeline, PART_PIPELINE);

	if (ki_fault("no_lock") && !is_change)
		return;
	(void) LockAcquire(&tag, is_change ? ExclusiveLock : ShareLock,
					   false, false);
}

void
ki_lock_resolution(int32 pipeline)
{
	LOCKTAG		tag = lock_tag(pipeline, PART_RESOLUTION);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Session locks are of the lock method that advisory locks use, though not of
 * their tags: those of the other method end with the first transaction that
 * aborts, and nothing releases them when a process ends.
 */
static LOCKTAG
session_tag(int32 pipeline, int part)
{
	LOCKTAG		tag = lock_tag(pipeline, part);

	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	return tag;
}

KiWorkerLocks
ki_lock_worker_tags(int32 pipeline, int worker)
{
	KiWorkerLocks locks;

	locks.process = session_tag(pipeline, PART_PROCESS);
	locks.number = session_tag(pipeline, PART_WORKER + worker);
	return locks;
}

bool
ki_lock_worker(const KiWorkerLocks *locks, bool waits)
{
	if (ki_fault("no_lock"))
		return true;
	if (LockAcquire(&locks->process, ShareLock, true,
					!waits) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (LockAcquire(&locks->number, ExclusiveLock, true,
					!waits) != LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&locks->process, ShareLock, true);
	return false;
}

bool
ki_lock_worker_holds(const KiWorkerLocks *locks)
{
	return ki_fault("no_lock") ||
		(ki_lock_held_by_me(&locks->process, ShareLock) &&
		 ki_lock_held_by_me(&locks->number, ExclusiveLock));
}

/* The session lock of a run() outside a transaction block. */
static LOCKTAG run_tag;
static bool run_is_held = false;

void
ki_lock_release_run(void)
{
	if (!run_is_held)
		return;
	run_is_held = false;
	if (!ki_lock_held_by_me(&run_tag, ExclusiveLock))
		return;					/* released by user code */
	(void) LockRelease(&run_tag, ExclusiveLock, true);
}

bool
ki_lock_run_holds(void)
{
	return !run_is_held || ki_lock_held_by_me(&run_tag, ExclusiveLock);
}

/* A session lock survives an abort, but the run() that failed does not. */
static void
release_at_abort(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		ki_lock_release_run();
}

bool
ki_lock_try_run(int32 pipeline, bool in_block)
{
	static bool is_registered = false;
	LOCKTAG		tag;

	if (ki_fault("no_lock"))
		return true;
	if (run_is_held)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("run() cannot be called within run()"),
				 errhint("User code that run() executes must not load pipelines itself.")));
	if (!is_registered)
		RegisterXactCallback(release_at_abort, NULL);
	is_registered = true;

	tag = session_tag(pipeline, PART_PROCESS);
	if (LockAcquire(&tag, ExclusiveLock, !in_block,
					true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (!in_block)
	{
		run_tag = tag;
		run_is_held = true;
	}
	return true;
}
