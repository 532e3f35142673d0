/*
 * tool_producer.c
 *		A producer that loses nothing and doubles nothing (idempotent, acks
 *		of all), counts what was acknowledged, and fails when anything was not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_tool.h"

/* librdkafka's report on one message, called from within rd_kafka_poll(). */
static void
on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
	ToolProducer *producer = opaque;

	(void) client;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
		message->partition < producer->npartitions)
	{
		producer->delivered[message->partition]++;
		return;
	}
	/* aborting a transaction is a script's intention, not a failure */
	if (message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
		message->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		return;
	if (producer->failed++ < 5)
		fprintf(stderr, "kafka_tool: a message for partition %d was not delivered: %s\n",
				message->partition, rd_kafka_err2str(message->err));
}

/* What every producer here is; a caller adds what is special. */
rd_kafka_conf_t *
tool_producer_conf(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	tool_conf_set(conf, "enable.idempotence", "true");
	tool_conf_set(conf, "acks", "all");
	/* long enough for a broker that a test kills and starts again */
	tool_conf_set(conf, "message.timeout.ms", "120000");
	/* sets are then filled before they are sent: see set_size() */
	tool_conf_set(conf, "linger.ms", "50");
	/* what is too large the broker and the topic decide */
	tool_conf_set(conf, "message.max.bytes", "100000000");
	return conf;
}

/* conf: from tool_producer_conf(); becomes the producer's. */
void
tool_producer_open(ToolProducer *producer, const char *brokers,
				   const char *topic, rd_kafka_conf_t *conf)
{
	memset(producer, 0, sizeof(*producer));
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_opaque(conf, producer);
	producer->client = tool_client_new(RD_KAFKA_PRODUCER, brokers, conf);
	producer->topic = topic;
	producer->npartitions = tool_partition_count(producer->client, topic);
	producer->delivered = calloc(producer->npartitions, sizeof(int64_t));
	if (producer->delivered == NULL)
		tool_die("out of memory");
}

static rd_kafka_resp_err_t
send_once(ToolProducer *producer, const ToolMessage *message)
{
	return rd_kafka_producev(producer->client,
							 RD_KAFKA_V_TOPIC(producer->topic),
							 RD_KAFKA_V_PARTITION(message->partition),
							 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							 RD_KAFKA_V_KEY(message->key, message->key_length),
							 RD_KAFKA_V_VALUE((void *) message->value, message->value_length),
							 RD_KAFKA_V_TIMESTAMP(message->timestamp),
							 RD_KAFKA_V_HEADERS(message->headers),
							 RD_KAFKA_V_END);
}

void
tool_producer_send(ToolProducer *producer, const ToolMessage *message)
{
	rd_kafka_resp_err_t error;

	if (message->partition >= producer->npartitions)
		tool_die("%s has %d partitions, not one with number %d", producer->topic,
				 producer->npartitions, message->partition);
	while ((error = send_once(producer, message)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		rd_kafka_poll(producer->client, 50);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("cannot send to %s: %s", producer->topic, rd_kafka_err2str(error));
	producer->sent++;
	rd_kafka_poll(producer->client, 0);
}

void
tool_producer_flush(ToolProducer *producer)
{
	rd_kafka_resp_err_t error = rd_kafka_flush(producer->client, 150000);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		tool_die("%d messages were not delivered in time: %s",
				 rd_kafka_outq_len(producer->client), rd_kafka_err2str(error));
}

/* Waits for all acknowledgements, prints them by partition; the exit status. */
int
tool_producer_finish(ToolProducer *producer)
{
	int64_t		delivered = 0;

	tool_producer_flush(producer);
	for (int i = 0; i < producer->npartitions; i++)
	{
		printf("%d\t%" PRId64 "\n", i, producer->delivered[i]);
		delivered += producer->delivered[i];
	}
	fflush(stdout);
	rd_kafka_destroy(producer->client);
	if (producer->failed == 0 && delivered == producer->sent)
		return 0;
	fprintf(stderr, "kafka_tool: %" PRId64 " of %" PRId64 " messages were delivered\n",
			delivered, producer->sent);
	return 1;
}

/* The last digits of the running number, as many as the mark "%07d" says. */
static int
expand_digits(char *to, size_t size, const char **mark, const ToolTemplateValues *values)
{
	char	   *end;
	int			digits = (int) strtol(*mark, &end, 10);
	int64_t		modulus = 1;

	if (digits < 1 || digits > 18 || *end != 'd')
		tool_die("not a mark like %%07d in a template: %%%.4s", *mark);
	for (int i = 0; i < digits; i++)
		modulus *= 10;
	*mark = end;
	return snprintf(to, size, "%0*" PRId64, digits, values->number % modulus);
}

/* *mark: behind the percent sign; is moved to the mark's last character. */
static int
expand_mark(char *to, size_t size, const char **mark, const ToolTemplateValues *values)
{
	switch (**mark)
	{
		case '0':
			return expand_digits(to, size, mark, values);
		case 't':
			return snprintf(to, size, "%" PRId64, tool_clock_us());
		case 'd':
			return snprintf(to, size, "%" PRId64, values->number);
		case 'o':
			return snprintf(to, size, "%d", (int) (values->number % 10) + 1);
		case 'p':
			return snprintf(to, size, "%d", values->partition);
		case 's':
			return snprintf(to, size, "%s", values->kind);
		case '%':
			return snprintf(to, size, "%%");
		default:
			tool_die("unknown mark in a template: %%%c", **mark);
	}
}

/* Writes the template with its marks replaced; the length without the final zero. */
size_t
tool_template_expand(char *to, size_t size, const char *template_text,
					 const ToolTemplateValues *values)
{
	size_t		length = 0;

	for (const char *at = template_text; *at != '\0'; at++)
	{
		if (*at != '%')
			to[length++] = *at;
		else
		{
			at++;
			length += expand_mark(to + length, size - length, &at, values);
		}
		if (length + 1 >= size)
			tool_die("a template makes more than %zu bytes", size);
	}
	to[length] = '\0';
	return length;
}
