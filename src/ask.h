/*
 * ask.h
 *	  Questions a session puts to the broker about a pipeline's topics
 *	  (floor 5).
 */
#ifndef KI_ASK_H
#define KI_ASK_H

#include "pipeline.h"
#include "start.h"

/*
 * Start a client for a pipeline's topics, with the owner's credentials, in the
 * current memory context.
 */
extern KiSource *ki_ask_open(const KiPipeline *pipeline);

/*
 * Where a start lies in every partition the pipeline reads; waits for the
 * broker until the deadline.  Returns NULL when the time is over (the answer
 * that is missing is in ki_source_trouble) or, with *is_missing, when no
 * topic of its exists.
 */
extern KiStartPoint *ki_ask_points(KiSource *source, const KiPipeline *pipeline,
								   const KiStart *start, TimestampTz deadline,
								   int *npoints, bool *is_missing);

/*
 * The next messages of a pipeline, at most so many, with their headers: from
 * its positions on, or from the beginning of partitions that have none; fewer
 * where the topic ends or the deadline comes.  Raises 42704 when no topic of
 * its exists, 08001 when the broker does not answer.  They and the client they
 * came from live in the current memory context.
 */
extern KiMessages *ki_ask_messages(const KiPipeline *pipeline, int most,
								   TimestampTz deadline);

#endif							/* KI_ASK_H */
