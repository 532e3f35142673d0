/*
 * pipeline.h
 *	  One pipeline's configuration as a plain struct of floor 0.
 *
 * Filled by catalog.c from a row of kafka_ingest.pipeline, or by
 * functions_pipeline.c from the arguments of create_pipeline; never changed
 * afterwards.  All pointers live in the memory context it was loaded in.
 */
#ifndef KI_PIPELINE_H
#define KI_PIPELINE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define KI_SCHEMA "kafka_ingest"
#define KI_TOPIC_MAX 249		/* bytes, Kafka's limit */

/* What makes a pipeline stop with a reason, next to the error that did it. */
typedef struct KiStop
{
	const char *reason;			/* a code of the closed list; NULL: runs */
	const char *detail;			/* a sentence a person can act on */
	TimestampTz at;
} KiStop;

/* Whose copy of the database this pipeline was last told to run in. */
typedef struct KiGuard
{
	pg_uuid_t  *token;			/* of the installation; never dumped */
	Oid			database;
	char	   *site;			/* kafka_ingest.site */
} KiGuard;

typedef struct KiPipeline
{
	int32		id;
	char	   *name;
	int64		version;		/* every change of configuration or position
								 * by a person bumps it */
	Oid			owner;
	char	   *owner_name;
	char	   *connection;		/* name of the foreign server */
	char	   *topic;			/* a name, a pattern, a list: see topics.h */
	Oid			target;			/* InvalidOid: none, only a statement */
	char	   *target_schema;	/* NULL: no target */
	char	   *target_name;
	char	   *statement;		/* NULL: none */
	char	   *format;			/* 'json' */
	char	   *key_format;		/* 'text' or 'json' */
	Jsonb	   *columns;		/* NULL: by name */
	Jsonb	   *filter;			/* NULL: everything */
	char	   *mode;			/* 'append', 'insert_ignore' or 'upsert' */
	ArrayType  *key_columns;	/* text[]; NULL: the primary key */
	char	   *newer_by;		/* a column; NULL: the last one wins */
	char	   *on_tombstone;	/* 'delete', 'skip' or 'error'; NULL: as the
								 * mode suggests, see ki_pipeline_tombstone */
	Jsonb	   *delete_when;	/* NULL: never */
	char	   *on_missing;		/* 'default', 'keep' or 'error' */
	char	   *on_error;		/* 'dead_letter' or 'stop' */
	float4		max_error_ratio;
	char	   *start_from;		/* 'earliest', 'latest' or 'committed' */
	bool		has_start_timestamp;
	TimestampTz start_timestamp;
	Jsonb	   *start_offsets;	/* NULL: none */
	char	   *start_group;	/* with 'committed'; NULL: group_id */
	char	   *on_offset_lost; /* 'stop', 'earliest' or 'latest' */
	ArrayType  *partitions;		/* int4[]; NULL: all */
	int32		workers;
	int32		batch_max_messages;
	int32		batch_max_ms;
	int32		max_messages_per_second;	/* over all workers; 0: no limit */
	char	   *search_path;
	char	   *group_id;
	Jsonb	   *properties;		/* librdkafka's, an object of scalars */
	bool		paused;
	bool		resolved;		/* first contact happened: partitions without
								 * a position start at 0 */
	char	   *vanished_topics;	/* with positions, but not at the broker
									 * when last looked; a comma list; NULL:
									 * none */
	char	   *cluster_id;		/* NULL: not seen yet */
	KiStop		stop;
	KiGuard		guard;
	TimestampTz created_at;
	TimestampTz changed_at;
} KiPipeline;

/* What becomes of a message without a value. */
typedef enum KiTombstone
{
	KI_TOMBSTONE_SKIP,
	KI_TOMBSTONE_DELETE,
	KI_TOMBSTONE_ERROR
} KiTombstone;

static inline bool
ki_pipeline_is_upsert(const KiPipeline *pipeline)
{
	return strcmp(pipeline->mode, "upsert") == 0;
}

static inline KiTombstone
ki_pipeline_tombstone(const KiPipeline *pipeline)
{
	if (!pipeline->on_tombstone)
		return ki_pipeline_is_upsert(pipeline) ? KI_TOMBSTONE_DELETE :
			KI_TOMBSTONE_SKIP;
	if (strcmp(pipeline->on_tombstone, "error") == 0)
		return KI_TOMBSTONE_ERROR;
	return strcmp(pipeline->on_tombstone, "delete") == 0 ?
		KI_TOMBSTONE_DELETE : KI_TOMBSTONE_SKIP;
}

#endif							/* KI_PIPELINE_H */
