/*
 * source_kafka_chunk.c
 *	  The memory that messages are copied into (floor 2).
 *
 * A chunk has many small messages, or one that is larger.  It goes when the
 * stock, all bundles and all arrays of messages have left it.  Some are kept
 * for the next batch until a source is closed or its array goes: to give memory
 * back to the kernel, and to get it again a batch later, would cost as much as
 * all copying.
 *
 * Memory: of the C library's, and shared by threads; all of it is under one
 * lock, which is taken once per bundle and not per message.  Nothing of
 * PostgreSQL is called here.
 */
#include "postgres.h"

#include <pthread.h>

#include "source_kafka.h"

/* With its head not more than the C library takes from its heap. */
#define CHUNK_SIZE (Size) (120 * 1024)

/* As much as two batches of small messages take, or 4 MB. */
#define MOST_SPARE 32

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static KiChunk *spare = NULL;
static int	nspare = 0;

static KiChunk *
take_spare(void)
{
	KiChunk    *chunk;

	pthread_mutex_lock(&lock);
	chunk = spare;
	if (chunk)
	{
		spare = chunk->next;
		nspare--;
	}
	pthread_mutex_unlock(&lock);
	return chunk;
}

/* A chunk with one user and room for so many bytes; NULL: no memory. */
KiChunk *
ki_chunk_create(Size size)
{
	KiChunk    *chunk = NULL;

	size = Max(size, CHUNK_SIZE);
	if (size == CHUNK_SIZE)
		chunk = take_spare();
	if (chunk == NULL)
		chunk = malloc(offsetof(KiChunk, bytes) + size);
	if (chunk == NULL)
		return NULL;
	chunk->next = NULL;
	chunk->nusers = 1;
	chunk->size = size;
	chunk->used = 0;
	return chunk;
}

void
ki_chunk_use(KiChunk *chunk)
{
	pthread_mutex_lock(&lock);
	chunk->nusers++;
	pthread_mutex_unlock(&lock);
}

void
ki_chunk_leave(KiChunk *chunk)
{
	pthread_mutex_lock(&lock);
	if (--chunk->nusers > 0)
		chunk = NULL;
	else if (chunk->size == CHUNK_SIZE && nspare < MOST_SPARE)
	{
		chunk->next = spare;
		spare = chunk;
		nspare++;
		chunk = NULL;
	}
	pthread_mutex_unlock(&lock);
	free(chunk);
}

void
ki_chunk_forget_spare(void)
{
	KiChunk    *chunk;

	while ((chunk = take_spare()) != NULL)
		free(chunk);
}
