/*
 * watch.c
 *	  Topics of a pipeline that come and go while others are read.
 *
 * What opening found is kept as one number; every few seconds the broker is
 * asked again, outside any transaction, and when the answer differs the
 * pipeline is loaded anew, as with a new partition of a topic.  Only opening
 * stores and records anything, so all workers can notice the same.
 *
 * With one topic, or a list of which nothing is missing, nothing is asked: the
 * client library's statistics tell of new partitions.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "loader_parts.h"
#include "topics.h"

#define LOOK_MS 5000			/* how long a new topic may go unnoticed */
#define LOOK_WAIT_MS 1000		/* longest wait for the answer */
#define ABSENT_AFTER_MS 2000	/* a topic nobody knows for so long is absent */

static bool
is_among(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static char *
join_names(List *names)
{
	StringInfoData buf;
	ListCell   *cell;

	initStringInfo(&buf);
	foreach(cell, names)
		appendStringInfo(&buf, "%s%s", buf.len ? "," : "", (char *) lfirst(cell));
	return buf.data;
}

/* ------------------------------------------------------------------------
 * What is missing
 * ------------------------------------------------------------------------
 */
void
ki_watch_note_missing(KiLoader *loader, const KiCluster *cluster)
{
	loader->missing_reason = NULL;
	if (loader->missing_detail)
		pfree(loader->missing_detail);
	loader->missing_detail = NULL;
	if (cluster->denied != NIL)
	{
		loader->missing_reason = "not_authorized";
		loader->missing_detail =
			ki_loader_detail(loader, "The broker refuses topic \"%s\", which the pipeline reads by its name.",
							 join_names(cluster->denied));
	}
	else if (cluster->missing != NIL)
	{
		loader->missing_reason = "topic_missing";
		loader->missing_detail =
			ki_loader_detail(loader, "Topic \"%s\" does not exist at the broker; loading of it begins when it does.",
							 join_names(cluster->missing));
	}
}

void
ki_loader_shortcoming(const KiLoader *loader, const char **reason,
					  const char **detail)
{
	ki_loader_trouble(loader, reason, detail);
	if (*reason)
		return;
	*reason = loader->missing_reason;
	*detail = loader->missing_detail;
}

char *
ki_watch_vanished(List *rows, const KiPipeline *pipeline,
				  const KiCluster *cluster)
{
	List	   *vanished = NIL;
	const char *last = "";
	ListCell   *cell;

	foreach(cell, rows)
	{
		KiPositionRow *row = lfirst(cell);

		if (strcmp(row->at.topic, last) == 0)
			continue;
		last = row->at.topic;
		if (ki_topics_match(pipeline->topic, last) &&
			!is_among(cluster->topics, last) &&
			!is_among(cluster->denied, last))
			vanished = lappend(vanished, row->at.topic);
	}
	return vanished == NIL ? NULL : join_names(vanished);
}

/* Is any topic in this list that the pipeline does not know to be gone? */
static bool
is_news(const KiPipeline *pipeline, const char *vanished)
{
	ListCell   *cell;

	if (!vanished)
		return false;
	foreach(cell, ki_topics_names(vanished))
	{
		if (!ki_pipeline_misses(pipeline, lfirst(cell)))
			return true;
	}
	return false;
}

/*
 * A topic that may not be seen now is no new one when it may, so first contact
 * waits for it.  One that is missing only counts as new, or as gone, when it
 * has been missing for a while: a broker that catches up after its start may
 * not know it yet.
 */
bool
ki_watch_bears(KiLoader *loader, const KiCluster *cluster,
			   const char *vanished)
{
	bool		is_first = !loader->pipeline->resolved;

	if (is_first && cluster->denied != NIL)
		return true;
	if (!(is_first && cluster->missing != NIL) &&
		!is_news(loader->pipeline, vanished))
		return false;
	if (loader->missing_answers++ == 0)
		loader->missing_since = GetCurrentTimestamp();
	return !TimestampDifferenceExceeds(loader->missing_since,
									   GetCurrentTimestamp(), ABSENT_AFTER_MS);
}

void
ki_watch_store(KiPipeline *stored, char *vanished)
{
	List	   *now = vanished ? ki_topics_names(vanished) : NIL;
	List	   *before = stored->vanished_topics ?
	ki_topics_names(stored->vanished_topics) : NIL;
	ListCell   *cell;

	foreach(cell, now)
	{
		if (!is_among(before, lfirst(cell)))
			ki_event_insert(stored, "topic_vanished",
							psprintf("topic \"%s\" does not exist any more; its positions are kept",
									 (char *) lfirst(cell)));
	}
	foreach(cell, before)
	{
		if (!is_among(now, lfirst(cell)))
			ki_event_insert(stored, "topic_joined",
							psprintf("topic \"%s\" is back", (char *) lfirst(cell)));
	}
	stored->vanished_topics = vanished;
}

/* ------------------------------------------------------------------------
 * What is new
 * ------------------------------------------------------------------------
 */

/* All topics and partitions as one number, whatever their order. */
static uint64
fingerprint(const KiCluster *cluster)
{
	uint64		sum = 0;

	for (int i = 0; i < cluster->npartitions; i++)
		sum += hash_bytes_extended((const unsigned char *) cluster->partitions[i].topic,
								   strlen(cluster->partitions[i].topic),
								   cluster->partitions[i].partition);
	return sum;
}

void
ki_watch_opened(KiLoader *loader, const KiCluster *cluster)
{
	int			n = 0;

	for (int i = 0; i < loader->npositions; i++)
	{
		if (is_among(cluster->topics, loader->positions[i].topic))
			loader->positions[n++] = loader->positions[i];
	}
	loader->npositions = n;
	loader->seen_topics = fingerprint(cluster);
	loader->looked_at = GetCurrentTimestamp();
	loader->has_new_topics = false;
}

static bool
needs_look(const KiLoader *loader)
{
	if (!ki_topics_has_pattern(loader->pipeline->topic) &&
		!loader->missing_reason)
		return false;
	return !loader->has_new_topics && !ki_source_trouble(loader->source)->reason &&
		TimestampDifferenceExceeds(loader->looked_at, GetCurrentTimestamp(),
								   LOOK_MS);
}

void
ki_watch_look(KiLoader *loader)
{
	MemoryContext scratch;
	MemoryContext old;
	KiCluster	cluster;

	if (!needs_look(loader))
		return;
	scratch = AllocSetContextCreate(loader->load_context, "kafka_ingest look",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	if (ki_source_look(loader->source, LOOK_WAIT_MS, &cluster))
		loader->has_new_topics = fingerprint(&cluster) != loader->seen_topics;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	loader->looked_at = GetCurrentTimestamp();
}
