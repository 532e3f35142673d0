/*
 * source_kafka_take.h
 *	  Messages on their way from the library's queue to a batch, shared by the
 *	  files source_kafka*.c alone (floor 2).
 *
 * They are copied into chunks, which the source uses until they are delivered,
 * and then the array of messages they were delivered to.
 */
#ifndef KI_SOURCE_KAFKA_TAKE_H
#define KI_SOURCE_KAFKA_TAKE_H

#include "source.h"

#include <librdkafka/rdkafka.h>

#define KI_TAKE_MAX 1000		/* messages taken in one go */

/* A piece of the C library's memory, since a thread may fill it. */
typedef struct KiChunk
{
	struct KiChunk *next;		/* the source's next one */
	int			nusers;			/* the source, and arrays of messages */
	Size		size;			/* bytes */
	Size		used;
	char		bytes[FLEXIBLE_ARRAY_MEMBER];
} KiChunk;

/* What is not delivered yet. */
typedef struct KiTaken
{
	KiMessage	message;		/* in the chunk, its topic aside */
	KiChunk    *chunk;
	rd_kafka_message_t *event;	/* an error or an end, still the library's;
								 * NULL: a message */
	int			reading;		/* number in source->readings; -1: of none */
	uint32		bytes;			/* as a batch counts them */
} KiTaken;

typedef struct KiStock
{
	rd_kafka_message_t *raw[KI_TAKE_MAX];	/* from next_raw on still the
											 * library's */
	int			nraw;
	int			next_raw;
	KiTaken    *taken;
	int			ntaken;
	int			next_taken;
	int			max_taken;		/* allocated length of taken */
	int64		bytes;			/* of taken, from next_taken on */
	int64		average;		/* of the bytes of the messages polled last;
								 * 0: none were */
	KiChunk    *first_chunk;	/* of what is not delivered yet */
	KiChunk    *last_chunk;		/* being filled; NULL: none */
	int64		eaten_bytes;	/* since the fetcher was last woken */
	int			eaten_messages;
} KiStock;

/* A KiMessages as we see it. */
typedef struct KiHolding
{
	KiMessages	messages;
	KiChunk   **chunks;			/* that hold them */
	int			nchunks;
	int			max_chunks;		/* allocated length of chunks */
} KiHolding;

/* source_kafka_chunk.c */
extern KiChunk *ki_chunk_create(Size size);
extern void ki_chunk_use(KiChunk *chunk);
extern void ki_chunk_leave(KiChunk *chunk);
extern void ki_chunk_forget_spare(void);

/* source_kafka_messages.c */
extern void ki_holding_use(KiHolding *holding, KiChunk *chunk);
extern void ki_messages_add(KiMessages *messages);

/* source_kafka_take.c */
extern void ki_stock_reserve(KiSource *source, int more);
extern bool ki_stock_poll(KiSource *source, int most, int64 most_bytes);
extern bool ki_stock_copy(KiSource *source);
extern void ki_stock_pass_chunks(KiStock *stock, const KiChunk *until);
extern void ki_stock_clear(KiStock *stock);

/* source_kafka_ahead.c */
extern void ki_source_end_thread(KiSource *source);

#endif							/* KI_SOURCE_KAFKA_TAKE_H */
