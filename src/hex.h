/*
 * hex.h
 *	  Hex digits (floor 0).
 */
#ifndef KI_HEX_H
#define KI_HEX_H

#include "postgres.h"

/* One more than the value of a hex digit; 0: it is none. */
static const uint8 ki_hex_digits[256] = {
	['0'] = 1,['1'] = 2,['2'] = 3,['3'] = 4,['4'] = 5,
	['5'] = 6,['6'] = 7,['7'] = 8,['8'] = 9,['9'] = 10,
	['a'] = 11,['b'] = 12,['c'] = 13,['d'] = 14,['e'] = 15,['f'] = 16,
	['A'] = 11,['B'] = 12,['C'] = 13,['D'] = 14,['E'] = 15,['F'] = 16
};

/* The value of a hex digit; -1: it is none. */
static inline int
ki_hex_digit(char c)
{
	return ki_hex_digits[(unsigned char) c] - 1;
}

/* The number that four hex digits make; -1: they are none. */
static inline int
ki_hex_unit(const char *digits)
{
	int			unit = 0;

	for (int i = 0; i < 4; i++)
	{
		int			digit = ki_hex_digit(digits[i]);

		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

#endif							/* KI_HEX_H */
