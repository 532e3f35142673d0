/*
 * source_kafka_stock.c
 *	  What was taken and is not delivered yet, and whose turn it is (floor 2).
 *
 * Messages come from the library in long stretches of one partition: a record
 * set may be a second of it.  They are delivered in short turns, as far as the
 * timestamps of the partitions go side by side, so that a batch has messages of
 * the same time, and their keys, if these grow with time, meet in the same
 * pages of an index.  A partition that is behind has longer turns, but nobody
 * ever waits for more than one turn of each other one, and nobody waits for
 * messages that are not there.
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

/* Messages in one turn, at least if they are there, and at most. */
#define TURN_FEWEST 128
#define TURN_MOST 1024

/* --- lanes --- */

/* A lane for each reading, all of them empty; there is nothing in the stock. */
void
ki_stock_make_lanes(KiSource *source)
{
	KiStock    *stock = &source->stock;

	Assert(stock->count == 0);
	if (stock->lanes)
		pfree(stock->lanes);
	stock->lanes = NULL;
	stock->nlanes = source->nreadings + 1;
	stock->lanes = MemoryContextAllocZero(source->context,
										  sizeof(KiLane) * stock->nlanes);
	for (int i = 0; i < stock->nlanes; i++)
		stock->lanes[i].time_ms = -1;
	stock->furthest = &stock->lanes[0];
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
 * One message from the future matters until its own partition's next turn has
 * ended.
 */
static void
end_turn(KiStock *stock)
{
	KiLane	   *lane = stock->turn;

	if (lane->time_ms > stock->furthest->time_ms)
		stock->furthest = lane;
	stock->in_turn = 0;
	stock->turn = lane->next;
	if (lane->first)
		wait_for_turn(stock, lane);
}

/* --- taking --- */

/*
 * Have room for so many bytes in the chunk, or in a new one, then with what is
 * left of the last one in *wasted.  False: no memory.
 */
static bool
make_room(KiStock *stock, Size size, Size *wasted)
{
	KiChunk    *chunk = stock->chunk;

	*wasted = 0;
	if (likely(chunk && chunk->size - chunk->used >= size))
		return true;
	if (chunk)
		*wasted = chunk->size - chunk->used;
	chunk = ki_chunk_create(size);
	if (!chunk)
		return false;
	if (stock->chunk)
		ki_chunk_leave(stock->chunk);
	stock->chunk = chunk;
	stock->open_lane = NULL;
	return true;
}

/* An empty bundle at the lane's end, with room for so many bytes behind it. */
static KiBundle *
begin_bundle(KiStock *stock, KiLane *lane, Size size, Size *wasted)
{
	Size		own = MAXALIGN(sizeof(KiBundle));
	KiChunk    *chunk;
	KiBundle   *bundle;

	if (!make_room(stock, own + size, wasted))
		return NULL;
	chunk = stock->chunk;
	bundle = (KiBundle *) (chunk->bytes + chunk->used);
	chunk->used += own;
	ki_chunk_use(chunk);
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
	stock->count++;
	return bundle;
}

/*
 * Room for a message that takes so many bytes with its KiCopy, of which size is
 * filled in; NULL: no memory.
 */
KiCopy *
ki_stock_add(KiStock *stock, KiLane *lane, Size size, Size *wasted)
{
	Size		needed = MAXALIGN(size);
	KiChunk    *chunk = stock->chunk;
	KiCopy	   *copy;

	*wasted = 0;
	if (stock->open_lane == lane && chunk->size - chunk->used >= needed)
		stock->count++;
	else if (!begin_bundle(stock, lane, needed, wasted))
		return NULL;
	stock->open_lane = lane;
	chunk = stock->chunk;
	copy = (KiCopy *) (chunk->bytes + chunk->used);
	copy->size = size;
	chunk->used += needed;
	lane->last->count++;
	return copy;
}

/* The event is ours then; false: no memory. */
bool
ki_stock_add_event(KiStock *stock, KiLane *lane, rd_kafka_message_t *event)
{
	Size		wasted;
	KiBundle   *bundle = begin_bundle(stock, lane, 0, &wasted);

	if (!bundle)
		return false;
	bundle->event = event;
	stock->open_lane = NULL;
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

	stock->count--;
	stock->in_turn++;
	if (!bundle->event)
	{
		stock->bytes -= copy->bytes;
		lane->time_ms = copy->timestamp_ms;
		bundle->copy = (const KiCopy *) ((const char *) copy + MAXALIGN(copy->size));
		bundle->count--;
	}
	if (bundle->count == 0)
		leave_bundle(stock, lane);
	if (!lane->first || stock->in_turn >= TURN_MOST ||
		(stock->in_turn >= TURN_FEWEST && lane->time_ms >= stock->furthest->time_ms))
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
			end_turn(stock);
	}
	while (stock->next_raw < stock->nraw)
		rd_kafka_message_destroy(stock->raw[stock->next_raw++]);
	if (stock->chunk)
		ki_chunk_leave(stock->chunk);
	stock->chunk = NULL;
	stock->open_lane = NULL;
	stock->in_turn = 0;
	stock->count = 0;
	stock->bytes = 0;
}
