/*
 * tool_client.c
 *		Clients, metadata and offsets.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kafka_tool.h"

int64_t
tool_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The clock on the wall, which PostgreSQL's timestamps show, too. */
int64_t
tool_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
tool_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		tool_die("%s=%s: %s", name, value, error);
}

/* Takes conf over; NULL: the defaults. */
rd_kafka_t *
tool_client_new(rd_kafka_type_t type, const char *brokers, rd_kafka_conf_t *conf)
{
	char		error[512];
	rd_kafka_t *client;

	if (conf == NULL)
		conf = rd_kafka_conf_new();
	tool_conf_set(conf, "bootstrap.servers", brokers);
	tool_conf_set(conf, "client.id", "kafka_tool");
	/* brokers that come and go are part of the tests, and no news */
	tool_conf_set(conf, "log_level", "2");
	tool_conf_set(conf, "reconnect.backoff.max.ms", "500");
	client = rd_kafka_new(type, conf, error, sizeof(error));
	if (client == NULL)
		tool_die("could not make a client: %s", error);
	return client;
}

/*
 * The number of partitions if the topic is there and all have a leader; 0 if
 * not, or not yet.
 */
static int
partitions_now(rd_kafka_t *client, rd_kafka_topic_t *topic, int timeout_ms)
{
	const struct rd_kafka_metadata *metadata;
	int			npartitions = 0;

	if (rd_kafka_metadata(client, 0, topic, &metadata, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		npartitions = metadata->topics[0].partition_cnt;
		for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
			if (metadata->topics[0].partitions[i].leader < 0)
				npartitions = 0;
	}
	rd_kafka_metadata_destroy(metadata);
	return npartitions;
}

/*
 * Waits until the topic has that many partitions (-1: any number of them; 0:
 * until it is gone).
 */
bool
tool_await_partitions(rd_kafka_t *client, const char *name, int npartitions)
{
	int64_t		deadline = tool_now_ms() + TOOL_TIMEOUT_MS;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
	bool		good = false;

	while (!good && tool_now_ms() < deadline)
	{
		int			now = partitions_now(client, topic, 5000);

		good = npartitions < 0 ? now > 0 : now == npartitions;
		if (!good)
			rd_kafka_poll(client, 50);
	}
	rd_kafka_topic_destroy(topic);
	return good;
}

int
tool_partition_count(rd_kafka_t *client, const char *name)
{
	rd_kafka_topic_t *topic;
	int			npartitions;

	if (!tool_await_partitions(client, name, -1))
		tool_die("topic %s is not there", name);
	topic = rd_kafka_topic_new(client, name, NULL);
	npartitions = partitions_now(client, topic, TOOL_TIMEOUT_MS);
	rd_kafka_topic_destroy(topic);
	if (npartitions == 0)
		tool_die("topic %s is not there any more", name);
	return npartitions;
}

int
tool_wait(const ToolArguments *arguments)
{
	int64_t		seconds = arguments->npositional < 2 ? 30 :
		tool_number(arguments->positional[1], "SECONDS");
	int64_t		deadline = tool_now_ms() + seconds * 1000;
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	const struct rd_kafka_metadata *metadata;

	while (tool_now_ms() < deadline)
	{
		int			nbrokers = 0;

		if (rd_kafka_metadata(client, 1, NULL, &metadata, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			nbrokers = metadata->broker_cnt;
			rd_kafka_metadata_destroy(metadata);
		}
		if (nbrokers > 0 && rd_kafka_controllerid(client, 1000) >= 0)
		{
			rd_kafka_destroy(client);
			return 0;
		}
		rd_kafka_poll(client, 50);
	}
	tool_die("%s did not answer within %d seconds", arguments->positional[0], (int) seconds);
}

/* The last stable offset is what a reader of committed messages is told. */
static rd_kafka_t *
consumer_new(const char *brokers, const char *isolation_level)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	tool_conf_set(conf, "isolation.level", isolation_level);
	return tool_client_new(RD_KAFKA_CONSUMER, brokers, conf);
}

static void
query_watermarks(rd_kafka_t *client, const char *topic, int partition,
				 int64_t *low, int64_t *high)
{
	rd_kafka_resp_err_t error;

	error = rd_kafka_query_watermark_offsets(client, topic, partition, low, high,
											 TOOL_TIMEOUT_MS);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("offsets of %s, partition %d: %s", topic, partition,
				 rd_kafka_err2str(error));
}

int
tool_offsets(const ToolArguments *arguments)
{
	const char *brokers = arguments->positional[0];
	const char *topic = arguments->positional[1];
	rd_kafka_t *uncommitted = consumer_new(brokers, "read_uncommitted");
	rd_kafka_t *committed = consumer_new(brokers, "read_committed");
	int			npartitions = tool_partition_count(uncommitted, topic);

	for (int i = 0; i < npartitions; i++)
	{
		int64_t		low,
					high,
					stable;

		query_watermarks(committed, topic, i, &low, &stable);
		query_watermarks(uncommitted, topic, i, &low, &high);
		printf("%d\t%lld\t%lld\t%lld\n", i, (long long) low, (long long) high,
			   (long long) stable);
	}
	rd_kafka_destroy(committed);
	rd_kafka_destroy(uncommitted);
	return 0;
}

/* ---- consumer groups ---- */

static rd_kafka_t *
member_new(const char *brokers, const char *group)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	tool_conf_set(conf, "group.id", group);
	return tool_client_new(RD_KAFKA_CONSUMER, brokers, conf);
}

/* Commits what a consumer of the group would have read. */
int
tool_commit_offsets(const ToolArguments *arguments)
{
	rd_kafka_t *client = member_new(arguments->positional[0], arguments->positional[1]);
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t error;

	list = rd_kafka_topic_partition_list_new(arguments->npositional);
	for (int i = 3; i < arguments->npositional; i++)
	{
		int			partition;
		long long	offset;

		if (sscanf(arguments->positional[i], "%d:%lld", &partition, &offset) != 2)
			tool_die("not partition:offset: %s", arguments->positional[i]);
		rd_kafka_topic_partition_list_add(list, arguments->positional[2], partition)->offset = offset;
	}
	error = rd_kafka_commit(client, list, 0);
	for (int i = 0; i < list->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		error = list->elems[i].err;
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("offsets of group %s: %s", arguments->positional[1], rd_kafka_err2str(error));
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy(client);
	return 0;
}
