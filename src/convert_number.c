/*
 * convert_number.c
 *	  The converters of integers, floating point and numeric.
 *
 * numeric is written in its storage form, which is the same since 9.1 but
 * private to the server's numeric.c.  Behind the length word stands a header,
 * short where scale and weight fit into it, then base 10000 digits, the most
 * significant one first, without zero digits at either end:
 *
 *	 short   16 bits: 1 0 sign(1) scale(6) weight(7, two's complement)
 *	 long    16 bits: 0 sign(1) scale(14); 16 bits: weight
 *
 * The weight is the power of 10000 of the first digit, the scale the number of
 * decimal digits shown behind the point.
 */
#include "postgres.h"

#include <float.h>

#include "compat.h"
#include "convert.h"
#include "decimal.h"

/*
 * More digits, before or behind the point, and larger exponents are left to
 * numeric_in and its limits.
 */
#define NUMERIC_MAX_DIGITS 1000

#define GROUP_DIGITS 4			/* decimal digits of one base 10000 digit */
#define GROUP 10000

#define HEADER_SHORT 0x8000
#define HEADER_SHORT_NEGATIVE 0x2000
#define HEADER_SHORT_SCALE_SHIFT 7
#define HEADER_SHORT_SCALE_MAX 0x3F
#define HEADER_SHORT_WEIGHT_MASK 0x7F
#define HEADER_SHORT_WEIGHT_MIN (-64)
#define HEADER_SHORT_WEIGHT_MAX 63
#define HEADER_LONG_NEGATIVE 0x4000

#define PLAIN_DIGITS 18			/* always fit into int64 */

/* Decimal digits and powers of ten that a double, or a float, has exactly. */
#define DOUBLE_EXACT_DIGITS 15
#define DOUBLE_EXACT_POWER 22
#define FLOAT_EXACT_DIGITS 8	/* if they make no more than the mantissa */
#define FLOAT_EXACT_MANTISSA (1 << 24)
#define FLOAT_EXACT_POWER 10

/* A number with few digits on either side of the point. */
#define SHORT_WHOLE_DIGITS (2 * GROUP_DIGITS)

typedef struct ShortNumber
{
	uint32		whole;
	uint32		fraction;		/* times 10000 */
	int			scale;			/* digits behind the point */
	bool		negative;
} ShortNumber;

static const double powers_of_ten[DOUBLE_EXACT_POWER + 1] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
	1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
};

/*
 * Nothing at all, or a word that is neither infinity nor NaN, is no number of
 * any kind.
 */
static KiConvertResult
refuse_word(const char *string, int len, int *sqlerrcode)
{
	char		first = len > 0 ? pg_ascii_tolower(*string) : 'x';

	if (first < 'a' || first > 'z' || first == 'i' || first == 'n')
		return KI_CONVERT_UNSURE;
	*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
	return KI_CONVERT_REFUSED;
}

/*
 * Digits, perhaps with a sign.
 */
static KiConvertResult
convert_integer(const char *string, int len, int64 min, int64 max,
				int64 *value, int *sqlerrcode)
{
	if (len > 1 && *string == '+' && string[1] != '-')
	{
		string++;
		len--;
	}
	if (!ki_decimal_read_plain(string, len, PLAIN_DIGITS, value))
		return refuse_word(string, len, sqlerrcode);
	if (*value >= min && *value <= max)
		return KI_CONVERT_TAKEN;
	*sqlerrcode = ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
	return KI_CONVERT_REFUSED;
}

KiConvertResult
ki_convert_int2(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	int64		integer = 0;
	KiConvertResult result = convert_integer(string, len, PG_INT16_MIN,
											 PG_INT16_MAX, &integer,
											 sqlerrcode);

	*value = Int16GetDatum((int16) integer);
	return result;
}

KiConvertResult
ki_convert_int4(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	int64		integer = 0;
	KiConvertResult result = convert_integer(string, len, PG_INT32_MIN,
											 PG_INT32_MAX, &integer,
											 sqlerrcode);

	*value = Int32GetDatum((int32) integer);
	return result;
}

KiConvertResult
ki_convert_int8(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	int64		integer = 0;
	KiConvertResult result = convert_integer(string, len, PG_INT64_MIN,
											 PG_INT64_MAX, &integer,
											 sqlerrcode);

	*value = Int64GetDatum(integer);
	return result;
}

/*
 * A number as mantissa × 10^power, if it has no more digits than these and is
 * not zero by a power.
 */
static bool
read_mantissa(const KiDecimal *decimal, int max_digits, int64 *mantissa,
			  int64 *power)
{
	*mantissa = 0;
	*power = decimal->places - decimal->digits;
	if (decimal->first == NULL)
		return decimal->exponent == 0;
	if (decimal->digits > max_digits)
		return false;
	for (const char *at = decimal->first; at <= decimal->last; at++)
	{
		if (*at != '.')
			*mantissa = *mantissa * 10 + (*at - '0');
	}
	return true;
}

/*
 * Is arithmetic done in the operands' own precision?  With more, results would
 * be rounded twice.
 */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0
#define ARITHMETIC_IS_EXACT true
#else
#define ARITHMETIC_IS_EXACT false
#endif

/*
 * Where mantissa and power of ten are exact, the one operation on them rounds
 * correctly, which is what strtod does, too.
 */
KiConvertResult
ki_convert_float8(const char *string, int len, int32 typmod, Datum *value,
				  int *sqlerrcode)
{
	KiDecimal	decimal;
	int64		mantissa;
	int64		power;
	double		result;

	if (!ki_decimal_read(string, len, &decimal))
		return refuse_word(string, len, sqlerrcode);
	if (!ARITHMETIC_IS_EXACT ||
		!read_mantissa(&decimal, DOUBLE_EXACT_DIGITS, &mantissa, &power) ||
		power < -DOUBLE_EXACT_POWER || power > DOUBLE_EXACT_POWER)
		return KI_CONVERT_UNSURE;

	result = (double) mantissa;
	if (power < 0)
		result /= powers_of_ten[-power];
	else
		result *= powers_of_ten[power];
	*value = Float8GetDatum(decimal.negative ? -result : result);
	return KI_CONVERT_TAKEN;
}

KiConvertResult
ki_convert_float4(const char *string, int len, int32 typmod, Datum *value,
				  int *sqlerrcode)
{
	KiDecimal	decimal;
	int64		mantissa;
	int64		power;
	float		result;

	if (!ki_decimal_read(string, len, &decimal))
		return refuse_word(string, len, sqlerrcode);
	if (!ARITHMETIC_IS_EXACT ||
		!read_mantissa(&decimal, FLOAT_EXACT_DIGITS, &mantissa, &power) ||
		mantissa > FLOAT_EXACT_MANTISSA ||
		power < -FLOAT_EXACT_POWER || power > FLOAT_EXACT_POWER)
		return KI_CONVERT_UNSURE;

	result = (float) mantissa;
	if (power < 0)
		result /= (float) powers_of_ten[-power];
	else
		result *= (float) powers_of_ten[power];
	*value = Float4GetDatum(decimal.negative ? -result : result);
	return KI_CONVERT_TAKEN;
}

/*
 * Write the base 10000 digits; returns their number.  first_digits is how many
 * decimal digits the first one has.
 */
static int
write_groups(const KiDecimal *decimal, int first_digits, int16 *groups)
{
	int16	   *to = groups;
	int			missing = first_digits;
	int			group = 0;

	for (const char *at = decimal->first; at <= decimal->last; at++)
	{
		if (*at == '.')
			continue;
		group = group * 10 + (*at - '0');
		if (--missing == 0)
		{
			*to++ = (int16) group;
			missing = GROUP_DIGITS;
			group = 0;
		}
	}
	if (missing == GROUP_DIGITS)
		return to - groups;
	for (; missing > 0; missing--)
		group *= 10;
	*to++ = (int16) group;
	return to - groups;
}

/*
 * Write a number with this scale; returns the bytes written.
 */
static int
write_numeric(const KiDecimal *decimal, int scale, char *to)
{
	uint16	   *header = (uint16 *) (to + VARHDRSZ);
	bool		is_zero = decimal->first == NULL;
	bool		negative = decimal->negative && !is_zero;
	int			weight = 0;
	int			first_digits = 1;
	int			ngroups = 0;
	int			len;

	if (!is_zero)
	{
		/* Made positive, since division is to round down. */
		int			place = (int) decimal->places - 1 +
		NUMERIC_MAX_DIGITS * GROUP_DIGITS;

		weight = place / GROUP_DIGITS - NUMERIC_MAX_DIGITS;
		first_digits = place % GROUP_DIGITS + 1;
	}
	if (scale <= HEADER_SHORT_SCALE_MAX &&
		weight >= HEADER_SHORT_WEIGHT_MIN && weight <= HEADER_SHORT_WEIGHT_MAX)
		*header++ = HEADER_SHORT | (negative ? HEADER_SHORT_NEGATIVE : 0) |
			(scale << HEADER_SHORT_SCALE_SHIFT) |
			(weight & HEADER_SHORT_WEIGHT_MASK);
	else
	{
		*header++ = (negative ? HEADER_LONG_NEGATIVE : 0) | scale;
		*header++ = (uint16) weight;
	}
	if (!is_zero)
		ngroups = write_groups(decimal, first_digits, (int16 *) header);
	len = (char *) (header + ngroups) - to;
	SET_VARSIZE(to, len);
	return len;
}

/*
 * The scale of a number; returns false for what is beyond the limits here.
 */
static bool
find_scale(const KiDecimal *decimal, int *scale)
{
	if (decimal->digits > NUMERIC_MAX_DIGITS ||
		decimal->places > NUMERIC_MAX_DIGITS ||
		decimal->fraction > NUMERIC_MAX_DIGITS ||
		decimal->exponent > NUMERIC_MAX_DIGITS ||
		decimal->exponent < -NUMERIC_MAX_DIGITS)
		return false;
	*scale = (int) Max(decimal->fraction - decimal->exponent, 0);
	return true;
}

/*
 * Read a number that is written with few digits, as most are, and without an
 * exponent: at most two groups before the point, and one behind.
 */
static inline bool
read_short(const char *number, int len, ShortNumber *read)
{
	const char *at = number;
	const char *end = number + len;
	const char *start;

	read->negative = at < end && *at == '-';
	at += read->negative;
	start = at;
	read->whole = read->fraction = 0;
	while (at < end && *at >= '0' && *at <= '9')
		read->whole = read->whole * 10 + (uint32) (*at++ - '0');
	if (at == start || at - start > SHORT_WHOLE_DIGITS)
		return false;
	read->scale = 0;
	if (at == end)
		return true;
	if (*at++ != '.')
		return false;
	start = at;
	while (at < end && *at >= '0' && *at <= '9')
		read->fraction = read->fraction * 10 + (uint32) (*at++ - '0');
	read->scale = at - start;
	if (at < end || at == start || read->scale > GROUP_DIGITS)
		return false;
	for (int i = read->scale; i < GROUP_DIGITS; i++)
		read->fraction *= 10;
	return true;
}

/*
 * Write such a number with this scale; returns the bytes written.
 */
static inline int
write_short(const ShortNumber *number, int scale, char *to)
{
	uint16	   *header = (uint16 *) (to + VARHDRSZ);
	uint16		groups[3] = {number->whole / GROUP, number->whole % GROUP,
	number->fraction};
	int			first = 0;
	int			behind = 3;
	int			weight;

	while (first < behind && groups[first] == 0)
		first++;
	while (behind > first && groups[behind - 1] == 0)
		behind--;
	weight = first < behind ? 1 - first : 0;
	*header = HEADER_SHORT | (scale << HEADER_SHORT_SCALE_SHIFT) |
		(weight & HEADER_SHORT_WEIGHT_MASK);
	if (number->negative && first < behind)
		*header |= HEADER_SHORT_NEGATIVE;
	for (int i = first; i < behind; i++)
		*++header = groups[i];
	SET_VARSIZE(to, (char *) (header + 1) - to);
	return (char *) (header + 1) - to;
}

int
ki_convert_write_numeric(const char *number, int len, char *to)
{
	ShortNumber short_number;
	KiDecimal	decimal;
	int			scale;

	if (read_short(number, len, &short_number))
		return write_short(&short_number, short_number.scale, to);
	if (!ki_decimal_read(number, len, &decimal) ||
		!find_scale(&decimal, &scale))
		return 0;
	return write_numeric(&decimal, scale, to);
}

static inline void
read_typmod(int32 typmod, int *precision, int *scale)
{
	*precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
	/* the lowest 11 bits, signed */
	*scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
}

/*
 * The scale with which a short number is stored; false: it does not fit for
 * certain.
 */
static inline bool
fit_short(const ShortNumber *number, int32 typmod, int *scale)
{
	int			precision;

	*scale = number->scale;
	if (typmod < (int32) VARHDRSZ)
		return true;
	read_typmod(typmod, &precision, scale);
	return number->scale <= *scale && *scale <= HEADER_SHORT_SCALE_MAX &&
		precision - *scale >= SHORT_WHOLE_DIGITS;
}

/*
 * Fit a number into numeric(precision, scale).
 */
static KiConvertResult
apply_typmod(const KiDecimal *decimal, int32 typmod, int *scale,
			 int *sqlerrcode)
{
	int			precision;

	read_typmod(typmod, &precision, scale);
	if (*scale < 0 || decimal->digits - decimal->places > *scale)
		return KI_CONVERT_UNSURE;	/* it is to be rounded */
	if (decimal->first == NULL || decimal->places <= precision - *scale)
		return KI_CONVERT_TAKEN;
	*sqlerrcode = ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
	return KI_CONVERT_REFUSED;
}

KiConvertResult
ki_convert_numeric(const char *string, int len, int32 typmod, Datum *value,
				   int *sqlerrcode)
{
	KiConvertResult result = KI_CONVERT_TAKEN;
	ShortNumber short_number;
	KiDecimal	decimal;
	int			scale;
	char	   *numeric;

	if (read_short(string, len, &short_number) &&
		fit_short(&short_number, typmod, &scale))
	{
		numeric = palloc(KI_NUMERIC_BYTES(len));
		(void) write_short(&short_number, scale, numeric);
		*value = PointerGetDatum(numeric);
		return KI_CONVERT_TAKEN;
	}
	if (!ki_decimal_read(string, len, &decimal))
		return refuse_word(string, len, sqlerrcode);
	if (!find_scale(&decimal, &scale))
		return KI_CONVERT_UNSURE;
	if (typmod >= (int32) VARHDRSZ)
		result = apply_typmod(&decimal, typmod, &scale, sqlerrcode);
	if (result != KI_CONVERT_TAKEN)
		return result;
	numeric = palloc(KI_NUMERIC_BYTES(len));
	(void) write_numeric(&decimal, scale, numeric);
	*value = PointerGetDatum(numeric);
	return KI_CONVERT_TAKEN;
}
