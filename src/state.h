/*
 * state.h
 *	  What a pipeline does now, derived when it is asked (floor 5).
 */
#ifndef KI_STATE_H
#define KI_STATE_H

#include "pipeline.h"
#include "slot.h"

typedef struct KiState
{
	const char *state;			/* 'running', 'paused' … */
	const char *reason;			/* NULL: none */
	const char *detail;			/* NULL: none */
	TimestampTz since;
	TimestampTz next_retry_at;	/* 0: none */
	TimestampTz last_error_at;	/* 0: never */
	const char *last_error;
	double		messages_per_second;
	int			npids;
	int		   *pids;
} KiState;

/*
 * Derive the state from the pipeline, the settings and the slots of its
 * workers; in a transaction, allocated in the current memory context.
 */
extern void ki_state_derive(const KiPipeline *pipeline, KiState *state);

/* What one worker does, as far as its slot tells. */
extern void ki_state_of_slot(const KiSlot *slot, KiState *state);

/*
 * A sentence about a partition whose end an open transaction of a producer has
 * held back for a while; NULL: there is none.
 */
extern char *ki_state_held_back(const KiPipeline *pipeline);

/*
 * A sentence about patterns that no topic matches; NULL: one does, or it is not
 * known yet.  With chosen partitions that is never known.
 */
extern char *ki_state_no_topic(const KiPipeline *pipeline);

/* The pid of the worker that reads a partition; 0: none runs. */
extern int	ki_state_worker_pid(const KiPipeline *pipeline, const char *topic,
								int32 partition);

#endif							/* KI_STATE_H */
