/*
 * watermark.h
 *	  The log's offsets of partitions, as their workers saw them last, in
 *	  shared memory (floor 1).
 */
#ifndef KI_WATERMARK_H
#define KI_WATERMARK_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct KiWatermark
{
	const char *topic;			/* only when they are stored */
	int32		partition;
	int64		low_offset;		/* -1: unknown */
	int64		stable_offset;
	int64		high_offset;
	TimestampTz at;				/* when the worker saw them */
	TimestampTz held_since;		/* stable_offset stands still below
								 * high_offset since; 0: it does not.  Kept by
								 * ki_watermark_set */
} KiWatermark;

extern void ki_watermark_request_shmem(void);
extern void ki_watermark_init_shmem(void);

/* Store what a worker saw.  Where there is no room left, nothing is known. */
extern void ki_watermark_set(Oid database, int32 pipeline,
							 const KiWatermark *marks, int nmarks);
extern bool ki_watermark_get(Oid database, int32 pipeline, const char *topic,
							 int32 partition, KiWatermark *mark);

/* Forget those of all pipelines of a database but these. */
extern void ki_watermark_keep_only(Oid database, const int32 *pipelines,
								   int npipelines);

#endif							/* KI_WATERMARK_H */
