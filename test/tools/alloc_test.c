/*
 * alloc_test.c
 *		Unit test of src/rdkafka_alloc.c: its functions are what calloc, realloc
 *		and free are called here, as in librdkafka.  Prints TAP.
 *
 * What libc allocates by itself (malloc, asprintf) is the foreign memory, which
 * must come through free and realloc unharmed.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdkafka_alloc.h"

#define MESSAGE 296				/* bytes of librdkafka's operation for one */

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

/* Bytes that are allocated from libc. */
static size_t
in_use(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void
test_blocks(void)
{
	static char *blocks[2000];
	int			aligned = 1;
	int			zeroed = 1;
	int			kept = 1;

	for (int round = 0; round < 3; round++)
	{
		for (int size = 0; size < 2000; size++)
		{
			blocks[size] = calloc(1, size);
			aligned = aligned && blocks[size] && (uintptr_t) blocks[size] % 16 == 0;
			zeroed = zeroed && is_filled(blocks[size], size, 0);
			memset(blocks[size], size % 100, size);
		}
		for (int size = 0; size < 2000; size++)
		{
			kept = kept && is_filled(blocks[size], size, size % 100);
			free(blocks[size]);
		}
	}
	ok(aligned, "blocks of all sizes are aligned as malloc's");
	ok(zeroed, "they are cleared, also in memory that was used before");
	ok(kept, "and no two of them overlap");
	free(NULL);
}

static void
test_realloc(void)
{
	char	   *block = realloc(NULL, 10);
	int			kept = 1;

	memset(block, 'y', 10);
	block = realloc(block, 1000000);
	ok(block && is_filled(block, 10, 'y'), "realloc keeps what it moves");
	free(block);
	for (size_t size = 100; size < 1000; size++)
	{
		block = calloc(1, size);
		memset(block, 'z', size);
		block = realloc(block, size * 2);
		kept = kept && block && is_filled(block, size, 'z');
		block = realloc(block, size / 2);
		kept = kept && block && is_filled(block, size / 2, 'z');
		free(block);
		block = calloc(1, size);
		memset(block, 'w', size);
		block = realloc(block, size / 2);
		kept = kept && block && is_filled(block, size / 2, 'w');
		free(block);
	}
	ok(kept, "of all sizes, larger and smaller");
}

static void
test_too_much(void)
{
	volatile size_t huge = SIZE_MAX;
	char	   *block = calloc(1, MESSAGE);

	ok(calloc(huge / 2, 3) == NULL && calloc(huge, 1) == NULL &&
	   calloc(1, huge) == NULL, "calloc of too much");
	ok(realloc(block, huge) == NULL && is_filled(block, MESSAGE, 0), "realloc to too much leaves the block");
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
		free(malloc(size));
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
		void	   *block = calloc(1, MESSAGE);

		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		while (times-- > 0)
			release(block);
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status);
}

/* --- threads --- */

#define NBLOCKS 10000

static char *blocks[NBLOCKS];

static void *
allocate_all(void *arg)
{
	for (int i = 0; i < NBLOCKS; i++)
	{
		blocks[i] = calloc(1, MESSAGE + i % 3);
		if (!is_filled(blocks[i], MESSAGE, 0))
			abort();
		memset(blocks[i], i % 100, MESSAGE);
	}
	return arg;
}

static void *
free_all(void *arg)
{
	for (int i = 0; i < NBLOCKS; i++)
	{
		if (!is_filled(blocks[i], MESSAGE, i % 100))
			abort();
		free(blocks[i]);
	}
	return arg;
}

static void
in_thread(void *(*routine) (void *arg))
{
	pthread_t	thread;

	if (pthread_create(&thread, NULL, routine, NULL) != 0 ||
		pthread_join(thread, NULL) != 0)
		abort();
}

/* A thread that ends gives its slab back, though blocks of it live on. */
static void
test_threads(void)
{
	size_t		after_one = 0;

	for (int round = 0; round < 200; round++)
	{
		in_thread(allocate_all);
		in_thread(free_all);
		if (round == 0)
			after_one = in_use();
	}
	ok(1, "one thread allocates, another one frees");
	ok(after_one < 6 * 1024 * 1024, "some slabs are kept, not all");
	ok(in_use() < after_one + 1024 * 1024, "nothing is lost when threads end");
}

static volatile int passed = 0;

static void *
free_behind(void *arg)
{
	for (int i = 0; i < NBLOCKS; i++)
	{
		while (__atomic_load_n(&passed, __ATOMIC_ACQUIRE) <= i)
			;
		if (!is_filled(blocks[i], MESSAGE, i % 100))
			abort();
		free(blocks[i]);
	}
	return arg;
}

static void
test_both_at_once(void)
{
	for (int round = 0; round < 50; round++)
	{
		pthread_t	thread;

		passed = 0;
		if (pthread_create(&thread, NULL, free_behind, NULL) != 0)
			abort();
		for (int i = 0; i < NBLOCKS; i++)
		{
			blocks[i] = calloc(1, MESSAGE);
			memset(blocks[i], i % 100, MESSAGE);
			__atomic_store_n(&passed, i + 1, __ATOMIC_RELEASE);
		}
		if (pthread_join(thread, NULL) != 0)
			abort();
	}
	ok(1, "another thread frees while one allocates");
}

int
main(void)
{
	printf("# %s\n", ki_rdkafka_linkage());
	test_blocks();
	test_realloc();
	test_too_much();
	test_foreign();
	ok(aborts(free, 2), "to free a block twice is an error");
	ok(aborts(__real_free, 1), "libc refuses a block of ours");
	test_threads();
	test_both_at_once();
	printf("1..%d\n", ntests);
	return nfailed > 0;
}
