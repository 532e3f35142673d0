/*
 * loader_parts.h
 *	  What the files of the loader have of each other, and nobody else
 *	  (floor 4).
 */
#ifndef KI_LOADER_PARTS_H
#define KI_LOADER_PARTS_H

#include "loader.h"

/* A text that lives as long as the loaded configuration. */
extern char *ki_loader_detail(KiLoader *loader, const char *format,...) pg_attribute_printf(2, 3);

/* Report a batch that was committed to shared memory (report.c). */
extern void ki_loader_report(const KiLoader *loader,
							 const KiBatchResult *result,
							 const char *end_reason, TimestampTz started);

/* Read the positions of this worker again, in a transaction. */
extern void ki_loader_read_positions(KiLoader *loader);

/* Stop the pipeline for a reason, in a transaction of its own. */
extern KiStep ki_loader_stop(KiLoader *loader, const char *reason,
							 const char *detail);

/* Is this partition read by this worker, if it is read? */
extern bool ki_loader_is_mine(const KiLoader *loader, const KiPosition *position);

/*
 * A position before the log's beginning: stop, or move it as on_offset_lost
 * says (lost.c).
 */
extern KiStep ki_loader_meet_loss(KiLoader *loader, KiPosition *position,
								  int64 low_offset, int64 stable_offset);

/*
 * How many messages the batch may hold now, with those that it has; and how
 * many were taken (pace.c).
 */
extern int	ki_pace_max_messages(KiLoader *loader);
extern void ki_pace_take(KiLoader *loader, int count);

/* Milliseconds until there is something to do; LONG_MAX: nothing. */
extern long ki_pace_wait_ms(const KiLoader *loader);
extern long ki_publish_wait_ms(const KiLoader *loader);
extern long ki_late_wait_ms(const KiLoader *loader);

/*
 * Publishing positions to the group (publish.c): at opening; whenever the
 * loader comes by, without waiting; what is left when the client goes.
 */
extern void ki_publish_begin(KiLoader *loader);
extern void ki_publish_positions(KiLoader *loader);
extern void ki_publish_last(KiLoader *loader);

/*
 * Late partitions (late.c).  What a new one has to wait for, given the ends of
 * the older ones; NULL: nothing.
 */
extern Jsonb *ki_late_waits(const KiPipeline *pipeline, List *rows,
							const char *topic, const KiOffset *ends, int nends);

/* Let those be read whose time has come; NOTHING: none waits. */
extern KiStep ki_late_release(KiLoader *loader);

/* Has it come for one?  Looks at most once a second. */
extern bool ki_late_is_over(KiLoader *loader);

/*
 * Find out where partitions start that have no position yet and store it;
 * part of opening (resolve.c).  A topic that is not there counts as met once
 * nobody knew it for two seconds; then "latest" means 0 for all its
 * partitions.
 */
extern KiStep ki_resolve_positions(KiLoader *loader, const KiCluster *cluster);
extern KiStep ki_resolve_missing_topic(KiLoader *loader,
									   const KiCluster *cluster);

/*
 * Topics that come and go (watch.c).  First note what a person should know of
 * topics that are read by their names.
 */
extern void ki_watch_note_missing(KiLoader *loader, const KiCluster *cluster);

/* Is it too early to say that what is missing is not there? */
extern bool ki_watch_bears(KiLoader *loader, const KiCluster *cluster,
						   const char *vanished);

/* Leave out the positions of topics that are not there; note what is. */
extern void ki_watch_opened(KiLoader *loader, const KiCluster *cluster);

/* Look now and then whether there are other topics than were opened. */
extern void ki_watch_look(KiLoader *loader);

/*
 * The topics with positions that are not there, as a comma list; NULL: none.
 * Those we may not see do not count.
 */
extern char *ki_watch_vanished(List *rows, const KiPipeline *pipeline,
							   const KiCluster *cluster);

/*
 * In the transaction that stores first positions: a topic that vanished or
 * came back is an event.
 */
extern void ki_watch_store(KiPipeline *stored, char *vanished);

#endif							/* KI_LOADER_PARTS_H */
