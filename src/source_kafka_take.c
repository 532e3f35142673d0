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
 * Nothing of PostgreSQL is called here, for a thread of its own may be taking
 * (source_kafka_ahead.c).
 */
#include "postgres.h"

#include "source_kafka.h"

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
 * The lane of the partition a message, an end or an error is of, or that of
 * what is of none that is read.
 * The library's topics live while their partitions are assigned, so comparing
 * the address is enough, and messages of one partition come in long runs.
 */
static KiLane *
find_lane(KiSource *source, const rd_kafka_message_t *raw)
{
	const KiSourceTopic *topic;
	int32		partition = raw->partition;
	KiLane	   *lanes = source->stock.lanes;
	KiLane	   *nobodys = &lanes[source->stock.nlanes - 1];

	if (raw->rkt == NULL)
		return nobodys;
	if (source->last_topic < 0 ||
		source->topics[source->last_topic].seen != raw->rkt)
		source->last_topic = find_topic(source, raw->rkt);
	if (source->last_topic < 0)
		return nobodys;
	topic = &source->topics[source->last_topic];
	if (partition < 0 || partition >= topic->reading_limit ||
		topic->reading_of[partition] < 0)
		return nobodys;
	return &lanes[topic->reading_of[partition]];
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
			int *nheaders)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_resp_err_t err;

	*nheaders = 0;
	if (next && has_no_headers(raw, next))
		return NULL;
	err = rd_kafka_message_headers(raw, &headers);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		*nheaders = (int) rd_kafka_header_cnt(headers);
		return headers;
	}
	if (err != RD_KAFKA_RESP_ERR__NOENT)
		*nheaders = -1;
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

/* The room that copies of them take. */
static Size
headers_len(const rd_kafka_headers_t *headers)
{
	KiHeader	header;
	Size		len = 0;

	for (size_t i = 0; get_header(headers, i, &header); i++)
		len += sizeof(KiHeader) + strlen(header.name) + 1 + header.value_len;
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
copy_headers(const rd_kafka_headers_t *headers, int count, char **to)
{
	KiHeader   *list = (KiHeader *) *to;

	*to += sizeof(KiHeader) * count;
	for (size_t i = 0; get_header(headers, i, &list[i]); i++)
	{
		list[i].name = copy_bytes(to, list[i].name, strlen(list[i].name) + 1);
		list[i].value = copy_bytes(to, list[i].value, list[i].value_len);
	}
}

static int64
timestamp_of(const rd_kafka_message_t *raw)
{
	rd_kafka_timestamp_type_t type;
	int64		timestamp_ms = rd_kafka_message_timestamp(raw, &type);

	return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp_ms;
}

/* False: no memory. */
static bool
copy_message(KiStock *stock, KiLane *lane, const rd_kafka_message_t *raw,
			 const rd_kafka_message_t *next)
{
	Size		key_len = raw->key ? raw->key_len : 0;
	Size		value_len = raw->payload ? raw->len : 0;
	Size		size = key_len + value_len;
	int			nheaders;
	rd_kafka_headers_t *headers = ask_headers(raw, next, &nheaders);
	KiCopy	   *copy;
	char	   *to;

	if (headers)
		size += headers_len(headers);
	copy = ki_stock_add(stock, lane, sizeof(KiCopy) + size, timestamp_of(raw));
	if (!copy)
		return false;
	copy->offset = raw->offset;
	copy->bytes = (uint32) Min(size + MESSAGE_OVERHEAD, PG_UINT32_MAX);
	copy->nheaders = nheaders;
	copy->key_len = raw->key ? (uint32) key_len : KI_NO_BYTES;
	copy->value_len = raw->payload ? (uint32) value_len : KI_NO_BYTES;
	to = (char *) (copy + 1);
	if (headers)
		copy_headers(headers, nheaders, &to);
	copy_bytes(&to, raw->key, key_len);
	copy_bytes(&to, raw->payload, value_len);
	stock->bytes += copy->bytes;
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
 * Copy what was polled and give it back; errors and ends are kept.  False: no
 * memory for all of it.
 */
bool
ki_stock_copy(KiSource *source)
{
	KiStock    *stock = &source->stock;
	int64		before = stock->bytes;
	int			first = stock->next_raw;

	while (stock->next_raw < stock->nraw)
	{
		rd_kafka_message_t *raw = stock->raw[stock->next_raw];
		const rd_kafka_message_t *next = stock->next_raw + 1 < stock->nraw ?
		stock->raw[stock->next_raw + 1] : NULL;
		KiLane	   *lane = find_lane(source, raw);

		if (raw->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (!ki_stock_add_event(stock, lane, raw))
				return false;
		}
		else
		{
			if (!copy_message(stock, lane, raw, next))
				return false;
			rd_kafka_message_destroy(raw);
		}
		stock->next_raw++;
	}
	stock->average = (stock->bytes - before) / (stock->nraw - first);
	wake_fetcher(source);
	return true;
}
