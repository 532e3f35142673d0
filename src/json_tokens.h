/*
 * json_tokens.h
 *	  The values of a JSON document as a list (floor 0).
 */
#ifndef KI_JSON_TOKENS_H
#define KI_JSON_TOKENS_H

#include "postgres.h"

typedef enum KiJsonKind
{
	KI_JSON_NULL,
	KI_JSON_FALSE,
	KI_JSON_TRUE,
	KI_JSON_NUMBER,
	KI_JSON_STRING,
	KI_JSON_ARRAY,
	KI_JSON_OBJECT
} KiJsonKind;

/*
 * A value or a field's name.  Those inside of an array or object follow it,
 * names before their values.
 */
typedef struct KiJsonToken
{
	const char *data;			/* of strings (unescaped) and numbers; not
								 * terminated */
	uint32		len;			/* bytes of data; elements or fields */
	uint32		next;			/* the token after all that is inside */
	KiJsonKind	kind;
	int16		shape;			/* of an object, its number; -1: none */
	bool		fits;			/* it looks like that shape */
} KiJsonToken;

/* What objects looked like before; see json_shape.h. */
typedef struct KiJsonShapes KiJsonShapes;

/* Memory that is used again, unless it grew large. */
typedef struct KiJsonBuffer
{
	char	   *data;
	Size		size;
} KiJsonBuffer;

typedef struct KiJsonTokens
{
	KiJsonToken *list;
	uint32		count;
	const char *begin;			/* of the document */
	const char *end;

	/* private to json_tokens.c */
	MemoryContext context;
	KiJsonBuffer list_buffer;
	KiJsonBuffer string_buffer; /* of strings that had escapes */
	const char *at;				/* in the document being read */
	uint32		max_count;
	const KiJsonShapes *shapes;
	int			nobjects;		/* met so far */
	char	   *unescaped;		/* next byte of string_buffer; NULL: unused */
} KiJsonTokens;

/* The buffers will be made in the current memory context. */
extern void ki_json_tokens_init(KiJsonTokens *tokens);

/*
 * List the values of a document that was validated before and has no white
 * space around it.  The list is good until the next one or the release.
 * Strings point into the document or into a buffer, in UTF-8.  Returns false
 * for a document that is nested deeply; also for one that is invalid, which is
 * noticed where it costs nothing.  Never reads beyond the end.  shapes: what
 * objects may look like; NULL: nothing is known, or will be.
 */
extern bool ki_json_tokens_read(KiJsonTokens *tokens,
								const KiJsonShapes *shapes, const char *json,
								int len);

/* Give large memory back. */
extern void ki_json_tokens_release(KiJsonTokens *tokens);

/*
 * Make room for so many bytes, in this context if it is made anew; what was in
 * the buffer may be lost.
 */
extern void *ki_json_buffer_reserve(KiJsonBuffer *buffer, MemoryContext context,
									Size size);
extern void ki_json_buffer_release(KiJsonBuffer *buffer);

#endif							/* KI_JSON_TOKENS_H */
