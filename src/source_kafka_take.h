/*
 * source_kafka_take.h
 *	  Messages on their way from the library's queue to a batch, shared by the
 *	  files source_kafka*.c alone (floor 2).
 *
 * They are copied into chunks, which the stock uses until they are delivered,
 * and then the array of messages they were delivered to.
 */
#ifndef KI_SOURCE_KAFKA_TAKE_H
#define KI_SOURCE_KAFKA_TAKE_H

#include "source.h"

#include <librdkafka/rdkafka.h>

#define KI_TAKE_MAX 1000		/* messages taken in one go */

/* The length of bytes that are not there. */
#define KI_NO_BYTES PG_UINT32_MAX

/*
 * Bytes of most chunks: with its head not more than the C library takes from
 * its heap.
 */
#define KI_CHUNK_SIZE ((Size) 120 * 1024)

/* A piece of the C library's memory, since a thread may fill it. */
typedef struct KiChunk
{
	struct KiChunk *next;		/* the next spare one */
	int			nusers;			/* the stock, bundles, and arrays of messages */
	Size		size;			/* bytes */
	Size		used;
	char		bytes[FLEXIBLE_ARRAY_MEMBER];	/* aligned */
} KiChunk;

/*
 * A message as it lies in a chunk: behind this its list of headers with what
 * that points to, its key and its value.
 */
typedef struct KiCopy
{
	int64		offset;
	int64		timestamp_ms;	/* -1: none */
	Size		size;			/* bytes with all that is behind it */
	uint32		bytes;			/* as a batch counts them */
	int			nheaders;		/* -1: they cannot be read */
	uint32		key_len;		/* bytes; KI_NO_BYTES: NULL */
	uint32		value_len;		/* likewise */
} KiCopy;

/* Messages of one partition that came one after the other, or an event. */
typedef struct KiBundle
{
	struct KiBundle *next;		/* of the same lane */
	KiChunk    *chunk;			/* in which it lies with its messages */
	rd_kafka_message_t *event;	/* an error or an end, still the library's;
								 * NULL: messages */
	const KiCopy *copy;			/* the next message to deliver */
	int			count;			/* of messages to deliver */
} KiBundle;

/* What is there of one partition, in order. */
typedef struct KiLane
{
	KiBundle   *first;			/* NULL: nothing */
	KiBundle   *last;
	struct KiLane *next;		/* whose turn is after this one's */
	int			count;			/* of messages and events */
	int64		time_ms;		/* of the last message delivered; -1: none */
	int64		newest_ms;		/* of the last message taken; -1: none */
} KiLane;

/* What was taken and is not delivered yet. */
typedef struct KiStock
{
	rd_kafka_message_t *raw[KI_TAKE_MAX];	/* from next_raw on still the
											 * library's */
	int			nraw;
	int			next_raw;
	KiLane	   *lanes;			/* one a reading, and one for what is of none */
	int			nlanes;
	KiLane	   *turn;			/* those with something in them, in turns */
	KiLane	   *last_turn;
	int			left_in_turn;	/* to deliver of the first one; 0: its turn
								 * has not begun */
	int64		until_ms;		/* when its turn may end earlier; -1: not */
	int			count;			/* of messages and events */
	int64		bytes;			/* of messages, as a batch counts them */
	int64		average;		/* of the bytes of the messages polled last;
								 * 0: none were */
	KiChunk    *chunk;			/* being filled; NULL: none */
	KiLane	   *open_lane;		/* whose last bundle ends where that chunk is
								 * filled to; NULL: nobody's */
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
extern int64 ki_chunk_bytes(void);

/* source_kafka_messages.c */
extern void ki_holding_use(KiHolding *holding, KiChunk *chunk);
extern void ki_messages_add(KiMessages *messages);

/* source_kafka_stock.c */
extern void ki_stock_make_lanes(KiSource *source);
extern KiCopy *ki_stock_add(KiStock *stock, KiLane *lane, Size size,
							int64 timestamp_ms);
extern bool ki_stock_add_event(KiStock *stock, KiLane *lane,
							   rd_kafka_message_t *event);
extern void ki_stock_pass(KiStock *stock);
extern void ki_stock_clear(KiStock *stock);

/* source_kafka_take.c */
extern bool ki_stock_poll(KiSource *source, int most, int64 most_bytes);
extern bool ki_stock_copy(KiSource *source);

/* source_kafka_ahead.c */
extern void ki_source_end_thread(KiSource *source);

#endif							/* KI_SOURCE_KAFKA_TAKE_H */
