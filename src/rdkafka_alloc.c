/*
 * rdkafka_alloc.c
 *	  The allocator of the private copy of librdkafka (floor 0).
 *
 * librdkafka allocates every message in a thread of its own and we free it in
 * ours.  With glibc's malloc both threads then need the same lock for every
 * message, so the Makefile links a private copy of the library whose calls of
 * malloc and its kin come here (the linker's --wrap), and go on to mimalloc.
 * Only objects linked into kafka_ingest.so are led here: the server, OpenSSL,
 * SASL and everything else keep the allocator they have.
 *
 * A pointer may come from one of these, and go through librdkafka's free.
 * Every block of ours therefore bears a mark in front of it, and what has none
 * is handed to the allocator of the process.  (mimalloc's own question,
 * mi_is_in_heap_region, will not do: in 2.0.9 it denies whatever lies above
 * 20 TB, where the library gets to after 10 TB of mappings, or at once when
 * lower addresses are taken.)  The other way round, nothing here can help: a
 * foreign realloc or the like must never see a block of ours.  The Makefile
 * refuses a librdkafka that calls such functions.
 *
 * Nothing of the server is used, so that the Makefile can try whether all this
 * can be linked with this file alone.
 */
#include "rdkafka_alloc.h"

#include <stddef.h>

#ifndef KI_RDKAFKA_PRIVATE

const char *
ki_rdkafka_linkage(void)
{
	return "shared";
}

const char *
ki_rdkafka_allocator(void)
{
	return NULL;
}

#else

#include <mimalloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Two words, which keeps the alignment of malloc.  The mark stands directly
 * before the pointer that is given out: there glibc keeps the size of its own
 * blocks, which is never this large, so none of them can be taken for ours,
 * and its free aborts when it meets one of ours; any other allocator has at
 * least mapped that place, save for a block that begins a mapping.  The address
 * is part of the mark, so a copy of a block bears a wrong one.
 */
typedef struct Header
{
	size_t		unused;
	uint64_t	mark;
} Header;

#define MARK UINT64_C(0xb5c0fbcf00000000)

/* Called by librdkafka only, and by the names that the linker gives them. */
#define HIDDEN __attribute__((visibility("hidden"), used))

extern HIDDEN void *__wrap_malloc(size_t size);
extern HIDDEN void *__wrap_calloc(size_t count, size_t size);
extern HIDDEN void *__wrap_realloc(void *pointer, size_t size);
extern HIDDEN void __wrap_free(void *pointer);
extern HIDDEN char *__wrap_strdup(const char *text);
extern HIDDEN char *__wrap_strndup(const char *text, size_t most);

/* The allocator of the process. */
extern void *__real_realloc(void *pointer, size_t size);
extern void __real_free(void *pointer);

static uint64_t
mark_of(const Header *header)
{
	return MARK ^ (uint64_t) (uintptr_t) header;
}

/* What is given out for a new block; NULL when there was no memory. */
static void *
mark(Header *header)
{
	if (header == NULL)
		return NULL;
	header->mark = mark_of(header);
	return header + 1;
}

static int
is_ours(const Header *header)
{
	return header->mark == mark_of(header);
}

void *
__wrap_malloc(size_t size)
{
	if (size > PTRDIFF_MAX - sizeof(Header))
		return NULL;
	return mark(mi_malloc(sizeof(Header) + size));
}

void *
__wrap_calloc(size_t count, size_t size)
{
	size_t		total;

	if (__builtin_mul_overflow(count, size, &total) ||
		total > PTRDIFF_MAX - sizeof(Header))
		return NULL;
	return mark(mi_zalloc(sizeof(Header) + total));
}

void *
__wrap_realloc(void *pointer, size_t size)
{
	Header	   *header = (Header *) pointer - 1;

	if (pointer == NULL)
		return __wrap_malloc(size);
	if (!is_ours(header))
		return __real_realloc(pointer, size);
	if (size > PTRDIFF_MAX - sizeof(Header))
		return NULL;
	return mark(mi_realloc(header, sizeof(Header) + size));
}

/* The mark goes with the block: to free it twice is an error of free's. */
void
__wrap_free(void *pointer)
{
	Header	   *header = (Header *) pointer - 1;

	if (pointer == NULL)
		return;
	if (!is_ours(header))
	{
		__real_free(pointer);
		return;
	}
	header->mark = 0;
	mi_free(header);
}

static char *
copy(const char *text, size_t length)
{
	char	   *block = __wrap_malloc(length + 1);

	if (block == NULL)
		return NULL;
	block[length] = '\0';
	return memcpy(block, text, length);
}

char *
__wrap_strdup(const char *text)
{
	return copy(text, strlen(text));
}

char *
__wrap_strndup(const char *text, size_t most)
{
	return copy(text, strnlen(text, most));
}

const char *
ki_rdkafka_linkage(void)
{
	return "private";
}

/*
 * Memory that was read into is needed again for the next answer of the broker,
 * a batch later: to give it back to the kernel after 25 ms, as is the default,
 * cost 8 % of a worker's time.  The environment's word (MIMALLOC_...) wins.
 */
#if MI_MALLOC_VERSION < 210
#define PURGE_DELAY mi_option_decommit_delay
#else
#define PURGE_DELAY mi_option_purge_delay
#endif
#define PURGE_DELAY_MS 1000

__attribute__((constructor))
static void
set_options(void)
{
	mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS);
}

/* The number is 209 for 2.0.9, and 30600 for 3.6.0. */
const char *
ki_rdkafka_allocator(void)
{
	static char text[64];
	int			version = mi_version();
	int			base = version < 10000 ? 10 : 100;

	snprintf(text, sizeof(text), "mimalloc %d.%d.%d",
			 version / base / base, version / base % base, version % base);
	return text;
}

#endif							/* KI_RDKAFKA_PRIVATE */
