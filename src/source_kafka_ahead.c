/*
 * source_kafka_ahead.c
 *	  Messages are taken ahead in a thread of their own, while a batch is
 *	  applied (floor 2).
 *
 * Taking is a third of the main thread's work on tiny messages, and another
 * processor may do it.  The thread begins with the first full batch; a pipeline
 * that has caught up has none.
 *
 * It runs ki_stock_poll and ki_stock_copy and nothing of PostgreSQL, with all
 * signals blocked.  Whose the stock and the library's queue are is decided by
 * "most" under the lock: not zero, the thread's; zero, ours.  Nothing else that
 * these functions look at is changed meanwhile: whoever does that joins the
 * thread first.
 *
 * Memory: lives in the source's context.  The thread has ended before that, or
 * the client, goes away.
 */
#include "postgres.h"

#include <pthread.h>

#include "source_kafka.h"
#include "utils/memutils.h"

/* What is taken ahead, and its memory, is bounded by this, too. */
#define MOST_AHEAD 20000

typedef struct KiAhead
{
	KiSource   *source;
	pthread_t	thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int			most;			/* messages it is to take; 0: it is idle */
	int64		most_bytes;		/* as a batch counts them */
	bool		is_joined;		/* it is to become idle */
	bool		is_ending;
} KiAhead;

static bool
is_wanted(KiAhead *ahead)
{
	bool		wanted;

	pthread_mutex_lock(&ahead->lock);
	wanted = !ahead->is_joined;
	pthread_mutex_unlock(&ahead->lock);
	return wanted;
}

/* In pieces, since somebody may be waiting. */
static void
take_ahead(KiAhead *ahead, int most)
{
	KiSource   *source = ahead->source;
	KiStock    *stock = &source->stock;

	while (stock->ntaken < most && stock->bytes < ahead->most_bytes &&
		   is_wanted(ahead))
		if (!ki_stock_poll(source, most - stock->ntaken,
						   ahead->most_bytes - stock->bytes) ||
			!ki_stock_copy(source))
			break;
}

/* The thread. */
static void *
run(void *arg)
{
	KiAhead    *ahead = arg;

	pthread_mutex_lock(&ahead->lock);
	for (;;)
	{
		int			most = ahead->most;

		if (most > 0)
		{
			pthread_mutex_unlock(&ahead->lock);
			take_ahead(ahead, most);
			pthread_mutex_lock(&ahead->lock);
			ahead->most = 0;
			pthread_cond_broadcast(&ahead->changed);
		}
		else if (ahead->is_ending)
			break;
		else
			pthread_cond_wait(&ahead->changed, &ahead->lock);
	}
	pthread_mutex_unlock(&ahead->lock);
	return NULL;
}

/* NULL: no thread is to be had. */
static KiAhead *
start_thread(KiSource *source)
{
	KiAhead    *ahead = MemoryContextAllocZero(source->context,
											   sizeof(KiAhead));

	ahead->source = source;
	pthread_mutex_init(&ahead->lock, NULL);
	pthread_cond_init(&ahead->changed, NULL);
	if (ki_source_start_thread(&ahead->thread, run, ahead))
		return ahead;
	pfree(ahead);
	return NULL;
}

/*
 * Take so much meanwhile, if it is there.  Until the source is used again,
 * which joins the thread.
 */
void
ki_source_take_ahead(KiSource *source, int most, int64 most_bytes)
{
	KiStock    *stock = &source->stock;
	KiAhead    *ahead;

	ki_source_join(source);
	if (source->barrier.kind != KI_BARRIER_NONE)
		return;
	stock->ntaken -= stock->next_taken;
	memmove(stock->taken, stock->taken + stock->next_taken,
			sizeof(KiTaken) * stock->ntaken);
	stock->next_taken = 0;
	most = Min(most, MOST_AHEAD);
	/* what was polled before may come on top */
	ki_stock_reserve(source, Max(most - stock->ntaken, 0) + KI_TAKE_MAX);
	if (source->ahead == NULL)
		source->ahead = start_thread(source);
	ahead = source->ahead;
	if (ahead == NULL)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->most = most;
	ahead->most_bytes = most_bytes;
	ahead->is_joined = false;
	pthread_cond_broadcast(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
}

/* What was taken ahead is ours again, in a millisecond.  Raises nothing. */
void
ki_source_join(KiSource *source)
{
	KiAhead    *ahead = source->ahead;

	if (ahead == NULL)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->is_joined = true;
	while (ahead->most > 0)
		pthread_cond_wait(&ahead->changed, &ahead->lock);
	pthread_mutex_unlock(&ahead->lock);
}

/* No thread is left.  Raises nothing. */
void
ki_source_end_thread(KiSource *source)
{
	KiAhead    *ahead = source->ahead;

	if (ahead == NULL)
		return;
	ki_source_join(source);
	source->ahead = NULL;
	pthread_mutex_lock(&ahead->lock);
	ahead->is_ending = true;
	pthread_cond_broadcast(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
	pthread_join(ahead->thread, NULL);
}
