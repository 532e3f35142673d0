/*
 * lock.h
 *	  Locks on a pipeline: heavyweight locks under a tag of our own, which no
 *	  SQL command can take (floor 1).
 *
 * Order: pipeline, position rows by partition, target.
 */
#ifndef KI_LOCK_H
#define KI_LOCK_H

#include "postgres.h"
#include "storage/lock.h"

/*
 * Keep others from changing the pipeline until the transaction ends: SHARE
 * (is_change false) for a batch, EXCLUSIVE for whoever changes configuration
 * or positions.  Waits, subject to lock_timeout.
 */
extern void ki_lock_pipeline(int32 pipeline, bool is_change);

/*
 * Only one process at a time writes what workers write into the pipeline's
 * row and first positions.  Until the transaction ends; taken after the
 * pipeline's SHARE lock.
 */
extern void ki_lock_resolution(int32 pipeline);

/*
 * A background worker holds "process" SHARE and its number EXCLUSIVE until it
 * ends.  Their tags are made in a transaction; they are taken outside of any,
 * and are not free while run() holds the pipeline.
 */
typedef struct KiWorkerLocks
{
	LOCKTAG		process;
	LOCKTAG		number;
} KiWorkerLocks;

extern KiWorkerLocks ki_lock_worker_tags(int32 pipeline, int worker);
extern bool ki_lock_worker(const KiWorkerLocks *locks, bool waits);

/*
 * Are they still held?  pg_advisory_unlock_all() in user code releases them.
 */
extern bool ki_lock_worker_holds(const KiWorkerLocks *locks);
extern bool ki_lock_run_holds(void);

/*
 * run() holds "process" EXCLUSIVE: until the end of the transaction in a
 * transaction block, else until ki_lock_release_run or an abort.  Returns
 * false when another process loads the pipeline, or this one is in a run().
 */
extern bool ki_lock_try_run(int32 pipeline, bool in_block);
extern void ki_lock_release_run(void);

#endif							/* KI_LOCK_H */
