/*
 * convert.c
 *	  Which type has a converter, and those of text, boolean and uuid.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "compat.h"
#include "convert.h"
#include "hex.h"

static KiConvertResult
convert_text(const char *string, int len, int32 typmod, Datum *value,
			 int *sqlerrcode)
{
	*value = PointerGetDatum(cstring_to_text_with_len(string, len));
	return KI_CONVERT_TAKEN;
}

/*
 * varchar(n), as long as nothing has to be cut or refused.
 */
static KiConvertResult
convert_varchar(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	int			most = typmod - VARHDRSZ;

	/* The bytes are counted first: there are never fewer than characters. */
	if (typmod >= (int32) VARHDRSZ && len > most &&
		pg_mbstrlen_with_len(string, len) > most)
		return KI_CONVERT_UNSURE;
	return convert_text(string, len, typmod, value, sqlerrcode);
}

static KiConvertResult
convert_bool(const char *string, int len, int32 typmod, Datum *value,
			 int *sqlerrcode)
{
	bool		result;

	if (len == 0 || !parse_bool_with_len(string, len, &result))
		return KI_CONVERT_UNSURE;
	*value = BoolGetDatum(result);
	return KI_CONVERT_TAKEN;
}

/*
 * No spelling of a uuid has other characters than these.
 */
static KiConvertResult
refuse_uuid(const char *string, int len, int *sqlerrcode)
{
	for (int i = 0; i < len; i++)
	{
		if (ki_hex_digit(string[i]) < 0 && string[i] != '-' &&
			string[i] != '{' && string[i] != '}')
		{
			*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
			return KI_CONVERT_REFUSED;
		}
	}
	return KI_CONVERT_UNSURE;
}

/*
 * 32 hex digits, or with hyphens as 8-4-4-4-12.
 */
static KiConvertResult
convert_uuid(const char *string, int len, int32 typmod, Datum *value,
			 int *sqlerrcode)
{
	bool		is_hyphened = len == 36;
	const char *at = string;
	pg_uuid_t	uuid;
	pg_uuid_t  *result;

	if (!is_hyphened && len != 32)
		return refuse_uuid(string, len, sqlerrcode);
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high;
		int			low;

		if (is_hyphened && (i == 4 || i == 6 || i == 8 || i == 10) &&
			*at++ != '-')
			return refuse_uuid(string, len, sqlerrcode);
		high = ki_hex_digit(at[0]);
		low = ki_hex_digit(at[1]);
		if (high < 0 || low < 0)
			return refuse_uuid(string, len, sqlerrcode);
		uuid.data[i] = (unsigned char) (high * 16 + low);
		at += 2;
	}
	result = palloc(sizeof(pg_uuid_t));
	*result = uuid;
	*value = UUIDPGetDatum(result);
	return KI_CONVERT_TAKEN;
}

KiConvert *
ki_convert_find(Oid type)
{
	switch (type)
	{
		case INT2OID:
			return ki_convert_int2;
		case INT4OID:
			return ki_convert_int4;
		case INT8OID:
			return ki_convert_int8;
		case FLOAT4OID:
			return ki_convert_float4;
		case FLOAT8OID:
			return ki_convert_float8;
		case NUMERICOID:
			return ki_convert_numeric;
		case BOOLOID:
			return convert_bool;
		case TEXTOID:
			return convert_text;
		case VARCHAROID:
			return convert_varchar;
		case UUIDOID:
			return convert_uuid;
		case DATEOID:
			return ki_convert_date;
		case TIMESTAMPOID:
			return ki_convert_timestamp;
		case TIMESTAMPTZOID:
			return ki_convert_timestamptz;
		default:
			return NULL;
	}
}
