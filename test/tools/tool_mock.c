/*
 * tool_mock.c
 *		librdkafka's mock cluster as a program of its own: a broker for the
 *		demo that needs no Java.  (It has no transactions, no look-up by time, no retention by
 *		age; it keeps about 5 MB a partition and forgets what is older.)
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kafka_tool.h"
#include <librdkafka/rdkafka_mock.h>

/* The mock's thread blocks no signals, so it may be the one that gets ours. */
static int	signal_pipe[2];

static void
on_signal(int signal_number)
{
	(void) signal_number;
	if (write(signal_pipe[1], "", 1) < 0)
		_exit(1);
}

static void
catch_signals(void)
{
	struct sigaction action;

	if (pipe(signal_pipe) != 0)
		tool_die("no pipe");
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_signal;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

/* Until standard input closes or a signal comes. */
static void
await_end(void)
{
	struct pollfd fds[2] = {{.fd = STDIN_FILENO,.events = POLLIN}, {.events = POLLIN}};
	char		buffer[512];

	fds[1].fd = signal_pipe[0];
	for (;;)
	{
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents != 0)
			return;
		if (fds[0].revents != 0 && read(STDIN_FILENO, buffer, sizeof(buffer)) <= 0)
			return;
	}
}

static void
create_topics(rd_kafka_mock_cluster_t *cluster, const char *list)
{
	char	   *topics = strdup(list);
	char	   *rest = topics;
	char	   *topic;

	while ((topic = strsep(&rest, ",")) != NULL && *topic != '\0')
	{
		char	   *colon = strchr(topic, ':');

		if (colon == NULL)
			tool_die("not name:partitions: %s", topic);
		*colon = '\0';
		if (rd_kafka_mock_topic_create(cluster, topic, (int) tool_number(colon + 1, topic), 1)
			!= RD_KAFKA_RESP_ERR_NO_ERROR)
			tool_die("could not make topic %s", topic);
	}
	free(topics);
}

int
tool_mock(const ToolArguments *arguments)
{
	rd_kafka_t *client;
	rd_kafka_mock_cluster_t *cluster;

	catch_signals();
	/* it never connects to this address: the cluster needs a client to live in */
	client = tool_client_new(RD_KAFKA_PRODUCER, "127.0.0.1:1", NULL);
	cluster = rd_kafka_mock_cluster_new(client, 1);
	if (cluster == NULL)
		tool_die("could not make a mock cluster");
	create_topics(cluster, tool_option(arguments, "topics", ""));
	puts(rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	await_end();
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(client);
	return 0;
}
