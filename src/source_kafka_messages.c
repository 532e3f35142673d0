/*
 * source_kafka_messages.c
 *	  Messages once they are delivered: the array that holds them, and their
 *	  checksum (floor 2).
 *
 * Memory: the bytes of messages are in chunks, of which the array is a user
 * until it is released or its memory context goes: it outlives its source,
 * but for the names of topics.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "source_kafka.h"
#include "utils/memutils.h"

#define FIRST_RUNS 64			/* of an array, which grows */
#define FIRST_CHUNKS 16

/* --- the array --- */

void
ki_messages_release(KiMessages *messages)
{
	KiHolding  *holding = (KiHolding *) messages;

	for (int i = 0; i < holding->nchunks; i++)
		ki_chunk_leave(holding->chunks[i]);
	holding->nchunks = 0;
	messages->count = 0;
	messages->nruns = 0;
	messages->bytes = 0;
}

static void
release(void *arg)
{
	ki_messages_release(arg);
	ki_chunk_forget_spare();
}

KiMessages *
ki_messages_create(int max_messages)
{
	KiHolding  *holding = palloc0(sizeof(KiHolding));
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	holding->messages.items = palloc_extended(sizeof(KiMessage) * max_messages,
											  MCXT_ALLOC_HUGE);
	holding->messages.max_messages = max_messages;
	holding->messages.max_runs = FIRST_RUNS;
	holding->messages.runs = palloc(sizeof(KiRun) * FIRST_RUNS);
	holding->max_chunks = FIRST_CHUNKS;
	holding->chunks = palloc(sizeof(KiChunk *) * FIRST_CHUNKS);
	callback->func = release;
	callback->arg = holding;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return &holding->messages;
}

/* The array is about to hold a message of this chunk, maybe as before. */
void
ki_holding_use(KiHolding *holding, KiChunk *chunk)
{
	if (holding->nchunks > 0 && holding->chunks[holding->nchunks - 1] == chunk)
		return;
	if (holding->nchunks == holding->max_chunks)
	{
		holding->chunks = repalloc_huge(holding->chunks,
										sizeof(KiChunk *) * holding->max_chunks * 2);
		holding->max_chunks *= 2;
	}
	holding->chunks[holding->nchunks++] = chunk;
	ki_chunk_use(chunk);
}

/* The array has one message more: it continues a run, or begins one. */
void
ki_messages_add(KiMessages *messages)
{
	KiMessage  *message = &messages->items[messages->count];
	KiRun	   *run = &messages->runs[messages->nruns - 1];

	if (messages->nruns == 0 || run->partition != message->partition ||
		run->topic != message->topic)
	{
		/* may fail: before anything counts the message */
		if (messages->nruns == messages->max_runs)
		{
			messages->runs = repalloc_huge(messages->runs,
										   sizeof(KiRun) * messages->max_runs * 2);
			messages->max_runs *= 2;
		}
		run = &messages->runs[messages->nruns++];
		run->topic = message->topic;
		run->partition = message->partition;
		run->first = messages->count;
		run->count = 0;
		run->bytes = 0;
		run->first_offset = message->offset;
	}
	messages->count++;
	run->count++;
	run->last_offset = message->offset;
	run->bytes += message->key_len + message->value_len;
}

void
ki_message_check_headers(const KiMessage *message)
{
	if (message->nheaders < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("headers of the message at topic \"%s\", partition %d, offset " INT64_FORMAT " cannot be read",
						message->topic, message->partition, message->offset)));
}

/* --- the checksum --- */

/* A length that tells nothing from empty, then the bytes. */
static pg_crc32c
add_to_crc(pg_crc32c crc, const char *bytes, size_t len)
{
	uint32		length = pg_hton32(bytes ? (uint32) len : PG_UINT32_MAX);

	COMP_CRC32C(crc, &length, sizeof(length));
	if (bytes != NULL)
		COMP_CRC32C(crc, bytes, len);
	return crc;
}

uint32
ki_message_crc(const KiMessage *message)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	crc = add_to_crc(crc, message->key, message->key_len);
	crc = add_to_crc(crc, message->value, message->value_len);
	FIN_CRC32C(crc);
	return crc;
}
