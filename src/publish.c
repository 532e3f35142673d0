/*
 * publish.c
 *	  The positions are told to the broker's group, for Kafka's own tools.
 *
 * Only what is committed, at most once a second, and only when something
 * moved.  Nobody waits for it and nothing is ever read back, so a failure is
 * of no consequence: it is tried again after a minute.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "loader_parts.h"

#define INTERVAL_MS 1000
#define AFTER_FAILURE_MS (60 * 1000)

/* How long the last ones are waited for when the client goes. */
#define LAST_WORKER_MS 500
#define LAST_RUN_MS 3000		/* its client may just have been made */

void
ki_publish_begin(KiLoader *loader)
{
	Size		size = (loader->npositions + 1) * sizeof(int64);

	if (loader->published)
		pfree(loader->published);
	loader->published = MemoryContextAlloc(loader->load_context, size);
	memset(loader->published, -1, size);	/* nothing is known to be there */
	loader->publish_after = 0;
	loader->is_publishing = false;
}

static bool
may_publish(const KiLoader *loader)
{
	return loader->is_open && loader->pipeline->group_id[0] != '\0' &&
		!loader->transaction->is_callers;
}

static bool
has_news(const KiLoader *loader)
{
	for (int i = 0; i < loader->npositions; i++)
		if (loader->published[i] != loader->positions[i].next_offset)
			return true;
	return false;
}

/* A reply that came: after a failure nothing counts as published. */
static void
take_reply(KiLoader *loader)
{
	KiPublication publication = ki_source_publication(loader->source);

	if (!loader->is_publishing || publication == KI_PUBLICATION_UNDERWAY)
		return;
	loader->is_publishing = false;
	if (publication != KI_PUBLICATION_FAILED)
		return;
	memset(loader->published, -1, loader->npositions * sizeof(int64));
	loader->publish_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														AFTER_FAILURE_MS);
}

static void
send_positions(KiLoader *loader)
{
	if (!ki_source_publish(loader->source, loader->positions,
						   loader->npositions))
		return;
	loader->is_publishing = true;
	for (int i = 0; i < loader->npositions; i++)
		loader->published[i] = loader->positions[i].next_offset;
	loader->publish_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														INTERVAL_MS);
}

void
ki_publish_positions(KiLoader *loader)
{
	if (!may_publish(loader))
		return;
	take_reply(loader);
	if (!loader->is_publishing &&
		GetCurrentTimestamp() >= loader->publish_after && has_news(loader))
		send_positions(loader);
}

long
ki_publish_wait_ms(const KiLoader *loader)
{
	if (!may_publish(loader) || loader->is_publishing || !has_news(loader))
		return LONG_MAX;		/* a reply wakes us */
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   loader->publish_after);
}

/* Wait for a reply; a latch that is set says nothing about it. */
static void
await_reply(KiLoader *loader, TimestampTz until)
{
	while (loader->is_publishing && GetCurrentTimestamp() < until)
	{
		long		left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															  until);

		(void) WaitLatchOrSocket(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH |
								 WL_SOCKET_READABLE,
								 ki_source_socket(loader->source),
								 Min(left_ms, 100), PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
		ki_source_drain(loader->source);
		ki_source_serve(loader->source);
		take_reply(loader);
	}
}

void
ki_publish_last(KiLoader *loader)
{
	TimestampTz until;
	bool		has_failed;

	if (!loader->source || !may_publish(loader) ||
		ki_source_trouble(loader->source)->reason)
		return;
	take_reply(loader);
	has_failed = ki_source_publication(loader->source) == KI_PUBLICATION_FAILED;
	if (has_failed || (!loader->is_publishing && !has_news(loader)))
		return;
	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										loader->worker == KI_ALL_PARTITIONS ?
										LAST_RUN_MS : LAST_WORKER_MS);
	await_reply(loader, until);
	if (!loader->is_publishing && has_news(loader))
		send_positions(loader);
	await_reply(loader, until);
}
