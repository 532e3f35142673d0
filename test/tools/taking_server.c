/*
 * taking_server.c
 *		What the server and the rest of the source are to the code under test:
 *		memory on the C library's heap, whose ends the address sanitizer knows,
 *		and errors, which are raised at random wherever they may be.
 *
 * Each of these functions fails when it is called by another thread.
 */
#include "taking_test.h"

#include <stdlib.h>

#include "miscadmin.h"
#include "utils/memutils.h"

int			error_rarity = 0;
int			refusal_rarity = 0;
int64		errors_raised = 0;
int64		arrays_grown = 0;
int64		chunks_refused = 0;
int64		chunks_allocated = 0;

sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;
MemoryContext CurrentMemoryContext = NULL;
volatile sig_atomic_t InterruptPending = true;	/* ask each time */

static pthread_t main_thread;
static MemoryContextCallback *reset_callback = NULL;

/* Two, so that what the broker sends does not depend on the other thread. */
static uint64 main_state;
static uint64 taking_state;

/* --- chance --- */

/* xorshift */
uint32
draw(uint64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32) (*state >> 11);
}

uint32
draw_main(void)
{
	return draw(&main_state);
}

/* For whoever the stock is of. */
uint32
draw_taking(void)
{
	return draw(&taking_state);
}

void
begin_server(uint64 seed)
{
	main_thread = pthread_self();
	main_state = seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	taking_state = main_state ^ UINT64CONST(0x5851F42D4C957F2D);
	for (int i = 0; i < 20; i++)
	{
		draw_main();
		draw_taking();
	}
}

/* --- errors --- */

bool
is_main_thread(void)
{
	return pthread_equal(pthread_self(), main_thread) != 0;
}

static void
require_main_thread(void)
{
	require(is_main_thread(), "nothing of PostgreSQL is called by the thread");
}

bool
attempt(void (*action) (void *arg), void *arg)
{
	sigjmp_buf	buffer;
	bool		is_done = false;

	if (sigsetjmp(buffer, 0) == 0)
	{
		PG_exception_stack = &buffer;
		action(arg);
		is_done = true;
	}
	PG_exception_stack = NULL;
	return is_done;
}

static void
raise_error(void)
{
	require(PG_exception_stack != NULL, "errors are raised where they may be");
	errors_raised++;
	siglongjmp(*PG_exception_stack, 1);
}

static void
maybe_raise(int rarity)
{
	require_main_thread();
	if (PG_exception_stack && rarity > 0 && draw_main() % rarity == 0)
		raise_error();
}

void
ProcessInterrupts(void)
{
	maybe_raise(error_rarity);
}

bool
errstart(int elevel, const char *domain)
{
	require_main_thread();
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	require_main_thread();
	return true;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	raise_error();
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	return 0;
}

int
errdetail(const char *fmt,...)
{
	return 0;
}

void
#if PG_VERSION_NUM >= 160000
ExceptionalCondition(const char *condition, const char *file, int line)
#else
ExceptionalCondition(const char *condition, const char *type, const char *file,
					 int line)
#endif
{
	fprintf(stderr, "# %s:%d\n", file, line);
	require(false, condition);
	abort();
}

/* --- memory --- */

/* What is PostgreSQL's goes with its context, which is none here. */
extern const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

void *
palloc(Size size)
{
	maybe_raise(error_rarity);
	return malloc(size);
}

void *
palloc0(Size size)
{
	maybe_raise(error_rarity);
	return calloc(1, size);
}

void *
palloc_extended(Size size, int flags)
{
	return palloc(size);
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return palloc(size);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return palloc0(size);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return palloc(size);
}

/* Arrays grow so seldom that every second time has to fail. */
void *
repalloc_huge(void *pointer, Size size)
{
	maybe_raise(Min(error_rarity, 2));
	arrays_grown++;
	return realloc(pointer, size);
}

void
pfree(void *pointer)
{
	require_main_thread();
	free(pointer);
}

void
MemoryContextRegisterResetCallback(MemoryContext context,
								   MemoryContextCallback *callback)
{
	require(reset_callback == NULL, "there is one array of messages");
	reset_callback = callback;
}

void
reset_context(void)
{
	reset_callback->func(reset_callback->arg);
	free(reset_callback);
	reset_callback = NULL;
}

/* What source_kafka_chunk.c has for malloc and free: any thread calls it. */
extern void *chunk_malloc(size_t size);
extern void chunk_free(void *pointer);

void *
chunk_malloc(size_t size)
{
	void	   *pointer;

	if (refusal_rarity > 0 && draw_taking() % refusal_rarity == 0)
	{
		chunks_refused++;
		return NULL;
	}
	pointer = malloc(size);
	__atomic_add_fetch(&chunks_allocated, 1, __ATOMIC_SEQ_CST);
	return memset(pointer, 0xA5, size);
}

void
chunk_free(void *pointer)
{
	if (pointer != NULL)
		__atomic_sub_fetch(&chunks_allocated, 1, __ATOMIC_SEQ_CST);
	free(pointer);
}

/* --- the rest of the source --- */

void
ki_source_clean(const KiSource *source, const char *raw, char *clean,
				size_t size)
{
	require_main_thread();
	snprintf(clean, size, "%s", raw);
}

void
ki_source_group_error(KiSource *source, rd_kafka_resp_err_t err,
					  const char *what)
{
	require_main_thread();
}

bool
ki_source_error_denies(rd_kafka_resp_err_t err)
{
	return false;
}

bool
ki_source_error_missing(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

void
ki_source_topic_trouble(KiSource *source, const char *topic,
						rd_kafka_resp_err_t err, const char *what)
{
	require_main_thread();
}

void
ki_source_serve(KiSource *source)
{
	maybe_raise(error_rarity);
}

bool
ki_source_start_thread(pthread_t *thread, void *(*routine) (void *arg),
					   void *arg)
{
	require_main_thread();
	return pthread_create(thread, NULL, routine, arg) == 0;
}

int
ki_source_topic(KiSource *source, const char *name)
{
	require_main_thread();
	for (int i = 0; i < source->ntopics; i++)
		if (strcmp(source->topics[i].name, name) == 0)
			return i;
	require(false, "topics are asked for by their names");
	return -1;
}
