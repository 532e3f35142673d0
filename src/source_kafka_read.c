/*
 * source_kafka_read.c
 *	  Reading: which partitions from where, the messages, and what stands in
 *	  their way (floor 2).
 *
 * Everything of the assigned partitions comes through one queue: messages, the
 * ends of partitions, and errors, of each partition in order.  An error that
 * may hide messages is a barrier: once it is met in the turn of its partition,
 * nothing more is delivered, of no partition, since the library would read on
 * behind it as if it were a hole.
 *
 * Memory: errors and ends are the library's and are destroyed here; messages
 * were copied when they were taken.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "source_kafka.h"
#include "utils/memutils.h"

/* --- assignment --- */

/* NULL: of none. */
static KiReading *
reading_of(KiSource *source, const KiLane *lane)
{
	int			i = (int) (lane - source->stock.lanes);

	return i < source->nreadings ? &source->readings[i] : NULL;
}

void
ki_source_drop_taken(KiSource *source)
{
	ki_source_join(source);
	ki_stock_clear(&source->stock);
}

/* Nothing is read, and no topic of the library's is known by its address. */
static void
forget_readings(KiSource *source)
{
	for (int i = 0; i < source->ntopics; i++)
	{
		KiSourceTopic *topic = &source->topics[i];

		if (topic->reading_of)
			pfree(topic->reading_of);
		topic->reading_of = NULL;
		topic->reading_limit = 0;
		topic->seen = NULL;
	}
	source->last_topic = -1;
	if (source->readings)
		pfree(source->readings);
	source->readings = NULL;
	source->nreadings = 0;
}

static void
index_readings(KiSource *source)
{
	for (int i = 0; i < source->nreadings; i++)
	{
		const KiReading *reading = &source->readings[i];
		KiSourceTopic *topic = &source->topics[reading->topic];

		topic->reading_limit = Max(topic->reading_limit,
								   reading->partition + 1);
	}
	for (int i = 0; i < source->ntopics; i++)
	{
		KiSourceTopic *topic = &source->topics[i];

		topic->reading_of = MemoryContextAllocHuge(source->context,
												   sizeof(int) * Max(topic->reading_limit, 1));
		for (int k = 0; k < topic->reading_limit; k++)
			topic->reading_of[k] = -1;
	}
	for (int i = 0; i < source->nreadings; i++)
	{
		const KiReading *reading = &source->readings[i];

		source->topics[reading->topic].reading_of[reading->partition] = i;
	}
}

static const char *
topic_name(const KiSource *source, const KiReading *reading)
{
	return source->topics[reading->topic].name;
}

/*
 * Tell the library where to read on: what was delivered before, at the same
 * place.  What it has queued is void, and so is what we took.
 */
static void
start_reading(KiSource *source)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t err;

	list = rd_kafka_topic_partition_list_new(source->nreadings);
	for (int i = 0; i < source->nreadings; i++)
	{
		KiReading  *reading = &source->readings[i];

		reading->end_offset = -1;
		rd_kafka_topic_partition_list_add(list, topic_name(source, reading),
										  reading->partition)->offset =
			reading->check_offset >= 0 ?
			reading->check_offset : reading->next_offset;
	}
	err = rd_kafka_assign(source->client, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not start reading topic \"%s\": %s",
						source->wanted, rd_kafka_err2str(err))));
}

void
ki_source_assign(KiSource *source, const KiPosition *positions,
				 const bool *check_last, int npositions)
{
	ki_source_drop_taken(source);
	forget_readings(source);
	source->readings = MemoryContextAllocZero(source->context,
											  sizeof(KiReading) *
											  Max(npositions, 1));
	for (int i = 0; i < npositions; i++)
	{
		KiReading  *reading = &source->readings[source->nreadings++];
		bool		check = check_last != NULL && check_last[i] &&
		positions[i].last_offset >= 0;

		reading->topic = i > 0 && strcmp(positions[i].topic, positions[i - 1].topic) == 0 ?
			reading[-1].topic : ki_source_topic(source, positions[i].topic);
		reading->partition = positions[i].partition;
		reading->next_offset = positions[i].next_offset;
		reading->check_offset = check ? positions[i].last_offset : -1;
		reading->end_offset = -1;
		reading->stuck_offset = -1;
		reading->last_timestamp_ms = positions[i].last_timestamp_ms;
		reading->last_crc = positions[i].last_crc;
	}
	index_readings(source);
	ki_stock_make_lanes(source);
	start_reading(source);
}

/*
 * The topic may have been made again while its leader was away: a barrier, so
 * that the log is opened anew, which compares the last message of each
 * partition before anything else is delivered.
 */
static void
resolve_doubt(KiSource *source)
{
	source->is_doubtful = false;
	ki_source_drop_taken(source);
	ki_source_block(source, KI_BARRIER_OTHER, NULL,
					"the connection was interrupted, and the log is compared again");
}

/* --- barriers --- */

void
ki_source_block(KiSource *source, KiBarrierKind kind,
				const KiReading *reading, const char *detail)
{
	if (source->barrier.kind != KI_BARRIER_NONE)
		return;
	ki_source_clean(source, detail, source->barrier_detail,
					sizeof(source->barrier_detail));
	source->barrier.kind = kind;
	source->barrier.topic = reading ? topic_name(source, reading) : NULL;
	source->barrier.partition = reading ? reading->partition : -1;
	source->barrier.detail = source->barrier_detail;
}

const KiBarrier *
ki_source_barrier(const KiSource *source)
{
	return &source->barrier;
}

/*
 * Errors after which the library asks for the same offset again by itself, so
 * that nothing can be missed.
 */
static bool
is_retried(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
			return true;
		default:
			return false;
	}
}

static KiBarrierKind
barrier_kind(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
			return KI_BARRIER_OFFSET_LOST;
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR__UNDERFLOW:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:	/* unknown magic byte */
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
			return KI_BARRIER_CORRUPT;
		default:
			return KI_BARRIER_OTHER;
	}
}

/*
 * An offset out of range.  The one to be compared may have expired since it
 * was applied, and then there is nothing to compare: read on without.  Such an
 * error about another offset than the one we read from is an old one.
 */
static void
take_offset_lost(KiSource *source, KiReading *reading,
				 const rd_kafka_message_t *message)
{
	if (reading->check_offset >= 0)
	{
		reading->check_offset = -1;
		if (message->offset < reading->next_offset)
		{
			ki_source_block(source, KI_BARRIER_OTHER, reading,
							"the log changed while it was compared");
			return;
		}
	}
	if (message->offset == reading->next_offset || message->offset < 0)
		ki_source_block(source, KI_BARRIER_OFFSET_LOST, reading,
						rd_kafka_message_errstr(message));
}

/* Errors of no partition concern the group, on which nothing depends. */
static void
take_error(KiSource *source, KiReading *reading,
		   const rd_kafka_message_t *message)
{
	char		clean[KI_TEXT_SIZE];

	if (is_retried(message->err))
		return;
	ki_source_clean(source, rd_kafka_message_errstr(message), clean,
					sizeof(clean));
	if (message->rkt == NULL)
		ki_source_group_error(source, message->err, clean);
	if (reading == NULL)
		return;
	if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
	{
		take_offset_lost(source, reading, message);
		return;
	}
	if (ki_source_error_denies(message->err) ||
		ki_source_error_missing(message->err))
		ki_source_topic_trouble(source, topic_name(source, reading),
								message->err, clean);
	ki_source_block(source, barrier_kind(message->err), reading, clean);
}

/*
 * Before anything is assigned there are only errors, of the group, in the
 * consumer's queue.
 */
void
ki_source_take_group_errors(KiSource *source)
{
	rd_kafka_message_t *message;

	while (source->nreadings == 0 &&
		   (message = rd_kafka_consume_queue(source->message_queue, 0)) != NULL)
	{
		take_error(source, NULL, message);
		rd_kafka_message_destroy(message);
	}
}

/* --- messages --- */

/* The same bytes may have been sent again: the time tells these apart. */
static bool
is_last(const KiReading *reading, const KiMessage *message)
{
	return ki_message_crc(message) == reading->last_crc &&
		(reading->last_timestamp_ms < 0 ||
		 message->timestamp_ms == reading->last_timestamp_ms);
}

/*
 * The message that was applied last, read again: is it the same?  Anything
 * further on means that it is gone, by retention or compaction.
 */
static void
compare_last(KiSource *source, KiReading *reading, const KiMessage *message)
{
	char		detail[KI_TEXT_SIZE];

	if (message->offset < reading->check_offset)
		return;
	if (message->offset == reading->check_offset && !is_last(reading, message))
	{
		snprintf(detail, sizeof(detail),
				 "the message at offset " INT64_FORMAT
				 " of partition %d is not the one that was loaded",
				 message->offset, reading->partition);
		ki_source_block(source, KI_BARRIER_RECREATED, reading, detail);
	}
	reading->check_offset = -1;
}

/* The message as it lies in its chunk. */
static void
describe(const char *topic, int32 partition, const KiCopy *copy,
		 KiMessage *message)
{
	bool		has_key = copy->key_len != KI_NO_BYTES;
	bool		has_value = copy->value_len != KI_NO_BYTES;
	const char *end = (const char *) copy + copy->size;

	message->topic = topic;
	message->partition = partition;
	message->nheaders = copy->nheaders;
	message->offset = copy->offset;
	message->timestamp_ms = copy->timestamp_ms;
	message->value_len = has_value ? copy->value_len : 0;
	message->value = has_value ? end - message->value_len : NULL;
	message->key_len = has_key ? copy->key_len : 0;
	message->key = has_key ? end - message->value_len - message->key_len : NULL;
	message->headers = copy->nheaders > 0 ? (const KiHeader *) (copy + 1) : NULL;
}

/* Take over one message into the batch, or not. */
static void
deliver(KiSource *source, KiReading *reading, const KiBundle *bundle,
		KiHolding *holding)
{
	KiMessages *messages = &holding->messages;
	KiMessage  *message = &messages->items[messages->count];

	if (reading == NULL)
		return;
	describe(topic_name(source, reading), reading->partition, bundle->copy,
			 message);
	if (reading->check_offset >= 0)
		compare_last(source, reading, message);
	if (message->offset < reading->next_offset ||
		source->barrier.kind != KI_BARRIER_NONE)
		return;
	if (source->want_headers && message->nheaders < 0)
	{
		ki_source_block(source, KI_BARRIER_CORRUPT, reading,
						"the headers of a message cannot be read");
		return;
	}
	ki_holding_use(holding, bundle->chunk);
	ki_messages_add(messages);
	messages->bytes += bundle->copy->bytes;
	reading->next_offset = message->offset + 1;
	reading->end_offset = -1;
}

/*
 * Everything before the end was delivered, for it comes in order.  An end that
 * lies before our position, seen from the message to compare, tells nothing
 * for sure: read from the position itself, and the broker will say whether
 * that is out of range.
 */
static void
take_end(KiSource *source, KiReading *reading,
		 const rd_kafka_message_t *message)
{
	bool		was_checking;

	if (reading == NULL)
		return;
	was_checking = reading->check_offset >= 0;
	reading->check_offset = -1;
	if (message->offset >= reading->next_offset)
		reading->end_offset = message->offset;
	else if (was_checking)
		ki_source_block(source, KI_BARRIER_OTHER, reading,
						"the log ends before what was read of it");
}

/* It has left the stock already, and is not in anybody's hands. */
static void
take_event(KiSource *source, KiReading *reading, rd_kafka_message_t *event)
{
	if (event->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		take_end(source, reading, event);
	else
		take_error(source, reading, event);
	rd_kafka_message_destroy(event);
}

/* Work off what was taken, until the batch is full or a barrier is met. */
static void
consume_taken(KiSource *source, KiHolding *holding, int max_messages,
			  int64 max_bytes)
{
	KiStock    *stock = &source->stock;

	while (stock->turn &&
		   holding->messages.count < max_messages &&
		   holding->messages.bytes < max_bytes &&
		   source->barrier.kind == KI_BARRIER_NONE)
	{
		KiReading  *reading = reading_of(source, stock->turn);
		const KiBundle *bundle = stock->turn->first;
		rd_kafka_message_t *event = bundle->event;

		if (!event)
			deliver(source, reading, bundle, holding);
		ki_stock_pass(stock);
		if (event)
			take_event(source, reading, event);
	}
	if (source->barrier.kind != KI_BARRIER_NONE)
		ki_source_drop_taken(source);
}

/* Returns whether there was anything. */
static bool
take_messages(KiSource *source, int wanted, int64 wanted_bytes)
{
	if (!ki_stock_poll(source, wanted, wanted_bytes))
		return false;
	if (!ki_stock_copy(source) && source->stock.count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("There is none for the messages of topic \"%s\".",
						   source->wanted)));
	return true;
}

/*
 * One round: take, look whether there is a doubt about what was taken (in this
 * order, see source_kafka_health.c), deliver.  False: there is nothing.
 */
static bool
collect_some(KiSource *source, KiHolding *holding, int max_messages,
			 int64 max_bytes)
{
	int			before = holding->messages.count;

	if (source->stock.count == 0 &&
		!take_messages(source, max_messages - before,
					   max_bytes - holding->messages.bytes) &&
		!source->is_doubtful)
		return false;
	ki_source_serve(source);
	if (source->is_doubtful)
		resolve_doubt(source);
	else
		consume_taken(source, holding, max_messages, max_bytes);
	return true;
}

int
ki_source_collect(KiSource *source, KiMessages *messages, int max_messages,
				  int64 max_bytes)
{
	KiHolding  *holding = (KiHolding *) messages;
	int			before = messages->count;

	max_messages = Min(max_messages, messages->max_messages);
	ki_source_join(source);
	while (source->barrier.kind == KI_BARRIER_NONE &&
		   messages->count < max_messages && messages->bytes < max_bytes)
	{
		CHECK_FOR_INTERRUPTS();
		if (!collect_some(source, holding, max_messages, max_bytes))
			break;
	}
	return messages->count - before;
}

int64
ki_source_end(const KiSource *source, int i)
{
	return source->readings[i].end_offset;
}
