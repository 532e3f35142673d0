/*
 * loader.h
 *	  The reading of one pipeline, from its configuration to its commits; the
 *	  same for a background worker and for run() (floor 4).
 *
 * The caller goes round: load, open, collect, apply, and waits in between.
 */
#ifndef KI_LOADER_H
#define KI_LOADER_H

#include "nodes/pg_list.h"

#include "batch.h"
#include "offsets.h"
#include "slot.h"
#include "source.h"

#define KI_ALL_PARTITIONS (-1)	/* the worker number of run() */

/* What the loader is at, to tell what an error is about. */
typedef enum KiPhase
{
	KI_PHASE_CONFIGURATION,
	KI_PHASE_CONNECTION,
	KI_PHASE_TARGET,
	KI_PHASE_ROWS
} KiPhase;

/* max_messages_per_second (pace.c): what may be taken now. */
typedef struct KiPace
{
	double		tokens;			/* messages; negative: took too many */
	TimestampTz filled_at;		/* 0: never */
} KiPace;

typedef struct KiLoader
{
	int32		pipeline_id;
	int			worker;			/* 0 …, or KI_ALL_PARTITIONS */
	const KiTransaction *transaction;
	MemoryContext life_context; /* of the loader */
	MemoryContext load_context; /* of one configuration; owns what follows */

	KiPipeline *pipeline;		/* NULL: to be loaded */
	KiConnection *connection;
	KiBatch    *batch;
	bool		wants_headers;
	KiPhase		phase;
	bool		has_new_target; /* it was renamed, moved or made again */
	KiSource   *source;			/* NULL: to be created */
	bool		is_open;		/* positions are assigned */
	KiMessages *messages;
	KiPosition *positions;		/* of this worker, by partition */
	int64	   *ends;			/* as many; -1: not at the end */
	int64	   *stable_offsets; /* as many; the log's end when it was opened */
	int			npositions;
	MemoryContext position_context; /* of these; in load_context */
	int			npositions_all; /* of all workers */
	int			nwaiting;		/* of this worker, that may not be read yet */
	TimestampTz waited_at;		/* when it was looked whether they may */
	bool		has_start_group;	/* the client is of start_group */
	int			npartitions;	/* of topics read by name, as of opening */
	int			missing_answers;	/* in a row: no such topic */
	TimestampTz missing_since;
	const char *missing_reason; /* why a topic read by its name is left out
								 * while others are read; NULL: none is */
	char	   *missing_detail;

	/* which topics there were, see watch.c */
	uint64		seen_topics;
	TimestampTz looked_at;
	bool		has_new_topics; /* others than were opened */

	TimestampTz first_at;		/* first message of the batch; 0: none */
	TimestampTz idle_since;		/* nothing collected since */

	/* what the broker's group was told (publish.c) */
	int64	   *published;		/* per position; -1: nothing; NULL: not open */
	TimestampTz publish_after;	/* not again before; 0: at once */
	bool		is_publishing;	/* a reply is to come */

	KiPace		pace;			/* outlives the configuration */

	/* barriers met at the same place, one after the other */
	int			nbarriers;
	char		barrier_topic[KI_TOPIC_MAX + 1];
	int32		barrier_partition;
	int64		barrier_offset;
	const char *setback_reason; /* why the client was destroyed; NULL: was not */
	char	   *setback_detail;

	int64		total_messages; /* applied since creation */
	int64		total_dead_letters;
	int64		total_batches;
} KiLoader;

/* What came of a step. */
typedef enum KiStep
{
	KI_STEP_OK,
	KI_STEP_NOTHING,			/* nothing to do now; wait */
	KI_STEP_TROUBLE,			/* the broker's side; see ki_loader_trouble */
	KI_STEP_RELOAD,				/* load again, at once */
	KI_STEP_STOPPED,			/* the pipeline was stopped; see stop_reason */
	KI_STEP_GONE				/* dropped, or not to be loaded now */
} KiStep;

extern KiLoader *ki_loader_create(int32 pipeline, int worker,
								  const KiTransaction *transaction);
extern void ki_loader_close(KiLoader *loader);

/* Forget configuration and memory; the next step loads again. */
extern void ki_loader_reset(KiLoader *loader);

/* Read configuration and positions, check connection and target. */
extern KiStep ki_loader_load(KiLoader *loader);

/*
 * Did configuration, server or mapping change since?  A transaction of its
 * own, for when no batch would notice.
 */
extern bool ki_loader_is_stale(KiLoader *loader);

/* Reach the broker, find partitions and starts, assign.  May take seconds. */
extern KiStep ki_loader_open(KiLoader *loader);

/* Take what is there.  OK: the batch is due, for *end_reason. */
extern KiStep ki_loader_collect(KiLoader *loader, const char **end_reason);

/* Apply what was collected, move over trailing control records. */
extern KiStep ki_loader_apply(KiLoader *loader, const char *end_reason);

/*
 * What is wrong on the broker's side: reason and detail.  That a topic is left
 * out while others are read counts only for the latter function (watch.c).
 */
extern void ki_loader_trouble(const KiLoader *loader, const char **reason,
							  const char **detail);
extern void ki_loader_shortcoming(const KiLoader *loader, const char **reason,
								  const char **detail);

/* Milliseconds until a step has something to do without being woken. */
extern long ki_loader_wait_ms(const KiLoader *loader);

/* Publish the log's offsets to shared memory and watch for new partitions. */
extern KiStep ki_loader_observe(KiLoader *loader);

#endif							/* KI_LOADER_H */
