/*
 * source_kafka.c
 *	  The life of a Kafka consumer: its client, its pipe, its end (floor 2).
 *
 * Only the files source_kafka*.c see librdkafka, and they hand it no function
 * pointer: its threads never run code of ours.  Messages are taken from the
 * consumer's queue, everything else from the main queue as events; a pipe the
 * library writes to wakes the caller up.
 *
 * Memory: see source_kafka.h.  Batches may outlive their source, but not use
 * the names of topics then.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "source_kafka.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Destroying takes milliseconds, with 2.8 often a second, or with a silent DNS server 8. */
#define DESTROY_WAIT_MS 1000

/* --- the end --- */

static void *
destroy_client(void *client)
{
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return NULL;
}

/*
 * Wait for the destroyer, but not for ever: what it waits for is some thread
 * of the library in a name lookup, and then it finishes by itself.
 */
static void
await_destroyer(pthread_t thread)
{
#ifdef __linux__
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DESTROY_WAIT_MS / 1000;
	if (pthread_timedjoin_np(thread, NULL, &until) != 0)
		pthread_detach(thread);
#else
	pthread_join(thread, NULL);
#endif
}

/*
 * Start a thread with all signals blocked, which are for the server's own one.
 * False: there is none to be had.
 */
bool
ki_source_start_thread(pthread_t *thread, void *(*routine) (void *arg),
					   void *arg)
{
	sigset_t	all;
	sigset_t	before;
	int			failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(thread, NULL, routine, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return !failed;
}

/*
 * Destroy the client in a thread of its own, which runs nothing but that one
 * call, so that this one is not held up by it.
 */
static void
destroy_bounded(rd_kafka_t *client)
{
	pthread_t	thread;

	if (ki_source_start_thread(&thread, destroy_client, client))
		await_destroyer(thread);
	else
		destroy_client(client);
}

static void
close_queue(rd_kafka_queue_t **queue)
{
	if (*queue == NULL)
		return;
	rd_kafka_queue_io_event_enable(*queue, -1, NULL, 0);
	rd_kafka_queue_destroy(*queue);
	*queue = NULL;
}

static void
close_pipe(KiSource *source)
{
	for (int i = 0; i < 2; i++)
	{
		if (source->pipe[i] < 0)
			continue;
		close(source->pipe[i]);
		ReleaseExternalFD();
		source->pipe[i] = -1;
	}
}

/*
 * Is this one of our own workers at its end?  It leaves without the exit
 * functions of the C library, and without deleting contexts.
 */
static bool
leaves_at_once(void)
{
	return proc_exit_inprogress && MyBgworkerEntry &&
		strcmp(MyBgworkerEntry->bgw_library_name, "kafka_ingest") == 0;
}

/*
 * Give back everything that is not PostgreSQL's.  Raises nothing.  At the end
 * of a worker of ours only our thread is ended, which uses memory that may go
 * now.  All else is left to the kernel, which takes it all back at once,
 * and nobody has to wait.  Other processes, background workers of others
 * among them, run the C library's exit functions, OpenSSL's too, so the
 * client's threads must be gone by then.
 */
static void
destroy_source(void *arg)
{
	KiSource   *source = arg;

	ki_source_end_thread(source);
	if (leaves_at_once())
		return;
	ki_source_drop_taken(source);
	ki_chunk_forget_spare();
	if (source->event)
		rd_kafka_event_destroy(source->event);
	if (source->metadata)
		rd_kafka_metadata_destroy(source->metadata);
	close_queue(&source->message_queue);
	close_queue(&source->main_queue);
	for (int i = 0; i < source->ntopics; i++)
		if (source->topics[i].handle)
			rd_kafka_topic_destroy(source->topics[i].handle);
	if (source->conf)
		rd_kafka_conf_destroy(source->conf);
	if (source->client)
		destroy_bounded(source->client);
	close_pipe(source);
}

void
ki_source_close(KiSource *source)
{
	if (source != NULL)
		MemoryContextDelete(source->context);
}

/* --- the beginning --- */

static void
open_pipe(KiSource *source)
{
	int			ends[2];

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptors left for a Kafka client")));
	ReserveExternalFD();
	if (pipe(ends) < 0)
	{
		ReleaseExternalFD();
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create a pipe for a Kafka client: %m")));
	}
	memcpy(source->pipe, ends, sizeof(ends));
	for (int i = 0; i < 2; i++)
		if (!pg_set_noblock(ends[i]) ||
			fcntl(ends[i], F_SETFD, FD_CLOEXEC) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not set up a pipe for a Kafka client: %m")));
}

static void
raise_not_started(const KiSource *source, const char *complaint,
				  rd_kafka_resp_err_t err)
{
	char		clean[KI_TEXT_SIZE];

	ki_source_clean(source, complaint, clean, sizeof(clean));
	ereport(ERROR,
			(errcode(err == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE ?
					 ERRCODE_INSUFFICIENT_RESOURCES :
					 ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("could not start a Kafka client for \"%s\"",
					source->brokers),
			 errdetail("%s", clean)));
}

/* The library's threads are born with every signal blocked. */
static void
start_client(KiSource *source)
{
	char		complaint[512];
	sigset_t	all;
	sigset_t	before;
	rd_kafka_resp_err_t err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	source->client = rd_kafka_new(RD_KAFKA_CONSUMER, source->conf,
								  complaint, sizeof(complaint));
	err = rd_kafka_last_error();
	if (source->client)
		rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(source->client));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (source->client == NULL)
		raise_not_started(source, complaint, err);
	source->conf = NULL;		/* the client's now */
	source->main_queue = rd_kafka_queue_get_main(source->client);
	source->message_queue = rd_kafka_queue_get_consumer(source->client);
	rd_kafka_set_log_queue(source->client, source->main_queue);
	rd_kafka_queue_io_event_enable(source->main_queue, source->pipe[1],
								   "e", 1);
	rd_kafka_queue_io_event_enable(source->message_queue, source->pipe[1],
								   "m", 1);
}

/* Remember what must never be shown. */
static void
copy_secrets(KiSource *source, const KiConnection *connection)
{
	source->secrets = palloc0(sizeof(char *) *
							  Max(connection->nproperties, 1));
	for (int i = 0; i < connection->nproperties; i++)
		if (connection->properties[i].is_secret)
			source->secrets[source->nsecrets++] =
				pstrdup(connection->properties[i].value);
}

static KiSource *
make_source(const KiSourceOptions *options)
{
	MemoryContext context;
	MemoryContextCallback *callback;
	KiSource   *source;

	context = AllocSetContextCreate(CurrentMemoryContext,
									"kafka_ingest source",
									ALLOCSET_DEFAULT_SIZES);
	source = MemoryContextAllocZero(context, sizeof(KiSource));
	callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));
	source->context = context;
	source->pipe[0] = source->pipe[1] = -1;
	source->want_headers = options->want_headers;
	source->barrier.partition = -1;
	source->last_topic = -1;
	callback->func = destroy_source;
	callback->arg = source;
	MemoryContextRegisterResetCallback(context, callback);
	ki_stock_make_lanes(source);
	return source;
}

KiSource *
ki_source_create(const KiSourceOptions *options)
{
	KiSource   *source = make_source(options);
	MemoryContext before = MemoryContextSwitchTo(source->context);

	copy_secrets(source, options->connection);
	source->brokers = pstrdup(options->connection->brokers);
	source->group_id = pstrdup(options->group_id);
	if (options->topics)
		source->wanted = pstrdup(options->topics);
	source->health.answered_at = GetCurrentTimestamp();
	open_pipe(source);
	ki_source_configure(source, options);
	start_client(source);
	MemoryContextSwitchTo(before);
	return source;
}

/* --- topics --- */

/* The number of a topic, which is a new one if need be. */
int
ki_source_topic(KiSource *source, const char *name)
{
	KiSourceTopic *topic;

	for (int i = 0; i < source->ntopics; i++)
		if (strcmp(source->topics[i].name, name) == 0)
			return i;
	ki_source_join(source);		/* it looks at the topics, too */
	if (source->ntopics == source->max_topics)
	{
		int			more = Max(source->max_topics * 2, 8);
		Size		size = sizeof(KiSourceTopic) * more;

		source->topics = source->topics ? repalloc(source->topics, size) :
			MemoryContextAlloc(source->context, size);
		source->max_topics = more;
	}
	topic = &source->topics[source->ntopics];
	memset(topic, 0, sizeof(KiSourceTopic));
	topic->name = MemoryContextStrdup(source->context, name);
	return source->ntopics++;
}

int
ki_source_shares(const KiSource *source)
{
	return source->shares;
}

/* --- waking up --- */

pgsocket
ki_source_socket(KiSource *source)
{
	return source->pipe[0];
}

void
ki_source_drain(KiSource *source)
{
	char		bytes[256];

	while (read(source->pipe[0], bytes, sizeof(bytes)) > 0)
		 /* forget it */ ;
}
