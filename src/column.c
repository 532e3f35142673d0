/*
 * column.c
 *	  How one column of the target takes values.
 *
 * Everything ends in one of two ways: a Datum made directly (convert.h,
 * jsonb_build.h), where the column has one of the common types and the value a
 * common spelling, or the text of the value given to the type's own input
 * function, which checks domains and typmods.
 *
 * What outlives a row (input functions and their caches, texts of faults)
 * lives in the memory context of ki_column_init.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "column.h"
#include "compat.h"
#include "decimal.h"
#include "enum_label.h"
#include "fault.h"
#include "hex.h"
#include "stage.h"
#include "text.h"

/* A buffer larger than this is given back after its value. */
#define BUFFER_KEEP_BYTES (64 * 1024)

#define EPOCH_DIFF_USECS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static bool
invalid(const KiColumn *column, KiFault *fault)
{
	return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
						KI_STAGE_MAP, column->invalid_text);
}

static bool
out_of_range(const KiColumn *column, int sqlerrcode, KiFault *fault)
{
	return ki_fault_set(fault, sqlerrcode, KI_STAGE_MAP, column->range_text);
}

/*
 * How elements of an array are written in its literal.
 */
static KiElementKind
element_kind(Oid element)
{
	switch (getBaseType(element))
	{
		case JSONOID:
		case JSONBOID:
			return KI_ELEMENT_JSON;
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return KI_ELEMENT_INTEGER;
		default:
			return KI_ELEMENT_TEXT;
	}
}

/*
 * Find out what is special about a column's type, below its domains.
 */
static void
init_kind(KiColumn *column)
{
	Oid			base = getBaseType(column->type);
	Oid			element = get_element_type(base);
	Oid			input;
	Oid			ioparam;
	int16		len;
	bool		by_value;
	char		align;

	switch (base)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			column->kind = KI_COLUMN_INTEGER;
			return;
		case JSONOID:
		case JSONBOID:
			column->kind = KI_COLUMN_JSON;
			return;
		case BYTEAOID:
			column->kind = KI_COLUMN_BYTEA;
			return;
		default:
			column->kind = KI_COLUMN_OTHER;
	}
	if (get_typtype(base) == TYPTYPE_ENUM)
		column->enum_type = base;

	/* int2vector and its like have elements, but their own syntax. */
	getTypeInputInfo(base, &input, &ioparam);
	if (!OidIsValid(element) || input != F_ARRAY_IN)
		return;
	column->kind = KI_COLUMN_ARRAY;
	column->element_kind = element_kind(element);
	get_type_io_data(element, IOFunc_input, &len, &by_value, &align,
					 &column->delimiter, &ioparam, &input);
}

KiColumnSpace *
ki_column_space_create(void)
{
	KiColumnSpace *space = palloc(sizeof(KiColumnSpace));

	initStringInfo(&space->buffer);
	space->builder = ki_jsonb_builder_create();
	space->may_raise = false;
	space->context = AllocSetContextCreate(CurrentMemoryContext,
										   "kafka_ingest input functions",
										   ALLOCSET_DEFAULT_SIZES);
	return space;
}

void
ki_column_init(KiColumn *column, Form_pg_attribute attribute,
			   KiColumnSpace *space)
{
	const char *type_name = format_type_be(attribute->atttypid);
	Oid			input;

	memset(column, 0, sizeof(KiColumn));
	column->name = pstrdup(NameStr(attribute->attname));
	column->type = attribute->atttypid;
	column->typmod = attribute->atttypmod;
	column->is_direct = column->typmod < 0;
	column->is_domain = get_typtype(column->type) == TYPTYPE_DOMAIN;
	column->convert = ki_convert_find(column->type);
	if (column->type == JSONBOID)
		column->shapes = ki_json_shapes_create();
	column->len = attribute->attlen;
	column->is_by_value = attribute->attbyval;
	column->space = space;
	column->invalid_text = psprintf("invalid input for type %s", type_name);
	column->range_text = psprintf("value out of range for type %s", type_name);
	getTypeInputInfo(column->type, &input, &column->ioparam);
	fmgr_info_cxt(input, &column->input, CurrentMemoryContext);
	init_kind(column);
	ki_text_prepare();
}

/*
 * Empty the shared buffer, which may have grown large.
 */
static void
reset_buffer(KiColumn *column)
{
	StringInfo	buffer = &column->space->buffer;

	resetStringInfo(buffer);
	if (buffer->maxlen > BUFFER_KEEP_BYTES)
	{
		buffer->data = repalloc(buffer->data, BUFFER_KEEP_BYTES);
		buffer->maxlen = BUFFER_KEEP_BYTES;
	}
}

/*
 * Give the buffer's text to the column's input function.
 */
static bool
input_buffer(KiColumn *column, Datum *value, KiFault *fault)
{
	KiColumnSpace *space = column->space;
	MemoryContext caller = CurrentMemoryContext;
	int			sqlerrcode = 0;
	const char *constraint = NULL;
	bool		taken;

	if (column->is_careful && !space->may_raise)
	{
		fault->is_unsure = true;
		return false;
	}
	if (!column->is_by_value)
		MemoryContextSwitchTo(space->context);
	taken = ki_input_call(&column->input, space->buffer.data, column->ioparam,
						  column->typmod, value, &sqlerrcode,
						  &constraint);
	MemoryContextSwitchTo(caller);

	if (taken && !column->is_by_value)
		*value = datumCopy(*value, false, column->len);
	if (constraint)
		constraint = pstrdup(constraint);
	MemoryContextReset(space->context);
	if (taken)
		return true;
	(void) ki_fault_set(fault, sqlerrcode, KI_STAGE_MAP, column->invalid_text);
	fault->constraint_name = constraint;
	return false;
}

bool
ki_column_take_null(KiColumn *column, KiFault *fault)
{
	Datum		value;
	int			sqlerrcode = 0;
	const char *constraint = NULL;

	if (column->is_domain && column->is_careful && !column->space->may_raise)
	{
		fault->is_unsure = true;
		return false;
	}
	if (!column->is_domain ||
		ki_input_call(&column->input, NULL, column->ioparam, column->typmod,
					  &value, &sqlerrcode, &constraint))
		return true;
	(void) ki_fault_set(fault, sqlerrcode, KI_STAGE_MAP, column->invalid_text);
	fault->constraint_name = constraint;
	return false;
}

/*
 * Give text to the column's input function.
 */
static bool
input_text(KiColumn *column, const char *string, int len, Datum *value,
		   KiFault *fault)
{
	reset_buffer(column);
	appendBinaryStringInfo(&column->space->buffer, string, len);
	return input_buffer(column, value, fault);
}

/*
 * What the column's type does without its input function.
 */
static KiConvertResult
convert(const KiColumn *column, const char *string, int len, Datum *value,
		int *sqlerrcode)
{
	KiConvertResult result = KI_CONVERT_UNSURE;

	if (column->convert)
		return column->convert(string, len, column->typmod, value, sqlerrcode);
	if (OidIsValid(column->enum_type))
		result = ki_enum_label_convert(column->enum_type, string, len, value,
									   sqlerrcode);
	/* a domain has constraints */
	return result == KI_CONVERT_TAKEN && column->is_domain ?
		KI_CONVERT_UNSURE : result;
}

bool
ki_column_take_text(KiColumn *column, const char *string, int len,
					Datum *value, KiFault *fault)
{
	int			sqlerrcode = 0;
	KiConvertResult result = convert(column, string, len, value, &sqlerrcode);

	if (result == KI_CONVERT_UNSURE)
		return input_text(column, string, len, value, fault);
	if (result == KI_CONVERT_TAKEN)
		return true;
	if (sqlerrcode == ERRCODE_STRING_DATA_RIGHT_TRUNCATION)
		return ki_fault_set(fault, sqlerrcode, KI_STAGE_MAP,
							ki_error_condition(sqlerrcode));
	return sqlerrcode == ERRCODE_INVALID_TEXT_REPRESENTATION ?
		invalid(column, fault) : out_of_range(column, sqlerrcode, fault);
}

bool
ki_column_take_integer(KiColumn *column, int64 integer,
					   Datum *value, KiFault *fault)
{
	char		string[MAXINT8LEN + 1];

	if (column->type == INT8OID)
		*value = Int64GetDatum(integer);
	else if (column->type == INT4OID && integer == (int32) integer)
		*value = Int32GetDatum((int32) integer);
	else if (column->type == INT2OID && integer == (int16) integer)
		*value = Int16GetDatum((int16) integer);
	else if (column->type == INT4OID || column->type == INT2OID)
		return out_of_range(column, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, fault);
	else
		return ki_column_take_text(column, string, pg_lltoa(integer, string),
								   value, fault);
	return true;
}

/*
 * A number for an integer column: any spelling of an integer will do.
 */
static bool
take_number(KiColumn *column, const KiField *field, Datum *value,
			KiFault *fault)
{
	int64		integer;

	switch (ki_decimal_to_int64(field->data, field->len, 0, false, &integer))
	{
		case KI_DECIMAL_OK:
			return ki_column_take_integer(column, integer, value, fault);
		case KI_DECIMAL_OVERFLOW:
			return out_of_range(column, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
								fault);
		default:
			return invalid(column, fault);
	}
}

/*
 * Bytes that are wanted as bytes.
 */
static bool
take_binary(KiColumn *column, const char *bytes, size_t len,
			Datum *value, KiFault *fault)
{
	StringInfo	buffer = &column->space->buffer;

	if (column->type == BYTEAOID)
	{
		*value = PointerGetDatum(cstring_to_text_with_len(bytes, len));
		return true;
	}
	/* a domain over bytea: its input checks the constraints */
	reset_buffer(column);
	appendStringInfoString(buffer, "\\x");
	enlargeStringInfo(buffer, len * 2);
	buffer->len += hex_encode(bytes, len, buffer->data + buffer->len);
	buffer->data[buffer->len] = '\0';
	return input_buffer(column, value, fault);
}

bool
ki_column_take_bytes(KiColumn *column, const char *bytes, size_t len,
					 Datum *value, KiFault *fault)
{
	const char *string;
	int			string_len;

	if (column->kind == KI_COLUMN_BYTEA)
		return take_binary(column, bytes, len, value, fault);
	return ki_text_read(bytes, len, &string, &string_len, fault) &&
		ki_column_take_text(column, string, string_len, value, fault);
}

/*
 * A point in time, UTC.
 */
static bool
take_timestamp(KiColumn *column, TimestampTz timestamp,
			   Datum *value, KiFault *fault)
{
	struct pg_tm tm;
	fsec_t		fsec;
	char		string[MAXDATELEN + 1];

	if (column->is_direct &&
		(column->type == TIMESTAMPTZOID || column->type == TIMESTAMPOID))
	{
		*value = TimestampTzGetDatum(timestamp);
		return true;
	}
	if (column->type == DATEOID)
	{
		int64		date = timestamp / USECS_PER_DAY;

		if (timestamp % USECS_PER_DAY < 0)
			date--;
		*value = DateADTGetDatum((DateADT) date);
		return true;
	}
	/* Without a zone to turn to, the clock reads as in UTC. */
	if (timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) != 0)
		return out_of_range(column, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, fault);
	tm.tm_isdst = 0;			/* known, so that the zone is written */
	EncodeDateTime(&tm, fsec, true, 0, NULL, USE_ISO_DATES, string);
	return ki_column_take_text(column, string, strlen(string), value, fault);
}

/*
 * Microseconds since 1970-01-01 UTC.
 */
static bool
take_epoch_us(KiColumn *column, int64 epoch_us, Datum *value, KiFault *fault)
{
	TimestampTz timestamp;

	if (pg_sub_s64_overflow(epoch_us, EPOCH_DIFF_USECS, &timestamp) ||
		!IS_VALID_TIMESTAMP(timestamp))
		return ki_fault_set(fault, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
							KI_STAGE_MAP, "timestamp out of range");
	return take_timestamp(column, timestamp, value, fault);
}

bool
ki_column_take_epoch_ms(KiColumn *column, int64 epoch_ms,
						Datum *value, KiFault *fault)
{
	int64		epoch_us;

	/* Out of range is out of range: let the next one say so. */
	if (pg_mul_s64_overflow(epoch_ms, 1000, &epoch_us))
		epoch_us = PG_INT64_MIN;
	return take_epoch_us(column, epoch_us, value, fault);
}

/*
 * A number, or a string that holds one, since 1970 in some unit.
 */
static bool
take_epoch(KiColumn *column, const KiField *field, KiConversion conversion,
		   Datum *value, KiFault *fault)
{
	int			shift = 0;
	int64		epoch;

	/* Digits after the microsecond are rounded, as for other timestamps. */
	if (conversion == KI_CONVERSION_EPOCH_S)
		shift = 6;
	else if (conversion == KI_CONVERSION_EPOCH_MS)
		shift = 3;

	if (field->kind != KI_FIELD_NUMBER && field->kind != KI_FIELD_STRING)
		return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							KI_STAGE_MAP, "a number is expected");
	switch (ki_decimal_to_int64(field->data, field->len, shift, shift > 0,
								&epoch))
	{
		case KI_DECIMAL_OK:
			break;
		case KI_DECIMAL_OVERFLOW:
			epoch = PG_INT64_MIN;
			break;
		case KI_DECIMAL_FRACTION:
			return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
								KI_STAGE_MAP, "an integer is expected");
		default:
			return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
								KI_STAGE_MAP, "a number is expected");
	}
	if (conversion == KI_CONVERSION_EPOCH_DAYS &&
		pg_mul_s64_overflow(epoch, USECS_PER_DAY, &epoch))
		epoch = PG_INT64_MIN;
	return take_epoch_us(column, epoch, value, fault);
}

/*
 * Decode pairs of hex digits, with or without a leading \x; returns the
 * number of bytes, or -1.
 */
static int
decode_hex(const char *string, int len, char *bytes)
{
	char	   *to = bytes;

	if (len >= 2 && memcmp(string, "\\x", 2) == 0)
	{
		string += 2;
		len -= 2;
	}
	if (len % 2 != 0)
		return -1;
	for (int i = 0; i < len; i += 2)
	{
		int			high = ki_hex_digit(string[i]);
		int			low = ki_hex_digit(string[i + 1]);

		if (high < 0 || low < 0)
			return -1;
		*to++ = (char) (high * 16 + low);
	}
	return to - bytes;
}

/*
 * A string that holds bytes in base64 or hex.
 */
static bool
take_encoded(KiColumn *column, const KiField *field, KiConversion conversion,
			 Datum *value, KiFault *fault)
{
	bool		is_hex = conversion == KI_CONVERSION_HEX;
	void	   *bytes;
	int			size;
	int			len = -1;
	bool		taken;

	/* Both decode to fewer bytes than they have characters. */
	size = field->len + 1;
	bytes = palloc(size);
	if (field->kind == KI_FIELD_STRING && is_hex)
		len = decode_hex(field->data, field->len, bytes);
	else if (field->kind == KI_FIELD_STRING)
		len = pg_b64_decode(field->data, field->len, bytes, size);
	if (len < 0)
		return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							KI_STAGE_MAP,
							is_hex ? "a string of hex digits is expected" :
							"a string in base64 is expected");
	taken = ki_column_take_bytes(column, bytes, len, value, fault);
	if (column->kind == KI_COLUMN_BYTEA)
		pfree(bytes);			/* text may still point into it */
	return taken;
}

/*
 * A JSON array for an array column.
 */
static bool
take_array(KiColumn *column, const KiField *field, Datum *value, KiFault *fault)
{
	reset_buffer(column);
	ki_array_literal_append(&column->space->buffer, field->json, field->json_len,
							column->element_kind, column->delimiter);
	return input_buffer(column, value, fault);
}

/*
 * JSON that was parsed already for a jsonb column.
 */
static bool
take_jsonb(KiColumn *column, const KiJsonToken *tokens, const char *json,
		   int len, Datum *value, KiFault *fault)
{
	return ki_jsonb_build(column->space->builder, tokens, column->shapes, json,
						  len, value) ||
		input_text(column, json, len, value, fault);
}

/*
 * A field's JSON for a json or jsonb column.
 */
static bool
take_json(KiColumn *column, const KiField *field, Datum *value, KiFault *fault)
{
	if (column->type == JSONOID)
	{
		/* json is its text, and this text was parsed already */
		*value = PointerGetDatum(cstring_to_text_with_len(field->json,
														  field->json_len));
		return true;
	}
	if (column->type == JSONBOID)
		return take_jsonb(column, field->tokens, field->json, field->json_len,
						  value, fault);
	return ki_column_take_text(column, field->json, field->json_len,
							   value, fault);
}

bool
ki_column_take_field(KiColumn *column, const KiField *field,
					 KiConversion conversion, Datum *value, KiFault *fault)
{
	switch (conversion)
	{
		case KI_CONVERSION_EPOCH_S:
		case KI_CONVERSION_EPOCH_MS:
		case KI_CONVERSION_EPOCH_US:
		case KI_CONVERSION_EPOCH_DAYS:
			return take_epoch(column, field, conversion, value, fault);
		case KI_CONVERSION_BASE64:
		case KI_CONVERSION_HEX:
			return take_encoded(column, field, conversion, value, fault);
		default:
			break;
	}

	if (column->kind == KI_COLUMN_JSON)
		return take_json(column, field, value, fault);
	if (column->kind == KI_COLUMN_INTEGER && field->kind == KI_FIELD_NUMBER)
		return take_number(column, field, value, fault);
	if (column->kind == KI_COLUMN_ARRAY && field->kind == KI_FIELD_ARRAY)
		return take_array(column, field, value, fault);
	if (column->type == BOOLOID && field->kind == KI_FIELD_BOOL)
	{
		*value = BoolGetDatum(field->data[0] == 't');
		return true;
	}
	return ki_column_take_text(column, field->data, field->len, value, fault);
}

bool
ki_column_take_jsonb(KiColumn *column, Jsonb *jsonb,
					 Datum *value, KiFault *fault)
{
	bool		taken = true;

	if (column->type == JSONBOID)
		*value = datumCopy(JsonbPGetDatum(jsonb), false, -1);
	else
	{
		char	   *string = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

		taken = ki_column_take_text(column, string, strlen(string), value,
									fault);
		pfree(string);
	}
	MemoryContextReset(column->space->context);
	return taken;
}

bool
ki_column_take_jsonb_text(KiColumn *column, const char *json, int len,
						  Datum *value, KiFault *fault)
{
	StringInfo	buffer = &column->space->buffer;
	MemoryContext caller;
	Datum		jsonb;

	if (column->type == JSONBOID)
		return take_jsonb(column, NULL, json, len, value, fault);
	reset_buffer(column);
	appendBinaryStringInfo(buffer, json, len);
	caller = MemoryContextSwitchTo(column->space->context);
	jsonb = DirectFunctionCall1(jsonb_in, CStringGetDatum(buffer->data));
	MemoryContextSwitchTo(caller);
	return ki_column_take_jsonb(column, DatumGetJsonbP(jsonb), value, fault);
}
