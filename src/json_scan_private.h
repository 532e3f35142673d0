/*
 * json_scan_private.h
 *	  What the parts of the JSON scanner share (floor 0): the document while it
 *	  is read.
 */
#ifndef KI_JSON_SCAN_PRIVATE_H
#define KI_JSON_SCAN_PRIVATE_H

#include "json_scan.h"

/* The document while it is read. */
typedef struct Cursor
{
	const char *begin;
	const char *end;
	int			depth;			/* arrays and objects around the place */
	bool		has_escapes;	/* the string read last has some */
	bool		has_high;
	KiScanError error;
	const char *error_at;
} Cursor;

/* A field's name as it stands in the document, between its quotes. */
typedef struct FieldName
{
	const char *start;
	int			len;
	bool		has_escapes;
} FieldName;

/*
 * A node's bit in the filter of names: most fields that nothing is mapped to
 * are told by it.
 */
static inline uint64
filter_bit(const char *name, int len)
{
	unsigned	hash = len;

	if (len > 0)
		hash += (unsigned char) name[0] * 5 + (unsigned char) name[len - 1] * 11;
	return UINT64CONST(1) << hash % 64;
}

/*
 * Pass over the escape at p, which is a backslash, in the string that begins
 * at quote; NULL after an error.  (json_scan_escape.c)
 */
extern const char *ki_scan_escape(Cursor *cursor, const char *p,
								  const char *quote);

/* Is a field's name, which has escapes, the name of this node? */
extern bool ki_scan_is_name(const FieldName *name, const KiScanNode *node);

/* The child of this name; NULL: there is none.  (json_scan_tree.c) */
extern KiScanNode *ki_scan_child(const KiScanNode *node,
								 const FieldName *name);

/* Forget what the last document gave to the nodes below this one. */
extern void ki_scan_clear_children(KiScan *scan, KiScanNode *node);

/*
 * List the value at p with all that is inside; returns the place behind it, or
 * NULL, having listed nothing and noted no error, for one that is to be passed
 * over otherwise.  (json_scan_list.c)
 */
extern const char *ki_scan_list(Cursor *cursor, KiJsonTokens *tokens,
								KiJsonShapes *shapes, const char *p);

/* ---- bytes ---- */

static inline const char *
fail(Cursor *cursor, KiScanError error, const char *at)
{
	cursor->error = error;
	cursor->error_at = at;
	return NULL;
}

/*
 * The byte at a place; zero, which no document may contain, is also the end.
 */
static inline char
peek(const Cursor *cursor, const char *p)
{
	return p < cursor->end ? *p : '\0';
}

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * Could this byte go on with a number or a word?
 */
static inline bool
is_word_byte(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		c == '_' || IS_HIGHBIT_SET(c);
}

#endif							/* KI_JSON_SCAN_PRIVATE_H */
