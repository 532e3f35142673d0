/*
 * offsets.h
 *	  start_offsets and the like: offsets per partition, given as jsonb
 *	  (floor 1).
 */
#ifndef KI_OFFSETS_H
#define KI_OFFSETS_H

#include "utils/jsonb.h"

typedef struct KiOffset
{
	int32		partition;
	int64		offset;			/* negative: that many before the end */
} KiOffset;

/*
 * Parse {"0": 100, "1": -50} or {"topic": {"0": 100}} into an array in the
 * current context.  Raises 22023 naming the culprit for anything else.
 */
extern KiOffset *ki_offsets_parse(Jsonb *value, const char *topic,
								  const char *argument, int *noffsets);

/* The entry of a partition, or NULL. */
extern const KiOffset *ki_offsets_find(const KiOffset *offsets, int noffsets,
									   int32 partition);

#endif							/* KI_OFFSETS_H */
