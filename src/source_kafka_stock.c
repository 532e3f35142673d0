/*
 * source_kafka_stock.c
 *	  What was taken and is not delivered yet, and whose turn it is (floor 2).
 *
 * Messages come from the library in long stretches of one partition: a record
 * set may be a second of it.  They are delivered in short turns, so that a
 * batch has messages of the same time, and their keys, if these grow with time,
 * meet in the same pages of an index.  A partition that is behind another one
 * in time, and of which there is enough to come up with it, has longer turns
 * until it has; so does a partition that much has gathered of.  Every partition
 * that anything is there of has a turn in each round.
 *
 * Nothing of PostgreSQL is called here but ki_stock_make_lanes's allocation,
 * for a thread of its own may be taking (source_kafka_ahead.c).
 *
 * Memory: bundles and copies are in chunks (source_kafka_chunk.c), lanes in the
 * source's context.
 */
#include "postgres.h"

#include "source_kafka.h"
#include "utils/memutils.h"

/* Messages in a turn, and at most in one of a lane that is to come up. */
#define TURN_FEWEST 128
#define TURN_MOST 1024

/* A lane with very much has a turn of this part of it. */
#define TURN_PART 16

/* --- lanes --- */

/* A lane for each reading, all of them empty; there is nothing in the stock. */
void
ki_stock_make_lanes(KiSource *source)
{
	KiStock    *stock = &source->stock;
	int			nlanes = source->nreadings + 1;
	KiLane	   *lanes = MemoryContextAllocZero(source->context,
											   sizeof(KiLane) * nlanes);

	Assert(stock->count == 0 && stock->turn == NULL);
	for (int i = 0; i < nlanes; i++)
		lanes[i].time_ms = lanes[i].newest_ms = -1;
	if (stock->lanes)
		pfree(stock->lanes);
	stock->lanes = lanes;
	stock->nlanes = nlanes;
}

/* This lane's turn is after all others'. */
static void
wait_for_turn(KiStock *stock, KiLane *lane)
{
	lane->next = NULL;
	if (stock->turn)
		stock->last_turn->next = lane;
	else
		stock->turn = lane;
	stock->last_turn = lane;
}

/*
 * How much the first lane may deliver now: until it is where another one is,
 * if it gets there with what it has.  Much is more than half of the stock among
 * four lanes, three times an even part among many.
 */
static void
begin_turn(KiStock *stock)
{
	const KiLane *lane = stock->turn;
	int64		until_ms = -1;
	int64		nlanes = 0;

	stock->left_in_turn = TURN_FEWEST;
	stock->until_ms = -1;
	/* it will be empty then: the walk would cost more than that */
	if (lane->count <= TURN_FEWEST)
		return;
	for (const KiLane *other = lane; other; other = other->next)
	{
		if (other->time_ms > lane->time_ms && other->time_ms <= lane->newest_ms)
			until_ms = Max(until_ms, other->time_ms);
		nlanes++;
	}
	if (nlanes > 1 && lane->count * (nlanes + 2) > stock->count * INT64CONST(3))
		stock->left_in_turn = Max(lane->count / TURN_PART, TURN_FEWEST);
	else if (until_ms >= 0)
	{
		stock->left_in_turn = TURN_MOST;
		stock->until_ms = until_ms;
	}
}

/* The first lane has passed one message more. */
static bool
is_turn_over(const KiStock *stock)
{
	const KiLane *lane = stock->turn;

	return !lane->first || stock->left_in_turn == 0 ||
		(stock->until_ms >= 0 && lane->time_ms >= stock->until_ms &&
		 stock->left_in_turn <= TURN_MOST - TURN_FEWEST);
}

static void
end_turn(KiStock *stock)
{
	KiLane	   *lane = stock->turn;

	stock->turn = lane->next;
	if (lane->first)
		wait_for_turn(stock, lane);
	stock->left_in_turn = 0;
}

/* --- taking --- */

/*
 * A chunk with room for so many bytes and one user more: the one being filled,
 * or a new one that takes its place.  What would waste half of one has one of
 * its own, which goes with it.  NULL: no memory.
 */
static KiChunk *
find_chunk(KiStock *stock, Size size)
{
	KiChunk    *chunk = stock->chunk;

	if (size > KI_CHUNK_SIZE / 2)
		return ki_chunk_create(size);
	if (!chunk || chunk->size - chunk->used < size)
	{
		chunk = ki_chunk_create(KI_CHUNK_SIZE);
		if (!chunk)
			return NULL;
		if (stock->chunk)
			ki_chunk_leave(stock->chunk);
		stock->chunk = chunk;
	}
	ki_chunk_use(chunk);
	return chunk;
}

/* An empty bundle at the lane's end, with room for so many bytes behind it. */
static KiBundle *
begin_bundle(KiStock *stock, KiLane *lane, Size size)
{
	Size		own = MAXALIGN(sizeof(KiBundle));
	KiChunk    *chunk = find_chunk(stock, own + size);
	KiBundle   *bundle;

	if (!chunk)
		return NULL;
	bundle = (KiBundle *) (chunk->bytes + chunk->used);
	chunk->used += own;
	bundle->next = NULL;
	bundle->chunk = chunk;
	bundle->event = NULL;
	bundle->copy = (const KiCopy *) (chunk->bytes + chunk->used);
	bundle->count = 0;
	if (lane->first)
		lane->last->next = bundle;
	else
	{
		lane->first = bundle;
		wait_for_turn(stock, lane);
	}
	lane->last = bundle;
	/* it is at the end of what is filled of its chunk */
	if (chunk == stock->chunk)
		stock->open_lane = lane;
	else if (stock->open_lane == lane)
		stock->open_lane = NULL;
	return bundle;
}

/*
 * Room for a message that takes so many bytes with its KiCopy, of which size
 * and time are filled in; NULL: no memory.
 */
KiCopy *
ki_stock_add(KiStock *stock, KiLane *lane, Size size, int64 timestamp_ms)
{
	Size		needed = MAXALIGN(size);
	KiChunk    *chunk = stock->chunk;
	KiBundle   *bundle;
	KiCopy	   *copy;

	if (stock->open_lane == lane && chunk->size - chunk->used >= needed)
		bundle = lane->last;
	else if ((bundle = begin_bundle(stock, lane, needed)) == NULL)
		return NULL;
	chunk = bundle->chunk;
	copy = (KiCopy *) (chunk->bytes + chunk->used);
	copy->size = size;
	copy->timestamp_ms = lane->newest_ms = timestamp_ms;
	chunk->used += needed;
	bundle->count++;
	lane->count++;
	stock->count++;
	return copy;
}

/* The event is ours then; false: no memory. */
bool
ki_stock_add_event(KiStock *stock, KiLane *lane, rd_kafka_message_t *event)
{
	KiBundle   *bundle = begin_bundle(stock, lane, 0);

	if (!bundle)
		return false;
	bundle->event = event;
	stock->open_lane = NULL;
	lane->count++;
	stock->count++;
	return true;
}

/* --- delivering --- */

static void
leave_bundle(KiStock *stock, KiLane *lane)
{
	KiBundle   *bundle = lane->first;

	if (stock->open_lane == lane && lane->last == bundle)
		stock->open_lane = NULL;
	lane->first = bundle->next;
	ki_chunk_leave(bundle->chunk);
}

/* What is next was dealt with: the one after it is, or another's. */
void
ki_stock_pass(KiStock *stock)
{
	KiLane	   *lane = stock->turn;
	KiBundle   *bundle = lane->first;
	const KiCopy *copy = bundle->copy;

	if (stock->left_in_turn == 0)
		begin_turn(stock);
	stock->left_in_turn--;
	stock->count--;
	lane->count--;
	if (!bundle->event)
	{
		stock->bytes -= copy->bytes;
		lane->time_ms = copy->timestamp_ms;
		bundle->copy = (const KiCopy *) ((const char *) copy + MAXALIGN(copy->size));
		bundle->count--;
	}
	if (bundle->count == 0)
		leave_bundle(stock, lane);
	if (is_turn_over(stock))
		end_turn(stock);
}

/* Nothing of it will be delivered. */
void
ki_stock_clear(KiStock *stock)
{
	while (stock->turn)
	{
		KiLane	   *lane = stock->turn;

		if (lane->first->event)
			rd_kafka_message_destroy(lane->first->event);
		leave_bundle(stock, lane);
		if (!lane->first)
		{
			lane->count = 0;
			end_turn(stock);
		}
	}
	while (stock->next_raw < stock->nraw)
		rd_kafka_message_destroy(stock->raw[stock->next_raw++]);
	if (stock->chunk)
		ki_chunk_leave(stock->chunk);
	stock->chunk = NULL;
	stock->open_lane = NULL;
	stock->count = 0;
	stock->bytes = 0;
}
