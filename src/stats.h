/*
 * stats.h
 *	  What librdkafka's statistics say, as plain structs (floor 1).
 */
#ifndef KI_STATS_H
#define KI_STATS_H

#include "postgres.h"

/* One connection of the client.  Counters and times are the library's. */
typedef struct KiStatBroker
{
	int32		id;				/* -1: a bootstrap address, or internal */
	char	   *name;			/* "host:port/id" */
	bool		is_named;		/* configured or learned: neither internal nor
								 * a second connection to a coordinator */
	bool		is_up;
	int64		waiting;		/* requests sent and not answered yet */
	int64		received;		/* answers so far */
	int64		receive_idle_us;	/* since the last answer; -1: none */
	int64		send_idle_us;	/* since the last request; -1: none */
	int64		unanswered_us;	/* how long at least one request has waited
								 * without any answer; ours, not parsed */
} KiStatBroker;

typedef struct KiStatPartition
{
	int32		partition;
	int32		broker;			/* that is fetched from; -1: none */
	bool		is_unknown;		/* wanted, but not in the metadata */
	int64		fetch_offset;	/* the next to be fetched; -1: unknown */
	int64		low_offset;		/* -1: unknown, so all three */
	int64		stable_offset;
	int64		high_offset;
} KiStatPartition;

/* Where the partitions of a topic stand. */
typedef struct KiStatTopic
{
	int			first;
	int			count;
} KiStatTopic;

typedef struct KiStats
{
	int64		at_us;			/* of the library's own clock */
	KiStatBroker *brokers;
	int			nbrokers;
	KiStatPartition *partitions;	/* of the topics asked for */
	int			npartitions;
	KiStatTopic *topics;		/* by the numbers they were asked by */
	int			ntopics;
} KiStats;

/*
 * Parse one statistics document in the current memory context, taking the
 * partitions of these topics.  Missing fields are -1, false or empty.  Returns
 * NULL for what is no JSON object.
 */
extern KiStats *ki_stats_parse(const char *json, size_t len,
							   const char *const *topics, int ntopics);

#endif							/* KI_STATS_H */
