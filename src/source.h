/*
 * source.h
 *	  Where messages come from: one assigned consumer of some topics (floor 2).
 *
 * source_kafka.c is the only file that sees librdkafka.  Nothing here calls
 * PostgreSQL from a foreign thread: no callback is ever registered, logs and
 * events are polled.  The functions that wait for the network must not be
 * called inside a transaction; they take the longest wait in milliseconds and
 * return early, so that the caller's loop can check for interrupts.
 */
#ifndef KI_SOURCE_H
#define KI_SOURCE_H

#include "connection.h"
#include "message.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"

typedef struct KiSource KiSource;

/* How a wait on the network ended. */
typedef enum KiAnswer
{
	KI_ANSWER_OK,
	KI_ANSWER_MISSING,			/* no such topic, of a list none; no such
								 * partition */
	KI_ANSWER_NONE				/* no answer (yet): see ki_source_trouble */
} KiAnswer;

/*
 * What is wrong with the broker's side; reason NULL: nothing.  reason is one
 * of broker_unreachable, authentication_failed, not_authorized, tls_failed,
 * topic_missing.  The texts live in the source.
 */
typedef struct KiTrouble
{
	const char *reason;
	const char *detail;			/* one sentence with the library's own text */
	TimestampTz since;
} KiTrouble;

/* A partition as the client library's statistics saw it last. */
typedef struct KiPartitionStat
{
	const char *topic;			/* lives as long as the source */
	int32		partition;
	int64		low_offset;		/* -1: unknown */
	int64		stable_offset;	/* last stable offset; -1: unknown */
	int64		high_offset;	/* -1: unknown */
} KiPartitionStat;

/*
 * What stands in the way at one partition.  A barrier: a per-partition error
 * after which nothing of this source may be used; the messages collected
 * before it are good.
 */
typedef enum KiBarrierKind
{
	KI_BARRIER_NONE = 0,
	KI_BARRIER_CORRUPT,			/* a record set that cannot be read */
	KI_BARRIER_OFFSET_LOST,		/* the position is out of the log's range */
	KI_BARRIER_RECREATED,		/* the message at last_offset is another one */
	KI_BARRIER_OTHER			/* any other consumer error */
} KiBarrierKind;

typedef struct KiBarrier
{
	KiBarrierKind kind;
	const char *topic;			/* NULL: about no partition; lives as long as
								 * the source */
	int32		partition;		/* -1 without a topic */
	const char *detail;			/* the library's text; lives in the source */
} KiBarrier;

typedef struct KiSourceOptions
{
	const KiConnection *connection;
	const char *topics;			/* as a pipeline names them, see topics.h;
								 * NULL: none, for broker-wide questions */
	const char *group_id;		/* never empty: the library wants one */
	int64		memory_bytes;	/* bound of the prefetch over all partitions */
	int			npartitions;	/* to be read; 0: not known */
	bool		want_headers;
} KiSourceOptions;

typedef struct KiBroker
{
	int32		id;
	char	   *host;
	int32		port;
} KiBroker;

/* The cluster as one metadata answer shows it, in the caller's context. */
typedef struct KiTopicPartition
{
	char	   *topic;
	int32		partition;
	int32		leader;			/* -1: none now */
} KiTopicPartition;

typedef struct KiCluster
{
	char	   *cluster_id;		/* NULL: not told */
	int32		controller_id;	/* -1: not told */
	KiBroker   *brokers;
	int			nbrokers;
	KiTopicPartition *partitions;	/* of the topics read, or of all */
	int			npartitions;
	List	   *topics;			/* the names of these topics, char * */
	List	   *missing;		/* topics read by their names that do not
								 * exist, char * */
	List	   *denied;			/* … that we may not see */
} KiCluster;

/* --- life --- */

/*
 * Start a client (its threads begin to connect).  Allocated in the current
 * memory context, whose reset or deletion destroys the client too.  Raises
 * 22023 for properties the library refuses (never showing secrets), 53000
 * when threads cannot be made.
 */
extern KiSource *ki_source_create(const KiSourceOptions *options);

/* Destroy the client, not messages delivered; bounded in time; may be NULL. */
extern void ki_source_close(KiSource *source);

/* --- questions, each at most wait_ms on the network --- */
extern KiAnswer ki_source_cluster(KiSource *source, int wait_ms,
								  KiCluster *cluster);

/* Beside reading: no answer (false) says nothing about the broker's health. */
extern bool ki_source_look(KiSource *source, int wait_ms, KiCluster *cluster);
extern KiAnswer ki_source_watermarks(KiSource *source, const char *topic,
									 int32 partition, int wait_ms,
									 int64 *low_offset, int64 *stable_offset);

/* First offset at or after a timestamp; the end if there is none. */
extern KiAnswer ki_source_offset_at(KiSource *source, const char *topic,
									int32 partition, int64 timestamp_ms,
									int wait_ms, int64 *offset);

/* What the source's group has committed; -1: nothing. */
extern KiAnswer ki_source_committed(KiSource *source, const char *topic,
									int32 partition, int wait_ms,
									int64 *offset);

/* --- reading --- */

/*
 * Read these partitions from their next_offset on, and only they.  Where
 * check_last[i] is set, last_offset is read again first and compared with
 * last_crc (then dropped); a difference becomes KI_BARRIER_RECREATED.
 */
extern void ki_source_assign(KiSource *source, const KiPosition *positions,
							 const bool *check_last, int npositions);

/* How many partitions it was created to read in turns. */
extern int	ki_source_shares(const KiSource *source);

/* Readable when there may be something to collect or serve. */
extern pgsocket ki_source_socket(KiSource *source);

/* Forget the readiness; call before collecting, then collect until 0. */
extern void ki_source_drain(KiSource *source);

/*
 * Append what is there, without waiting, until the batch holds max_messages
 * messages or max_bytes bytes.  Returns how many were added.  Messages at or
 * below what was already delivered are dropped (replays).
 * Appends nothing more once there is a barrier.
 */
extern int	ki_source_collect(KiSource *source, KiMessages *messages,
							  int max_messages, int64 max_bytes);

/* In a thread, which is joined by whatever else uses the source. */
extern void ki_source_take_ahead(KiSource *source, int64 most_bytes);
extern void ki_source_join(KiSource *source);

/* The barrier in the way; kind KI_BARRIER_NONE: none. */
extern const KiBarrier *ki_source_barrier(const KiSource *source);

/*
 * The end of the partition of the i-th position assigned, if it was reached
 * (the last PARTITION_EOF) and everything before it was delivered; -1: not at
 * the end.  Trailing control records make it larger than the last message's
 * offset + 1.
 */
extern int64 ki_source_end(const KiSource *source, int i);

/* --- the group, for Kafka's own tools --- */
typedef enum KiPublication
{
	KI_PUBLICATION_NONE = 0,	/* nothing was ever handed over */
	KI_PUBLICATION_UNDERWAY,
	KI_PUBLICATION_DONE,
	KI_PUBLICATION_FAILED		/* said in the log, and no trouble */
} KiPublication;

/* Hand over next_offset of these; false: the last ones are underway. */
extern bool ki_source_publish(KiSource *source, const KiPosition *positions,
							  int npositions);

/* What became of the last ones; changes while ki_source_serve runs. */
extern KiPublication ki_source_publication(const KiSource *source);

/* --- health --- */

/* Poll logs (written to the server log), errors and statistics. */
extern void ki_source_serve(KiSource *source);
extern const KiTrouble *ki_source_trouble(const KiSource *source);

/*
 * As of the last statistics (once a second), in the order of the positions
 * assigned; *at is when, 0: never.
 */
extern const KiPartitionStat *ki_source_stats(const KiSource *source,
											  int *nstats, TimestampTz *at);

/* Partitions of topics read by their names, by the last metadata seen. */
extern int	ki_source_partition_count(const KiSource *source);

extern KiMessages *ki_messages_create(int max_messages);	/* current context */
extern void ki_messages_release(KiMessages *messages);	/* count becomes 0 */

/* Raises XX001 where the headers of a message cannot be read. */
extern void ki_message_check_headers(const KiMessage *message);

/* CRC32C over a message's key and value, as stored in positions. */
extern uint32 ki_message_crc(const KiMessage *message);

/* "2.0.2", and what it can do ("ssl", "sasl_scram" …). */
extern const char *ki_source_library_version(void);
extern char *ki_source_library_features(void);	/* comma list, palloc'd */

/* Would the library take this value?  NULL or its complaint. */
extern char *ki_source_property_complaint(const char *name, const char *value);

#endif							/* KI_SOURCE_H */
