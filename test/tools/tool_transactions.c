/*
 * tool_transactions.c
 *		Transactions that commit, abort, or stay open until they are told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kafka_tool.h"

#define VALUE_SIZE 4096

/* Where a script has arrived. */
typedef struct TransactionScript
{
	ToolProducer producer;
	int32_t		partition;
	int64_t		number;			/* the next message's running number */
	const char *value;			/* the template */
} TransactionScript;

static void
check(rd_kafka_error_t *error, const char *what)
{
	if (error != NULL)
		tool_die("%s: %s", what, rd_kafka_error_string(error));
}

/* One transaction's messages; they are at the broker on return. */
static void
send_messages(TransactionScript *script, const char *kind, int64_t count)
{
	char		value[VALUE_SIZE];

	for (int64_t i = 0; i < count; i++)
	{
		ToolTemplateValues values = {script->number++, script->partition, kind};
		ToolMessage message = {.partition = script->partition,.value = value};

		message.value_length = tool_template_expand(value, sizeof(value), script->value, &values);
		tool_producer_send(&script->producer, &message);
	}
	tool_producer_flush(&script->producer);
}

/* Says that a transaction is open and waits for the word. */
static bool
told_to_commit(void)
{
	char		line[64];

	puts("open");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "commit\n") == 0;
}

static void
run_transaction(TransactionScript *script, const char *kind, int64_t count)
{
	rd_kafka_t *client = script->producer.client;
	bool		commit = strcmp(kind, "commit") == 0;

	check(rd_kafka_begin_transaction(client), "begin");
	send_messages(script, kind, count);
	if (strcmp(kind, "open") == 0)
		commit = told_to_commit();
	if (commit)
		check(rd_kafka_commit_transaction(client, TOOL_TIMEOUT_MS), "commit");
	else
		check(rd_kafka_abort_transaction(client, TOOL_TIMEOUT_MS), "abort");
}

/* Messages outside of any transaction need a producer that has none. */
static void
run_plain(TransactionScript *script, const char *brokers, int64_t count)
{
	ToolProducer transactional = script->producer;

	tool_producer_open(&script->producer, brokers, transactional.topic, tool_producer_conf());
	send_messages(script, "plain", count);
	rd_kafka_destroy(script->producer.client);
	if (script->producer.failed > 0)
		tool_die("plain messages were not delivered");
	free(script->producer.delivered);
	script->producer = transactional;
}

static void
run_step(TransactionScript *script, const char *brokers, char *step)
{
	char	   *colon = strchr(step, ':');
	int64_t		count;

	if (colon == NULL)
		tool_die("not kind:count: %s", step);
	*colon = '\0';
	count = tool_number(colon + 1, step);
	if (strcmp(step, "plain") == 0)
		run_plain(script, brokers, count);
	else if (strcmp(step, "commit") == 0 || strcmp(step, "abort") == 0 ||
			 strcmp(step, "open") == 0)
		run_transaction(script, step, count);
	else
		tool_die("neither commit, abort, plain nor open: %s", step);
}

static void
open_script(TransactionScript *script, const ToolArguments *arguments)
{
	rd_kafka_conf_t *conf = tool_producer_conf();
	char		id[64];

	snprintf(id, sizeof(id), "kafka_tool.%d.%lld", (int) getpid(), (long long) tool_now_ms());
	tool_conf_set(conf, "transactional.id", tool_option(arguments, "id", id));
	tool_conf_set(conf, "transaction.timeout.ms", "300000");
	script->partition = (int32_t) tool_option_number(arguments, "partition", 0);
	script->number = tool_option_number(arguments, "from", 0);
	script->value = tool_option(arguments, "template", "{\"id\": %d, \"kind\": \"%s\"}");
	tool_producer_open(&script->producer, arguments->positional[0],
					   arguments->positional[1], conf);
	check(rd_kafka_init_transactions(script->producer.client, TOOL_TIMEOUT_MS),
		  "init transactions");
}

int
tool_transactions(const ToolArguments *arguments)
{
	TransactionScript script;
	char	   *steps = strdup(arguments->positional[2]);
	char	   *rest = steps;
	char	   *step;

	open_script(&script, arguments);
	while ((step = strsep(&rest, ",")) != NULL)
		run_step(&script, arguments->positional[0], step);
	free(steps);
	return tool_producer_finish(&script.producer);
}
