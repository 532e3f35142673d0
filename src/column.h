/*
 * column.h
 *	  How one column of the target takes values (floor 1).
 *
 * Compiled once per column; nothing here looks anything up per row.  The
 * functions that take a value return false with *fault filled (stage "map",
 * without the column's name) for what can be found without raising; input
 * functions may raise.  Datums are made in the current memory context.
 */
#ifndef KI_COLUMN_H
#define KI_COLUMN_H

#include "array_literal.h"
#include "catalog/pg_attribute.h"
#include "convert.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "jsonb_build.h"
#include "lib/stringinfo.h"
#include "origin.h"
#include "record.h"
#include "utils/jsonb.h"

/* What decides how a value is brought to a column; domains as their base. */
typedef enum KiColumnKind
{
	KI_COLUMN_OTHER,			/* text and all that has only its input
								 * function */
	KI_COLUMN_INTEGER,
	KI_COLUMN_JSON,				/* json and jsonb */
	KI_COLUMN_BYTEA,
	KI_COLUMN_ARRAY
} KiColumnKind;

/*
 * What the columns of a map share: the text an input function reads, and a
 * context for what input functions leave behind (jsonb's leaves ten times what
 * it makes), reset after each of them; and the memory jsonb is built in.
 */
typedef struct KiColumnSpace
{
	StringInfoData buffer;
	MemoryContext context;
	KiJsonbBuilder *builder;
	bool		may_raise;		/* input functions of careful columns */
} KiColumnSpace;

typedef struct KiColumn
{
	const char *name;
	Oid			type;
	int32		typmod;
	KiColumnKind kind;
	bool		is_direct;		/* the type itself and no domain or typmod:
								 * Datums may be made without its input */
	bool		is_careful;		/* its input function raised: it is called
								 * only when it may, else the fault is_unsure */
	bool		is_domain;		/* whose constraints may refuse NULL */
	KiConvert  *convert;		/* tried before input; NULL: none */
	Oid			enum_type;		/* whose labels are tried, below its domains;
								 * InvalidOid: no enum */
	KiElementKind element_kind; /* KI_COLUMN_ARRAY */
	char		delimiter;
	FmgrInfo	input;
	Oid			ioparam;
	const char *invalid_text;	/* message of a fault: invalid input ... */
	const char *range_text;		/* ... value out of range ... */
	int16		len;			/* as in pg_type */
	bool		is_by_value;
	KiJsonShapes *shapes;		/* of a jsonb column */
	KiColumnSpace *space;
} KiColumn;

/* Both in the current memory context; init needs a transaction. */
extern KiColumnSpace *ki_column_space_create(void);
extern void ki_column_init(KiColumn *column, Form_pg_attribute attribute,
						   KiColumnSpace *space);

/*
 * A field that is neither absent nor null, if its converter takes it at once;
 * else ki_column_take_field is to decide.  That comes to the converter first,
 * or to what agrees with it on all that it takes.
 */
static inline bool
ki_column_take_at_once(const KiColumn *column, const KiField *field,
					   Datum *value)
{
	int			ignored;

	return column->convert &&
		column->convert(field->data, field->len, column->typmod, value,
						&ignored) == KI_CONVERT_TAKEN;
}

/* A field that is neither absent nor null.  conversion: not JSON. */
extern bool ki_column_take_field(KiColumn *column, const KiField *field,
								 KiConversion conversion, Datum *value,
								 KiFault *fault);

/* SQL NULL: may a domain have it? */
extern bool ki_column_take_null(KiColumn *column, KiFault *fault);

/* Bytes of a message: as they are for bytea, else UTF-8 text. */
extern bool ki_column_take_bytes(KiColumn *column, const char *bytes,
								 size_t len, Datum *value, KiFault *fault);

/* Text in the server's encoding, not terminated. */
extern bool ki_column_take_text(KiColumn *column, const char *string, int len,
								Datum *value, KiFault *fault);

extern bool ki_column_take_integer(KiColumn *column, int64 integer,
								   Datum *value, KiFault *fault);

/* Milliseconds since 1970-01-01 UTC. */
extern bool ki_column_take_epoch_ms(KiColumn *column, int64 epoch_ms,
									Datum *value, KiFault *fault);

/* An object's JSON text that becomes jsonb before the column takes it. */
extern bool ki_column_take_jsonb_text(KiColumn *column, const char *json,
									  int len, Datum *value, KiFault *fault);

/* jsonb may live in the space's context. */
extern bool ki_column_take_jsonb(KiColumn *column, Jsonb *jsonb,
								 Datum *value, KiFault *fault);

#endif							/* KI_COLUMN_H */
