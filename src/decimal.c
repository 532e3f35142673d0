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

/* So many digits always fit into int64. */
#define PLAIN_DIGITS 18

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
	if (at == end)
		return false;
	for (*exponent = 0; at < end; at++)
	{
		if (*at < '0' || *at > '9')
			return false;
		if (*exponent < EXPONENT_MAX)
			*exponent = *exponent * 10 + (*at - '0');
	}
	if (negative)
		*exponent = -*exponent;
	return true;
}

/*
 * Read digits, perhaps with a point among them; returns the end, or NULL when
 * there are no digits on one of the sides.
 */
static const char *
read_mantissa(const char *at, const char *end, KiDecimal *decimal)
{
	const char *start = at;
	const char *point = NULL;

	for (; at < end; at++)
	{
		if (*at >= '1' && *at <= '9')
		{
			if (decimal->first == NULL)
				decimal->first = at;
			decimal->last = at;
		}
		else if (*at == '.' && point == NULL)
			point = at;
		else if (*at != '0')
			break;
	}
	if (at == start || point == start || (point && point + 1 == at))
		return NULL;

	if (point == NULL)
		point = at;
	else
		decimal->fraction = at - point - 1;
	if (decimal->first == NULL)
		return at;
	decimal->places = point - decimal->first + (decimal->first > point ? 1 : 0);
	decimal->digits = decimal->last - decimal->first + 1 -
		(decimal->first < point && decimal->last > point ? 1 : 0);
	return at;
}

bool
ki_decimal_read(const char *number, int len, KiDecimal *decimal)
{
	const char *end = number + len;

	memset(decimal, 0, sizeof(KiDecimal));
	if (number < end && *number == '-')
	{
		decimal->negative = true;
		number++;
	}
	number = read_mantissa(number, end, decimal);
	if (number == NULL || number == end)
		return number != NULL;
	if ((*number != 'e' && *number != 'E') ||
		!read_exponent(number + 1, end, &decimal->exponent))
		return false;
	if (decimal->first != NULL)
		decimal->places += decimal->exponent;
	return true;
}

/*
 * Write out the digits before the point.  The value is built negative, since
 * that side reaches one further.
 */
static KiDecimalResult
write_integer(const KiDecimal *decimal, int64 places, bool round_fraction,
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
	KiDecimal	decimal;
	int64		places;

	/* nearly all are written so */
	if (ki_decimal_read_plain(number, len, PLAIN_DIGITS - shift, result))
	{
		for (; shift > 0; shift--)
			*result *= 10;
		return KI_DECIMAL_OK;
	}
	if (!ki_decimal_read(number, len, &decimal))
		return KI_DECIMAL_INVALID;
	*result = 0;
	if (decimal.first == NULL)
		return KI_DECIMAL_OK;

	places = decimal.places + shift;
	if (places > 19)			/* digits of the largest int64 */
		return KI_DECIMAL_OVERFLOW;
	return write_integer(&decimal, places, round_fraction, result);
}
