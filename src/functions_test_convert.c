/*
 * functions_test_convert.c
 *	  Functions by which a test compares our conversions with those of the
 *	  input functions; only in builds for tests, and created by the test.
 *
 * Columns are made once per type and typmod and kept to the end of the
 * session, as a pipeline's are, so that what one value leaves behind would be
 * seen with the next.
 */
#include "postgres.h"

#ifdef KI_FAULTS

#include "catalog/pg_attribute.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "column.h"
#include "compat.h"
#include "decode.h"

typedef struct TestColumn
{
	struct TestColumn *next;
	KiColumn	column;
	PGFunction	input_function; /* what column.input calls in the end */
} TestColumn;

static KiDecoder *decoder = NULL;
static KiColumnSpace *space = NULL;
static TestColumn *columns = NULL;

/* The column at work, and whether its input function was called. */
static TestColumn *current = NULL;
static bool input_was_called;

PG_FUNCTION_INFO_V1(kafka_ingest_test_convert);
PG_FUNCTION_INFO_V1(kafka_ingest_test_input);

/*
 * Stands in for a column's input function, and calls it.
 */
static Datum
noting_input(PG_FUNCTION_ARGS)
{
	input_was_called = true;
	return current->input_function(fcinfo);
}

static TestColumn *
make_column(Oid type, int32 typmod)
{
	TestColumn *column = palloc0(sizeof(TestColumn));
	FormData_pg_attribute attribute = {0};

	namestrcpy(&attribute.attname, "v");
	attribute.atttypid = type;
	attribute.atttypmod = typmod;
	get_typlenbyval(type, &attribute.attlen, &attribute.attbyval);
	ki_column_init(&column->column, &attribute, space);
	column->input_function = column->column.input.fn_addr;
	column->column.input.fn_addr = noting_input;
	return column;
}

static TestColumn *
find_column(Oid type, int32 typmod)
{
	MemoryContext caller;

	for (TestColumn *column = columns; column; column = column->next)
	{
		if (column->column.type == type && column->column.typmod == typmod)
			return column;
	}
	caller = MemoryContextSwitchTo(TopMemoryContext);
	if (decoder == NULL)
	{
		KiPath		whole = {.wants_tokens = true};

		decoder = ki_decode_json_create(&whole, 1, false);
		space = ki_column_space_create();
	}
	current = make_column(type, typmod);
	current->next = columns;
	columns = current;
	MemoryContextSwitchTo(caller);
	return current;
}

/*
 * A value's bytes as they are in memory.
 */
static Datum
image_of(Datum value, Oid type)
{
	int16		len;
	bool		by_value;

	get_typlenbyval(type, &len, &by_value);
	return PointerGetDatum(cstring_to_text_with_len(by_value ?
													(const char *) &value :
													DatumGetPointer(value),
													by_value ? sizeof(Datum) :
													datumGetSize(value, false,
																 len)));
}

static Datum
output_of(Datum value, Oid type)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	return PointerGetDatum(cstring_to_text(OidOutputFunctionCall(output,
																 value)));
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	row;

	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the function must return a row")));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}

/*
 * The same without the list that the decoder made of the document.
 */
static void
convert_without_list(KiField *field, Datum expected)
{
	KiFault		fault = {0};
	Datum		value;

	field->tokens = NULL;
	if (!ki_column_take_field(&current->column, field, KI_CONVERSION_NONE,
							  &value, &fault) ||
		!datumIsEqual(value, expected, current->column.is_by_value,
					  current->column.len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the value is another one without the list")));
}

/*
 * kafka_ingest_test_convert(json text, type oid, typmod int) returns (value
 * text, image bytea, is_fast boolean, sqlstate text): our conversion of a
 * document.  is_fast: the input function was not called.
 */
Datum
kafka_ingest_test_convert(PG_FUNCTION_ARGS)
{
	text	   *json = PG_GETARG_TEXT_PP(0);
	Oid			type = PG_GETARG_OID(1);
	Datum		values[4] = {0};
	bool		nulls[4] = {true, true, false, true};
	KiRecord	record;
	KiFault		fault = {0};
	Datum		value;

	current = find_column(type, PG_GETARG_INT32(2));
	input_was_called = false;
	if (ki_decode_json(decoder, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json),
					   &record, &fault) &&
		ki_column_take_field(&current->column, &record.fields[0],
							 KI_CONVERSION_NONE, &value, &fault))
	{
		values[0] = output_of(value, type);
		values[1] = image_of(value, type);
		nulls[0] = nulls[1] = false;
		if (record.fields[0].tokens)
			convert_without_list(&record.fields[0], value);
	}
	else
	{
		values[3] = CStringGetTextDatum(unpack_sql_state(fault.sqlerrcode));
		nulls[3] = false;
	}
	values[2] = BoolGetDatum(!input_was_called);
	return make_row(fcinfo, values, nulls);
}

/*
 * kafka_ingest_test_input(input text, type oid, typmod int) returns (value
 * text, image bytea): what the type's input function makes of a text.
 */
Datum
kafka_ingest_test_input(PG_FUNCTION_ARGS)
{
	Oid			type = PG_GETARG_OID(1);
	Oid			input;
	Oid			ioparam;
	Datum		value;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	getTypeInputInfo(type, &input, &ioparam);
	value = OidInputFunctionCall(input, text_to_cstring(PG_GETARG_TEXT_PP(0)),
								 ioparam, PG_GETARG_INT32(2));
	values[0] = output_of(value, type);
	values[1] = image_of(value, type);
	return make_row(fcinfo, values, nulls);
}

#endif							/* KI_FAULTS */
