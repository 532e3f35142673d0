/*
 * decimal.c
 *	  Exact decimals from the text of a number.
 *
 * Numbers of a message never pass through a double, and an exponent of any
 * size costs nothing: no digits are ever spelled out.  Allocates nothing.
 */
#include "postgres.h"

#include "common/int.h"

#include "decimal.h"

/* Exponents are cut here: far beyond int64 in either direction. */
#define EXPONENT_MAX 1000000000

/* A number taken apart: 0.digits... without leading or trailing zeros. */
typedef struct Decimal
{
	bool		negative;
	const char *first;			/* first digit that is not 0 */
	const char *last;			/* last one; may have the point between */
	int64		places;			/* digits before the point when written out,
								 * <= 0: zeros follow the point */
} Decimal;

static const char *
skip_digits(const char *at, const char *end)
{
	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at;
}

/*
 * Read an exponent's digits, cut at EXPONENT_MAX; returns false when there is
 * anything but digits.
 */
static bool
read_exponent(const char *at, const char *end, int64 *exponent)
{
	bool		negative = false;

	if (at < end && (*at == '+' || *at == '-'))
		negative = *at++ == '-';
	if (at == end || skip_digits(at, end) != end)
		return false;
	for (*exponent = 0; at < end; at++)
	{
		if (*exponent < EXPONENT_MAX)
			*exponent = *exponent * 10 + (*at - '0');
	}
	if (negative)
		*exponent = -*exponent;
	return true;
}

/*
 * Take a number apart; first stays NULL for a zero.
 */
static bool
read_decimal(const char *number, int len, Decimal *decimal)
{
	const char *end = number + len;
	const char *point;
	const char *mantissa_end;
	int64		exponent = 0;

	memset(decimal, 0, sizeof(Decimal));
	if (number < end && *number == '-')
	{
		decimal->negative = true;
		number++;
	}
	point = skip_digits(number, end);
	if (point == number)
		return false;
	mantissa_end = point;
	if (point < end && *point == '.')
	{
		mantissa_end = skip_digits(point + 1, end);
		if (mantissa_end == point + 1)
			return false;
	}
	if (mantissa_end < end &&
		!((*mantissa_end == 'e' || *mantissa_end == 'E') &&
		  read_exponent(mantissa_end + 1, end, &exponent)))
		return false;

	for (const char *at = number; at < mantissa_end; at++)
	{
		if (*at == '0' || *at == '.')
			continue;
		if (decimal->first == NULL)
			decimal->first = at;
		decimal->last = at;
	}
	if (decimal->first != NULL)
		decimal->places = exponent + (point - decimal->first) +
			(decimal->first > point ? 1 : 0);
	return true;
}

/*
 * Write out the digits before the point.  The value is built negative, since
 * that side reaches one further.
 */
static KiDecimalResult
write_integer(const Decimal *decimal, int64 places, bool round_fraction,
			  int64 *result)
{
	const char *at = decimal->first;
	int64		value = 0;

	for (; places > 0; places--)
	{
		int			digit = 0;

		if (at <= decimal->last && *at == '.')
			at++;
		if (at <= decimal->last)
			digit = *at++ - '0';
		if (pg_mul_s64_overflow(value, 10, &value) ||
			pg_sub_s64_overflow(value, digit, &value))
			return KI_DECIMAL_OVERFLOW;
	}
	if (at <= decimal->last)
	{
		if (!round_fraction)
			return KI_DECIMAL_FRACTION;
		if (*at == '.')
			at++;
		if (places == 0 && *at >= '5' && pg_sub_s64_overflow(value, 1, &value))
			return KI_DECIMAL_OVERFLOW;
	}
	if (!decimal->negative && pg_mul_s64_overflow(value, -1, &value))
		return KI_DECIMAL_OVERFLOW;
	*result = value;
	return KI_DECIMAL_OK;
}

KiDecimalResult
ki_decimal_to_int64(const char *number, int len, int shift, bool round_fraction,
					int64 *result)
{
	Decimal		decimal;
	int64		places;

	if (!read_decimal(number, len, &decimal))
		return KI_DECIMAL_INVALID;
	*result = 0;
	if (decimal.first == NULL)
		return KI_DECIMAL_OK;

	places = decimal.places + shift;
	if (places > 19)			/* digits of the largest int64 */
		return KI_DECIMAL_OVERFLOW;
	return write_integer(&decimal, places, round_fraction, result);
}
