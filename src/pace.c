/*
 * pace.c
 *	  max_messages_per_second: how many messages may be taken now.
 *
 * A bucket that fills with time and holds one second's worth at most.  The
 * limit is shared among the workers by their partitions, so nothing has to be
 * told from one to the other.  Nothing is taken before there is enough for a
 * batch as large as the limit allows within batch_max_ms: otherwise each
 * message would make a transaction of its own.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "utils/timestamp.h"

#include "loader_parts.h"

/* Messages a millisecond that are this worker's share; 0: no limit. */
static double
share_per_ms(const KiLoader *loader)
{
	if (loader->pipeline->max_messages_per_second == 0 ||
		loader->npositions == 0)
		return 0;
	return loader->pipeline->max_messages_per_second / 1000.0 *
		loader->npositions / Max(loader->npositions_all, loader->npositions);
}

/* The least that is worth taking. */
static double
least(const KiLoader *loader, double per_ms)
{
	double		wanted = floor(per_ms * Min(loader->pipeline->batch_max_ms, 1000));

	return Max(1, Min(wanted, loader->pipeline->batch_max_messages));
}

/* How many messages may be taken. */
static int
allowance(KiLoader *loader)
{
	KiPace	   *pace = &loader->pace;
	double		per_ms = share_per_ms(loader);
	TimestampTz now = GetCurrentTimestamp();

	if (per_ms == 0)
		return PG_INT32_MAX;
	if (pace->filled_at != 0 && now > pace->filled_at)
		pace->tokens += (now - pace->filled_at) / 1000.0 * per_ms;
	pace->tokens = Min(pace->tokens, Max(1, per_ms * 1000));
	pace->filled_at = now;
	return pace->tokens < least(loader, per_ms) ? 0 : (int) pace->tokens;
}

int
ki_pace_max_messages(KiLoader *loader)
{
	int			room = loader->pipeline->batch_max_messages - loader->messages->count;

	return loader->messages->count + Min(room, allowance(loader));
}

void
ki_pace_take(KiLoader *loader, int count)
{
	if (share_per_ms(loader) > 0)
		loader->pace.tokens -= count;
}

long
ki_pace_wait_ms(const KiLoader *loader)
{
	double		per_ms = share_per_ms(loader);
	double		missing = per_ms == 0 ? 0 :
	least(loader, per_ms) - loader->pace.tokens;

	return missing <= 0 ? LONG_MAX : (long) ceil(missing / per_ms);
}
