/*
 * advance.c
 *	  How far a batch moves the positions.
 *
 * Messages of one partition come in long runs, so the position of a message is
 * nearly always that of the one before it.
 */
#include "postgres.h"

#include "advance.h"
#include "source.h"

/* Number of a message's position; -1: it has none. */
static int
find_position(KiAdvances *advances, const KiMessage *message)
{
	if (message->partition == advances->partition &&
		message->topic == advances->topic)
		return advances->hint;
	advances->topic = message->topic;
	advances->partition = message->partition;
	for (int i = 0; i < advances->npositions; i++)
		if (advances->positions[i].partition == message->partition &&
			strcmp(advances->positions[i].topic, message->topic) == 0)
			return advances->hint = i;
	return advances->hint = -1;
}

bool
ki_advances_plan(KiAdvances *advances, const KiMessages *messages,
				 KiPosition *positions, int npositions, const int64 *ends)
{
	memset(advances, 0, sizeof(KiAdvances));
	advances->items = palloc0((npositions + 1) * sizeof(KiAdvance));
	advances->positions = positions;
	advances->npositions = npositions;
	advances->ends = ends;
	for (int i = 0; i < npositions; i++)
	{
		advances->items[i].next_offset = positions[i].next_offset;
		advances->items[i].last_offset = -1;
	}
	for (int i = 0; i < messages->count; i++)
	{
		const KiMessage *message = &messages->items[i];
		int			position = find_position(advances, message);

		if (position < 0 ||
			message->offset < advances->items[position].next_offset)
			return false;
		advances->items[position].next_offset = message->offset + 1;
	}
	return true;
}

bool
ki_advances_lock(KiAdvances *advances, int32 pipeline)
{
	for (int i = 0; i < advances->npositions; i++)
	{
		KiAdvance  *advance = &advances->items[i];
		const KiPosition *position = &advances->positions[i];

		if (advance->next_offset == position->next_offset &&
			advances->ends[i] <= position->next_offset)
			continue;
		advance->next_offset = position->next_offset;
		advance->row = ki_position_lock(pipeline, position);
		if (!advance->row)
			return false;
	}
	return true;
}

/* Count one message that was applied. */
static void
count_message(KiAdvance *advance, const KiMessage *message, KiFate fate)
{
	advance->next_offset = message->offset + 1;
	advance->messages++;
	advance->loaded += fate == KI_FATE_LOADED;
	advance->ignored += fate == KI_FATE_IGNORED;
	advance->last_offset = message->offset;
	advance->last_timestamp_ms = message->timestamp_ms;
}

void
ki_advances_store(KiAdvances *advances, int32 pipeline,
				  const KiMessages *messages, int applied,
				  const uint8 *fates, bool may_pass_end)
{
	const KiMessage **last = palloc0((advances->npositions + 1) *
									 sizeof(KiMessage *));

	for (int i = 0; i < applied; i++)
	{
		int			position = find_position(advances, &messages->items[i]);

		count_message(&advances->items[position], &messages->items[i],
					  fates[i]);
		last[position] = &messages->items[i];
	}
	for (int i = 0; i < advances->npositions; i++)
	{
		KiAdvance  *advance = &advances->items[i];

		if (!advance->row)
			continue;
		if (may_pass_end && advances->ends[i] > advance->next_offset)
			advance->next_offset = advances->ends[i];
		if (advance->next_offset == advances->positions[i].next_offset)
			continue;
		if (last[i])
			advance->last_crc = ki_message_crc(last[i]);
		ki_position_advance(pipeline, advance);
	}
}

void
ki_advances_remember(const KiAdvances *advances)
{
	for (int i = 0; i < advances->npositions; i++)
	{
		const KiAdvance *advance = &advances->items[i];
		KiPosition *position = &advances->positions[i];

		position->next_offset = advance->next_offset;
		if (advance->last_offset < 0)
			continue;
		position->last_offset = advance->last_offset;
		position->last_timestamp_ms = advance->last_timestamp_ms;
		position->last_crc = advance->last_crc;
	}
}
