/*
 * alloc_test.c
 *		Unit test of src/rdkafka_alloc.c: its functions are what malloc and its
 *		kin are called here, as in librdkafka.  Prints TAP.
 *
 *   alloc_test low|high     where mimalloc finds room: below 20 TB, which it
 *                           prefers, or only above that
 *
 * What libc allocates by itself (asprintf) is the foreign memory, which must
 * come through free and realloc unharmed.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdkafka_alloc.h"

#define TERABYTE ((uintptr_t) 1 << 40)

extern void __real_free(void *pointer);

static int	ntests = 0;
static int	nfailed = 0;

static void
ok(int good, const char *name)
{
	ntests++;
	nfailed += !good;
	printf("%s %d - %s\n", good ? "ok" : "not ok", ntests, name);
}

/* Do all bytes have this value? */
static int
is_filled(const char *block, size_t size, char value)
{
	for (size_t i = 0; i < size; i++)
		if (block[i] != value)
			return 0;
	return 1;
}

static void
test_blocks(void)
{
	int			aligned = 1;
	int			zeroed = 1;
	char	   *block;

	for (size_t size = 0; size < 70000; size = size * 3 / 2 + 1)
	{
		block = malloc(size);
		aligned = aligned && block && (uintptr_t) block % 16 == 0;
		memset(block, 'x', size);
		free(block);
		block = calloc(size, 3);
		aligned = aligned && block && (uintptr_t) block % 16 == 0;
		zeroed = zeroed && is_filled(block, size * 3, 0);
		free(block);
	}
	ok(aligned, "blocks of all sizes are aligned as malloc's");
	ok(zeroed, "calloc clears memory that was used before");

	block = realloc(NULL, 10);
	memset(block, 'y', 10);
	block = realloc(block, 1000000);
	ok(block && is_filled(block, 10, 'y'), "realloc keeps what it moves");
	free(block);
	free(NULL);
}

static void
test_strings(void)
{
	char	   *copy = strdup("copied");
	char	   *start = strndup("copied", 3);
	char	   *whole = strndup("copied", SIZE_MAX);

	ok(strcmp(copy, "copied") == 0, "strdup");
	ok(strcmp(start, "cop") == 0, "strndup shortens");
	ok(strcmp(whole, "copied") == 0, "strndup of less than there may be");
	free(copy);
	free(start);
	free(whole);
}

static void
test_too_much(void)
{
	volatile size_t huge = SIZE_MAX;
	char	   *block = malloc(10);

	ok(malloc(huge) == NULL && malloc(huge / 2) == NULL, "malloc of too much");
	ok(calloc(huge / 2, 3) == NULL && calloc(huge, 1) == NULL, "calloc of too much");
	ok(realloc(block, huge) == NULL, "realloc to too much");
	free(block);
}

static void
test_foreign(void)
{
	int			good = 1;

	for (int size = 1; size < 1000000; size *= 3)
	{
		char	   *text;

		if (asprintf(&text, "%0*d", size, 7) < 0)
			abort();
		text = realloc(text, size + 100);
		good = good && strlen(text) == (size_t) size && text[size - 1] == '7';
		free(text);
		if (asprintf(&text, "%0*d", size, 7) < 0)
			abort();
		free(text);
	}
	ok(good, "memory of libc comes through realloc and free");
}

/* Ends by a signal, in a process of its own? */
static int
aborts(void (*release) (void *pointer), int times)
{
	pid_t		child = fork();
	int			status;

	if (child == 0)
	{
		void	   *block = malloc(100);

		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		while (times-- > 0)
			release(block);
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status);
}

static void *
free_all(void *blocks)
{
	for (char **block = blocks; *block; block++)
		free(*block);
	return NULL;
}

static void
test_threads(void)
{
	static char *blocks[10001];
	pthread_t	thread;

	for (int round = 0; round < 100; round++)
	{
		for (int i = 0; i < 10000; i++)
			blocks[i] = malloc(i % 600);
		if (pthread_create(&thread, NULL, free_all, blocks) != 0 ||
			pthread_join(thread, NULL) != 0)
			abort();
	}
	ok(1, "another thread frees");
}

static void
reserve_low_addresses(void)
{
	int			flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

	for (uintptr_t at = TERABYTE; at < 40 * TERABYTE; at += TERABYTE)
		(void) mmap((void *) at, TERABYTE, PROT_NONE, flags, -1, 0);
}

static void
test_place(int is_high)
{
	char	   *block = malloc(100);

	ok(((uintptr_t) block > 20 * TERABYTE) == is_high, "blocks are where they should be");
	free(block);
}

int
main(int argc, char **argv)
{
	int			is_high = argc > 1 && strcmp(argv[1], "high") == 0;

	if (is_high)
		reserve_low_addresses();
	printf("# %s, %s\n", ki_rdkafka_linkage(), ki_rdkafka_allocator());
	test_place(is_high);
	test_blocks();
	test_strings();
	test_too_much();
	test_foreign();
	ok(aborts(free, 2), "to free a block twice is an error");
	ok(aborts(__real_free, 1), "libc refuses a block of ours");
	test_threads();
	printf("1..%d\n", ntests);
	return nfailed > 0;
}
