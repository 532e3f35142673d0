/*
 * advance.c
 *	  How far a batch moves the positions.
 *
 * Looked at by runs: many messages of one partition come one after the other.
 */
#include "postgres.h"

#include "advance.h"
#include "source.h"

/* Number of a run's position; -1: it has none. */
static int
find_position(const KiAdvances *advances, const KiRun *run)
{
	for (int i = 0; i < advances->npositions; i++)
		if (advances->positions[i].partition == run->partition &&
			strcmp(advances->positions[i].topic, run->topic) == 0)
			return i;
	return -1;
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
	for (int i = 0; i < messages->nruns; i++)
	{
		const KiRun *run = &messages->runs[i];
		int			position = find_position(advances, run);

		if (position < 0 ||
			run->first_offset < advances->items[position].next_offset)
			return false;
		advances->items[position].next_offset = run->last_offset + 1;
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

/* Count the messages of a run up to the one before "end". */
static void
count_run(KiAdvance *advance, const KiMessages *messages, const KiRun *run,
		  int end, const uint8 *fates)
{
	const KiMessage *last = &messages->items[end - 1];
	int64		counts[KI_FATE_DEAD + 1] = {0};

	for (int i = run->first; i < end; i++)
		counts[fates[i]]++;
	advance->loaded += counts[KI_FATE_LOADED];
	advance->ignored += counts[KI_FATE_IGNORED];
	advance->filtered += counts[KI_FATE_FILTERED];
	advance->dead_letters += counts[KI_FATE_DEAD];
	advance->messages += end - run->first;
	advance->next_offset = last->offset + 1;
	advance->last_offset = last->offset;
	advance->last_timestamp_ms = last->timestamp_ms;
}

/* Only their sum is known, and only sums are shown. */
static void
count_ignored(KiAdvances *advances, int64 ignored)
{
	for (int i = 0; i < advances->npositions; i++)
	{
		KiAdvance  *advance = &advances->items[i];
		int64		here = Min(ignored, advance->loaded);

		advance->loaded -= here;
		advance->ignored += here;
		ignored -= here;
	}
}

void
ki_advances_store(KiAdvances *advances, int32 pipeline,
				  const KiMessages *messages, int applied,
				  const uint8 *fates, int64 ignored, bool may_pass_end)
{
	const KiMessage **last = palloc0((advances->npositions + 1) *
									 sizeof(KiMessage *));

	for (int i = 0; i < messages->nruns; i++)
	{
		const KiRun *run = &messages->runs[i];
		int			end = Min(run->first + run->count, applied);
		int			position = find_position(advances, run);

		if (end <= run->first)
			break;
		count_run(&advances->items[position], messages, run, end, fates);
		last[position] = &messages->items[end - 1];
	}
	count_ignored(advances, ignored);
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
