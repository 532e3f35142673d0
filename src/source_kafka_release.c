/*
 * source_kafka_release.c
 *	  Messages are given back to the library in a thread of their own (floor 2).
 *
 * That is a tenth of the work on a small message, for the library counts who
 * refers to it, to its topic and to its partition, and its own thread counts
 * at the same time.  A thread that does nothing else took 11 % off the worker's
 * main thread on tiny messages, and 12 % off the time (medians of two series of
 * 10 and 12 runs each way, in turns).  It begins with the first large batch;
 * a pipeline that has caught up has none.
 *
 * The thread runs rd_kafka_message_destroy and nothing of PostgreSQL, with all
 * signals blocked.  Whose turn it is with the list is decided by "count" under
 * the lock: not zero, the thread's; zero, ours.
 *
 * Memory: all of it lives in the source's context.  The thread is joined before
 * that, or the client, goes away.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include "source_kafka.h"
#include "utils/memutils.h"

/* Fewer messages are destroyed sooner than handed over. */
#define FEWEST_MESSAGES 1000

#define PREFETCH_AHEAD 8		/* messages; flat from 4 to 16 */

typedef struct KiReleaser
{
	pthread_t	thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool		is_ending;
	rd_kafka_message_t **list;
	int			count;			/* of list to be given back; 0: it is idle */
	int			max_count;		/* allocated length of list */
} KiReleaser;

/*
 * Call in what is to be destroyed soon, for it has left the cache since it was
 * delivered: a message, and the library's operation that it is a part of.
 */
static inline void
prefetch(rd_kafka_message_t *const *list, int i, int count)
{
#ifdef __GNUC__
	if (i + 2 * PREFETCH_AHEAD < count)
		__builtin_prefetch(list[i + 2 * PREFETCH_AHEAD]);
	if (i + PREFETCH_AHEAD < count)
		__builtin_prefetch(list[i + PREFETCH_AHEAD]->_private);
#endif
}

static void
destroy_list(rd_kafka_message_t *const *list, int count)
{
	for (int i = 0; i < count; i++)
	{
		prefetch(list, i, count);
		rd_kafka_message_destroy(list[i]);
	}
}

/* The thread. */
static void *
release_lists(void *arg)
{
	KiReleaser *releaser = arg;

	pthread_mutex_lock(&releaser->lock);
	for (;;)
	{
		int			count = releaser->count;

		if (count > 0)
		{
			pthread_mutex_unlock(&releaser->lock);
			destroy_list(releaser->list, count);
			pthread_mutex_lock(&releaser->lock);
			releaser->count = 0;
		}
		else if (releaser->is_ending)
			break;
		else
			pthread_cond_wait(&releaser->changed, &releaser->lock);
	}
	pthread_mutex_unlock(&releaser->lock);
	return NULL;
}

/* NULL: no thread is to be had. */
static KiReleaser *
start_releaser(KiSource *source)
{
	KiReleaser *releaser = MemoryContextAllocExtended(source->context,
													  sizeof(KiReleaser),
													  MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
	sigset_t	all;
	sigset_t	before;
	int			failed;

	if (releaser == NULL)
		return NULL;
	pthread_mutex_init(&releaser->lock, NULL);
	pthread_cond_init(&releaser->changed, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&releaser->thread, NULL, release_lists, releaser);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!failed)
		return releaser;
	pfree(releaser);
	return NULL;
}

/*
 * The list, which is ours now, with room for so many: false, there is none.
 * Must not raise.
 */
static bool
reserve(KiSource *source, KiReleaser *releaser, int count)
{
	if (releaser->max_count >= count)
		return true;
	if (releaser->list != NULL)
		pfree(releaser->list);
	releaser->max_count = 0;
	releaser->list = MemoryContextAllocExtended(source->context,
												sizeof(rd_kafka_message_t *) * count,
												MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (releaser->list == NULL)
		return false;
	releaser->max_count = count;
	return true;
}

/*
 * Have them destroyed, if there are many.  False: the caller has to do it.
 * Raises nothing.
 */
bool
ki_source_hand_over(KiSource *source, const KiMessages *messages)
{
	KiReleaser *releaser = source->releaser;
	bool		is_idle;

	if (messages->count < FEWEST_MESSAGES)
		return false;
	if (releaser == NULL)
		releaser = source->releaser = start_releaser(source);
	if (releaser == NULL)
		return false;
	pthread_mutex_lock(&releaser->lock);
	is_idle = releaser->count == 0;
	pthread_mutex_unlock(&releaser->lock);
	if (!is_idle || !reserve(source, releaser, messages->count))
		return false;
	for (int i = 0; i < messages->count; i++)
		releaser->list[i] = messages->items[i].handle;
	pthread_mutex_lock(&releaser->lock);
	releaser->count = messages->count;
	pthread_cond_signal(&releaser->changed);
	pthread_mutex_unlock(&releaser->lock);
	return true;
}

/*
 * Wait until all are given back, which takes milliseconds; no thread is left.
 * Raises nothing.
 */
void
ki_source_end_release(KiSource *source)
{
	KiReleaser *releaser = source->releaser;

	if (releaser == NULL)
		return;
	source->releaser = NULL;
	pthread_mutex_lock(&releaser->lock);
	releaser->is_ending = true;
	pthread_cond_signal(&releaser->changed);
	pthread_mutex_unlock(&releaser->lock);
	pthread_join(releaser->thread, NULL);
}
