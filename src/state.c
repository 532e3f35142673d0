/*
 * state.c
 *	  What a pipeline does now.
 *
 * What a person did (paused) and what only a person can end (stopped) is
 * stored with the pipeline; everything else is derived from shared memory and
 * from the catalog at the moment of asking, so that a worker that hangs, or is
 * gone, cannot leave a wrong state behind.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "catalog.h"
#include "compat.h"
#include "settings.h"
#include "state.h"
#include "topics.h"
#include "watermark.h"

#define HANGS_AFTER_MS 2000		/* a wait for a lock shows after this */
#define HELD_AFTER_MS 10000		/* an open transaction shows after this */
#define SEEN_IS_OLD_MS 10000	/* what was seen of the log counts so long */
#define START_GRACE_MS 5000		/* a new pipeline's worker may take this */

static void
set(KiState *state, const char *name, const char *reason, const char *detail)
{
	state->state = name;
	state->reason = reason;
	state->detail = detail;
}

/* ------------------------------------------------------------------------
 * Why no process may run
 * ------------------------------------------------------------------------
 */

/* Whether the whole server or database loads nothing now. */
static bool
is_held_back(const KiPipeline *pipeline, KiState *state)
{
	if (!ki_slot_available())
		set(state, "waiting", "not_preloaded",
			"The server was started without kafka_ingest in shared_preload_libraries; add it and restart, or load by hand with CALL kafka_ingest.run().");
	else if (RecoveryInProgress())
		set(state, "waiting", "standby",
			"This server is a standby; loading begins when it is promoted.");
	else if (!ki_setting_enabled)
		set(state, "waiting", "disabled",
			"The setting kafka_ingest.enabled is off.");
	else if (!ki_setting_serves_database(get_database_name(MyDatabaseId)))
		set(state, "waiting", "disabled",
			"The setting kafka_ingest.databases does not name this database.");
	else if (ki_setting_max_workers == 0)
		set(state, "waiting", "no_worker_slot",
			"The setting kafka_ingest.max_workers is 0.");
	else
		return false;
	return true;
}

/* Whether no session of the owner can begin. */
static bool
is_owner_unfit(const KiPipeline *pipeline, KiState *state)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID,
										ObjectIdGetDatum(pipeline->owner));
	bool		may_login;

	if (!HeapTupleIsValid(tuple))
	{
		set(state, "retrying", "owner_missing",
			psprintf("The owner, role \"%s\", does not exist any more; use alter_pipeline(owner => ...).",
					 pipeline->owner_name));
		return true;
	}
	may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if ((may_login || !KI_OWNER_NEEDS_LOGIN) &&
		ki_database_aclcheck(MyDatabaseId, pipeline->owner, ACL_CONNECT) == ACLCHECK_OK)
		return false;
	set(state, "retrying", "owner_cannot_login",
		psprintf("The owner, role \"%s\", may not log in or not connect to this database.",
				 pipeline->owner_name));
	return true;
}

static bool
is_kept_by_person(const KiPipeline *pipeline, KiState *state)
{
	state->since = pipeline->changed_at;
	if (!ki_guard_matches(&pipeline->guard))
		set(state, "waiting", "copied_database",
			"This database is a copy of the one the pipeline was made in; adopt() lets it load here too.");
	else if (pipeline->stop.reason)
	{
		set(state, "stopped", pipeline->stop.reason, pipeline->stop.detail);
		state->since = pipeline->stop.at;
	}
	else if (pipeline->paused)
		set(state, "paused", NULL, NULL);
	else
		return false;
	return true;
}

/* ------------------------------------------------------------------------
 * What the processes do
 * ------------------------------------------------------------------------
 */
static bool
waits_for_lock(const KiSlot *slot)
{
	PGPROC	   *proc = BackendPidGetProc(slot->pid);
	const char *type;

	if (!proc || slot->busy_since == 0 ||
		!TimestampDifferenceExceeds(slot->busy_since, GetCurrentTimestamp(),
									HANGS_AFTER_MS))
		return false;
	type = pgstat_get_wait_event_type(proc->wait_event_info);
	return type && strcmp(type, "Lock") == 0;
}

/* The state of one worker whose process runs. */
static void
state_of_process(const KiSlot *slot, KiState *state)
{
	const char *reason = slot->reason[0] ? pstrdup(slot->reason) : NULL;
	const char *detail = slot->detail[0] ? pstrdup(slot->detail) : NULL;

	state->since = slot->since;
	state->next_retry_at = slot->next_retry_at;
	if (waits_for_lock(slot))
	{
		set(state, "retrying", "lock_timeout",
			psprintf("Process %d waits for a lock that another session holds; see pg_blocking_pids(%d).",
					 slot->pid, slot->pid));
		state->since = slot->busy_since;
		return;
	}
	switch (slot->activity)
	{
		case KI_ACTIVITY_RUNNING:
			set(state, "running", NULL, NULL);
			break;
		case KI_ACTIVITY_RECONNECTING:
			set(state, "reconnecting", reason, detail);
			break;
		case KI_ACTIVITY_RETRYING:
			set(state, "retrying", reason, detail);
			break;
		case KI_ACTIVITY_WAITING:
			set(state, "waiting", reason, detail);
			break;
		default:
			set(state, "starting", NULL, NULL);
	}
}

/* The state of one worker without a process. */
static void
state_of_absence(const KiSlot *slot, KiState *state)
{
	state->since = slot->since;
	state->next_retry_at = slot->next_retry_at;
	if (slot->failures > 1 || strcmp(slot->reason, "read_only") == 0)
		set(state, "retrying", slot->reason[0] ? pstrdup(slot->reason) : "database_error",
			slot->detail[0] ? pstrdup(slot->detail) :
			"The worker ended before it could load; the server log says why.");
	else if (strcmp(slot->reason, "no_worker_slot") == 0)
		set(state, "waiting", "no_worker_slot", pstrdup(slot->detail));
	else
		set(state, "starting", NULL, NULL);
}

/* Which of two workers' states says more about the pipeline? */
static int
gravity(const char *state)
{
	static const char *const order[] = {"running", "starting", "waiting",
	"reconnecting", "retrying", NULL};

	for (int i = 0; order[i]; i++)
		if (strcmp(state, order[i]) == 0)
			return i;
	return -1;
}

static double
rate_of(const KiSlot *slot)
{
	int64		now = GetCurrentTimestamp() / USECS_PER_SEC;
	int64		seconds = now - slot->attached_at / USECS_PER_SEC;
	int64		count = 0;

	for (int i = 0; i < (int) lengthof(slot->rate_second); i++)
		if (slot->rate_second[i] < now &&
			slot->rate_second[i] >= now - KI_RATE_SECONDS)
			count += slot->rate_count[i];
	return (double) count / Min(Max(seconds, 1), KI_RATE_SECONDS);
}

void
ki_state_of_slot(const KiSlot *slot, KiState *state)
{
	state->last_error_at = slot->last_error_at;
	state->messages_per_second = rate_of(slot);
	if (slot->pid != 0 && slot->activity != KI_ACTIVITY_NONE)
		state_of_process(slot, state);
	else
		state_of_absence(slot, state);
}

static void
add_slot(const KiSlot *slot, KiState *state, bool is_first)
{
	KiState		one = {0};

	if (slot->last_error_at > state->last_error_at)
	{
		state->last_error_at = slot->last_error_at;
		state->last_error = pstrdup(slot->last_error);
	}
	ki_state_of_slot(slot, &one);
	state->messages_per_second += one.messages_per_second;
	if (slot->pid != 0)
		state->pids[state->npids++] = slot->pid;
	if (!is_first && gravity(one.state) <= gravity(state->state))
		return;
	set(state, one.state, one.reason, one.detail);
	state->since = one.since;
	state->next_retry_at = one.next_retry_at;
}

/* Put the workers' states together: the gravest one counts. */
static int
derive_from_slots(const KiPipeline *pipeline, KiState *state)
{
	int			found = 0;

	state->pids = palloc0(sizeof(int) * (pipeline->workers + 1));
	for (int worker = 0; worker < pipeline->workers; worker++)
	{
		int			i = ki_slot_find(MyDatabaseId, pipeline->id, worker);
		KiSlot		slot;

		if (i < 0)
			continue;
		ki_slot_read(i, &slot);
		if (slot.database == MyDatabaseId && slot.pipeline == pipeline->id)
			add_slot(&slot, state, found++ == 0);
	}
	return found;
}

void
ki_state_derive(const KiPipeline *pipeline, KiState *state)
{
	KiState		kept = {0};
	int			found;

	memset(state, 0, sizeof(KiState));
	set(state, "starting", NULL, NULL);
	state->since = pipeline->changed_at;
	found = derive_from_slots(pipeline, state);
	if (found < pipeline->workers &&
		TimestampDifferenceExceeds(Max(pipeline->changed_at, ki_slot_kept_since()),
								   GetCurrentTimestamp(), START_GRACE_MS))
		set(state, "waiting", "no_worker_slot",
			psprintf("%d of %d workers have no place; raise kafka_ingest.max_workers, or max_worker_processes of the server.",
					 pipeline->workers - found, pipeline->workers));

	/* What a person or the server decided outweighs what processes do. */
	if (!is_kept_by_person(pipeline, &kept) && !is_held_back(pipeline, &kept) &&
		!is_owner_unfit(pipeline, &kept))
		return;
	set(state, kept.state, kept.reason, kept.detail);
	state->since = kept.since;
	state->next_retry_at = 0;
}

char *
ki_state_held_back(const KiPipeline *pipeline)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, ki_position_all(pipeline->id))
	{
		const KiPosition *at = &((KiPositionRow *) lfirst(cell))->at;
		KiWatermark view;

		if (!ki_watermark_get(MyDatabaseId, pipeline->id, at->topic,
							  at->partition, &view) ||
			view.held_since == 0 ||
			TimestampDifferenceExceeds(view.at, now, SEEN_IS_OLD_MS) ||
			!TimestampDifferenceExceeds(view.held_since, now, HELD_AFTER_MS))
			continue;
		return psprintf("A producer's open transaction holds back topic \"%s\" partition %d: " INT64_FORMAT " offsets from " INT64_FORMAT " on cannot be read before it ends.",
						at->topic, at->partition,
						view.high_offset - view.stable_offset, view.stable_offset);
	}
	return NULL;
}

char *
ki_state_no_topic(const KiPipeline *pipeline)
{
	ListCell   *cell;

	if (!ki_topics_has_pattern(pipeline->topic) || pipeline->partitions ||
		!pipeline->resolved)
		return NULL;
	foreach(cell, ki_position_all(pipeline->id))
	{
		const KiPosition *at = &((KiPositionRow *) lfirst(cell))->at;

		if (!ki_pipeline_misses(pipeline, at->topic))
			return NULL;
	}
	return psprintf("No topic matches \"%s\" %s.", pipeline->topic,
					pipeline->vanished_topics ? "any more" : "yet");
}

int
ki_state_worker_pid(const KiPipeline *pipeline, const char *topic,
					int32 partition)
{
	int			i = ki_slot_find(MyDatabaseId, pipeline->id,
								 ki_topics_worker(pipeline->topic, topic, partition,
												  pipeline->workers));
	KiSlot		slot;

	if (i < 0)
		return 0;
	ki_slot_read(i, &slot);
	return slot.pid;
}
