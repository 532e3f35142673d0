/*
 * source_kafka_messages.c
 *	  Messages once they are delivered: the array that holds them, their parts
 *	  and their checksum (floor 2).
 *
 * Memory: librdkafka's messages belong to the array they were delivered to.
 * It knows its source and the source its arrays, so whichever goes first
 * leaves the other in order: closing the source empties them.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "source_kafka.h"
#include "utils/memutils.h"

#define FIRST_RUNS 64			/* of an array, which grows */

/* --- the array --- */

/* Give the library its messages back. */
static void
destroy_messages(KiHolding *holding)
{
	KiMessages *messages = &holding->messages;

	if (!holding->source || !ki_source_hand_over(holding->source, messages))
		for (int i = 0; i < messages->count; i++)
			rd_kafka_message_destroy(messages->items[i].handle);
	messages->count = 0;
	messages->nruns = 0;
	messages->bytes = 0;
	if (holding->source != NULL)
		dlist_delete(&holding->link);
	holding->source = NULL;
}

void
ki_messages_release(KiMessages *messages)
{
	KiHolding  *holding = (KiHolding *) messages;

	destroy_messages(holding);
	MemoryContextReset(holding->headers_context);
}

/*
 * The batch's context goes away, its child for the headers already has: that
 * one must not be touched.
 */
static void
destroy_holding(void *arg)
{
	destroy_messages(arg);
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
	holding->headers_context = AllocSetContextCreate(CurrentMemoryContext,
													 "kafka_ingest headers",
													 ALLOCSET_DEFAULT_SIZES);
	callback->func = destroy_holding;
	callback->arg = holding;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return &holding->messages;
}

/* The source goes away: so do the messages. */
void
ki_source_release_holdings(KiSource *source)
{
	while (!dlist_is_empty(&source->holdings))
		destroy_holding(dlist_head_element(KiHolding, link, &source->holdings));
}

/* The array is about to get messages of this source. */
void
ki_holding_adopt(KiSource *source, KiHolding *holding)
{
	if (holding->source == source)
		return;
	if (holding->source != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("a batch cannot hold messages of two Kafka clients")));
	dlist_push_tail(&source->holdings, &holding->link);
	holding->source = source;
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

/* --- the parts of a message --- */

/* What the headers take, which no other length counts. */
size_t
ki_message_headers_len(const rd_kafka_message_t *raw)
{
	rd_kafka_headers_t *headers;
	size_t		len = 0;
	size_t		count;

	if (rd_kafka_message_headers(raw, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	count = rd_kafka_header_cnt(headers);
	for (size_t i = 0; i < count; i++)
	{
		const char *name;
		const void *value;
		size_t		value_len;

		if (rd_kafka_header_get_all(headers, i, &name, &value,
									&value_len) == RD_KAFKA_RESP_ERR_NO_ERROR)
			len += strlen(name) + value_len;
	}
	return len;
}

/*
 * Fill in the headers.  False: they cannot be read, though the record set's
 * checksum is right.
 */
bool
ki_message_read_headers(const rd_kafka_message_t *raw, MemoryContext context,
						KiMessage *message)
{
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t err = rd_kafka_message_headers(raw, &headers);
	KiHeader   *list;
	size_t		count;

	if (err == RD_KAFKA_RESP_ERR__NOENT)
		return true;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	count = rd_kafka_header_cnt(headers);
	list = MemoryContextAlloc(context, sizeof(KiHeader) * Max(count, 1));
	for (size_t i = 0; i < count; i++)
	{
		const void *value = NULL;

		if (rd_kafka_header_get_all(headers, i, &list[i].name, &value,
									&list[i].value_len) !=
			RD_KAFKA_RESP_ERR_NO_ERROR)
			return false;
		list[i].value = value;
	}
	message->headers = list;
	message->nheaders = (int) count;
	return true;
}

void
ki_message_load_headers(KiMessage *message)
{
	if (message->handle && !message->headers &&
		!ki_message_read_headers(message->handle, CurrentMemoryContext, message))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("headers of the message at topic \"%s\", partition %d, offset " INT64_FORMAT " cannot be read",
						message->topic, message->partition, message->offset)));
}

void
ki_message_describe(const char *topic, rd_kafka_message_t *raw,
					KiMessage *message)
{
	rd_kafka_timestamp_type_t type;

	message->topic = topic;
	message->partition = raw->partition;
	message->offset = raw->offset;
	message->timestamp_ms = rd_kafka_message_timestamp(raw, &type);
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		message->timestamp_ms = -1;
	message->key = raw->key;
	message->key_len = raw->key ? raw->key_len : 0;
	message->value = raw->payload;
	message->value_len = raw->payload ? raw->len : 0;
	message->headers = NULL;
	message->nheaders = 0;
	message->handle = raw;
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
