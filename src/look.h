/*
 * look.h
 *	  Looking at a cluster and into a topic outside any pipeline (floor 5).
 *
 * Everything is done with the current user's credentials for a connection and
 * leaves nothing behind: no group is joined, no offset is committed.  A client
 * lives in the memory context it was opened in, so an error or a cancelled
 * query destroys it.
 */
#ifndef KI_LOOK_H
#define KI_LOOK_H

#include "compat.h"
#include "start.h"

#define KI_LOOK_WAIT_MS 10000	/* longest time without any answer */

/* --- questions --- */

/* topic NULL: for questions about the whole cluster. */
extern KiSource *ki_look_open(const KiConnection *connection,
							  const char *topic);

/*
 * Ask for the cluster, at most wait_ms.  Raises 42704 when there is no such
 * topic, else as ki_look_unanswered does.
 */
extern void ki_look_cluster(KiSource *source, const KiConnection *connection,
							const char *topic, int wait_ms,
							KiCluster *cluster);

/* No answer in time: raise why, as far as anybody knows. */
KI_NORETURN extern void ki_look_unanswered(const KiSource *source,
										   const KiConnection *connection);

/* Will waiting longer for an answer not help? */
extern bool ki_look_is_hopeless(const KiSource *source);

/* --- messages --- */

/* Which messages of a topic, of those that are there when the reading begins. */
typedef struct KiLook
{
	const char *connection;
	const char *topic;
	KiStart		start;			/* where to begin, unless is_newest */
	bool		is_newest;		/* the last ones */
	int			max_messages;	/* at least 1 */
} KiLook;

/* Called for each message, whose bytes are good until it returns. */
typedef void (*KiLookTake) (void *state, const KiMessage *message);

/*
 * Read messages until there are max_messages, or no more.  All partitions give
 * as evenly as they can, each from its start on and in its order, so that the
 * same log always gives the same ones.  With is_newest there may be up to
 * max_messages of each partition, and more where offsets are missing: the
 * caller keeps those it wants.
 */
extern void ki_look_read(const KiLook *look, KiLookTake take, void *state);

#endif							/* KI_LOOK_H */
