/*
 * catalog.h
 *	  Our tables: pipelines, positions, gaps and events (floor 1).
 *
 * catalog*.c are the only files that know their columns.  Rows are read and
 * written through the heap functions, as the server does with its own
 * catalogs: no SPI, no change of user, no privilege of the caller needed,
 * so every caller checks first what the user may do.  All need a transaction.
 */
#ifndef KI_CATALOG_H
#define KI_CATALOG_H

#include "access/genam.h"
#include "letter.h"
#include "message.h"
#include "nodes/pg_list.h"
#include "pipeline.h"
#include "utils/relcache.h"

/* --- ground: a table of the schema kafka_ingest --- */

/* OID of one of our relations; 55000 when the extension is not there. */
extern Oid	ki_catalog_relation_id(const char *name);

/* The same, or InvalidOid for what this SQL version does not have. */
extern Oid	ki_catalog_find(const char *name);

/* Is the extension installed (and not being dropped) in this database? */
extern bool ki_catalog_is_installed(void);
extern Relation ki_catalog_open(const char *name, LOCKMODE mode);
extern int64 ki_catalog_next(const char *sequence);
extern Datum ki_text_or_null(const char *value, bool *isnull);

/* --- pipelines (catalog.c) --- */

/* NULL when there is none.  Allocated in the current memory context. */
extern KiPipeline *ki_pipeline_load(int32 id);
extern KiPipeline *ki_pipeline_find(const char *name);
extern List *ki_pipeline_all(void);

/*
 * What a batch asks under its lock: the version, or -1 when the pipeline is
 * gone.  Reads the newest committed row.
 */
extern int64 ki_pipeline_version(int32 id);

extern void ki_pipeline_insert(KiPipeline *pipeline);	/* sets id, version */
extern void ki_pipeline_store(KiPipeline *pipeline, bool bump_version);
extern void ki_pipeline_delete(int32 id);
extern int	ki_pipeline_count_of(Oid owner);

/* Does the pipeline read this partition, by its topics and partitions? */
extern bool ki_pipeline_reads(const KiPipeline *pipeline, const char *topic,
							  int32 partition);

/* Is this one of its topics that vanished? */
extern bool ki_pipeline_misses(const KiPipeline *pipeline, const char *topic);

/* Is a connection used?  *pipeline: by which (palloc'd). */
extern bool ki_catalog_connection_in_use(const char *connection,
										 char **pipeline);

/* The guard of this very installation and database. */
extern void ki_guard_current(KiGuard *guard);
extern bool ki_guard_matches(const KiGuard *guard);

/* --- positions (catalog_position.c) --- */

/* A position row with what is counted in it. */
typedef struct KiPositionRow
{
	KiPosition	at;
	ItemPointerData tid;
	int64		messages;
	int64		loaded;
	int64		filtered;
	int64		ignored;
	int64		dead_letters;
	TimestampTz committed_at;	/* 0: never */
	Jsonb	   *waits_for;		/* {"topic": {"0": 100}}: not read before the
								 * others stand there; NULL: it may be */
} KiPositionRow;

/* What one batch adds to a position row. */
typedef struct KiAdvance
{
	KiPositionRow *row;			/* locked by ki_position_lock */
	int64		next_offset;
	int64		messages;
	int64		loaded;
	int64		filtered;
	int64		ignored;
	int64		dead_letters;
	int64		last_offset;	/* -1: no message, only control records */
	int64		last_timestamp_ms;
	uint32		last_crc;
} KiAdvance;

/* All rows of a pipeline by topic and partition; KiPositionRow, palloc'd. */
extern List *ki_position_all(int32 pipeline);
extern KiPositionRow *ki_position_find(int32 pipeline, const char *topic,
									   int32 partition);

/*
 * The compare of the compare-and-swap: lock the row and check that it still
 * stands at next_offset.  Returns NULL when anything else moved it (then the
 * caller is fenced), else the row as it is now.
 */
extern KiPositionRow *ki_position_lock(int32 pipeline,
									   const KiPosition *expected);

/* The swap, on a row locked in this transaction. */
extern void ki_position_advance(int32 pipeline, const KiAdvance *advance);

/* waits_for NULL: it may be read at once. */
extern void ki_position_insert(int32 pipeline, const char *topic,
							   int32 partition, int64 next_offset,
							   Jsonb *waits_for);

/* What it waited for has come. */
extern void ki_position_release(int32 pipeline, const KiPositionRow *row);

/*
 * Another place; what was applied last there is forgotten, and it waits for
 * nothing.
 */
extern void ki_position_move(int32 pipeline, const char *topic,
							 int32 partition, int64 next_offset);

/* Those of topics that are not among these (NULL: all); was there any? */
extern bool ki_position_delete_others(int32 pipeline, const char *topics);

/* --- gaps and events (catalog_journal.c) --- */
typedef struct KiGap
{
	const char *topic;
	int32		partition;
	int64		from_offset;	/* both inclusive */
	int64		to_offset;
	const char *reason;
	const char *detail;			/* NULL: none */
} KiGap;

/*
 * Record a gap.  With rows of the same topic, partition, reason and detail
 * that it touches or overlaps it becomes one row.  The caller keeps others
 * from doing so at the same time: it holds the pipeline EXCLUSIVE, or its
 * resolution.
 */
extern void ki_gap_insert(int32 pipeline, const KiGap *gap);
extern int64 ki_gap_count(int32 pipeline);
extern void ki_gap_delete_all(int32 pipeline);
extern void ki_event_insert(const KiPipeline *pipeline, const char *event,
							const char *detail);

/* --- dead letters (catalog_letter.c) --- */

/* A stored letter, without what its message holds. */
typedef struct KiLetterRow
{
	int64		id;
	char	   *topic;
	int32		partition;
	int64		message_offset;
	bool		has_key;
	bool		is_superseded;
	TimestampTz first_failed_at;
	int64		bytes;			/* its message takes */
} KiLetterRow;

/* All of a pipeline by topic, partition and offset; palloc'd. */
extern List *ki_letter_all(int32 pipeline);

/* How many there are, and the bytes of their messages. */
extern void ki_letter_sum(int32 pipeline, int64 *count, int64 *bytes);

/* The message of a letter, whole, in the current memory context. */
extern void ki_letter_message(const KiLetterRow *row, KiMessage *message);

/* Bytes that a message's letter counts for. */
extern int64 ki_letter_bytes(const KiMessage *message);

extern void ki_letter_insert(int32 pipeline, const KiLetter *letters,
							 int nletters);

/* Tried again in vain: another fault, one attempt more. */
extern void ki_letter_fail_again(const KiLetterRow *row, const KiLetter *letter);
extern void ki_letter_delete(const KiLetterRow *row);

/* Hash of a message's key, as stored with letters; it must have one. */
extern int32 ki_letter_key_hash(const KiMessage *message);

/* The hashes of the keys of letters that are not superseded: int32, a list. */
extern List *ki_letter_key_hashes(int32 pipeline);

/*
 * Mark the letters of this partition and key that are older than a message.
 * Is there any other that is not superseded and has the same hash?
 */
extern bool ki_letter_supersede(int32 pipeline, const KiMessage *message);

/*
 * Forget the keys of a pipeline's letters: which of them were followed by a
 * later message is not known from here on.
 */
extern void ki_letter_forget_keys(int32 pipeline);

/* Milliseconds since 1970 as a timestamp; false: there is none or no such. */
extern bool ki_time_from_ms(int64 timestamp_ms, TimestampTz *at);
extern int64 ki_time_to_ms(TimestampTz at);

#endif							/* KI_CATALOG_H */
