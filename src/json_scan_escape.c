/*
 * json_scan_escape.c
 *	  Escapes in JSON strings: check, resolve and compare them.
 */
#include "postgres.h"

#include "hex.h"
#include "json_scan_private.h"

/* ---- escapes ---- */

/*
 * The number of four hexadecimal digits; -1 if they are none.
 */
static int
read_hex(const char *p, const char *end)
{
	return end - p < 4 ? -1 : ki_hex_unit(p);
}

static inline bool
is_high_surrogate(int unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static inline bool
is_low_surrogate(int unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

const char *
ki_scan_escape(Cursor *cursor, const char *p, const char *quote)
{
	int			unit;

	switch (peek(cursor, p + 1))
	{
		case '"':
		case '\\':
		case '/':
		case 'b':
		case 'f':
		case 'n':
		case 'r':
		case 't':
			return p + 2;
		case 'u':
			break;
		default:
			return fail(cursor, KI_SCAN_ESCAPE, quote);
	}
	unit = read_hex(p + 2, cursor->end);
	if (unit < 0)
		return fail(cursor, KI_SCAN_ESCAPE, quote);
	if (unit == 0)
		return fail(cursor, KI_SCAN_ZERO, quote);
	p += 6;
	if (is_low_surrogate(unit))
		return fail(cursor, KI_SCAN_SURROGATE, quote);
	if (!is_high_surrogate(unit))
		return p;
	if (peek(cursor, p) != '\\' || peek(cursor, p + 1) != 'u' ||
		!is_low_surrogate(read_hex(p + 2, cursor->end)))
		return fail(cursor, KI_SCAN_SURROGATE, quote);
	return p + 6;
}

/*
 * Write a character as UTF-8; returns its length.
 */
static int
write_utf8(unsigned int character, char *to)
{
	if (character < 0x80)
	{
		to[0] = (char) character;
		return 1;
	}
	if (character < 0x800)
	{
		to[0] = (char) (0xC0 | character >> 6);
		to[1] = (char) (0x80 | (character & 0x3F));
		return 2;
	}
	if (character < 0x10000)
	{
		to[0] = (char) (0xE0 | character >> 12);
		to[1] = (char) (0x80 | (character >> 6 & 0x3F));
		to[2] = (char) (0x80 | (character & 0x3F));
		return 3;
	}
	to[0] = (char) (0xF0 | character >> 18);
	to[1] = (char) (0x80 | (character >> 12 & 0x3F));
	to[2] = (char) (0x80 | (character >> 6 & 0x3F));
	to[3] = (char) (0x80 | (character & 0x3F));
	return 4;
}

/*
 * Resolve the valid escape at *p and go behind it; returns how many bytes it
 * is in UTF-8.
 */
static int
resolve_escape(const char **p, const char *end, char *to)
{
	char		c = (*p)[1];
	int			unit;

	*p += 2;
	switch (c)
	{
		case 'b':
			*to = '\b';
			return 1;
		case 'f':
			*to = '\f';
			return 1;
		case 'n':
			*to = '\n';
			return 1;
		case 'r':
			*to = '\r';
			return 1;
		case 't':
			*to = '\t';
			return 1;
		case 'u':
			break;
		default:
			*to = c;
			return 1;
	}
	unit = read_hex(*p, end);
	*p += 4;
	if (is_high_surrogate(unit))
	{
		unit = 0x10000 + ((unit - 0xD800) << 10) +
			(read_hex(*p + 2, end) - 0xDC00);
		*p += 6;
	}
	return write_utf8(unit, to);
}

int
ki_json_unescape(const char *from, int len, char *to)
{
	const char *end = from + len;
	char	   *start = to;

	while (from < end)
	{
		const char *escape = memchr(from, '\\', end - from);
		size_t		run = (escape ? escape : end) - from;

		memcpy(to, from, run);
		to += run;
		from += run;
		if (escape)
			to += resolve_escape(&from, end, to);
	}
	return to - start;
}

bool
ki_scan_is_name(const FieldName *name, const KiScanNode *node)
{
	const char *p = name->start;
	const char *end = p + name->len;
	const char *rest = node->name;
	int			rest_len = node->name_len;
	char		bytes[4];
	int			len;

	for (; p < end; rest += len, rest_len -= len)
	{
		if (*p == '\\')
			len = resolve_escape(&p, end, bytes);
		else
		{
			bytes[0] = *p++;
			len = 1;
		}
		if (len > rest_len || memcmp(bytes, rest, len) != 0)
			return false;
	}
	return rest_len == 0;
}
