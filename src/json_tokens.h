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

/* What objects looked like before; see json_shape.h. */
typedef struct KiJsonShape KiJsonShape;
typedef struct KiJsonShapes KiJsonShapes;

/*
 * A value or a field's name.  Those inside of an array or object follow it,
 * names before their values.
 */
typedef struct KiJsonToken
{
	const char *data;			/* of strings, as they stand between their
								 * quotes, and numbers; in the document */
	KiJsonShape *shape;			/* of an object; NULL: not remembered */
	uint32		len;			/* bytes of data; elements or fields */
	uint32		span;			/* tokens, itself and all that is inside */
	uint8		kind;			/* KiJsonKind */
	bool		has_escapes;	/* a string */
	bool		fits;			/* an object that looks like its shape */
} KiJsonToken;

/* From a field's name to the name of the next one, behind the value. */
static inline const KiJsonToken *
ki_json_next_name(const KiJsonToken *name)
{
	return name + 1 + name[1].span;
}

/* A list while it is made; the memory is the caller's. */
typedef struct KiJsonTokens
{
	KiJsonToken *list;
	uint32		count;
	uint32		max_count;
	bool		is_full;		/* a value was left out for want of room */
} KiJsonTokens;

/* Memory that is used again, unless it grew large. */
typedef struct KiJsonBuffer
{
	char	   *data;
	Size		size;
} KiJsonBuffer;

/* A scanner that lists all of a document. */
typedef struct KiJsonLister KiJsonLister;

/* In the current memory context. */
extern KiJsonLister *ki_json_lister_create(void);

/*
 * List the values of a document; the first one is the document itself.  The
 * list is good until the next one or the release.  Strings are in UTF-8, which
 * is not verified.  Returns NULL for a document that is invalid, nested deeply
 * or very long.  shapes: what objects may look like; NULL: nothing is known,
 * or will be.
 */
extern const KiJsonToken *ki_json_list(KiJsonLister *lister,
									   KiJsonShapes *shapes, const char *json,
									   int len);

/* Give large memory back. */
extern void ki_json_lister_release(KiJsonLister *lister);

/*
 * Make room for so many bytes, in this context if it is made anew; what was in
 * the buffer may be lost.
 */
extern void *ki_json_buffer_reserve(KiJsonBuffer *buffer, MemoryContext context,
									Size size);
extern void ki_json_buffer_release(KiJsonBuffer *buffer);

#endif							/* KI_JSON_TOKENS_H */
