/*
 * origin.h
 *	  Where a column's value comes from: the parsed form of a source such as
 *	  $.a.b, @key.id or $.ts::epoch_ms (floor 0).
 */
#ifndef KI_ORIGIN_H
#define KI_ORIGIN_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

typedef enum KiOriginKind
{
	KI_ORIGIN_VALUE,			/* $ and the paths into it */
	KI_ORIGIN_KEY,				/* @key and the paths into it */
	KI_ORIGIN_TOPIC,
	KI_ORIGIN_PARTITION,
	KI_ORIGIN_OFFSET,
	KI_ORIGIN_TIMESTAMP,
	KI_ORIGIN_HEADERS,			/* all of them, as jsonb */
	KI_ORIGIN_HEADER,			/* one of them, by name */
	KI_ORIGIN_RAW,				/* the value's bytes */
	KI_ORIGIN_REST				/* the top-level fields no column takes */
} KiOriginKind;

typedef enum KiConversion
{
	KI_CONVERSION_NONE = 0,
	KI_CONVERSION_EPOCH_S,
	KI_CONVERSION_EPOCH_MS,
	KI_CONVERSION_EPOCH_US,
	KI_CONVERSION_EPOCH_DAYS,
	KI_CONVERSION_BASE64,
	KI_CONVERSION_HEX,
	KI_CONVERSION_JSON			/* a string that holds JSON */
} KiConversion;

typedef struct KiOrigin
{
	KiOriginKind kind;
	List	   *steps;			/* into value or key. String: a field's name;
								 * Integer: an array index */
	char	   *header;			/* the name, with KI_ORIGIN_HEADER */
	KiConversion conversion;
	bool		is_star;		/* ended in .*, which only "*" may */
} KiOrigin;

/*
 * Parse a source, in the current memory context.  Raises 22023 with the
 * position, naming the column it stands for (NULL: a condition).
 */
extern KiOrigin *ki_origin_parse(const char *source, const char *column);

/* An origin without steps or conversion. */
extern KiOrigin *ki_origin_make(KiOriginKind kind);

/*
 * The metadata that columns named _topic, _key ... take when nothing else was
 * said; NULL: none of these names.
 */
extern KiOrigin *ki_origin_of_metadata_column(const char *column);

/* parent's field of this name, where parent ended in .* or is $. */
extern KiOrigin *ki_origin_of_field(const KiOrigin *parent, const char *name);

/* Append a path as it is written, without its conversion. */
extern void ki_origin_append(StringInfo buf, const KiOrigin *origin);

#endif							/* KI_ORIGIN_H */
