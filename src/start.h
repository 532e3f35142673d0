/*
 * start.h
 *	  Where to begin: earliest, latest, a time or offsets become numbers
 *	  (floor 3).
 */
#ifndef KI_START_H
#define KI_START_H

#include "offsets.h"
#include "source.h"

typedef struct KiStart
{
	const char *from;			/* 'earliest', 'latest' or 'committed', by the
								 * source's group; NULL: earliest */
	bool		has_timestamp;
	TimestampTz timestamp;
	const KiOffset *offsets;	/* noffsets 0: none */
	int			noffsets;
} KiStart;

/* A partition's start, and what the log holds around it. */
typedef struct KiStartPoint
{
	const char *topic;
	int32		partition;
	int64		low_offset;
	int64		stable_offset;
	int64		offset;
	bool		is_uncommitted; /* the group has none here: the beginning */
} KiStartPoint;

/*
 * Ask the broker, at most wait_ms per question.  Fills low, stable and offset
 * of point->topic and partition.
 */
extern KiAnswer ki_start_resolve(KiSource *source, const KiStart *start,
								 int wait_ms, KiStartPoint *point);

#endif							/* KI_START_H */
