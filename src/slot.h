/*
 * slot.h
 *	  Shared memory: what should run, what runs, and how it is doing (floor 1).
 *
 * One slot a worker: (database, pipeline, worker number).  The reconciler of a
 * database claims slots, the launcher starts and stops their processes, the
 * process writes its state, anybody reads copies.  Everything is protected by
 * one LWLock; nothing here survives a crash of the server, and nothing needs
 * to.  Without shared_preload_libraries there is no shared memory and
 * ki_slot_available() is false.
 */
#ifndef KI_SLOT_H
#define KI_SLOT_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define KI_DETAIL_MAX 512		/* bytes with the final zero */
#define KI_REASON_MAX 32
#define KI_RECENT_BATCHES 100
#define KI_BATCH_PARTITIONS 32	/* partitions shown of one batch */
#define KI_BATCH_TOPICS 512		/* bytes for the names of their topics */
#define KI_RATE_SECONDS 10

/* What the process says it does. */
typedef enum KiActivity
{
	KI_ACTIVITY_NONE = 0,		/* no process */
	KI_ACTIVITY_STARTING,
	KI_ACTIVITY_RUNNING,
	KI_ACTIVITY_RECONNECTING,
	KI_ACTIVITY_RETRYING,
	KI_ACTIVITY_WAITING
} KiActivity;

typedef struct KiBatchRange
{
	int32		topic;			/* where its name begins in topics */
	int32		partition;
	int64		first_offset;
	int64		last_offset;
} KiBatchRange;

typedef struct KiBatchReport
{
	int			pid;
	TimestampTz finished_at;
	char		topics[KI_BATCH_TOPICS];	/* names, each with its zero */
	int			topics_len;		/* bytes used of them */
	int			nranges;		/* what has no room here or there is not kept */
	KiBatchRange ranges[KI_BATCH_PARTITIONS];
	int64		messages;
	int64		loaded;
	int64		dead_letters;
	int64		bytes;
	int64		first_timestamp_ms; /* -1: none */
	int64		last_timestamp_ms;
	double		collect_ms;
	double		apply_ms;
	double		decode_ms;		/* of it, estimated */
	double		map_ms;			/* likewise */
	double		commit_ms;
	char		end_reason[12];
} KiBatchReport;

typedef struct KiSlot
{
	/* who: written by the reconciler, under the lock */
	Oid			database;		/* InvalidOid: the slot is free */
	int32		pipeline;
	int32		worker;
	char		name[NAMEDATALEN];	/* of the pipeline */
	Oid			owner;
	bool		is_wanted;
	bool		is_seen;		/* by the reconciler that runs now */

	/* process: written by the launcher and by the process itself */
	int64		generation;		/* of the process that may attach */
	int			pid;			/* 0: none attached */
	TimestampTz attached_at;	/* when it did */
	TimestampTz not_before;		/* do not start earlier; 0: at once */
	int			failures;		/* ends without a commit since the last one */
	bool		had_success;	/* the process committed or read */
	bool		is_nudged;		/* try at once what waits to be tried again */

	/* state: written by the process */
	KiActivity	activity;
	char		reason[KI_REASON_MAX];	/* '': none */
	char		detail[KI_DETAIL_MAX];
	TimestampTz since;
	TimestampTz next_retry_at;	/* 0: none */
	TimestampTz busy_since;		/* in a batch's transaction; 0: not */
	char		last_error[KI_DETAIL_MAX];
	TimestampTz last_error_at;	/* 0: never */
	int64		rate_second[KI_RATE_SECONDS + 2];
	int64		rate_count[KI_RATE_SECONDS + 2];
	int64		nbatches;		/* ever; the ring holds the last ones */
	KiBatchReport batches[KI_RECENT_BATCHES];
} KiSlot;

/* Why a database must have no worker for now. */
typedef struct KiAside
{
	Oid			database;
	int			pid;			/* the backend that asked for it */
} KiAside;

/* --- life --- */
extern void ki_slot_request_shmem(void);
extern void ki_slot_init_shmem(void);
extern bool ki_slot_available(void);

/* When the server began to keep slots: at its start, or after a crash. */
extern TimestampTz ki_slot_kept_since(void);
extern int	ki_slot_count(void);

/* Copy of slot number i, without its batches. */
extern void ki_slot_read(int i, KiSlot *copy);

/* Its batches, oldest first; returns how many. */
extern int	ki_slot_read_batches(int i, KiBatchReport *batches);

/* Index of the slot of a worker, or -1. */
extern int	ki_slot_find(Oid database, int32 pipeline, int32 worker);

/* --- reconciler: publish what a database wants --- */
typedef struct KiWish
{
	int32		pipeline;
	int32		worker;
	const char *name;			/* of the pipeline */
	Oid			owner;
} KiWish;

/* Returns false when there were too few slots for all wishes. */
extern bool ki_slot_publish(Oid database, const KiWish *wishes, int nwishes);

/* --- launcher --- */
extern void ki_slot_set_launcher(int pid);
extern bool ki_slot_take_dirty(Oid *database);	/* one database to look at */
extern bool ki_slot_take_starved(Oid *database);
extern int64 ki_slot_prepare_start(int i);	/* the new generation */
extern void ki_slot_start_failed(int i, const char *reason, const char *detail);
extern void ki_slot_process_ended(int i);

/* --- process --- */

/* Attach to slot i; false: this generation is no longer wanted. */
extern bool ki_slot_attach(int i, int64 generation);
extern void ki_slot_detach(void);
extern void ki_slot_set_activity(KiActivity activity, const char *reason,
								 const char *detail);
extern void ki_slot_set_retry(TimestampTz next_retry_at);
extern void ki_slot_set_busy(bool is_busy);
extern bool ki_slot_take_nudge(void);
extern void ki_slot_set_error(const char *message);
extern void ki_slot_report_batch(const KiBatchReport *report);

/* --- anybody --- */
/* At commit of this transaction, the database is looked at by the launcher. */
extern void ki_slot_mark_changed(void);

/*
 * At commit of this transaction, the failures of a pipeline's workers are
 * forgotten, and what waits to be tried again is tried at once.
 */
#define KI_ALL_PIPELINES (-1)	/* of this database */
extern void ki_slot_nudge(int32 pipeline);

/* Wait until some pipeline commits something, or wait_ms are over. */
extern void ki_slot_wait_for_commit(long wait_ms);
extern void ki_slot_prepare_wait(void);
extern void ki_slot_cancel_wait(void);

/* --- stepping aside (for DROP DATABASE and its like) --- */
extern bool ki_slot_step_aside(Oid database);	/* false: no room */
extern void ki_slot_come_back(void);	/* what this backend asked for */
extern bool ki_slot_is_aside(Oid database);

#endif							/* KI_SLOT_H */
