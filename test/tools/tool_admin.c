/*
 * tool_admin.c
 *		Topics, partitions, deleted records; each waits until the broker's
 *		metadata show the change.
 */
#include <string.h>
#include <unistd.h>

#include "kafka_tool.h"

/* The answer to the request whose event comes next on the queue, without an error. */
static rd_kafka_event_t *
await_answer(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TOOL_TIMEOUT_MS);

	if (event == NULL)
		tool_die("%s: no answer", what);
	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("%s: %s", what, rd_kafka_event_error_string(event));
	return event;
}

static void
check_topic_results(const rd_kafka_topic_result_t **results, size_t nresults,
					const char *what)
{
	for (size_t i = 0; i < nresults; i++)
		if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			tool_die("%s %s: %s", what, rd_kafka_topic_result_name(results[i]),
					 rd_kafka_topic_result_error_string(results[i]));
}

static void
set_topic_config(rd_kafka_NewTopic_t *topic, const char *setting)
{
	const char *equals = strchr(setting, '=');
	char		name[256];

	if (equals == NULL || (size_t) (equals - setting) >= sizeof(name))
		tool_die("not key=value: %s", setting);
	memcpy(name, setting, equals - setting);
	name[equals - setting] = '\0';
	if (rd_kafka_NewTopic_set_config(topic, name, equals + 1) != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("cannot set %s", setting);
}

/*
 * One request for a topic.  False: the controller takes its brokers for dead,
 * which it does for a moment after they stood still.
 */
static bool
request_topic(rd_kafka_t *client, rd_kafka_queue_t *queue, rd_kafka_NewTopic_t *topic)
{
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		nresults;
	bool		is_fenced;

	rd_kafka_CreateTopics(client, &topic, 1, NULL, queue);
	event = await_answer(queue, "create topic");
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event),
												  &nresults);
	is_fenced = nresults == 1 &&
		rd_kafka_topic_result_error(results[0]) == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR;
	if (!is_fenced)
		check_topic_results(results, nresults, "create topic");
	rd_kafka_event_destroy(event);
	return !is_fenced;
}

int
tool_create_topic(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	const char *name = arguments->positional[1];
	int			npartitions = (int) tool_number(arguments->positional[2], "PARTITIONS");
	int64_t		deadline = tool_now_ms() + TOOL_TIMEOUT_MS;
	char		error[512];
	rd_kafka_NewTopic_t *topic;

	/* -1: as many replicas as the broker thinks right */
	topic = rd_kafka_NewTopic_new(name, npartitions, -1, error, sizeof(error));
	if (topic == NULL)
		tool_die("topic %s: %s", name, error);
	for (int i = 3; i < arguments->npositional; i++)
		set_topic_config(topic, arguments->positional[i]);
	while (!request_topic(client, queue, topic))
	{
		if (tool_now_ms() > deadline)
			tool_die("create topic %s: all brokers are fenced", name);
		usleep(100 * 1000);
	}
	rd_kafka_NewTopic_destroy(topic);
	if (!tool_await_partitions(client, name, npartitions))
		tool_die("topic %s does not appear", name);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}

int
tool_create_partitions(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	const char *name = arguments->positional[1];
	int			total = (int) tool_number(arguments->positional[2], "TOTAL");
	char		error[512];
	rd_kafka_NewPartitions_t *partitions;
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		nresults;

	partitions = rd_kafka_NewPartitions_new(name, total, error, sizeof(error));
	if (partitions == NULL)
		tool_die("topic %s: %s", name, error);
	rd_kafka_CreatePartitions(client, &partitions, 1, NULL, queue);
	event = await_answer(queue, "create partitions");
	results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event),
													  &nresults);
	check_topic_results(results, nresults, "create partitions");
	rd_kafka_event_destroy(event);
	rd_kafka_NewPartitions_destroy(partitions);
	if (!tool_await_partitions(client, name, total))
		tool_die("the new partitions of %s do not appear", name);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}

int
tool_delete_topic(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	const char *name = arguments->positional[1];
	rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		nresults;

	rd_kafka_DeleteTopics(client, &topic, 1, NULL, queue);
	event = await_answer(queue, "delete topic");
	results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event),
												  &nresults);
	check_topic_results(results, nresults, "delete topic");
	rd_kafka_event_destroy(event);
	rd_kafka_DeleteTopic_destroy(topic);
	if (!tool_await_partitions(client, name, 0))
		tool_die("topic %s does not vanish", name);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}

int
tool_delete_records(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *records;
	rd_kafka_event_t *event;
	const rd_kafka_topic_partition_list_t *result;

	rd_kafka_topic_partition_list_add(before, arguments->positional[1],
									  (int32_t) tool_number(arguments->positional[2], "PARTITION"))
		->offset = tool_number(arguments->positional[3], "OFFSET");
	records = rd_kafka_DeleteRecords_new(before);
	rd_kafka_DeleteRecords(client, &records, 1, NULL, queue);
	event = await_answer(queue, "delete records");
	result = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
	for (int i = 0; i < result->cnt; i++)
		if (result->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			tool_die("delete records: %s", rd_kafka_err2str(result->elems[i].err));
	rd_kafka_event_destroy(event);
	rd_kafka_DeleteRecords_destroy(records);
	rd_kafka_topic_partition_list_destroy(before);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}

/* The first to ask for a group of a broker finds its coordinator loading. */
static bool
is_loading(const rd_kafka_event_t *event)
{
	const char *complaint = rd_kafka_event_error_string((rd_kafka_event_t *) event);

	return rd_kafka_event_error((rd_kafka_event_t *) event) != RD_KAFKA_RESP_ERR_NO_ERROR &&
		complaint != NULL && strstr(complaint, "oordinator") != NULL;
}

/* Ask until the coordinator is there. */
static rd_kafka_event_t *
ask_group_offsets(rd_kafka_t *client, rd_kafka_queue_t *queue,
				  rd_kafka_ListConsumerGroupOffsets_t **question)
{
	rd_kafka_event_t *event = NULL;

	for (int waited_ms = 0; waited_ms < TOOL_TIMEOUT_MS; waited_ms += 100)
	{
		rd_kafka_ListConsumerGroupOffsets(client, question, 1, NULL, queue);
		event = rd_kafka_queue_poll(queue, TOOL_TIMEOUT_MS);
		if (event == NULL)
			tool_die("group offsets: no answer");
		if (!is_loading(event))
			break;
		if (waited_ms + 100 < TOOL_TIMEOUT_MS)
			rd_kafka_event_destroy(event);
		usleep(100 * 1000);
	}
	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("group offsets: %s", rd_kafka_event_error_string(event));
	return event;
}

/* What Kafka's own group tools show: the administrator's question. */
int
tool_group_offsets(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_ListConsumerGroupOffsets_t *question;
	const rd_kafka_group_result_t **results;
	const rd_kafka_topic_partition_list_t *list;
	rd_kafka_event_t *event;
	size_t		nresults;

	question = rd_kafka_ListConsumerGroupOffsets_new(arguments->positional[1], NULL);
	event = ask_group_offsets(client, queue, &question);
	results = rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event),
															  &nresults);
	if (nresults != 1 || rd_kafka_group_result_error(results[0]) != NULL)
		tool_die("no offsets of group %s", arguments->positional[1]);
	list = rd_kafka_group_result_partitions(results[0]);
	for (int i = 0; i < list->cnt; i++)
		if (strcmp(list->elems[i].topic, arguments->positional[2]) == 0 &&
			list->elems[i].offset >= 0)
			printf("%d\t%lld\n", list->elems[i].partition,
				   (long long) list->elems[i].offset);
	rd_kafka_event_destroy(event);
	rd_kafka_ListConsumerGroupOffsets_destroy(question);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}

/* A broker with an authorizer then refuses the group to everybody. */
int
tool_deny_group(const ToolArguments *arguments)
{
	rd_kafka_t *client = tool_client_new(RD_KAFKA_PRODUCER, arguments->positional[0], NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	char		error[512];
	rd_kafka_AclBinding_t *acl;
	const rd_kafka_acl_result_t **results;
	rd_kafka_event_t *event;
	size_t		nresults;

	acl = rd_kafka_AclBinding_new(RD_KAFKA_RESOURCE_GROUP, arguments->positional[1],
								  RD_KAFKA_RESOURCE_PATTERN_LITERAL, "User:*", "*",
								  RD_KAFKA_ACL_OPERATION_READ,
								  RD_KAFKA_ACL_PERMISSION_TYPE_DENY, error, sizeof(error));
	if (acl == NULL)
		tool_die("group %s: %s", arguments->positional[1], error);
	rd_kafka_CreateAcls(client, &acl, 1, NULL, queue);
	event = await_answer(queue, "deny group");
	results = rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(event), &nresults);
	for (size_t i = 0; i < nresults; i++)
		if (rd_kafka_acl_result_error(results[i]) != NULL)
			tool_die("group %s: %s", arguments->positional[1],
					 rd_kafka_error_string(rd_kafka_acl_result_error(results[i])));
	rd_kafka_event_destroy(event);
	rd_kafka_AclBinding_destroy(acl);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(client);
	return 0;
}
