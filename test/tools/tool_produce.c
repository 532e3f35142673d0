/*
 * tool_produce.c
 *		Messages by a template with a running number, and messages given one
 *		by one on standard input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kafka_tool.h"

#define TEMPLATE_BUFFER_SIZE 65536
#define MIN_SET 100

/* What "produce" is to do. */
typedef struct ProduceOrder
{
	int64_t		from;
	int64_t		count;
	int64_t		set;			/* messages in one partition before the next one's turn */
	int64_t		rate;			/* messages a second; 0: as fast as it goes */
	bool		even;			/* no sets: messages go out in each millisecond */
	int32_t		partition;		/* -1: all by turns */
	const char *value;
	const char *key;			/* NULL: none */
} ProduceOrder;

/*
 * Messages go out in sets: the mock broker keeps each record set as it came,
 * and sets of single messages are what costs it most.  The sets of a stream
 * that is not to be fast are smaller, so that it is a stream.
 */
static int64_t
set_size(const ToolArguments *arguments, int64_t rate)
{
	int64_t		set = tool_option_number(arguments, "set",
										 rate > 0 && rate <= 10000 ? MIN_SET : 500);

	if (set < MIN_SET)
		tool_die("--set must be at least %d", MIN_SET);
	return set;
}

static ProduceOrder
parse_order(const ToolArguments *arguments)
{
	ProduceOrder order;

	order.from = tool_option_number(arguments, "from", 0);
	order.count = tool_option_number(arguments, "count", 1);
	order.rate = tool_option_number(arguments, "rate", 0);
	order.even = tool_option(arguments, "even", NULL) != NULL;
	order.set = order.even ? 1 : set_size(arguments, order.rate);
	if (order.even && order.rate <= 0)
		tool_die("--even needs a --rate");
	order.partition = (int32_t) tool_option_number(arguments, "partition", -1);
	order.value = tool_option(arguments, "template", "{\"id\": %d}");
	order.key = tool_option(arguments, "key", NULL);
	return order;
}

static rd_kafka_conf_t *
conf_with_codec(const ToolArguments *arguments)
{
	rd_kafka_conf_t *conf = tool_producer_conf();

	tool_conf_set(conf, "compression.codec", tool_option(arguments, "codec", "none"));
	if (tool_option(arguments, "even", NULL) != NULL)
		tool_conf_set(conf, "linger.ms", "1");
	return conf;
}

/* Keeps the rate: waits, taking reports meanwhile, until so many are due. */
static void
await_turn(ToolProducer *producer, int64_t started_ms, int64_t rate)
{
	int64_t		due_ms = started_ms + producer->sent * 1000 / rate;
	int64_t		left_ms;

	while ((left_ms = due_ms - tool_now_ms()) > 0)
		rd_kafka_poll(producer->client, (int) left_ms);
}

/*
 * Keeps an even rate: waits until the message is due, or until the next whole
 * millisecond.  A call to sleep for what is already due would cost more than
 * the message.
 */
static void
await_moment(const ToolProducer *producer, int64_t started_us, int64_t rate)
{
	int64_t		due_us = started_us + (producer->sent * 1000 + rate - 1) / rate * 1000;
	int64_t		left_us = due_us - tool_clock_us();
	struct timespec left = {left_us / 1000000, left_us % 1000000 * 1000};

	if (left_us > 0)
		nanosleep(&left, NULL);
}

static void
send_number(ToolProducer *producer, const ProduceOrder *order, int64_t number,
			int32_t partition)
{
	static char value[TEMPLATE_BUFFER_SIZE];
	static char key[TEMPLATE_BUFFER_SIZE];
	ToolTemplateValues values = {number, partition, "plain"};
	ToolMessage message = {.partition = partition};

	message.value = value;
	message.value_length = tool_template_expand(value, sizeof(value), order->value, &values);
	if (order->key != NULL)
	{
		message.key = key;
		message.key_length = tool_template_expand(key, sizeof(key), order->key, &values);
	}
	tool_producer_send(producer, &message);
}

int
tool_produce(const ToolArguments *arguments)
{
	ProduceOrder order = parse_order(arguments);
	ToolProducer producer;
	int64_t		started_ms,
				started_us;

	tool_producer_open(&producer, arguments->positional[0],
					   arguments->positional[1], conf_with_codec(arguments));
	started_ms = tool_now_ms();
	started_us = tool_clock_us();
	for (int64_t i = 0; i < order.count; i++)
	{
		int32_t		partition = order.partition >= 0 ? order.partition :
			(int32_t) (i / order.set % producer.npartitions);

		if (order.even)
			await_moment(&producer, started_us, order.rate);
		else if (order.rate > 0 && i % order.set == 0)
			await_turn(&producer, started_ms, order.rate);
		send_number(&producer, &order, order.from + i, partition);
	}
	return tool_producer_finish(&producer);
}

static int
hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c == '\0' ? NULL : strchr(digits, c | ('A' <= c && c <= 'F' ? 0x20 : 0));

	if (at == NULL)
		tool_die("not a hex digit: \"%c\"", c);
	return (int) (at - digits);
}

static size_t
decode_hex(char *text)
{
	size_t		length = 0;

	for (const char *at = text; *at != '\0'; at += 2)
		text[length++] = (char) (hex_digit(at[0]) * 16 + hex_digit(at[1]));
	return length;
}

static char
decode_escape(const char **at)
{
	switch (*++*at)
	{
		case 't':
			return '\t';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case '\\':
			return '\\';
		case 'x':
			*at += 2;
			return (char) (hex_digit((*at)[-1]) * 16 + hex_digit((*at)[0]));
		default:
			tool_die("unknown escape: \\%c", **at);
	}
}

/* Decodes a field in its place; false for \N. */
static bool
decode_field(char *text, bool hex, size_t *length)
{
	*length = 0;
	if (strcmp(text, "\\N") == 0)
		return false;
	if (hex)
		*length = decode_hex(text);
	else
		for (const char *at = text; *at != '\0'; at++)
			text[(*length)++] = *at == '\\' ? decode_escape(&at) : *at;
	return true;
}

static void
add_header(ToolMessage *message, char *field, bool hex)
{
	char	   *value = strchr(field, '=');
	size_t		length;
	bool		present;

	if (value == NULL)
		tool_die("neither header=value nor @timestamp: %s", field);
	*value++ = '\0';
	present = decode_field(value, hex, &length);
	if (message->headers == NULL)
		message->headers = rd_kafka_headers_new(4);
	rd_kafka_header_add(message->headers, field, -1, present ? value : NULL, (ssize_t) length);
}

static void
send_line(ToolProducer *producer, char *line, bool hex)
{
	ToolMessage message = {0};
	const char *partition = strsep(&line, "\t");
	char	   *key = strsep(&line, "\t");
	char	   *value = strsep(&line, "\t");
	char	   *field;

	if (value == NULL)
		tool_die("a line needs partition, key and value");
	message.partition = (int32_t) tool_number(partition, "a line's partition");
	if (decode_field(key, hex, &message.key_length))
		message.key = key;
	if (decode_field(value, hex, &message.value_length))
		message.value = value;
	while ((field = strsep(&line, "\t")) != NULL)
	{
		if (field[0] == '@')
			message.timestamp = tool_number(field + 1, "a line's timestamp");
		else
			add_header(&message, field, hex);
	}
	tool_producer_send(producer, &message);
}

/*
 * One request at a time.  Seen once with Kafka 4.3: of six requests to a
 * partition that had just been made the first two were acknowledged and are
 * not in the log, as if they had been refused, sent again behind the others,
 * and taken for duplicates.
 */
static rd_kafka_conf_t *
conf_in_turn(const ToolArguments *arguments)
{
	rd_kafka_conf_t *conf = conf_with_codec(arguments);

	tool_conf_set(conf, "max.in.flight.requests.per.connection", "1");
	return conf;
}

int
tool_produce_stdin(const ToolArguments *arguments)
{
	bool		hex = tool_option(arguments, "hex", NULL) != NULL;
	ToolProducer producer;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		length;

	tool_producer_open(&producer, arguments->positional[0],
					   arguments->positional[1], conf_in_turn(arguments));
	while ((length = getline(&line, &size, stdin)) >= 0)
	{
		if (length > 0 && line[length - 1] == '\n')
			line[length - 1] = '\0';
		send_line(&producer, line, hex);
	}
	free(line);
	return tool_producer_finish(&producer);
}
