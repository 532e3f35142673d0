/*
 * start.c
 *	  Where to begin, in numbers.  Used at first contact and by seek().
 */
#include "postgres.h"

#include "catalog.h"
#include "start.h"

static KiAnswer
resolve_committed(KiSource *source, int wait_ms, KiStartPoint *point)
{
	KiAnswer	answer = ki_source_committed(source, point->topic,
											 point->partition, wait_ms,
											 &point->offset);

	point->is_uncommitted = point->offset < 0;
	if (point->is_uncommitted)
		point->offset = point->low_offset;
	return answer;
}

KiAnswer
ki_start_resolve(KiSource *source, const KiStart *start, int wait_ms,
				 KiStartPoint *point)
{
	const KiOffset *given = ki_offsets_find(start->offsets, start->noffsets,
											point->topic, point->partition);
	KiAnswer	answer;

	answer = ki_source_watermarks(source, point->topic, point->partition,
								  wait_ms, &point->low_offset,
								  &point->stable_offset);
	if (answer != KI_ANSWER_OK)
		return answer;
	if (given && given->offset >= 0)
		point->offset = given->offset;
	else if (given)
		point->offset = Max(point->low_offset,
							point->stable_offset + given->offset);
	else if (start->has_timestamp)
		answer = ki_source_offset_at(source, point->topic, point->partition,
									 ki_time_to_ms(start->timestamp), wait_ms,
									 &point->offset);
	else if (start->from && strcmp(start->from, "committed") == 0)
		answer = resolve_committed(source, wait_ms, point);
	else if (start->from && strcmp(start->from, "latest") == 0)
		point->offset = point->stable_offset;
	else
		point->offset = point->low_offset;
	return answer;
}
