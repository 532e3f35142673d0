/*
 * taking_stock.c
 *		What must hold of the stock and of chunks whenever nobody is in the middle
 *		of changing them.
 */
#include "taking_test.h"

#include <stdlib.h>

/* --- the stock --- */

static int64
bundle_bytes(const KiBundle *bundle)
{
	const KiCopy *copy = bundle->copy;
	int64		bytes = 0;

	for (int i = 0; i < bundle->count; i++)
	{
		bytes += copy->bytes;
		copy = (const KiCopy *) ((const char *) copy + MAXALIGN(copy->size));
	}
	return bytes;
}

static void
check_lane(const KiLane *lane)
{
	int			count = 0;

	for (const KiBundle *bundle = lane->first; bundle; bundle = bundle->next)
	{
		require(bundle->event ? bundle->count == 0 : bundle->count > 0,
				"a bundle has messages or is an event");
		require(bundle->next || bundle == lane->last, "a lane knows its end");
		count += bundle->event ? 1 : bundle->count;
	}
	require(lane->count == count, "a lane counts what is in it");
}

/* Every lane with something in it has its turn. */
static void
check_turns(const KiStock *stock)
{
	int			waiting = 0;
	int			full = 0;

	for (const KiLane *lane = stock->turn; lane; lane = lane->next)
	{
		require(lane->first != NULL, "an empty lane has no turn");
		require(lane->next || lane == stock->last_turn, "the last turn is known");
		waiting++;
	}
	for (int i = 0; i < stock->nlanes; i++)
		full += stock->lanes[i].first != NULL;
	require(waiting == full, "every lane with something in it has its turn");
	require(stock->left_in_turn >= 0 && (stock->turn || stock->left_in_turn == 0),
			"what is left of a turn");
}

void
check_stock(const KiStock *stock)
{
	const KiLane *open = stock->open_lane;
	int64		bytes = 0;
	int			count = 0;

	check_turns(stock);
	for (int i = 0; i < stock->nlanes; i++)
	{
		check_lane(&stock->lanes[i]);
		count += stock->lanes[i].count;
		for (KiBundle *bundle = stock->lanes[i].first; bundle; bundle = bundle->next)
			bytes += bundle_bytes(bundle);
	}
	require(stock->count == count, "the stock counts what is in it");
	require(stock->bytes == bytes, "the stock counts its bytes");
	require(open == NULL || (open->first && !open->last->event &&
							 open->last->chunk == stock->chunk),
			"the open lane's last bundle is in the chunk that is filled");
}

/* --- chunks --- */

/* Everybody who uses a chunk, as often as he does. */
typedef struct Users
{
	KiChunk   **chunks;
	int			count;
	int			size;
} Users;

static void
add_user(Users *users, KiChunk *chunk)
{
	if (users->count == users->size)
	{
		users->size = Max(users->size * 2, 1024);
		users->chunks = realloc(users->chunks, sizeof(KiChunk *) * users->size);
	}
	users->chunks[users->count++] = chunk;
}

static void
find_users(Users *users, const KiStock *stock, const KiHolding *holding)
{
	users->count = 0;
	if (stock->chunk)
		add_user(users, stock->chunk);
	for (int i = 0; i < stock->nlanes; i++)
		for (KiBundle *bundle = stock->lanes[i].first; bundle; bundle = bundle->next)
			add_user(users, bundle->chunk);
	for (int i = 0; i < holding->nchunks; i++)
		add_user(users, holding->chunks[i]);
}

static int
compare_chunks(const void *a, const void *b)
{
	uintptr_t	left = *(const uintptr_t *) a;
	uintptr_t	right = *(const uintptr_t *) b;

	return left < right ? -1 : left > right;
}

void
check_chunks(const KiStock *stock, const KiHolding *holding)
{
	static Users users;
	int64		bytes = 0;
	int			end;

	find_users(&users, stock, holding);
	qsort(users.chunks, users.count, sizeof(KiChunk *), compare_chunks);
	for (int i = 0; i < users.count; i = end)
	{
		const KiChunk *chunk = users.chunks[i];

		for (end = i; end < users.count && users.chunks[end] == chunk; end++)
			;
		require(chunk->nusers == end - i, "a chunk counts its users");
		require(chunk->used <= chunk->size, "a chunk is not filled beyond its end");
		bytes += chunk->size;
	}
	require(ki_chunk_bytes() == bytes, "the bytes of chunks in use are counted");
}
