/*
 * lost.c
 *	  Messages that were gone before they were read: on_offset_lost.
 *
 * Retention does not wait for readers.  The pipeline stops with the numbers,
 * or, when its owner chose so, goes on at the beginning or at the end of what
 * the log holds now, with a gap row and an event.  The position is moved like
 * a batch moves it, compared and swapped under the pipeline's lock, so nothing
 * is read twice.  A position beyond the log's end is never moved: that log is
 * another one, or was cut off.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "catalog.h"
#include "loader_parts.h"
#include "lock.h"

/* The place to go on at, and what is recorded of it. */
typedef struct Move
{
	const KiPosition *from;
	int64		next_offset;
	const char *detail;
} Move;

static void
record(const KiPipeline *pipeline, const Move *move)
{
	KiGap		gap = {0};

	gap.topic = move->from->topic;
	gap.partition = move->from->partition;
	gap.from_offset = move->from->next_offset;
	gap.to_offset = move->next_offset - 1;
	gap.reason = "retention";
	gap.detail = move->detail;
	ki_gap_insert(pipeline->id, &gap);
	ki_event_insert(pipeline, "offset_lost", move->detail);
}

/* In one transaction; false: the pipeline or the position is another now. */
static bool
store(KiLoader *loader, const Move *move)
{
	MemoryContext old = CurrentMemoryContext;
	KiPipeline *stored;
	bool		is_mine;

	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, true);
	stored = ki_pipeline_load(loader->pipeline_id);
	is_mine = stored && stored->version == loader->pipeline->version &&
		ki_position_lock(stored->id, move->from) != NULL;
	if (is_mine)
	{
		ki_position_move(stored->id, move->from->topic, move->from->partition,
						 move->next_offset);
		record(stored, move);
	}
	ki_transaction_commit(loader->transaction);
	MemoryContextSwitchTo(old);
	return is_mine;
}

KiStep
ki_loader_meet_loss(KiLoader *loader, KiPosition *position, int64 low_offset,
					int64 stable_offset)
{
	const char *policy = loader->pipeline->on_offset_lost;
	Move		move;
	char	   *what;

	what = ki_loader_detail(loader, "Topic \"%s\" partition %d now begins at offset " INT64_FORMAT ", after the next one to read, " INT64_FORMAT ": the messages in between were removed.",
							position->topic, position->partition,
							low_offset, position->next_offset);
	if (strcmp(policy, "stop") == 0)
		return ki_loader_stop(loader, "offset_lost",
							  ki_loader_detail(loader, "%s Use seek() to go on behind them.",
											   what));
	move.from = position;
	move.next_offset = strcmp(policy, "latest") == 0 ? stable_offset : low_offset;
	move.detail = ki_loader_detail(loader, "%s Went on at offset " INT64_FORMAT " (on_offset_lost => '%s').",
								   what, move.next_offset, policy);
	if (!store(loader, &move))
		return KI_STEP_RELOAD;
	ki_slot_set_error(move.detail);
	ereport(LOG,
			(errmsg("pipeline \"%s\" lost messages", loader->pipeline->name),
			 errdetail_internal("%s", move.detail)));
	position->next_offset = move.next_offset;
	position->last_offset = -1;
	return KI_STEP_OK;
}
