/*
 * advance.h
 *	  How far a batch moves the positions: planned, locked, stored (floor 3).
 *
 * Used in this order within one batch: plan, lock, (rows are written), store,
 * (commit), remember.  Everything lives in the current memory context of
 * ki_advances_plan.
 */
#ifndef KI_ADVANCE_H
#define KI_ADVANCE_H

#include "catalog.h"
#include "message.h"

/* What became of a message. */
typedef enum KiFate
{
	KI_FATE_UNKNOWN = 0,
	KI_FATE_LOADED,
	KI_FATE_IGNORED,
	KI_FATE_FILTERED,
	KI_FATE_DEAD				/* it became a dead letter */
} KiFate;

typedef struct KiAdvances
{
	KiAdvance  *items;			/* one per position; row NULL: not touched */
	KiPosition *positions;
	const int64 *ends;			/* per position; -1: no end seen */
	int			npositions;
} KiAdvances;

/*
 * Look where the messages lie.  False: not at or after their positions in
 * growing order, as the source promises; nothing of the batch may be used.
 */
extern bool ki_advances_plan(KiAdvances *advances, const KiMessages *messages,
							 KiPosition *positions, int npositions,
							 const int64 *ends);

/*
 * Lock and compare the row of every position the batch may move; false:
 * another process moved one.
 */
extern bool ki_advances_lock(KiAdvances *advances, int32 pipeline);

/*
 * Store the new positions of the first "applied" messages, whose fates are
 * given, or the ends where those are further and may_pass_end is true.  Of the
 * loaded ones so many were ignored after all, whichever they were.
 */
extern void ki_advances_store(KiAdvances *advances, int32 pipeline,
							  const KiMessages *messages, int applied,
							  const uint8 *fates, int64 ignored,
							  bool may_pass_end);

/* After the commit: what is stored is what we expect from now on. */
extern void ki_advances_remember(const KiAdvances *advances);

#endif							/* KI_ADVANCE_H */
