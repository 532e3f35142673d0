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
 * number × 10^shift as an integer, exactly: "1e3", "1.0" and "-0" are integers.
 * With round_fraction, digits behind the point are rounded half away from
 * zero instead of refused.  number is not terminated.
 */
extern KiDecimalResult ki_decimal_to_int64(const char *number, int len,
										   int shift, bool round_fraction,
										   int64 *result);

#endif							/* KI_DECIMAL_H */
