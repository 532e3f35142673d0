/*
 * convert.c
 *	  Which type has a converter, and those of text, boolean, uuid and inet.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inet.h"
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
 * The bytes of a string's first characters; -1: there are more than blanks
 * behind them, which cannot be cut off.
 */
static int
clip(const char *string, int len, int most)
{
	int			bytes = pg_mbcharcliplen(string, len, most);

	for (int i = bytes; i < len; i++)
		if (string[i] != ' ')
			return -1;
	return bytes;
}

static KiConvertResult
convert_varchar(const char *string, int len, int32 typmod, Datum *value,
				int *sqlerrcode)
{
	int			most = typmod - VARHDRSZ;

	/* The bytes are counted first: there are never fewer than characters. */
	if (typmod >= (int32) VARHDRSZ && len > most)
		len = clip(string, len, most);
	if (len < 0)
	{
		*sqlerrcode = ERRCODE_STRING_DATA_RIGHT_TRUNCATION;
		return KI_CONVERT_REFUSED;
	}
	return convert_text(string, len, typmod, value, sqlerrcode);
}

/*
 * char(n): what is missing is blank.
 */
static KiConvertResult
convert_bpchar(const char *string, int len, int32 typmod, Datum *value,
			   int *sqlerrcode)
{
	KiConvertResult result = convert_varchar(string, len, typmod, value,
											 sqlerrcode);
	text	   *padded;
	int			missing;

	if (result != KI_CONVERT_TAKEN || typmod < (int32) VARHDRSZ)
		return result;
	padded = (text *) DatumGetPointer(*value);
	len = VARSIZE(padded) - VARHDRSZ;
	missing = typmod - VARHDRSZ - pg_mbstrlen_with_len(string, len);
	if (missing > 0)
	{
		padded = repalloc(padded, VARHDRSZ + len + missing);
		memset(VARDATA(padded) + len, ' ', missing);
		SET_VARSIZE(padded, VARHDRSZ + len + missing);
	}
	*value = PointerGetDatum(padded);
	return KI_CONVERT_TAKEN;
}

/*
 * The server's own reading of addresses, which does not raise.
 */
static KiConvertResult
convert_inet(const char *string, int len, int32 typmod, Datum *value,
			 int *sqlerrcode)
{
	char		address[64];	/* longer ones are mere zeros, or none */
	inet	   *result;
	int			bits;

	if (len >= (int) sizeof(address))
		return KI_CONVERT_UNSURE;
	memcpy(address, string, len);
	address[len] = '\0';
	result = palloc0(sizeof(inet));
	ip_family(result) = strchr(address, ':') ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	bits = pg_inet_net_pton(ip_family(result), address, ip_addr(result), -1);
	if (bits < 0 || bits > ip_maxbits(result))
	{
		*sqlerrcode = ERRCODE_INVALID_TEXT_REPRESENTATION;
		return KI_CONVERT_REFUSED;
	}
	ip_bits(result) = bits;
	SET_INET_VARSIZE(result);
	*value = InetPGetDatum(result);
	return KI_CONVERT_TAKEN;
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
 * Read so many bytes from two hex digits each; false: some are none.
 */
static inline bool
read_hex(const char *digits, int count, unsigned char *bytes)
{
	int			all = 0;

	for (int i = 0; i < count; i++)
	{
		int			high = ki_hex_digit(digits[2 * i]);
		int			low = ki_hex_digit(digits[2 * i + 1]);

		all |= high | low;		/* negative once one of them was */
		bytes[i] = (unsigned char) (high * 16 + low);
	}
	return all >= 0;
}

/*
 * 32 hex digits, or with hyphens as 8-4-4-4-12.
 */
static KiConvertResult
convert_uuid(const char *string, int len, int32 typmod, Datum *value,
			 int *sqlerrcode)
{
	pg_uuid_t	uuid;
	pg_uuid_t  *result;
	bool		is_uuid = false;

	if (len == 32)
		is_uuid = read_hex(string, 16, uuid.data);
	else if (len == 36)
		is_uuid = string[8] == '-' && string[13] == '-' && string[18] == '-' &&
			string[23] == '-' &&
			read_hex(string, 4, uuid.data) &&
			read_hex(string + 9, 2, uuid.data + 4) &&
			read_hex(string + 14, 2, uuid.data + 6) &&
			read_hex(string + 19, 2, uuid.data + 8) &&
			read_hex(string + 24, 6, uuid.data + 10);
	if (!is_uuid)
		return refuse_uuid(string, len, sqlerrcode);
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
		case BPCHAROID:
			return convert_bpchar;
		case INETOID:
			return convert_inet;
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
