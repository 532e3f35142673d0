/*
 * filter.h
 *	  The conditions that filter and delete_when hold: sources, and the values
 *	  each of them may have (floor 1).
 */
#ifndef KI_FILTER_H
#define KI_FILTER_H

#include "origin.h"
#include "pipeline.h"

/* A value to compare with, as text. */
typedef struct KiFilterValue
{
	const char *text;			/* in the server's encoding; NULL: null */
	int			len;			/* bytes */
	const char *utf8;			/* the same in UTF-8, as in keys and headers */
	int			utf8_len;
} KiFilterValue;

/* One source and its values, of which any will do. */
typedef struct KiFilterItem
{
	KiOrigin   *origin;			/* header: in UTF-8 */
	KiFilterValue *values;
	int			nvalues;		/* at least one */
} KiFilterItem;

/* All of them must match. */
typedef struct KiFilter
{
	KiFilterItem *items;
	int			nitems;			/* at least one */
} KiFilter;

/*
 * Parse an option of this name, in the current memory context; NULL of NULL.
 * Raises 22023 naming the source at fault.
 */
extern KiFilter *ki_filter_parse(const KiPipeline *pipeline, Jsonb *conditions,
								 const char *option);

/* Does any of its sources stand in the messages' headers? */
extern bool ki_filter_wants_headers(const KiFilter *filter);

/* Is this string, or NULL for null, one of an item's values? */
extern bool ki_filter_has(const KiFilterItem *item, const char *string, int len);

/* The same for bytes of a message. */
extern bool ki_filter_has_bytes(const KiFilterItem *item, const char *bytes,
								size_t len);

#endif							/* KI_FILTER_H */
