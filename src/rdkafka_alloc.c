/*
 * rdkafka_alloc.c
 *	  Where the private copy of librdkafka has its messages (floor 0).
 *
 * librdkafka allocates an operation for every message in a thread of its own,
 * cleared, and we have it freed in ours.  With glibc's malloc both threads need
 * the same lock for every message, so the Makefile links a private copy of the
 * library whose calls of calloc, realloc and free come here (the linker's
 * --wrap).  Only objects linked into kafka_ingest.so are led here: the server,
 * OpenSSL, SASL and everything else keep the allocator they have.
 *
 * Blocks of about that size are cut from slabs: each thread has one, from which
 * it takes block after block, and calls the next one into its cache, since the
 * other thread had it last.  No block is used again before all of its slab are
 * free.  Everything else is the C library's.  (All of it by mimalloc was as
 * fast as this is for other sizes, and took 0.05 microseconds more for a
 * message, 40 percent of the fetching thread's time.)
 *
 * Any pointer may come to free and realloc.  A block of ours therefore bears a
 * mark in front of it, and what has none is handed on.  The mark stands where
 * glibc keeps the size of its own blocks, which is never this large, so none of
 * them can be taken for ours, and its free aborts when it meets one of ours;
 * any other allocator has at least mapped that place, save for a block that
 * begins a mapping.  The other way round, nothing here can help: a foreign
 * realloc or the like must never see a block of ours.  The Makefile refuses a
 * librdkafka that calls such functions.
 *
 * Nothing of the server is used, so that the Makefile can try whether all this
 * can be linked with this file alone.
 */
#include "rdkafka_alloc.h"

#ifndef KI_RDKAFKA_PRIVATE

const char *
ki_rdkafka_linkage(void)
{
	return "shared";
}

#else

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LINE 64					/* bytes of a processor's cache */
#define SLAB_SIZE (16 * 1024)
#define MOST_SPARE 256			/* slabs, which is 4 MB */

/* Of the operations of librdkafka 2.0.2 to 2.14, and of its requests. */
#define FEWEST_BYTES 160
#define MOST_BYTES 640

/*
 * In front of a block.  The address is part of the mark, so a copy of a block
 * bears a wrong one.
 */
typedef struct Header
{
	uint32_t	size;			/* bytes asked for */
	uint32_t	place;			/* bytes from the slab's beginning */
	uint64_t	mark;
} Header;

#define MARK UINT64_C(0xb5c0fbcf00000000)

/* Its blocks follow, each at the beginning of a line. */
typedef struct Slab
{
	struct Slab *next;			/* among the spare ones */
	int			debt;			/* blocks in use, and MUCH while it is a
								 * thread's */
	int			given;			/* blocks, to the thread it is of */
	size_t		used;			/* bytes */
} Slab;

#define MUCH (1 << 30)

/* Called by the names that the linker gives them. */
#define HIDDEN __attribute__((visibility("hidden"), used))

extern HIDDEN void *__wrap_calloc(size_t count, size_t size);
extern HIDDEN void *__wrap_realloc(void *pointer, size_t size);
extern HIDDEN void __wrap_free(void *pointer);

/* The allocator of the process. */
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *pointer, size_t size);
extern void __real_free(void *pointer);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Slab *spare;
static int	nspare;

static __thread Slab *current;	/* the thread's slab */
static pthread_key_t at_exit;	/* has it, too, for the thread's end */
static int	has_key;

/* --- slabs --- */

static void
give_back(Slab *slab)
{
	pthread_mutex_lock(&lock);
	if (nspare < MOST_SPARE)
	{
		slab->next = spare;
		spare = slab;
		nspare++;
		slab = NULL;
	}
	pthread_mutex_unlock(&lock);
	__real_free(slab);
}

/* Whoever pays the last of the debt gives the slab back. */
static void
pay(Slab *slab, int count)
{
	if (__atomic_sub_fetch(&slab->debt, count, __ATOMIC_ACQ_REL) == 0)
		give_back(slab);
}

/* The thread takes no more from it. */
static void
leave(Slab *slab)
{
	pay(slab, MUCH - slab->given);
}

/* Of the thread, which may come back for more. */
static void
end_thread(void *slab)
{
	current = NULL;
	leave(slab);
}

/* NULL: no memory. */
static Slab *
take_spare(void)
{
	Slab	   *slab;

	pthread_mutex_lock(&lock);
	if (!has_key)
		has_key = pthread_key_create(&at_exit, end_thread) == 0;
	slab = has_key ? spare : NULL;
	if (slab)
	{
		spare = slab->next;
		nspare--;
	}
	pthread_mutex_unlock(&lock);
	return slab || !has_key ? slab : aligned_alloc(LINE, SLAB_SIZE);
}

/* Another slab for this thread; NULL: there is none. */
static Slab *
begin_slab(void)
{
	Slab	   *slab = take_spare();

	if (slab && pthread_setspecific(at_exit, slab) != 0)
	{
		give_back(slab);
		slab = NULL;
	}
	if (!slab)
		return NULL;
	if (current)
		leave(current);
	current = slab;
	slab->debt = MUCH;
	slab->given = 0;
	slab->used = LINE;

	return slab;
}

/*
 * Call in what will be written soon, as this processor's own, so that a locked
 * instruction need not wait for it.
 */
static inline void
call_in(char *block, size_t size)
{
#if defined(__x86_64__)
	for (size_t i = 0; i < size; i += LINE)
		__asm__ volatile ("prefetchw %0"::"m" (block[i]));
#else
	for (size_t i = 0; i < size; i += LINE)
		__builtin_prefetch(&block[i], 1);
#endif
}

/* A cleared block; NULL: there is no slab. */
static void *
cut(size_t size)
{
	size_t		taken = (sizeof(Header) + size + LINE -1) /LINE *LINE;
	Slab	   *slab = current;
	Header	   *header;

	if (!slab || slab->used + taken > SLAB_SIZE)
		slab = begin_slab();
	if (!slab)
		return NULL;
	header = (Header *) ((char *) slab + slab->used);
	if (slab->used + 3 * taken <= SLAB_SIZE)
		call_in((char *) header + 2 * taken, taken);
	memset(header, 0, taken);
	header->size = (uint32_t) size;
	header->place = (uint32_t) slab->used;
	header->mark = MARK ^ (uint64_t) (uintptr_t) header;
	slab->used += taken;
	slab->given++;
	return header + 1;
}

/* --- what librdkafka calls --- */

static int
is_ours(const Header *header)
{
	return header->mark == (MARK ^ (uint64_t) (uintptr_t) header);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	void	   *block = NULL;

	if (count == 1 && size >= FEWEST_BYTES && size <= MOST_BYTES)
		block = cut(size);
	return block ? block : __real_calloc(count, size);
}

void *
__wrap_realloc(void *pointer, size_t size)
{
	Header	   *header = (Header *) pointer - 1;
	void	   *copy;

	if (pointer == NULL || !is_ours(header))
		return __real_realloc(pointer, size);
	copy = malloc(size);
	if (copy == NULL)
		return NULL;
	memcpy(copy, pointer, header->size < size ? header->size : size);
	__wrap_free(pointer);
	return copy;
}

/* The mark goes with the block: to free it twice is an error of free's. */
void
__wrap_free(void *pointer)
{
	Header	   *header = (Header *) pointer - 1;

	if (pointer == NULL || !is_ours(header))
	{
		__real_free(pointer);
		return;
	}
	header->mark = 0;
	pay((Slab *) ((char *) header - header->place), 1);
}

const char *
ki_rdkafka_linkage(void)
{
	return "private";
}

#endif							/* KI_RDKAFKA_PRIVATE */
