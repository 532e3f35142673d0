/*
 * kafka_tool.h
 *		What the parts of kafka_tool share: arguments, clients, the producer.
 */
#ifndef KAFKA_TOOL_H
#define KAFKA_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#define TOOL_MAX_ARGUMENTS 32
#define TOOL_TIMEOUT_MS 30000

/* A command line, taken apart: what stands by itself, and "--name value" pairs. */
typedef struct ToolArguments
{
	const char *positional[TOOL_MAX_ARGUMENTS];
	int			npositional;
	const char *option_name[TOOL_MAX_ARGUMENTS];
	const char *option_value[TOOL_MAX_ARGUMENTS];
	int			noptions;
} ToolArguments;

/* An idempotent producer for one topic that knows the fate of each message. */
typedef struct ToolProducer
{
	rd_kafka_t *client;
	const char *topic;
	int			npartitions;
	int64_t		sent;
	int64_t		failed;
	int64_t    *delivered;		/* by partition */
} ToolProducer;

/* One message as it is to be sent; NULL pointers are Kafka's nulls. */
typedef struct ToolMessage
{
	int32_t		partition;
	const void *key;
	size_t		key_length;
	const void *value;
	size_t		value_length;
	int64_t		timestamp;		/* ms; 0: now */
	rd_kafka_headers_t *headers;	/* becomes the producer's; NULL: none */
} ToolMessage;

/* What the marks of a template stand for. */
typedef struct ToolTemplateValues
{
	int64_t		number;			/* %d and %07d; and %o: 1 to 10 by it */
	int32_t		partition;		/* %p */
	const char *kind;			/* %s */
} ToolTemplateValues;

/* kafka_tool.c */
extern void tool_die(const char *format,...)
			__attribute__((format(printf, 1, 2), noreturn));
extern const char *tool_option(const ToolArguments *arguments, const char *name,
							   const char *otherwise);
extern int64_t tool_option_number(const ToolArguments *arguments,
								  const char *name, int64_t otherwise);
extern int64_t tool_number(const char *text, const char *what);

/* tool_client.c */
extern rd_kafka_t *tool_client_new(rd_kafka_type_t type, const char *brokers,
								   rd_kafka_conf_t *conf);
extern void tool_conf_set(rd_kafka_conf_t *conf, const char *name,
						  const char *value);
extern int	tool_partition_count(rd_kafka_t *client, const char *topic);
extern bool tool_await_partitions(rd_kafka_t *client, const char *topic,
								  int npartitions);
extern int64_t tool_now_ms(void);
extern int64_t tool_clock_us(void);
extern int	tool_wait(const ToolArguments *arguments);
extern int	tool_offsets(const ToolArguments *arguments);
extern int	tool_commit_offsets(const ToolArguments *arguments);

/* tool_admin.c */
extern int	tool_create_topic(const ToolArguments *arguments);
extern int	tool_create_partitions(const ToolArguments *arguments);
extern int	tool_delete_topic(const ToolArguments *arguments);
extern int	tool_delete_records(const ToolArguments *arguments);
extern int	tool_group_offsets(const ToolArguments *arguments);
extern int	tool_deny_group(const ToolArguments *arguments);

/* tool_producer.c */
extern rd_kafka_conf_t *tool_producer_conf(void);
extern void tool_producer_open(ToolProducer *producer, const char *brokers,
							   const char *topic, rd_kafka_conf_t *conf);
extern void tool_producer_send(ToolProducer *producer,
							   const ToolMessage *message);
extern void tool_producer_flush(ToolProducer *producer);
extern int	tool_producer_finish(ToolProducer *producer);
extern size_t tool_template_expand(char *to, size_t size, const char *template_text,
								   const ToolTemplateValues *values);

/* tool_produce.c */
extern int	tool_produce(const ToolArguments *arguments);
extern int	tool_produce_stdin(const ToolArguments *arguments);

/* tool_transactions.c */
extern int	tool_transactions(const ToolArguments *arguments);

/* tool_mock.c */
extern int	tool_mock(const ToolArguments *arguments);

#endif							/* KAFKA_TOOL_H */
