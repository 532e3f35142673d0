/*
 * json_scan_values.h
 *	  Passing over the scalar values of a JSON document (floor 0).
 *
 * Each function takes the place where a value begins and returns the place
 * behind it, or NULL after noting an error.
 */
#ifndef KI_JSON_SCAN_VALUES_H
#define KI_JSON_SCAN_VALUES_H

#include "json_scan_bytes.h"

/*
 * Pass over the string whose opening quote is at p.
 */
static inline const char *
skip_string(Cursor *cursor, const char *quote)
{
	const char *p = quote + 1;

	cursor->has_escapes = false;
	for (;;)
	{
		p = skip_ordinary(cursor, p);
		if (p == cursor->end)
			return fail(cursor, KI_SCAN_TOKEN, quote);
		if (likely(*p == '"'))
			return p + 1;
		if (*p != '\\')
			return fail(cursor, KI_SCAN_CONTROL, quote);
		cursor->has_escapes = true;
		p = ki_scan_escape(cursor, p, quote);
		if (p == NULL)
			return NULL;
	}
}

/*
 * Pass over at least one digit.
 */
static inline const char *
skip_digits(Cursor *cursor, const char *p, const char *number)
{
	if (!is_digit(peek(cursor, p)))
		return fail(cursor, KI_SCAN_TOKEN, number);
	do
		p++;
	while (p < cursor->end && is_digit(*p));
	return p;
}

static inline const char *
skip_number(Cursor *cursor, const char *number)
{
	const char *p = number;

	if (*p == '-')
		p++;
	if (peek(cursor, p) == '0')
		p++;
	else
		p = skip_digits(cursor, p, number);
	if (p != NULL && peek(cursor, p) == '.')
		p = skip_digits(cursor, p + 1, number);
	if (p != NULL && (peek(cursor, p) == 'e' || peek(cursor, p) == 'E'))
	{
		p++;
		if (peek(cursor, p) == '+' || peek(cursor, p) == '-')
			p++;
		p = skip_digits(cursor, p, number);
	}
	if (p != NULL && is_word_byte(peek(cursor, p)))
		return fail(cursor, KI_SCAN_TOKEN, number);
	return p;
}

static inline const char *
skip_word(Cursor *cursor, const char *p, const char *word, int len)
{
	if (cursor->end - p < len || memcmp(p, word, len) != 0 ||
		is_word_byte(peek(cursor, p + len)))
		return fail(cursor, KI_SCAN_TOKEN, p);
	return p + len;
}

#endif							/* KI_JSON_SCAN_VALUES_H */
