/*
 * offsets.h
 *	  start_offsets and the like: offsets per topic and partition, given as jsonb
 *	  (floor 1).
 */
#ifndef KI_OFFSETS_H
#define KI_OFFSETS_H

#include "utils/jsonb.h"

typedef struct KiOffset
{
	char	   *topic;
	int32		partition;
	int64		offset;			/* negative: that many before the end */
} KiOffset;

/*
 * Parse {"0": 100, "1": -50}, where one topic is read, or {"topic": {"0": 100}}
 * into an array in the current context.  Raises 22023 naming the culprit for
 * anything else, and for topics that are not among these (see topics.h).
 */
extern KiOffset *ki_offsets_parse(Jsonb *value, const char *topics,
								  const char *argument, int *noffsets);

/* The entry of a partition, or NULL. */
extern const KiOffset *ki_offsets_find(const KiOffset *offsets, int noffsets,
									   const char *topic, int32 partition);

#endif							/* KI_OFFSETS_H */
