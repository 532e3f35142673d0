/*
 * breaker.h
 *	  The circuit breaker: too many dead letters among the last messages
 *	  (floor 3).
 *
 * What is noted counts once the batch is committed.
 */
#ifndef KI_BREAKER_H
#define KI_BREAKER_H

#include "letter.h"

#define KI_BREAKER_WINDOW 1000	/* messages */

typedef struct KiBreaker
{
	int			limit;			/* letters in a window that are borne */
	int64		seen;			/* messages before this batch */
	int64		last[KI_BREAKER_WINDOW];	/* where the last letters stand
											 * among them, in growing order */
	int			nlast;
} KiBreaker;

extern void ki_breaker_init(KiBreaker *breaker, float4 max_error_ratio);

/*
 * Would one more letter, at message "index" of the batch, after these of the
 * same batch, be more than is borne?
 */
extern bool ki_breaker_trips(const KiBreaker *breaker, const KiLetter *letters,
							 int nletters, int index);

/* The first "applied" messages of the batch are committed, and the letters. */
extern void ki_breaker_remember(KiBreaker *breaker, const KiLetter *letters,
								int nletters, int applied);

#endif							/* KI_BREAKER_H */
