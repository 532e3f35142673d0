/*
 * array_literal.h
 *	  From a JSON array to the text array_in reads (floor 1).
 */
#ifndef KI_ARRAY_LITERAL_H
#define KI_ARRAY_LITERAL_H

#include "postgres.h"
#include "lib/stringinfo.h"

/* How the elements of an array type are written. */
typedef enum KiElementKind
{
	KI_ELEMENT_TEXT,			/* strings unescaped, all else as JSON text */
	KI_ELEMENT_INTEGER,			/* the same, 1.0 and 1e3 as integers */
	KI_ELEMENT_JSON				/* each element's JSON, arrays too */
} KiElementKind;

/*
 * Append the literal of a valid JSON array in the server's encoding.  JSON
 * null becomes NULL; nested arrays become dimensions, except for
 * KI_ELEMENT_JSON.  Allocates in the current memory context, and frees it.
 */
extern void ki_array_literal_append(StringInfo literal,
									const char *json, int len,
									KiElementKind kind, char delimiter);

#endif							/* KI_ARRAY_LITERAL_H */
