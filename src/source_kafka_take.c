/*
 * source_kafka_take.c
 *	  Messages are taken from the library's queue: copied, and given back at
 *	  once (floor 2).
 *
 * For each message the library counts who refers to it, to its topic, its
 * partition and the answer it came in, and its own thread counts at the same
 * time.  What is given back while it is in the cache, by the thread that took
 * it, costs half of what it costs later, and nothing of the library's is held
 * by a batch.
 *
 * Nothing of PostgreSQL is called here but ki_stock_reserve's allocation, for
 * a thread of its own may be taking (source_kafka_ahead.c).
 *
 * Memory: copies are in chunks (source_kafka_chunk.c), of which the source uses
 * those with messages that are not delivered yet, and the last one.
 */
#include "postgres.h"

#include "source_kafka.h"
#include "utils/memutils.h"

/* A share of the queue after whose taking the fetcher is woken. */
#define WAKE_SHARE 4

#define MESSAGE_OVERHEAD 128	/* bytes a message takes beside its own */

/* Most bytes between two records of a set: lengths and times. */
#define RECORD_OVERHEAD 128

/* --- whose it is --- */

/* The number of the topic a message names, when it is another than before. */
static int
find_topic(KiSource *source, rd_kafka_topic_t *handle)
{
	for (int i = 0; i < source->ntopics; i++)
		if (source->topics[i].seen == handle)
			return i;
	for (int i = 0; i < source->ntopics; i++)
		if (strcmp(source->topics[i].name, rd_kafka_topic_name(handle)) == 0)
		{
			source->topics[i].seen = handle;
			return i;
		}
	return -1;
}

/*
 * The partition a message, an end or an error is of; -1: none that is read.
 * The library's topics live while their partitions are assigned, so comparing
 * the address is enough, and messages of one partition come in long runs.
 */
static int
find_reading(KiSource *source, const rd_kafka_message_t *raw)
{
	const KiSourceTopic *topic;
	int32		partition = raw->partition;

	if (raw->rkt == NULL)
		return -1;
	if (source->last_topic < 0 ||
		source->topics[source->last_topic].seen != raw->rkt)
		source->last_topic = find_topic(source, raw->rkt);
	if (source->last_topic < 0)
		return -1;
	topic = &source->topics[source->last_topic];
	if (partition < 0 || partition >= topic->reading_limit)
		return -1;
	return topic->reading_of[partition];
}

/* --- headers --- */

/* A number of a record, as Kafka writes it; false: there is none before end. */
static bool
read_varint(const char **at, const char *end, int64 *value)
{
	uint64		bits = 0;

	for (int shift = 0; *at < end && shift < 64; shift += 7)
	{
		uint8		byte = (uint8) *(*at)++;

		bits |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
		{
			*value = (int64) (bits >> 1) ^ -(int64) (bits & 1);
			return true;
		}
	}
	return false;
}

/*
 * Has a message certainly no headers?  To ask the library costs as much as all
 * the rest of taking a message, even if there are none.  But their number
 * stands behind the value.  That this is the place, whatever the library does,
 * is certain if the next record's beginning is found behind it, with the
 * lengths that the library has read from there.
 */
static bool
has_no_headers(const rd_kafka_message_t *raw, const rd_kafka_message_t *next)
{
	const char *at = (const char *) raw->payload + raw->len;
	const char *value = next->payload;
	const char *key = next->key ? next->key : value;
	int64		number;

	if (raw->len == 0 || next->len == 0 || next->err ||
		(uintptr_t) key <= (uintptr_t) at ||
		(uintptr_t) key - (uintptr_t) at > RECORD_OVERHEAD)
		return false;
	/* number of headers, length of the record, attributes, times, offsets */
	if (!read_varint(&at, key, &number) || number != 0 ||
		!read_varint(&at, key, &number) || ++at >= key ||
		!read_varint(&at, key, &number) || !read_varint(&at, key, &number) ||
		!read_varint(&at, key, &number))
		return false;
	if (next->key)
		return at == key && number == (int64) next->key_len;
	return number <= 0 && read_varint(&at, value, &number) && at == value &&
		number == (int64) next->len;
}

/*
 * The headers of a message; NULL: it has none, or they cannot be read, though
 * the record set's checksum is right.
 */
static rd_kafka_headers_t *
ask_headers(const rd_kafka_message_t *raw, const rd_kafka_message_t *next,
			KiMessage *message)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_resp_err_t err;

	if (next && has_no_headers(raw, next))
		return NULL;
	err = rd_kafka_message_headers(raw, &headers);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return headers;
	if (err != RD_KAFKA_RESP_ERR__NOENT)
		message->nheaders = -1;
	return NULL;
}

/* The i-th header; the library says of no value that it has -1 bytes. */
static bool
get_header(const rd_kafka_headers_t *headers, size_t i, KiHeader *header)
{
	const void *value = NULL;

	if (rd_kafka_header_get_all(headers, i, &header->name, &value,
								&header->value_len) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	header->value = value;
	if (value == NULL)
		header->value_len = 0;
	return true;
}

/* The room that copies of them take, their list aside. */
static Size
headers_len(const rd_kafka_headers_t *headers)
{
	KiHeader	header;
	Size		len = 0;

	for (size_t i = 0; get_header(headers, i, &header); i++)
		len += strlen(header.name) + 1 + header.value_len;
	return len;
}

/* --- copies --- */

static const char *
copy_bytes(char **to, const void *bytes, Size len)
{
	char	   *copy = *to;

	if (bytes == NULL)
		return NULL;
	memcpy(copy, bytes, len);
	*to += len;
	return copy;
}

static void
copy_headers(const rd_kafka_headers_t *headers, char **to, KiMessage *message)
{
	KiHeader   *list = (KiHeader *) *to;
	size_t		count = rd_kafka_header_cnt(headers);

	*to += sizeof(KiHeader) * count;
	for (size_t i = 0; get_header(headers, i, &list[i]); i++)
	{
		list[i].name = copy_bytes(to, list[i].name, strlen(list[i].name) + 1);
		list[i].value = copy_bytes(to, list[i].value, list[i].value_len);
	}
	message->headers = list;
	message->nheaders = (int) count;
}

/*
 * Room in the last chunk, or in a new one, then with what is left of the last
 * one in *wasted.  NULL: no memory.
 */
static char *
make_room(KiStock *stock, Size size, Size *wasted)
{
	KiChunk    *chunk = stock->last_chunk;
	char	   *room;

	size = MAXALIGN(size);
	*wasted = 0;
	if (unlikely(!chunk || chunk->size - chunk->used < size))
	{
		if (chunk)
			*wasted = chunk->size - chunk->used;
		chunk = ki_chunk_create(size);
		if (!chunk)
			return NULL;
		if (stock->last_chunk)
			stock->last_chunk->next = chunk;
		else
			stock->first_chunk = chunk;
		stock->last_chunk = chunk;
	}
	room = chunk->bytes + chunk->used;
	chunk->used += size;
	return room;
}

static void
describe(const rd_kafka_message_t *raw, KiMessage *message)
{
	rd_kafka_timestamp_type_t type;

	message->topic = NULL;
	message->partition = raw->partition;
	message->nheaders = 0;
	message->offset = raw->offset;
	message->timestamp_ms = rd_kafka_message_timestamp(raw, &type);
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
		message->timestamp_ms = -1;
	message->key_len = raw->key ? raw->key_len : 0;
	message->value_len = raw->payload ? raw->len : 0;
	message->headers = NULL;
}

/* False: no memory. */
static bool
copy_message(KiStock *stock, const rd_kafka_message_t *raw,
			 const rd_kafka_message_t *next, KiTaken *taken)
{
	KiMessage  *message = &taken->message;
	rd_kafka_headers_t *headers;
	Size		size;
	Size		wasted;
	char	   *to;

	describe(raw, message);
	headers = ask_headers(raw, next, message);
	size = message->key_len + message->value_len;
	if (headers)
		size += sizeof(KiHeader) * rd_kafka_header_cnt(headers) +
			headers_len(headers);
	to = make_room(stock, size, &wasted);
	if (!to)
		return false;
	if (headers)
		copy_headers(headers, &to, message);
	message->key = copy_bytes(&to, raw->key, message->key_len);
	message->value = copy_bytes(&to, raw->payload, message->value_len);
	taken->chunk = stock->last_chunk;
	taken->bytes = (uint32) Min(size + wasted + MESSAGE_OVERHEAD, PG_UINT32_MAX);
	stock->bytes += taken->bytes;
	stock->eaten_bytes += raw->len;
	return true;
}

/* --- taking --- */

/*
 * Before 2.2 the fetcher sleeps up to a second once it met a full queue, but
 * any request to its broker wakes it.  So when a share of the queue has been
 * taken, ask the leaders for what they have at hand, and do not wait for the
 * answer.  (The first offset after a time they would have to look for.)
 */
static void
wake_fetcher(KiSource *source)
{
	KiStock    *stock = &source->stock;
	rd_kafka_topic_partition_list_t *list;

	if (rd_kafka_version() >= 0x02020000 ||
		(stock->eaten_messages < source->queue_messages / WAKE_SHARE &&
		 stock->eaten_bytes < source->queue_bytes / WAKE_SHARE))
		return;
	stock->eaten_messages = 0;
	stock->eaten_bytes = 0;
	list = rd_kafka_topic_partition_list_new(source->nreadings);
	for (int i = 0; i < source->nreadings; i++)
	{
		const KiReading *reading = &source->readings[i];

		rd_kafka_topic_partition_list_add(list,
										  source->topics[reading->topic].name,
										  reading->partition)->offset =
			RD_KAFKA_OFFSET_BEGINNING;
	}
	(void) rd_kafka_offsets_for_times(source->client, list, 0);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Have the list of what was taken grow by so many, so that copying need not. */
void
ki_stock_reserve(KiSource *source, int more)
{
	KiStock    *stock = &source->stock;
	int			needed = stock->ntaken + more;

	if (stock->max_taken >= needed)
		return;
	stock->taken = stock->taken ?
		repalloc_huge(stock->taken, sizeof(KiTaken) * needed) :
		MemoryContextAllocHuge(source->context, sizeof(KiTaken) * needed);
	stock->max_taken = needed;
}

/*
 * Have something to copy, if there is anything: at most so many messages more,
 * not more than KI_TAKE_MAX, and about so many bytes, to go by the last ones.
 */
bool
ki_stock_poll(KiSource *source, int most, int64 most_bytes)
{
	KiStock    *stock = &source->stock;
	ssize_t		count;

	if (stock->next_raw < stock->nraw)
		return true;
	if (stock->average > 0)
		most = (int) Min(most, most_bytes / stock->average + 1);
	count = rd_kafka_consume_batch_queue(source->message_queue, 0, stock->raw,
										 Min(most, KI_TAKE_MAX));
	stock->next_raw = 0;
	stock->nraw = (int) Max(count, 0);
	stock->eaten_messages += stock->nraw;
	return stock->nraw > 0;
}

/*
 * Copy what was polled, for which there must be room in the list, and give it
 * back; errors and ends are kept.  False: no memory for all of it.
 */
bool
ki_stock_copy(KiSource *source)
{
	KiStock    *stock = &source->stock;
	int64		before = stock->bytes;

	while (stock->next_raw < stock->nraw)
	{
		rd_kafka_message_t *raw = stock->raw[stock->next_raw];
		const rd_kafka_message_t *next = stock->next_raw + 1 < stock->nraw ?
		stock->raw[stock->next_raw + 1] : NULL;
		KiTaken    *taken = &stock->taken[stock->ntaken];

		taken->reading = find_reading(source, raw);
		taken->event = raw;
		if (raw->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (!copy_message(stock, raw, next, taken))
				return false;
			taken->event = NULL;
			rd_kafka_message_destroy(raw);
		}
		stock->next_raw++;
		stock->ntaken++;
	}
	stock->average = (stock->bytes - before) / stock->nraw;
	wake_fetcher(source);
	return true;
}

/* Leave the chunks before this one; NULL: all of them. */
void
ki_stock_pass_chunks(KiStock *stock, const KiChunk *until)
{
	while (stock->first_chunk != until)
	{
		KiChunk    *chunk = stock->first_chunk;

		stock->first_chunk = chunk->next;
		if (!stock->first_chunk)
			stock->last_chunk = NULL;
		ki_chunk_leave(chunk);
	}
}

/* Nothing of it will be delivered. */
void
ki_stock_clear(KiStock *stock)
{
	for (; stock->next_taken < stock->ntaken; stock->next_taken++)
		if (stock->taken[stock->next_taken].event)
			rd_kafka_message_destroy(stock->taken[stock->next_taken].event);
	while (stock->next_raw < stock->nraw)
		rd_kafka_message_destroy(stock->raw[stock->next_raw++]);
	ki_stock_pass_chunks(stock, NULL);
	stock->ntaken = stock->next_taken = 0;
	stock->bytes = 0;
}
