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
 * is_busy under the lock.  Nothing else that these functions look at is changed
 * meanwhile: whoever does that joins the thread first.
 *
 * Memory: lives in the source's context.  The thread has ended before that, or
 * the client, goes away.
 */
#include "postgres.h"

#include <pthread.h>

#include "source_kafka.h"
#include "utils/memutils.h"

/*
 * Messages in stock, if not fewer of them have all the bytes that may be.
 * Producers send up to 10,000 in a record set, and it should be several
 * partitions' (source_kafka_stock.c).
 */
#define MOST_AHEAD 50000

typedef struct KiAhead
{
	KiSource   *source;
	pthread_t	thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool		is_busy;		/* the stock is the thread's */
	int64		most_bytes;		/* in stock, and in a batch, as it counts them */
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
take_ahead(KiAhead *ahead)
{
	KiSource   *source = ahead->source;
	KiStock    *stock = &source->stock;

	while (stock->count < MOST_AHEAD && is_wanted(ahead))
	{
		/* a batch has as much, and chunks are not always full */
		int64		bytes = Min(ahead->most_bytes - stock->bytes,
								2 * ahead->most_bytes - ki_chunk_bytes());

		if (bytes <= 0 ||
			!ki_stock_poll(source, MOST_AHEAD - stock->count, bytes) ||
			!ki_stock_copy(source))
			break;
	}
}

/* The thread. */
static void *
run(void *arg)
{
	KiAhead    *ahead = arg;

	pthread_mutex_lock(&ahead->lock);
	for (;;)
	{
		if (ahead->is_busy)
		{
			pthread_mutex_unlock(&ahead->lock);
			take_ahead(ahead);
			pthread_mutex_lock(&ahead->lock);
			ahead->is_busy = false;
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
 * Take meanwhile what is there, until so many bytes are in stock.  Until the
 * source is used again, which joins the thread.
 */
void
ki_source_take_ahead(KiSource *source, int64 most_bytes)
{
	KiAhead    *ahead;

	ki_source_join(source);
	if (source->barrier.kind != KI_BARRIER_NONE)
		return;
	if (source->ahead == NULL)
		source->ahead = start_thread(source);
	ahead = source->ahead;
	if (ahead == NULL)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->is_busy = true;
	ahead->most_bytes = most_bytes;
	ahead->is_joined = false;
	pthread_cond_broadcast(&ahead->changed);
	pthread_mutex_unlock(&ahead->lock);
}

/*
 * What was taken ahead is ours again, as soon as what was polled last is
 * copied.  Raises nothing.
 */
void
ki_source_join(KiSource *source)
{
	KiAhead    *ahead = source->ahead;

	if (ahead == NULL)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->is_joined = true;
	while (ahead->is_busy)
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
