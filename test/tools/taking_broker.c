/*
 * taking_broker.c
 *		A model of librdkafka and its broker: partitions of endless messages,
 *		each of which can be told from its number alone, in runs of random
 *		lengths, with replays, ends, passing errors, errors behind which messages
 *		are missing, headers that cannot be read, and what is of nobody.
 *
 * A message's memory is its own and goes with it.  Between two of them there is
 * so much room that nothing looks like a record set: what is read of one is
 * with a real broker (test/t/208_taking.pl).
 */
#include "taking_test.h"

#include <stdlib.h>

/* What it stands between in its memory, so that the next one is far away. */
#define GAP 200

/* A topic of the library's is told by its address. */
struct rd_kafka_topic_s
{
	int			number;
};

/* Begins with what the library shows of it. */
typedef struct Raw
{
	rd_kafka_message_t message;
	int			partition;
	int64		number;
	bool		is_unreadable;	/* its headers are */
	char	   *bytes;
} Raw;

BrokerPartition broker_partitions[PARTITIONS];
int64		messages_alive = 0;
int64		messages_replayed = 0;
int64		messages_taken_ahead = 0;

static rd_kafka_topic_t *topics[2];

static int	run_partition = 0;
static int	left_of_run = 0;

/* --- making and giving back --- */

static Raw *
make_raw(int partition, int64 number)
{
	Raw		   *raw = calloc(1, sizeof(Raw));

	__atomic_add_fetch(&messages_alive, 1, __ATOMIC_SEQ_CST);
	raw->partition = partition;
	raw->number = number;
	raw->message.rkt = topics[partition % 2];
	raw->message.partition = number_in_topic(partition);
	return raw;
}

static Raw *
make_error(int partition, rd_kafka_resp_err_t err, int64 offset)
{
	Raw		   *raw = make_raw(partition, 0);

	raw->message.err = err;
	raw->message.offset = offset;
	return raw;
}

static Raw *
make_message(int partition, int64 number)
{
	Raw		   *raw = make_raw(partition, number);
	rd_kafka_message_t *message = &raw->message;
	int64		key_len = key_length(partition, number);
	int64		value_len = value_length(partition, number);
	char	   *key;
	char	   *value;

	message->offset = offset_of(number);
	message->key_len = Max(key_len, 0);
	message->len = Max(value_len, 0);
	raw->bytes = malloc(message->key_len + message->len + 3 * GAP);
	key = raw->bytes + GAP;
	value = key + message->key_len + GAP;
	for (int64 i = 0; i < key_len; i++)
		key[i] = key_byte(partition, number, i);
	for (int64 i = 0; i < value_len; i++)
		value[i] = value_byte(partition, number, i);
	message->key = key_len < 0 ? NULL : key;
	message->payload = value_len < 0 ? NULL : value;
	raw->is_unreadable = draw_taking() % 20000 == 0;
	return raw;
}

void
rd_kafka_message_destroy(rd_kafka_message_t *message)
{
	Raw		   *raw = (Raw *) message;

	free(raw->bytes);
	free(raw);
	__atomic_sub_fetch(&messages_alive, 1, __ATOMIC_SEQ_CST);
}

/* --- what comes next --- */

/* The library reads on behind it as if nothing had been there. */
static Raw *
make_hole(int partition)
{
	static const rd_kafka_resp_err_t errors[] = {
		RD_KAFKA_RESP_ERR__BAD_MSG,
		RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
		RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
	};

	broker_partitions[partition].next += 3;
	broker_partitions[partition].is_holed = true;
	return make_error(partition, errors[draw_taking() % lengthof(errors)], -1);
}

/* So far; it goes on with another partition.  There may be markers behind it. */
static Raw *
make_end(int partition)
{
	left_of_run = 0;
	return make_error(partition, RD_KAFKA_RESP_ERR__PARTITION_EOF,
					  broker_partitions[partition].next * 2);
}

/* Messages of a partition that was not assigned, and errors of no topic. */
static Raw *
make_nobodys(void)
{
	Raw		   *raw;

	if (draw_taking() % 2)
	{
		raw = make_message(0, 0);
		raw->message.partition = 1000;
	}
	else
	{
		raw = make_error(0, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, -1);
		raw->message.rkt = NULL;
	}
	return raw;
}

static void
replay(BrokerPartition *partition)
{
	int64		back = draw_taking() % 5;

	back = Min(back, partition->next);
	partition->next -= back;
	messages_replayed += back;
}

/* A long run now and then, and short ones. */
static void
choose_partition(void)
{
	left_of_run = draw_taking() % 3 == 0 ? draw_taking() % 3000 : draw_taking() % 8;
	do
		run_partition = draw_taking() % PARTITIONS;
	while (!broker_partitions[run_partition].is_assigned);
}

static Raw *
make_next(void)
{
	BrokerPartition *partition;
	uint32		chance = draw_taking();

	if (left_of_run-- <= 0)
		choose_partition();
	partition = &broker_partitions[run_partition];
	if (chance % 250 == 0)
		return make_nobodys();
	if (chance % 200 == 1)
		return make_end(run_partition);
	if (chance % 300 == 2)
		return make_error(run_partition, RD_KAFKA_RESP_ERR__TRANSPORT, -1);
	if (chance % 3000 == 3)
		return make_hole(run_partition);
	if (chance % 100 == 4 && !partition->is_holed)
		replay(partition);
	return make_message(run_partition, partition->next++);
}

ssize_t
rd_kafka_consume_batch_queue(rd_kafka_queue_t *queue, int timeout_ms,
							 rd_kafka_message_t **messages, size_t size)
{
	size_t		count = 0;

	while (count < size && draw_taking() % 40 > 0)
		messages[count++] = &make_next()->message;
	if (!is_main_thread())
		messages_taken_ahead += count;
	return count;
}

/* Nothing is there before partitions are assigned. */
rd_kafka_message_t *
rd_kafka_consume_queue(rd_kafka_queue_t *queue, int timeout_ms)
{
	return NULL;
}

/* --- looking at messages --- */

rd_kafka_resp_err_t
rd_kafka_message_headers(const rd_kafka_message_t *message,
						 rd_kafka_headers_t **headers)
{
	const Raw  *raw = (const Raw *) message;

	if (raw->is_unreadable)
		return RD_KAFKA_RESP_ERR__BAD_MSG;
	if (header_count(raw->partition, raw->number) == 0)
		return RD_KAFKA_RESP_ERR__NOENT;
	*headers = (rd_kafka_headers_t *) raw;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

size_t
rd_kafka_header_cnt(const rd_kafka_headers_t *headers)
{
	const Raw  *raw = (const Raw *) headers;

	return header_count(raw->partition, raw->number);
}

rd_kafka_resp_err_t
rd_kafka_header_get_all(const rd_kafka_headers_t *headers, size_t i,
						const char **name, const void **value, size_t *size)
{
	const Raw  *raw = (const Raw *) headers;
	KiHeader	header;

	if (i >= rd_kafka_header_cnt(headers))
		return RD_KAFKA_RESP_ERR__NOENT;
	get_header(raw->number, i, &header);
	*name = header.name;
	*value = header.value;
	*size = header.value ? header.value_len : (size_t) -1;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

int64_t
rd_kafka_message_timestamp(const rd_kafka_message_t *message,
						   rd_kafka_timestamp_type_t *type)
{
	const Raw  *raw = (const Raw *) message;
	int64		time = time_of(raw->partition, raw->number);

	*type = time == -1 ? RD_KAFKA_TIMESTAMP_NOT_AVAILABLE :
		RD_KAFKA_TIMESTAMP_CREATE_TIME;
	return time == -1 ? 4711 : time;
}

const char *
rd_kafka_message_errstr(const rd_kafka_message_t *message)
{
	return "an error";
}

const char *
rd_kafka_err2str(rd_kafka_resp_err_t err)
{
	return "an error";
}

const char *
rd_kafka_topic_name(const rd_kafka_topic_t *topic)
{
	return topic_of(topic->number);
}

/* Before 2.2: the fetcher is woken. */
int
rd_kafka_version(void)
{
	return 0x020002ff;
}

/* --- assignment --- */

rd_kafka_topic_partition_list_t *
rd_kafka_topic_partition_list_new(int size)
{
	rd_kafka_topic_partition_list_t *list = calloc(1, sizeof(*list));

	list->size = size;
	list->elems = calloc(size, sizeof(*list->elems));
	return list;
}

rd_kafka_topic_partition_t *
rd_kafka_topic_partition_list_add(rd_kafka_topic_partition_list_t *list,
								  const char *topic, int32_t number)
{
	rd_kafka_topic_partition_t *element = &list->elems[list->cnt++];

	element->topic = (char *) topic;
	element->partition = number;
	return element;
}

void
rd_kafka_topic_partition_list_destroy(rd_kafka_topic_partition_list_t *list)
{
	free(list->elems);
	free(list);
}

rd_kafka_resp_err_t
rd_kafka_offsets_for_times(rd_kafka_t *client,
						   rd_kafka_topic_partition_list_t *list,
						   int timeout_ms)
{
	return RD_KAFKA_RESP_ERR__TIMED_OUT;
}

/* The topics of the library's are others than before. */
rd_kafka_resp_err_t
rd_kafka_assign(rd_kafka_t *client, const rd_kafka_topic_partition_list_t *list)
{
	if (draw_taking() % 30 == 0)
		return RD_KAFKA_RESP_ERR__STATE;
	for (int i = 0; i < 2; i++)
	{
		free(topics[i]);
		topics[i] = malloc(sizeof(rd_kafka_topic_t));
		topics[i]->number = i;
	}
	memset(broker_partitions, 0, sizeof(broker_partitions));
	left_of_run = 0;
	for (int i = 0; i < list->cnt; i++)
	{
		const rd_kafka_topic_partition_t *element = &list->elems[i];
		BrokerPartition *partition =
		&broker_partitions[partition_of(element->topic, element->partition)];

		partition->is_assigned = true;
		partition->next = number_from(element->offset);
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}
