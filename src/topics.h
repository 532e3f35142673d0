/*
 * topics.h
 *	  Which topics a pipeline reads: a name, a pattern with *, or a comma list
 *	  of both (floor 1).
 *
 * A topic's name has neither a comma nor a star, so the text that a person
 * gave is used as it is; nothing here allocates but what is returned.
 */
#ifndef KI_TOPICS_H
#define KI_TOPICS_H

#include "nodes/pg_list.h"

/* Raises 22023 for illegal names and patterns, and for the same one twice. */
extern void ki_topics_check(const char *topics);

/*
 * Is this topic among them?  * stands for any characters, or none; topics whose
 * name begins with __ are Kafka's own, and only a pattern that begins so, too,
 * means them.
 */
extern bool ki_topics_match(const char *topics, const char *topic);

/* One name: neither a list nor a pattern. */
extern bool ki_topics_is_one(const char *topics);
extern bool ki_topics_has_pattern(const char *topics);

/* The names among them, without the patterns; char *, palloc'd. */
extern List *ki_topics_names(const char *topics);

/*
 * Which of so many workers reads a partition.  With one topic they take turns
 * by the partition's number; with several the first partitions of all topics
 * must not meet at the same worker.
 */
extern int	ki_topics_worker(const char *topics, const char *topic,
							 int32 partition, int workers);

#endif							/* KI_TOPICS_H */
