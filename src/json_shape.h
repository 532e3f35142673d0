/*
 * json_shape.h
 *	  What the objects of a column looked like: their fields' names (floor 0).
 *
 * Most messages of a topic have the same fields in the same order.  The n-th
 * object of a document is taken to look like the n-th of those before it, and
 * what was worked out for that one, how its names are stored and sorted, is
 * used again, if that is true.
 */
#ifndef KI_JSON_SHAPE_H
#define KI_JSON_SHAPE_H

#include "json_tokens.h"

/* Objects of a document that are remembered. */
#define KI_JSON_MAX_SHAPES 16

/* An object with more fields is not. */
#define KI_JSON_MAX_FIELDS 64

/* A field's name as the document has it, in memory of at least 16 bytes. */
typedef struct KiJsonName
{
	const char *quoted;
	uint32		len;			/* without quotes */
	bool		has_high;		/* it has a byte beyond ASCII */
} KiJsonName;

/* So many bytes can be read from any place in a shape's memory. */
#define KI_JSON_SHAPE_PADDING 32

/* All but the counters is one allocation, at names. */
struct KiJsonShape
{
	MemoryContext context;		/* of that */
	uint32		nfields;		/* 0: nothing is known yet */
	KiJsonName *names;			/* in the document's order */
	uint32	   *order;			/* the fields' numbers, as they are stored */
	uint32	   *entries;		/* JEntries of the stored names */
	char	   *stored;			/* the stored names */
	uint32		stored_len;
	uint32		misses;			/* objects in a row that looked otherwise */
	uint32		patience;		/* so many are borne */
};

struct KiJsonShapes
{
	KiJsonShape items[KI_JSON_MAX_SHAPES];
};

/* In the current memory context. */
extern KiJsonShapes *ki_json_shapes_create(void);

/*
 * An object looked otherwise: remember it, unless that happens all the time.
 * values: its values in the order in which they are stored, as many as it has
 * fields, at most KI_JSON_MAX_FIELDS; entries and stored: how its names were.
 */
extern void ki_json_shape_learn(KiJsonShape *shape, const KiJsonToken *object,
								const KiJsonToken *const *values,
								const uint32 *entries, const char *stored,
								uint32 stored_len);

#endif							/* KI_JSON_SHAPE_H */
