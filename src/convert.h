/*
 * convert.h
 *	  From the text of a value to a Datum without the type's input function
 *	  (floor 0).
 *
 * A converter knows the common spellings of its type and is unsure about all
 * others, which then go to the input function.  What it takes or refuses is
 * exactly what the input function would, under the settings that are pinned
 * while rows are worked on (session.c): the same Datum, or the same SQLSTATE.
 * Nothing is raised.
 */
#ifndef KI_CONVERT_H
#define KI_CONVERT_H

#include "postgres.h"

typedef enum KiConvertResult
{
	KI_CONVERT_TAKEN,			/* *value is the Datum */
	KI_CONVERT_REFUSED,			/* *sqlerrcode says why */
	KI_CONVERT_UNSURE			/* the input function is to decide */
} KiConvertResult;

/*
 * string is in the server's encoding, has no zero byte and is not terminated.
 * A Datum by reference is one allocation in the current memory context.
 */
typedef KiConvertResult KiConvert (const char *string, int len, int32 typmod,
								   Datum *value, int *sqlerrcode);

/* The converter of a base type; NULL: it has none. */
extern KiConvert *ki_convert_find(Oid type);

/*
 * Write a number, as JSON spells it, as the value numeric_in makes of it, with
 * its length word, to memory that is aligned for int32.  Returns the bytes
 * written, at most KI_NUMERIC_BYTES(len); 0: numeric_in is to decide.
 */
extern int	ki_convert_write_numeric(const char *number, int len, char *to);

#define KI_NUMERIC_BYTES(len) ((len) / 2 + 16)

/* What ki_convert_find finds in other files. */
extern KiConvert ki_convert_int2;
extern KiConvert ki_convert_int4;
extern KiConvert ki_convert_int8;
extern KiConvert ki_convert_float4;
extern KiConvert ki_convert_float8;
extern KiConvert ki_convert_numeric;
extern KiConvert ki_convert_date;
extern KiConvert ki_convert_timestamp;
extern KiConvert ki_convert_timestamptz;

#endif							/* KI_CONVERT_H */
