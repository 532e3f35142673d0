/*
 * breaker.c
 *	  The circuit breaker: too many dead letters among the last messages.
 */
#include "postgres.h"

#include "breaker.h"

void
ki_breaker_init(KiBreaker *breaker, float4 max_error_ratio)
{
	memset(breaker, 0, sizeof(KiBreaker));
	breaker->limit = (int) (max_error_ratio * KI_BREAKER_WINDOW + 0.0001);
}

bool
ki_breaker_trips(const KiBreaker *breaker, const KiLetter *letters,
				 int nletters, int index)
{
	int64		first = breaker->seen + index - KI_BREAKER_WINDOW + 1;
	int			count = 1;

	for (int i = nletters - 1;
		 i >= 0 && breaker->seen + letters[i].index >= first; i--)
		count++;
	for (int i = breaker->nlast - 1;
		 i >= 0 && breaker->last[i] >= first; i--)
		count++;
	return count > breaker->limit;
}

static void
note(KiBreaker *breaker, int64 place)
{
	if (breaker->nlast == KI_BREAKER_WINDOW)
	{
		breaker->nlast--;
		memmove(breaker->last, breaker->last + 1,
				breaker->nlast * sizeof(int64));
	}
	breaker->last[breaker->nlast++] = place;
}

void
ki_breaker_remember(KiBreaker *breaker, const KiLetter *letters,
					int nletters, int applied)
{
	for (int i = Max(nletters - KI_BREAKER_WINDOW, 0); i < nletters; i++)
		note(breaker, breaker->seen + letters[i].index);
	breaker->seen += applied;
}
