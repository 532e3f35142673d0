/*
 * decimal.h
 *	  Exact decimals from the text of a number (floor 0).
 */
#ifndef KI_DECIMAL_H
#define KI_DECIMAL_H

#include "postgres.h"

typedef enum KiDecimalResult
{
	KI_DECIMAL_OK,
	KI_DECIMAL_INVALID,			/* not a number as JSON writes them */
	KI_DECIMAL_FRACTION,		/* digits are left behind the point */
	KI_DECIMAL_OVERFLOW			/* beyond int64 */
} KiDecimalResult;

/*
 * A number taken apart.  Between the first and the last digit that are not 0
 * there may be other digits and the point; number is not copied.
 */
typedef struct KiDecimal
{
	bool		negative;
	const char *first;			/* NULL: the number is zero */
	const char *last;
	int			digits;			/* from the first to the last of them */
	int64		places;			/* digits before the point when written out,
								 * <= 0: zeros follow the point */
	int64		fraction;		/* digits written behind the point */
	int64		exponent;		/* cut far beyond int32 */
} KiDecimal;

/*
 * Take a number as JSON writes it apart (leading zeros will do); returns false
 * when it is none.  number is not terminated.
 */
extern bool ki_decimal_read(const char *number, int len, KiDecimal *decimal);

/*
 * An integer of at most max_digits (at most 18) digits and perhaps a minus,
 * and nothing else; returns false for all others.
 */
static inline bool
ki_decimal_read_plain(const char *number, int len, int max_digits,
					  int64 *result)
{
	const char *end = number + len;
	bool		negative = len > 0 && *number == '-';
	int64		value = 0;

	if (negative)
		number++;
	if (number == end || end - number > max_digits)
		return false;
	for (; number < end; number++)
	{
		if (*number < '0' || *number > '9')
			return false;
		value = value * 10 + (*number - '0');
	}
	*result = negative ? -value : value;
	return true;
}

/*
 * number × 10^shift as an integer, exactly: "1e3", "1.0" and "-0" are integers.
 * With round_fraction, digits behind the point are rounded half away from
 * zero instead of refused.  number is not terminated.
 */
extern KiDecimalResult ki_decimal_to_int64(const char *number, int len,
										   int shift, bool round_fraction,
										   int64 *result);

#endif							/* KI_DECIMAL_H */
