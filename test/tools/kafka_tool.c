/*
 * kafka_tool.c
 *		What the tests and the demo need of Kafka, in one program without
 *		Java: a mock broker, topics, producers, transactions, offsets.
 *
 * Each command is in the table below with its usage.  B is host:port.  All
 * that a command makes is checked before it ends: the exit status is 0 only
 * when every message was acknowledged, every topic is there on the broker.
 * This program is part of the tests; it is never installed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_tool.h"

typedef struct ToolCommand
{
	const char *name;
	const char *usage;
	int			min_positional;
	int			max_positional;
	const char *options;		/* allowed ones, each between blanks */
	int			(*run) (const ToolArguments *arguments);
} ToolCommand;

static const ToolCommand commands[] = {
	{"mock", "[--topics name:partitions,...]\n"
		"      prints the bootstrap address, runs until stdin closes or SIGTERM",
	0, 0, " topics ", tool_mock},
	{"wait", "B [SECONDS]\n      until a broker and a controller answer (default 30)",
	1, 2, "", tool_wait},
	{"create-topic", "B NAME PARTITIONS [key=value ...]",
	3, TOOL_MAX_ARGUMENTS, "", tool_create_topic},
	{"create-partitions", "B NAME TOTAL", 3, 3, "", tool_create_partitions},
	{"delete-topic", "B NAME", 2, 2, "", tool_delete_topic},
	{"delete-records", "B NAME PARTITION OFFSET\n      all before OFFSET",
	4, 4, "", tool_delete_records},
	{"produce", "B NAME [--count N] [--from N] [--partition P] [--set N] [--rate N]\n"
		"      [--template T] [--key T] [--codec C] [--even yes]\n"
		"      in T: %d running number, %07d its last 7 digits, %o 1 to 10 by it,\n"
		"      %t microseconds since 1970, %p partition, %% percent;\n"
		"      without --partition N (100 or more) messages in each partition by turns;\n"
		"      --even: no sets, what is due by the rate goes out every millisecond;\n"
		"      prints partition<TAB>acknowledged messages, a line each",
		2, 2, " count from partition set rate template key codec even ",
	tool_produce},
	{"produce-stdin", "B NAME [--hex yes] [--codec C]\n"
		"      lines of: partition<TAB>key<TAB>value[<TAB>header=value ...][<TAB>@timestamp]\n"
		"      \\N is NULL; \\t \\n \\r \\\\ \\xHH as in COPY; --hex: all three are hex digits",
	2, 2, " hex codec ", tool_produce_stdin},
	{"transactions", "B NAME SCRIPT [--partition P] [--template T] [--from N] [--id ID]\n"
		"      SCRIPT: commit:N,abort:N,plain:N,open:N ...; open: prints \"open\" and reads\n"
		"      a line: \"commit\" commits, all else (end of file, too) aborts; T as above, %s: kind",
	3, 3, " partition template from id ", tool_transactions},
	{"offsets", "B NAME\n      prints partition<TAB>low<TAB>high<TAB>last stable, a line each",
	2, 2, "", tool_offsets},
	{"commit-offsets", "B GROUP NAME PARTITION:OFFSET ...\n      as a consumer of the group does",
	4, TOOL_MAX_ARGUMENTS, "", tool_commit_offsets},
	{"group-offsets", "B GROUP NAME\n      prints partition<TAB>committed offset, a line each",
	3, 3, "", tool_group_offsets},
	{"deny-group", "B GROUP\n      nobody may use it; needs a broker with an authorizer",
	2, 2, "", tool_deny_group},
};

#define NCOMMANDS ((int) (sizeof(commands) / sizeof(commands[0])))

void
tool_die(const char *format,...)
{
	va_list		arguments;

	fputs("kafka_tool: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

const char *
tool_option(const ToolArguments *arguments, const char *name,
			const char *otherwise)
{
	for (int i = 0; i < arguments->noptions; i++)
		if (strcmp(arguments->option_name[i], name) == 0)
			return arguments->option_value[i];
	return otherwise;
}

int64_t
tool_number(const char *text, const char *what)
{
	char	   *end;
	long long	number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
		tool_die("%s is not a number: %s", what, text);
	return number;
}

int64_t
tool_option_number(const ToolArguments *arguments, const char *name,
				   int64_t otherwise)
{
	const char *text = tool_option(arguments, name, NULL);

	return text == NULL ? otherwise : tool_number(text, name);
}

static void
usage(FILE *to)
{
	for (int i = 0; i < NCOMMANDS; i++)
		fprintf(to, "kafka_tool %s %s\n", commands[i].name, commands[i].usage);
}

static const ToolCommand *
find_command(const char *name)
{
	for (int i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	usage(stderr);
	tool_die("unknown command: %s", name);
}

static bool
option_is_allowed(const ToolCommand *command, const char *name)
{
	const char *at = strstr(command->options, name);

	return at != NULL && at > command->options &&
		at[-1] == ' ' && at[strlen(name)] == ' ';
}

static void
parse_arguments(ToolArguments *arguments, const ToolCommand *command,
				int argc, char **argv)
{
	memset(arguments, 0, sizeof(*arguments));
	if (argc > TOOL_MAX_ARGUMENTS)
		tool_die("too many arguments");
	for (int i = 0; i < argc; i++)
	{
		if (strncmp(argv[i], "--", 2) != 0)
		{
			arguments->positional[arguments->npositional++] = argv[i];
			continue;
		}
		if (!option_is_allowed(command, argv[i] + 2) || i + 1 == argc)
			tool_die("unknown option, or one without its value: %s", argv[i]);
		arguments->option_name[arguments->noptions] = argv[i] + 2;
		arguments->option_value[arguments->noptions++] = argv[++i];
	}
}

int
main(int argc, char **argv)
{
	const ToolCommand *command;
	ToolArguments arguments;

	if (argc < 2 || strcmp(argv[1], "--help") == 0)
	{
		usage(argc < 2 ? stderr : stdout);
		return argc < 2;
	}
	command = find_command(argv[1]);
	parse_arguments(&arguments, command, argc - 2, argv + 2);
	if (arguments.npositional < command->min_positional ||
		arguments.npositional > command->max_positional)
		tool_die("usage: kafka_tool %s %s", command->name, command->usage);
	return command->run(&arguments);
}
