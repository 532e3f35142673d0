/*
 * loader.c
 *	  The reading of one pipeline.
 *
 * load (a transaction) → open (the network) → collect (memory) → apply (a
 * transaction), round and round.  Whatever is unexpected leads back to load:
 * a changed version, a lost race for a position, a barrier in the log.  No
 * transaction is open while the network is waited for, but the caller's own
 * in run() within a block.
 *
 * Memory: load_context holds everything of one configuration, the client
 * included, and is deleted to start again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "breaker.h"
#include "catalog.h"
#include "fault.h"
#include "loader_parts.h"
#include "lock.h"
#include "settings.h"
#include "topics.h"
#include "watermark.h"

#define LINGER_MS 3				/* a caught-up batch waits for company */
#define END_DELAY_MS 1000		/* idle time before moving over control
								 * records */
#define MAX_BARRIERS 3

/* ------------------------------------------------------------------------
 * Life
 * ------------------------------------------------------------------------
 */

/* Did a foreign server or user mapping change since the last load? */
static bool connection_is_stale = false;

static void
note_connection_change(Datum arg, int cacheid, uint32 hashvalue)
{
	connection_is_stale = true;
}

KiLoader *
ki_loader_create(int32 pipeline, int worker, const KiTransaction *transaction)
{
	static bool is_registered = false;
	KiLoader   *loader = palloc0(sizeof(KiLoader));

	if (!is_registered)
	{
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_connection_change,
									  (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, note_connection_change,
									  (Datum) 0);
	}
	is_registered = true;
	loader->pipeline_id = pipeline;
	loader->worker = worker;
	loader->transaction = transaction;
	loader->life_context = CurrentMemoryContext;
	loader->barrier_partition = -1;
	return loader;
}

static void
close_source(KiLoader *loader)
{
	if (loader->messages)
		ki_messages_release(loader->messages);
	ki_source_close(loader->source);
	loader->source = NULL;
	loader->is_open = false;
	loader->first_at = 0;
}

void
ki_loader_reset(KiLoader *loader)
{
	ki_publish_last(loader);
	close_source(loader);
	if (loader->batch)
		ki_batch_free(loader->batch);
	loader->batch = NULL;
	loader->pipeline = NULL;
	loader->setback_reason = loader->setback_detail = NULL;
	loader->messages = NULL;
	loader->npositions = 0;
	loader->positions = NULL;
	loader->ends = NULL;
	loader->published = NULL;
	loader->nwaiting = 0;
	loader->stable_offsets = NULL;
	loader->position_context = NULL;
	loader->missing_reason = loader->missing_detail = NULL;
	loader->has_new_topics = false;
	loader->connection = NULL;
	loader->phase = KI_PHASE_CONFIGURATION;
	loader->missing_answers = 0;
	if (loader->load_context)
		MemoryContextDelete(loader->load_context);
	loader->load_context = NULL;
}

void
ki_loader_close(KiLoader *loader)
{
	ki_loader_reset(loader);
	pfree(loader);
}

/* ------------------------------------------------------------------------
 * Load
 * ------------------------------------------------------------------------
 */

/* May it be loaded by this kind of process now? */
static bool
may_load(const KiLoader *loader, const KiPipeline *pipeline)
{
	if (!pipeline || !ki_guard_matches(&pipeline->guard) ||
		!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(pipeline->owner)))
		return false;
	if (loader->worker == KI_ALL_PARTITIONS)
		return true;
	if (pipeline->owner != GetSessionUserId())
		return false;			/* another owner needs another process */
	return !pipeline->paused && !pipeline->stop.reason &&
		loader->worker < pipeline->workers;
}

/* The target was renamed, moved or made again: remember what it is now. */
static void
remember_target(KiLoader *loader, Oid target)
{
	KiPipeline *pipeline = loader->pipeline;
	char	   *schema;
	char	   *name;

	if (!OidIsValid(target))
		return;					/* none, only a statement */
	schema = get_namespace_name(get_rel_namespace(target));
	name = get_rel_name(target);
	if (target == pipeline->target && strcmp(name, pipeline->target_name) == 0 &&
		strcmp(schema, pipeline->target_schema) == 0)
		return;
	pipeline->target = target;
	pipeline->target_schema = schema;
	pipeline->target_name = name;
	loader->has_new_target = true;
}

/*
 * Store it, in a transaction that does not hold the target's lock: the
 * pipeline's comes first.
 */
static void
store_target(KiLoader *loader)
{
	KiPipeline *stored;

	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, false);
	ki_lock_resolution(loader->pipeline_id);
	stored = ki_pipeline_load(loader->pipeline_id);
	if (stored && stored->version == loader->pipeline->version)
	{
		stored->target = loader->pipeline->target;
		stored->target_schema = loader->pipeline->target_schema;
		stored->target_name = loader->pipeline->target_name;
		ki_pipeline_store(stored, false);
	}
	ki_transaction_commit(loader->transaction);
}

bool
ki_loader_is_mine(const KiLoader *loader, const KiPosition *position)
{
	const KiPipeline *pipeline = loader->pipeline;

	if (!ki_pipeline_reads(pipeline, position->topic, position->partition))
		return false;
	return loader->worker == KI_ALL_PARTITIONS ||
		ki_topics_worker(pipeline->topic, position->topic, position->partition,
						 pipeline->workers) == loader->worker;
}

void
ki_loader_read_positions(KiLoader *loader)
{
	MemoryContext old;
	List	   *rows;
	Size		capacity;
	ListCell   *cell;

	if (!loader->position_context)
		loader->position_context = AllocSetContextCreate(loader->load_context,
														 "kafka_ingest positions",
														 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(loader->position_context);
	old = MemoryContextSwitchTo(loader->position_context);
	rows = ki_position_all(loader->pipeline->id);
	capacity = list_length(rows) + 1;
	loader->positions = palloc0(capacity * sizeof(KiPosition));
	loader->ends = palloc0(capacity * sizeof(int64));
	loader->stable_offsets = palloc0(capacity * sizeof(int64));
	loader->npositions = loader->npositions_all = loader->nwaiting = 0;
	foreach(cell, rows)
	{
		KiPositionRow *row = lfirst(cell);

		loader->npositions_all += row->waits_for == NULL &&
			ki_pipeline_reads(loader->pipeline, row->at.topic, row->at.partition);
		if (!ki_loader_is_mine(loader, &row->at))
			continue;
		if (row->waits_for)
			loader->nwaiting++;
		else
			loader->positions[loader->npositions++] = row->at;
	}
	MemoryContextSwitchTo(old);
}

static void
load_configuration(KiLoader *loader)
{
	KiPipeline *pipeline = ki_pipeline_load(loader->pipeline_id);

	if (!may_load(loader, pipeline))
		return;
	connection_is_stale = false;
	loader->phase = KI_PHASE_CONNECTION;
	loader->connection = ki_connection_load(pipeline->connection,
											pipeline->owner,
											pipeline->properties, true);
	loader->pipeline = pipeline;
	ki_loader_read_positions(loader);
	loader->messages = ki_messages_create(pipeline->batch_max_messages);
	if (!loader->connection)
		return;
	loader->phase = KI_PHASE_TARGET;
	loader->batch = ki_batch_create(pipeline, loader->transaction,
									&connection_is_stale);
	loader->wants_headers = ki_batch_prepare(loader->batch);
	if (pipeline->target_name)
		remember_target(loader, ki_batch_target(loader->batch));
}

KiStep
ki_loader_load(KiLoader *loader)
{
	MemoryContext old;
	bool		is_installed;

	ki_loader_reset(loader);
	loader->load_context = AllocSetContextCreate(loader->life_context,
												 "kafka_ingest pipeline",
												 ALLOCSET_DEFAULT_SIZES);
	loader->phase = KI_PHASE_CONFIGURATION;
	loader->has_new_target = false;
	old = CurrentMemoryContext;
	ki_transaction_begin(loader->transaction);
	MemoryContextSwitchTo(loader->load_context);
	is_installed = ki_catalog_is_installed();
	if (is_installed)
		load_configuration(loader);
	MemoryContextSwitchTo(old);
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);

	if (!loader->pipeline)
		return KI_STEP_GONE;
	loader->phase = KI_PHASE_CONFIGURATION;
	if (loader->has_new_target)
		store_target(loader);
	MemoryContextSwitchTo(old);
	return loader->connection ? KI_STEP_OK : KI_STEP_TROUBLE;
}

/*
 * An invalidation only says that some server or mapping may have changed; see
 * whether it is ours.
 */
static bool
is_same_connection(KiLoader *loader)
{
	KiConnection *now;

	connection_is_stale = false;
	now = ki_connection_load(loader->pipeline->connection,
							 loader->pipeline->owner,
							 loader->pipeline->properties, true);
	return now && loader->connection &&
		ki_connection_equal(now, loader->connection);
}

bool
ki_loader_is_stale(KiLoader *loader)
{
	bool		is_stale;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "kafka_ingest comparison",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = CurrentMemoryContext;

	ki_transaction_begin(loader->transaction);
	MemoryContextSwitchTo(scratch);
	is_stale = !ki_catalog_is_installed() ||
		ki_pipeline_version(loader->pipeline_id) != loader->pipeline->version ||
		(connection_is_stale && !is_same_connection(loader));
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return is_stale;
}

/* ------------------------------------------------------------------------
 * Collect
 * ------------------------------------------------------------------------
 */
static int64
batch_max_bytes(void)
{
	return (int64) ki_setting_worker_memory_kb * 1024 / 4;
}

static void
take_ends(KiLoader *loader)
{
	bool		may_pass = ki_source_barrier(loader->source)->kind == KI_BARRIER_NONE;

	for (int i = 0; i < loader->npositions; i++)
		loader->ends[i] = may_pass ?
			ki_source_end(loader->source, i) : -1;
}

static bool
has_control_records_behind(const KiLoader *loader)
{
	for (int i = 0; i < loader->npositions; i++)
		if (loader->ends[i] > loader->positions[i].next_offset)
			return true;
	return false;
}

static bool
is_older_than(TimestampTz since, int ms)
{
	return TimestampDifferenceExceeds(since, GetCurrentTimestamp(), ms);
}

static bool
is_full(const KiLoader *loader)
{
	return loader->messages->count >= loader->pipeline->batch_max_messages ||
		loader->messages->bytes >= batch_max_bytes();
}

/* Is the batch due now, with nothing more at hand? */
static KiStep
is_due(KiLoader *loader, const char **end_reason)
{
	int			count = loader->messages->count;
	bool		has_barrier = ki_source_barrier(loader->source)->kind != KI_BARRIER_NONE;

	take_ends(loader);
	if (is_full(loader))
		*end_reason = count >= loader->pipeline->batch_max_messages ?
			"messages" : "bytes";
	else if (count > 0 && is_older_than(loader->first_at,
										loader->pipeline->batch_max_ms))
		*end_reason = "time";
	else if (has_barrier || (count > 0 && is_older_than(loader->first_at, LINGER_MS)))
		*end_reason = "idle";
	else if (count == 0 && has_control_records_behind(loader) &&
			 is_older_than(loader->idle_since, END_DELAY_MS))
		*end_reason = "idle";
	else
		return KI_STEP_NOTHING;
	return KI_STEP_OK;
}

KiStep
ki_loader_collect(KiLoader *loader, const char **end_reason)
{
	int			added;

	ki_source_drain(loader->source);
	ki_source_serve(loader->source);
	ki_publish_positions(loader);
	do
	{
		TimestampTz before = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		added = ki_source_collect(loader->source, loader->messages,
								  ki_pace_max_messages(loader), batch_max_bytes());
		ki_pace_take(loader, added);
		if (added > 0 && loader->first_at == 0)
			loader->first_at = before;
	} while (added > 0 &&
			 !is_older_than(loader->first_at, loader->pipeline->batch_max_ms));
	return is_due(loader, end_reason);
}

long
ki_loader_wait_ms(const KiLoader *loader)
{
	long		wait_ms = 60 * 1000L;

	if (loader->messages && loader->messages->count > 0)
		return LINGER_MS;
	if (!loader->is_open)
		return wait_ms;
	if (has_control_records_behind(loader))
		wait_ms = END_DELAY_MS;
	wait_ms = Min(wait_ms, ki_pace_wait_ms(loader));
	wait_ms = Min(wait_ms, ki_publish_wait_ms(loader));
	return Min(wait_ms, ki_late_wait_ms(loader));
}

/* ------------------------------------------------------------------------
 * Apply
 * ------------------------------------------------------------------------
 */
/* A message's place and fault, without any of its values. */
static char *
describe_fault(KiLoader *loader, const KiMessage *message, const KiFault *fault)
{
	char	   *place;

	place = ki_loader_detail(loader, "Message at topic \"%s\", partition %d, offset " INT64_FORMAT " cannot be loaded",
							 message->topic, message->partition, message->offset);
	return ki_loader_detail(loader, "%s: %s (SQLSTATE %s, stage %s%s%s%s%s%s%s).",
							place, fault->message,
							unpack_sql_state(fault->sqlerrcode),
							fault->stage,
							fault->column_name ? ", column \"" : "",
							fault->column_name ? fault->column_name : "",
							fault->column_name ? "\"" : "",
							fault->constraint_name ? ", constraint \"" : "",
							fault->constraint_name ? fault->constraint_name : "",
							fault->constraint_name ? "\"" : "");
}

static KiStep
stop_for_message(KiLoader *loader, const KiBatchResult *result)
{
	char	   *fault = describe_fault(loader,
									   &loader->messages->items[result->applied],
									   &result->fault);
	const char *reason = result->stop_reason;
	char	   *detail = fault;

	if (strcmp(reason, "error_ratio") == 0)
		detail = ki_loader_detail(loader, "One more dead letter would be more than max_error_ratio (%g) allows among the last %d messages. %s",
								  loader->pipeline->max_error_ratio,
								  KI_BREAKER_WINDOW, fault);
	else if (strcmp(reason, "dead_letters_full") == 0)
		detail = ki_loader_detail(loader, "The open dead letters take what kafka_ingest.dead_letter_max_size allows (%d kB); retry_dead_letters() and discard_dead_letters() make room. %s",
								  ki_setting_dead_letter_max_size_kb, fault);
	return ki_loader_stop(loader, reason, detail);
}

static int64
position_of(const KiLoader *loader, const KiBarrier *barrier)
{
	for (int i = 0; barrier->topic && i < loader->npositions; i++)
		if (loader->positions[i].partition == barrier->partition &&
			strcmp(loader->positions[i].topic, barrier->topic) == 0)
			return loader->positions[i].next_offset;
	return -1;
}

static const char *
barrier_reason(KiBarrierKind kind)
{
	switch (kind)
	{
		case KI_BARRIER_RECREATED:
			return "topic_recreated";
		case KI_BARRIER_OFFSET_LOST:
			return "offset_lost";
		case KI_BARRIER_CORRUPT:
			return "corrupt";
		default:
			return "broker_unreachable";
	}
}

/* Is this the last of too many barriers at the same place? */
static bool
is_last_barrier(KiLoader *loader, const KiBarrier *barrier, int64 at)
{
	const char *topic = barrier->topic ? barrier->topic : "";

	if (barrier->partition != loader->barrier_partition ||
		at != loader->barrier_offset ||
		strcmp(topic, loader->barrier_topic) != 0)
		loader->nbarriers = 0;
	strlcpy(loader->barrier_topic, topic, sizeof(loader->barrier_topic));
	loader->barrier_partition = barrier->partition;
	loader->barrier_offset = at;
	if (barrier->kind != KI_BARRIER_OTHER)
		loader->nbarriers++;
	return barrier->kind == KI_BARRIER_RECREATED ||
		loader->nbarriers >= MAX_BARRIERS;
}

/*
 * What came before the barrier is committed.  Destroy the client, which is
 * opened anew at the stored places; the third time at the same one, stop.
 * What the broker only refuses now, as a topic that vanished, never stops.
 */
static KiStep
meet_barrier(KiLoader *loader, const KiBarrier *barrier)
{
	int64		at = position_of(loader, barrier);
	const KiTrouble *trouble = ki_source_trouble(loader->source);
	const char *reason = barrier_reason(barrier->kind);
	char	   *detail;

	if (!barrier->topic)
		detail = ki_loader_detail(loader, "Topic \"%s\" cannot be read: %s",
								  loader->pipeline->topic, barrier->detail);
	else
		detail = ki_loader_detail(loader, "Topic \"%s\" partition %d cannot be read at or after offset " INT64_FORMAT ": %s",
								  barrier->topic, barrier->partition, at,
								  barrier->detail);
	if (barrier->kind == KI_BARRIER_OTHER && trouble->reason)
		reason = MemoryContextStrdup(loader->load_context, trouble->reason);
	ki_slot_set_error(detail);
	if (is_last_barrier(loader, barrier, at))
		return ki_loader_stop(loader, reason,
							  ki_loader_detail(loader, "%s. Use resume() to try again, or seek() to go on elsewhere.",
											   detail));
	close_source(loader);
	if (loader->setback_detail)
		pfree(loader->setback_detail);
	loader->setback_reason = reason;
	loader->setback_detail = detail;
	return KI_STEP_TROUBLE;
}

KiStep
ki_loader_apply(KiLoader *loader, const char *end_reason)
{
	KiBatchResult result;
	KiOutcome	outcome;
	TimestampTz started = GetCurrentTimestamp();
	const KiBarrier *barrier = ki_source_barrier(loader->source);
	KiStep		step = KI_STEP_OK;

	loader->phase = KI_PHASE_ROWS;
	if (is_full(loader) && !loader->transaction->is_callers)
		ki_source_take_ahead(loader->source, batch_max_bytes());
	outcome = ki_batch_apply(loader->batch, loader->messages,
							 loader->positions, loader->npositions,
							 loader->ends, &result);
	ki_source_join(loader->source);
	if (outcome == KI_OUTCOME_FENCED)
		ki_slot_set_error("another process moved a position of this pipeline; what was read is dropped and read again");
	if (outcome == KI_OUTCOME_CHANGED && connection_is_stale &&
		!ki_loader_is_stale(loader))
		return KI_STEP_OK;		/* a false alarm: apply it again */
	if (outcome != KI_OUTCOME_DONE)
		return KI_STEP_RELOAD;
	loader->total_messages += result.applied;
	loader->total_dead_letters += result.dead_letters;
	loader->total_batches += loader->messages->count > 0;
	ki_loader_report(loader, &result, end_reason, started);
	if (result.stop_reason)
		step = stop_for_message(loader, &result);
	else if (barrier->kind != KI_BARRIER_NONE)
		step = meet_barrier(loader, barrier);
	if (loader->messages)
		ki_messages_release(loader->messages);
	loader->first_at = 0;
	loader->idle_since = GetCurrentTimestamp();
	if (step == KI_STEP_OK && connection_is_stale && ki_loader_is_stale(loader))
		return KI_STEP_RELOAD;
	return step;
}

/* ------------------------------------------------------------------------
 * Observe
 * ------------------------------------------------------------------------
 */
void
ki_loader_trouble(const KiLoader *loader, const char **reason,
				  const char **detail)
{
	*reason = *detail = NULL;
	if (loader->pipeline && !loader->connection)
	{
		*reason = "connection_missing";
		*detail = "The pipeline's connection does not exist; create it again or use alter_pipeline(connection => ...).";
	}
	else if (!loader->source)
	{
		*reason = loader->setback_reason;
		*detail = loader->setback_detail;
	}
	else
	{
		const KiTrouble *trouble = ki_source_trouble(loader->source);

		*reason = trouble->reason;
		*detail = trouble->detail;
		if (!trouble->reason && !loader->is_open && loader->missing_reason)
		{
			*reason = loader->missing_reason;
			*detail = loader->missing_detail;
		}
		else if (!trouble->reason && loader->missing_answers > 0)
		{
			*reason = "topic_missing";
			*detail = "The topic, or a partition of it, does not exist at the broker; loading begins when it does.";
		}
	}
}

KiStep
ki_loader_observe(KiLoader *loader)
{
	TimestampTz at;
	int			nstats;
	const KiPartitionStat *stats = ki_source_stats(loader->source, &nstats, &at);
	KiWatermark *views;
	static TimestampTz last_at = 0;

	ki_watch_look(loader);
	if (loader->has_new_topics ||
		ki_source_partition_count(loader->source) > loader->npartitions ||
		ki_late_is_over(loader))
		return KI_STEP_RELOAD;

	/* Statistics go on while the broker is silent, but tell nothing new. */
	if (at == 0 || at == last_at || ki_source_trouble(loader->source)->reason)
		return KI_STEP_OK;
	last_at = at;
	views = palloc(sizeof(KiWatermark) * (nstats + 1));
	for (int i = 0; i < nstats; i++)
	{
		views[i].topic = stats[i].topic;
		views[i].partition = stats[i].partition;
		views[i].low_offset = stats[i].low_offset;
		views[i].stable_offset = stats[i].stable_offset;
		views[i].high_offset = stats[i].high_offset;
		views[i].at = at;
	}
	ki_watermark_set(MyDatabaseId, loader->pipeline_id, views, nstats);
	pfree(views);
	return KI_STEP_OK;
}
