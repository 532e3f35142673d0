/*
 * source_kafka.h
 *	  The inside of a KiSource, shared by the files source_kafka*.c alone: only
 *	  they may include rdkafka.h (floor 2).
 *
 * All of a source lives in its own memory context; a reset callback there gives
 * back what is not PostgreSQL's: messages, queues, topics, client, pipe.
 */
#ifndef KI_SOURCE_KAFKA_H
#define KI_SOURCE_KAFKA_H

#include <pthread.h>

#include "source.h"

#include "source_kafka_take.h"
#include "stats.h"

#define KI_TEXT_SIZE 1024		/* bytes kept of any text of the library's */
#define KI_LOG_MEMORY 16		/* log lines whose repetition is noticed */

/* A topic that is read, or asked about by its name. */
typedef struct KiSourceTopic
{
	const char *name;			/* lives as long as the source */
	rd_kafka_topic_t *handle;	/* for metadata, and so that it is in the
								 * statistics; NULL: not asked by name */
	const rd_kafka_topic_t *seen;	/* as messages name it; NULL: not yet */
	int			partition_count;	/* with a handle; 0: unknown */
	int		   *reading_of;		/* by partition number; -1: not read */
	int			reading_limit;	/* length of reading_of */
} KiSourceTopic;

/* A partition that is being read. */
typedef struct KiReading
{
	int			topic;			/* number in source->topics */
	int32		partition;
	int64		next_offset;	/* the next offset to deliver */
	int64		check_offset;	/* last_offset while it is to be compared
								 * before anything else; -1: it is not */
	int64		end_offset;		/* of the last PARTITION_EOF; -1: not there */
	int64		last_timestamp_ms;	/* of that message; -1: not known */
	uint32		last_crc;
	int64		stuck_offset;	/* where the fetcher stands; see the
								 * statistics */
	int			stuck_samples;	/* and for how long in vain */
} KiReading;

/*
 * The most telling complaint of the library since all was well.  It is trouble
 * only with bad connections: one may be closed for harmless reasons, too.
 */
typedef struct KiComplaint
{
	const char *reason;			/* NULL: none */
	int			rank;			/* the higher the more telling */
	TimestampTz at;
	char		what[KI_TEXT_SIZE];
} KiComplaint;

/* A log line written lately, and how often it was left out since. */
typedef struct KiLogLine
{
	uint32		hash;
	TimestampTz at;
	int			left_out;
} KiLogLine;

typedef struct KiHealth
{
	KiTrouble	trouble;
	char		detail[KI_TEXT_SIZE];	/* of the trouble */
	bool		is_topics;		/* about the topic: working connections do not
								 * end it */
	KiComplaint complaint;
	int			bad_samples;	/* statistics in a row that were bad */
	TimestampTz answered_at;	/* the last answered question, or the start */
	MemoryContext stats_context;
	KiStats    *stats;			/* the last; NULL: none yet */
	TimestampTz stats_at;
	KiPartitionStat *shown;		/* what ki_source_stats returns */
	int			nshown;
	KiLogLine	lines[KI_LOG_MEMORY];
} KiHealth;

struct KiSource
{
	MemoryContext context;		/* of all this */
	char	   *wanted;			/* topics as a pipeline names them; NULL: none */
	char	   *brokers;		/* as configured, for messages */
	char	   *group_id;		/* likewise */
	char	  **secrets;		/* to be masked in every text of the library */
	int			nsecrets;
	bool		want_headers;
	bool		wants_debug;	/* debug lines go to the log, too */
	bool		has_old_scram;	/* SCRAM with a library too old for Kafka 4 */
	int64		queue_bytes;	/* limit of the library's queue */
	int			queue_messages;
	int			shares;			/* partitions that an answer has room for */
	int			fetch_wait_ms;

	rd_kafka_conf_t *conf;		/* until the client takes it */
	rd_kafka_t *client;
	rd_kafka_queue_t *main_queue;	/* errors, logs, statistics */
	rd_kafka_queue_t *message_queue;	/* messages, consumer errors, ends */
	rd_kafka_event_t *event;	/* being looked at */
	const struct rd_kafka_metadata *metadata;	/* being looked at */
	int			pipe[2];		/* the library writes when a queue fills */

	KiSourceTopic *topics;		/* only ever more of them */
	int			ntopics;
	int			max_topics;		/* allocated length of topics */
	int			last_topic;		/* number of the last message's; -1: none */
	KiReading  *readings;		/* in the order of the positions assigned */
	int			nreadings;

	KiStock		stock;			/* the thread's while one takes ahead */
	struct KiAhead *ahead;		/* NULL: not needed so far */
	bool		is_doubtful;	/* a leader was away: the log is opened anew */
	KiBarrier	barrier;
	char		barrier_detail[KI_TEXT_SIZE];

	KiPublication publication;	/* the last one */
	bool		is_group_denied;	/* the broker has said so */
	KiHealth	health;
};

/* source_kafka.c */
extern bool ki_source_start_thread(pthread_t *thread,
								   void *(*routine) (void *arg), void *arg);
extern int	ki_source_topic(KiSource *source, const char *name);

/* source_kafka_conf.c */
extern void ki_source_configure(KiSource *source,
								const KiSourceOptions *options);

/* source_kafka_read.c */
extern void ki_source_block(KiSource *source, KiBarrierKind kind,
							const KiReading *reading, const char *detail);
extern void ki_source_drop_taken(KiSource *source);
extern void ki_source_take_group_errors(KiSource *source);

/* source_kafka_group.c */
extern void ki_source_take_publication(KiSource *source);
extern void ki_source_group_error(KiSource *source, rd_kafka_resp_err_t err,
								  const char *what);

/* source_kafka_health.c */
extern void ki_source_clean(const KiSource *source, const char *raw,
							char *clean, size_t size);
extern void ki_source_log(KiSource *source, const char *facility,
						  const char *clean);
extern bool ki_source_error_denies(rd_kafka_resp_err_t err);
extern bool ki_source_error_missing(rd_kafka_resp_err_t err);
extern void ki_source_complain(KiSource *source, rd_kafka_resp_err_t err,
							   const char *what);
extern void ki_source_topic_trouble(KiSource *source, const char *topic,
									rd_kafka_resp_err_t err, const char *what);
extern void ki_source_answered(KiSource *source);
extern void ki_source_unanswered(KiSource *source, rd_kafka_resp_err_t err);

/* source_kafka_stats.c */
extern void ki_source_take_stats(KiSource *source, const char *json,
								 size_t len);
extern void ki_source_set_trouble(KiSource *source, const char *reason,
								  bool is_topics, TimestampTz since,
								  const char *detail);
extern void ki_source_clear_trouble(KiSource *source);

#endif							/* KI_SOURCE_KAFKA_H */
