/*
 * json_scan_bytes.h
 *	  Passing over many bytes of a JSON document at once (floor 0).
 *
 * Strings are searched 16 bytes at a time with SSE2, which every x86-64 has,
 * elsewhere 8 bytes at a time; KI_SCAN_PORTABLE asks for the latter.
 */
#ifndef KI_JSON_SCAN_BYTES_H
#define KI_JSON_SCAN_BYTES_H

#include "json_scan_private.h"

#if defined(__SSE2__) && !defined(KI_SCAN_PORTABLE)
#define USE_SCAN_SSE2
#include <emmintrin.h>
#endif

/*
 * Pass over a string's ordinary characters, to the quote, backslash or control
 * character that follows them, or to the document's end.
 */
static inline const char *
skip_ordinary_bytes(Cursor *cursor, const char *p)
{
	while (p < cursor->end && (unsigned char) *p >= 0x20 &&
		   *p != '"' && *p != '\\')
	{
		if (IS_HIGHBIT_SET(*p))
			cursor->has_high = true;
		p++;
	}
	return p;
}

#ifdef USE_SCAN_SSE2

/*
 * Pass over blanks, many at once: the indentation of a document that was
 * written for people.
 */
static inline const char *
skip_blanks(const Cursor *cursor, const char *p)
{
	while (cursor->end - p >= 16)
	{
		__m128i		chunk = _mm_loadu_si128((const __m128i *) p);
		unsigned	others = 0xFFFF ^
		_mm_movemask_epi8(_mm_cmpeq_epi8(chunk, _mm_set1_epi8(' ')));

		if (others != 0)
			return p + __builtin_ctz(others);
		p += 16;
	}
	return p;
}

/*
 * Which of 16 bytes end a run of ordinary characters: bit n is byte n.
 */
static inline unsigned
stops_of_chunk(Cursor *cursor, const char *p)
{
	__m128i		chunk = _mm_loadu_si128((const __m128i *) p);
	__m128i		limit = _mm_set1_epi8(0x1F);
	__m128i		stops = _mm_cmpeq_epi8(_mm_min_epu8(chunk, limit), chunk);

	stops = _mm_or_si128(stops, _mm_cmpeq_epi8(chunk, _mm_set1_epi8('"')));
	stops = _mm_or_si128(stops, _mm_cmpeq_epi8(chunk, _mm_set1_epi8('\\')));
	if (unlikely(_mm_movemask_epi8(chunk) != 0))
		cursor->has_high = true;
	return _mm_movemask_epi8(stops);
}

/*
 * Pass over a string's ordinary characters, 16 at a time; the last step goes
 * back to fit into the document.  May note bytes beyond ASCII behind the
 * string, too: they are looked at in any case.
 */
static inline const char *
skip_ordinary(Cursor *cursor, const char *p)
{
	unsigned	stops;

	while (cursor->end - p >= 16)
	{
		stops = stops_of_chunk(cursor, p);
		if (likely(stops != 0))
			return p + __builtin_ctz(stops);
		p += 16;
	}
	if (p == cursor->end || cursor->end - cursor->begin < 16)
		return skip_ordinary_bytes(cursor, p);
	stops = stops_of_chunk(cursor, cursor->end - 16) >>
		(16 - (cursor->end - p));
	return stops != 0 ? p + __builtin_ctz(stops) : cursor->end;
}

/*
 * Are these bytes, which are in memory of at least 16, at p?
 */
static inline bool
is_at(const Cursor *cursor, const char *p, const char *wanted, int len)
{
	if (len <= 16 && cursor->end - p >= 16)
	{
		__m128i		there = _mm_loadu_si128((const __m128i *) p);
		__m128i		here = _mm_loadu_si128((const __m128i *) wanted);
		unsigned	same = _mm_movemask_epi8(_mm_cmpeq_epi8(there, here));

		return (~same & ((1U << len) - 1)) == 0;
	}
	return cursor->end - p >= len && memcmp(p, wanted, len) == 0;
}

#else

static inline bool
is_at(const Cursor *cursor, const char *p, const char *wanted, int len)
{
	return cursor->end - p >= len && memcmp(p, wanted, len) == 0;
}

#define EVERY_BYTE(c) (UINT64CONST(0x0101010101010101) * (uint64) (c))
#define HIGH_BITS EVERY_BYTE(0x80)
/* high bits are set where bytes below 0x80 are less than c, perhaps above */
#define LESS_THAN(word, c) (((word) - EVERY_BYTE(c)) & ~(word))

static inline const char *
skip_blanks(const Cursor *cursor, const char *p)
{
	uint64		word;

	for (; cursor->end - p >= 8; p += 8)
	{
		memcpy(&word, p, 8);
		if (word != EVERY_BYTE(' '))
			break;
	}
	return p;
}

/*
 * Pass over a string's ordinary characters, 8 at a time.
 */
static inline const char *
skip_ordinary(Cursor *cursor, const char *p)
{
	uint64		word;

	for (; cursor->end - p >= 8; p += 8)
	{
		memcpy(&word, p, 8);
		if ((LESS_THAN(word, 0x20) |
			 LESS_THAN(word ^ EVERY_BYTE('"'), 1) |
			 LESS_THAN(word ^ EVERY_BYTE('\\'), 1)) & HIGH_BITS)
			break;
		if (word & HIGH_BITS)
			cursor->has_high = true;
	}
	return skip_ordinary_bytes(cursor, p);
}

#endif							/* USE_SCAN_SSE2 */

static inline const char *
skip_space(const Cursor *cursor, const char *p)
{
	while (p < cursor->end && is_space(*p))
	{
		bool		is_line_end = *p == '\n';

		p++;
		if (is_line_end)
			p = skip_blanks(cursor, p);
	}
	return p;
}

#endif							/* KI_JSON_SCAN_BYTES_H */
