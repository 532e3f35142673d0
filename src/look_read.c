/*
 * look_read.c
 *	  Messages of a topic for a look at them.
 *
 * Partitions are read in rounds.  In each round every partition that is not at
 * its end has an equal share of what is still wanted; what one of them cannot
 * give is shared out in the next round, which begins behind what was taken.
 * The ends are those of the moment of the call, so that a busy topic cannot
 * keep us.  Where the last messages are wanted, rounds go backwards instead,
 * each four times as far as the one before, since nobody can tell how many
 * messages lie between two offsets.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "look.h"

#define COLLECT_MESSAGES 1000
#define COLLECT_BYTES (8 * 1024 * 1024)
#define SLICE_MS 200			/* longest sleep between two looks */
#define QUESTION_WAIT_MS 1000
#define MAX_OPENINGS 3
#define WINDOW_FACTOR 4

/* What is read of one partition. */
typedef struct Part
{
	KiStartPoint point;
	int64		next_offset;	/* the next one to take */
	int64		end_offset;		/* where the reading ends, exclusive */
	int64		share;			/* of messages, in this round */
	bool		is_read;		/* it is assigned in this round */
	int			assigned;		/* as which one */
} Part;

typedef struct Reading
{
	const KiLook *look;
	KiConnection *connection;
	KiSource   *source;
	int			nopenings;
	KiMessages *messages;
	Part	   *parts;			/* by partition */
	int			nparts;
	int64		ntaken;
	KiLookTake	take;
	void	   *state;
} Reading;

static bool
is_at_end(const Part *part)
{
	return part->next_offset >= part->end_offset;
}

/* Does this round expect more of the partition? */
static bool
is_open(const Part *part)
{
	return part->is_read && part->share > 0 && !is_at_end(part);
}

/* ------------------------------------------------------------------------
 * Where to begin
 * ------------------------------------------------------------------------
 */
static int
compare_parts(const void *a, const void *b)
{
	return ((const Part *) a)->point.partition - ((const Part *) b)->point.partition;
}

/* A start that was given must be a place in the log. */
static void
check_start(const Reading *reading, const KiStartPoint *point)
{
	if (point->offset >= point->low_offset && point->offset <= point->stable_offset)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("offset " INT64_FORMAT " is not in topic \"%s\" partition %d",
					point->offset, reading->look->topic, point->partition),
			 errdetail("The partition begins at offset " INT64_FORMAT " and ends before " INT64_FORMAT ".",
					   point->low_offset, point->stable_offset)));
}

/* And of a partition that is there. */
static void
check_partitions(const Reading *reading)
{
	const KiStart *start = &reading->look->start;

	for (int i = 0; i < start->noffsets; i++)
	{
		int			k = 0;

		while (k < reading->nparts &&
			   reading->parts[k].point.partition != start->offsets[i].partition)
			k++;
		if (k == reading->nparts)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("topic \"%s\" has no partition %d",
							reading->look->topic, start->offsets[i].partition),
					 errdetail("It has %d partitions.", reading->nparts)));
	}
}

static void
resolve(Reading *reading, Part *part)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   KI_LOOK_WAIT_MS);

	while (ki_start_resolve(reading->source, &reading->look->start,
							QUESTION_WAIT_MS, &part->point) != KI_ANSWER_OK)
	{
		if (GetCurrentTimestamp() >= deadline ||
			ki_look_is_hopeless(reading->source))
			ki_look_unanswered(reading->source, reading->connection);
	}
	check_start(reading, &part->point);
	part->next_offset = part->point.offset;
	part->end_offset = part->point.stable_offset;
}

static void
find_parts(Reading *reading)
{
	KiCluster	cluster = {0};

	ki_look_cluster(reading->source, reading->connection, reading->look->topic,
					KI_LOOK_WAIT_MS, &cluster);
	reading->parts = palloc0(sizeof(Part) * (cluster.npartitions + 1));
	reading->nparts = cluster.npartitions;
	for (int i = 0; i < cluster.npartitions; i++)
	{
		reading->parts[i].point.topic = reading->look->topic;
		reading->parts[i].point.partition = cluster.partitions[i].partition;
	}
	qsort(reading->parts, reading->nparts, sizeof(Part), compare_parts);
	check_partitions(reading);
	for (int i = 0; i < reading->nparts; i++)
		resolve(reading, &reading->parts[i]);
}

/* ------------------------------------------------------------------------
 * One round
 * ------------------------------------------------------------------------
 */
static int
count_open(const Reading *reading)
{
	int			count = 0;

	for (int i = 0; i < reading->nparts; i++)
		count += is_open(&reading->parts[i]);
	return count;
}

static void
assign(Reading *reading)
{
	KiPosition *positions = palloc0(sizeof(KiPosition) * (reading->nparts + 1));
	int			n = 0;

	for (int i = 0; i < reading->nparts; i++)
	{
		Part	   *part = &reading->parts[i];

		part->is_read = is_open(part);
		if (!part->is_read)
			continue;
		positions[n].topic = unconstify(char *, reading->look->topic);
		positions[n].partition = part->point.partition;
		positions[n].next_offset = part->next_offset;
		positions[n].last_offset = -1;
		part->assigned = n++;
	}
	ki_source_assign(reading->source, positions, NULL, n);
	pfree(positions);
}

/* A client that met a barrier is of no use any more. */
static void
open_again(Reading *reading)
{
	ki_messages_release(reading->messages);
	ki_source_close(reading->source);
	reading->source = ki_look_open(reading->connection, reading->look->topic);
	reading->nopenings++;
	assign(reading);
}

static void
pass_barrier(Reading *reading)
{
	const KiBarrier *barrier = ki_source_barrier(reading->source);
	bool		is_lost = barrier->kind == KI_BARRIER_OFFSET_LOST;

	if (barrier->kind == KI_BARRIER_OTHER && reading->nopenings < MAX_OPENINGS)
	{
		open_again(reading);
		return;
	}
	ereport(ERROR,
			(errcode(is_lost ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE :
					 ERRCODE_DATA_CORRUPTED),
			 errmsg("topic \"%s\" partition %d cannot be read",
					reading->look->topic, barrier->partition),
			 errdetail_internal("%s", barrier->detail),
			 is_lost ?
			 errhint("Its first messages were removed meanwhile; try again.") :
			 errhint("Start behind the place with start_offsets.")));
}

static Part *
find_part(Reading *reading, int32 partition)
{
	for (int i = 0; i < reading->nparts; i++)
		if (reading->parts[i].point.partition == partition)
			return &reading->parts[i];
	return NULL;
}

static void
take_run(Reading *reading, const KiRun *run)
{
	Part	   *part = find_part(reading, run->partition);

	for (int i = run->first; i < run->first + run->count; i++)
	{
		const KiMessage *message = &reading->messages->items[i];

		if (!is_open(part))
			return;
		part->next_offset = message->offset + 1;
		if (message->offset >= part->end_offset)
			return;
		part->share--;
		reading->ntaken++;
		reading->take(reading->state, message);
	}
}

/* Behind the last message there may be only control records. */
static void
take_ends(Reading *reading)
{
	for (int i = 0; i < reading->nparts; i++)
	{
		Part	   *part = &reading->parts[i];

		if (is_open(part) &&
			ki_source_end(reading->source, part->assigned) >= part->end_offset)
			part->next_offset = part->end_offset;
	}
}

static void
sleep_a_little(Reading *reading)
{
	(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT |
							 WL_EXIT_ON_PM_DEATH | WL_SOCKET_READABLE,
							 ki_source_socket(reading->source), SLICE_MS,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Take what is there; false: nothing is. */
static bool
collect(Reading *reading)
{
	int			before = count_open(reading);
	int			ncollected;

	ki_source_drain(reading->source);
	ncollected = ki_source_collect(reading->source, reading->messages,
								   COLLECT_MESSAGES, COLLECT_BYTES);
	for (int i = 0; i < reading->messages->nruns; i++)
		take_run(reading, &reading->messages->runs[i]);
	ki_messages_release(reading->messages);
	if (ncollected == 0)
		take_ends(reading);
	if (count_open(reading) == 0)
		return true;
	if (ki_source_barrier(reading->source)->kind != KI_BARRIER_NONE)
		pass_barrier(reading);
	return ncollected > 0 || count_open(reading) < before;
}

/* Until every partition has given its share or is at its end. */
static void
read_round(Reading *reading)
{
	TimestampTz deadline = DT_NOEND;

	for (int i = 0; i < reading->nparts; i++)
		reading->parts[i].is_read = true;
	if (count_open(reading) == 0)
		return;
	assign(reading);
	while (count_open(reading) > 0)
	{
		if (collect(reading) || deadline == DT_NOEND)
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   KI_LOOK_WAIT_MS);
		else if (GetCurrentTimestamp() >= deadline ||
				 ki_look_is_hopeless(reading->source))
			ki_look_unanswered(reading->source, reading->connection);
		else
			sleep_a_little(reading);
	}
}

/* ------------------------------------------------------------------------
 * All rounds
 * ------------------------------------------------------------------------
 */

/* Share out what is still wanted; false: there is nobody to share or nothing. */
static bool
share_out(Reading *reading)
{
	int64		wanted = reading->look->max_messages - reading->ntaken;
	int			ngiving = 0;
	int			k = 0;

	for (int i = 0; i < reading->nparts; i++)
		ngiving += !is_at_end(&reading->parts[i]);
	if (wanted <= 0 || ngiving == 0)
		return false;
	for (int i = 0; i < reading->nparts; i++)
		if (!is_at_end(&reading->parts[i]))
			reading->parts[i].share = wanted / ngiving + (k++ < wanted % ngiving);
	return true;
}

/* From the ends backwards; false: all of the log was read. */
static bool
step_back(Reading *reading, int64 window)
{
	bool		has_more = false;

	for (int i = 0; i < reading->nparts; i++)
	{
		Part	   *part = &reading->parts[i];

		part->end_offset = part->point.offset;
		part->point.offset = Max(part->point.low_offset,
								 part->point.stable_offset - window);
		part->next_offset = part->point.offset;
		part->share = PG_INT64_MAX;
		has_more |= !is_at_end(part);
	}
	return has_more;
}

static void
read_newest(Reading *reading)
{
	int64		window = reading->look->max_messages;

	for (int i = 0; i < reading->nparts; i++)
		reading->parts[i].point.offset = reading->parts[i].point.stable_offset;
	while (reading->ntaken < reading->look->max_messages &&
		   step_back(reading, window))
	{
		read_round(reading);
		if (window < PG_INT64_MAX / WINDOW_FACTOR)
			window *= WINDOW_FACTOR;
	}
}

void
ki_look_read(const KiLook *look, KiLookTake take, void *state)
{
	Reading		reading = {0};

	reading.look = look;
	reading.take = take;
	reading.state = state;
	reading.connection = ki_connection_load(look->connection, GetUserId(), NULL,
											false);
	reading.source = ki_look_open(reading.connection, look->topic);
	reading.messages = ki_messages_create(COLLECT_MESSAGES);
	find_parts(&reading);
	if (look->is_newest)
		read_newest(&reading);
	else
		while (share_out(&reading))
			read_round(&reading);
	ki_messages_release(reading.messages);
	ki_source_close(reading.source);
}
