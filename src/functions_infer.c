/*
 * functions_infer.c
 *	  SQL function infer_table: the CREATE TABLE that a topic's messages fit
 *	  into.
 *
 * A column is made for each top-level field, of the narrowest type that takes
 * every value that was seen, in the order in which somebody meets the fields
 * who reads one partition after the other: which partition's messages come to
 * us first is chance.  Narrow types of text, and NOT NULL, are promises about
 * messages that were not seen, so they want some evidence.
 *
 * Memory: columns and their names live in the call's context, what belongs to
 * one document in a context that is reset for the next.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/varlena.h"

#include "convert.h"
#include "decimal.h"
#include "decode.h"
#include "compat.h"
#include "functions_looking.h"
#include "hex.h"
#include "json_scan.h"
#include "look.h"
#include "origin.h"
#include "owned.h"
#include "text.h"

PG_FUNCTION_INFO_V1(kafka_ingest_infer_table);

enum
{
	ARG_TOPIC, ARG_TABLE_NAME, ARG_CONNECTION, ARG_FORMAT, ARG_ENVELOPE,
	ARG_SAMPLE
};

/* So many values must be of a shape before a column is made of its type. */
#define LEAST_SHAPED 20

/* So many messages must have a field, and none lack it, for NOT NULL. */
#define LEAST_COMPLETE 100

#define DATE_CHARACTERS 10		/* 2024-12-31 */
#define UUID_CHARACTERS 36

/* numeric takes no more digits on either side of the point. */
#define NUMERIC_PLACES 131072
#define NUMERIC_FRACTION 16383

/* What was seen of a field, as bits. */
#define SAW_BOOLEAN		(1 << 0)
#define SAW_BIGINT		(1 << 1)
#define SAW_NUMERIC		(1 << 2)
#define SAW_TIMESTAMP	(1 << 3)
#define SAW_DATE		(1 << 4)
#define SAW_UUID		(1 << 5)
#define SAW_TEXT		(1 << 6)	/* any other string */
#define SAW_NESTED		(1 << 7)	/* an array or an object */
#define SAW_HUGE		(1 << 8)	/* a number that only text can hold */

/* Where something was met. */
typedef struct Place
{
	int32		partition;
	int64		offset;
	int			field;			/* the how many-th of the document */
} Place;

typedef struct Column
{
	Place		first;			/* the first place it was met in */
	char	   *name;			/* of the field, in the server's encoding */
	int			name_len;
	int			saw;
	int			nvalues;		/* messages that have it, and not as null */
	int			document;		/* the last one it was met in */
	const char *value;			/* its last value there, as JSON */
	int			value_len;
} Column;

typedef struct Inference
{
	KiLook		look;
	KiDecoder  *decoder;
	KiScan		scan;			/* of the fields */
	KiScanNode	root;
	KiScanFrame frame;
	KiJsonLister *lister;		/* of nested values */
	MemoryContext context;		/* of one document */
	Place		place;			/* of what is read now */
	Column	   *columns;
	int			ncolumns;
	int			guess;			/* the column that the next field may be */
	int			ntombstones;
	int			ndocuments;		/* objects */
	int			nbad;			/* messages that are none */
	Place		first_bad;
	char	   *first_bad_why;	/* what is wrong with it */
} Inference;

static int
compare_places(const Place *a, const Place *b)
{
	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return a->field < b->field ? -1 : a->field > b->field;
}

/* ------------------------------------------------------------------------
 * What a value is
 * ------------------------------------------------------------------------
 */

/* Is it a point in time that needs no time zone to be assumed? */
static bool
is_timestamp(const char *string, int len)
{
	Datum		value;
	int			sqlerrcode;

	if (len <= DATE_CHARACTERS ||
		ki_convert_timestamptz(string, len, -1, &value,
							   &sqlerrcode) != KI_CONVERT_TAKEN)
		return false;
	if (string[len - 1] == 'Z')
		return true;
	for (int i = DATE_CHARACTERS; i < len; i++)
		if (string[i] == '+' || string[i] == '-')
			return true;
	return false;
}

static bool
is_date(const char *string, int len)
{
	Datum		value;
	int			sqlerrcode;

	return len == DATE_CHARACTERS &&
		ki_convert_date(string, len, -1, &value,
						&sqlerrcode) == KI_CONVERT_TAKEN;
}

static bool
is_uuid(const char *string, int len)
{
	if (len != UUID_CHARACTERS)
		return false;
	for (int i = 0; i < len; i++)
	{
		bool		is_hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_hyphen ? string[i] != '-' : ki_hex_digit(string[i]) < 0)
			return false;
	}
	return true;
}

static int
shape_of_string(const char *string, int len)
{
	if (is_timestamp(string, len))
		return SAW_TIMESTAMP;
	if (is_date(string, len))
		return SAW_DATE;
	return is_uuid(string, len) ? SAW_UUID : SAW_TEXT;
}

/*
 * 1.0 is an integer for a bigint column, but who writes it so will write 1.5.
 */
static int
shape_of_number(const char *number, int len)
{
	KiDecimal	decimal;
	int64		value;

	if (!ki_decimal_read(number, len, &decimal) ||
		decimal.places > NUMERIC_PLACES ||
		decimal.fraction - decimal.exponent > NUMERIC_FRACTION)
		return SAW_HUGE;
	for (int i = 0; i < len; i++)
		if (number[i] == '.' || number[i] == 'e' || number[i] == 'E')
			return SAW_NUMERIC;
	return ki_decimal_to_int64(number, len, 0, false, &value) == KI_DECIMAL_OK ?
		SAW_BIGINT : SAW_NUMERIC;
}

/*
 * jsonb keeps numbers as numeric.  What is nested so deeply that it is not
 * listed is left to chance.
 */
static int
shape_of_nested(KiJsonLister *lister, const char *json, int len)
{
	const KiJsonToken *list = ki_json_list(lister, NULL, json, len);
	int			saw = SAW_NESTED;

	for (uint32 i = 0; list && i < list->span; i++)
		if (list[i].kind == KI_JSON_NUMBER)
			saw |= shape_of_number(list[i].data, list[i].len) & SAW_HUGE;
	return saw;
}

/*
 * Escapes stand for themselves: no date, time or uuid is written with any.
 */
static int
shape_of(Inference *inference, const Column *column)
{
	const char *json = column->value;
	int			len = column->value_len;

	switch (*json)
	{
		case 'n':
			return 0;
		case 't':
		case 'f':
			return SAW_BOOLEAN;
		case '"':
			return shape_of_string(json + 1, len - 2);
		case '[':
		case '{':
			return shape_of_nested(inference->lister, json, len);
		default:
			return shape_of_number(json, len);
	}
}

/* ------------------------------------------------------------------------
 * Documents
 * ------------------------------------------------------------------------
 */
static Column *
add_column(Inference *inference, const char *name, int len)
{
	Column	   *column;

	if (inference->ncolumns == MaxHeapAttributeNumber)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("the messages of topic \"%s\" have more than %d different fields",
						inference->look.topic, MaxHeapAttributeNumber),
				 errhint("Make a table with a jsonb column, and map it to the whole value: columns => '{\"document\": \"$\"}'.")));
	column = &inference->columns[inference->ncolumns++];
	column->name = MemoryContextStrdup(GetMemoryChunkContext(inference->columns),
									   pnstrdup(name, len));
	column->name_len = len;
	column->first = inference->place;
	return column;
}

/*
 * The column of a field.  Fields mostly come in the same order, so that it is
 * the one after the column found last.
 */
static Column *
find_column(Inference *inference, const char *name, int len)
{
	for (int n = 0; n < inference->ncolumns; n++)
	{
		int			i = (inference->guess + n) % inference->ncolumns;
		Column	   *column = &inference->columns[i];

		if (column->name_len == len && memcmp(column->name, name, len) == 0)
		{
			inference->guess = i + 1;
			return column;
		}
	}
	return add_column(inference, name, len);
}

/*
 * The scanner found a field: note its value, the last one of a field that
 * comes twice, as when loading.
 */
static void
note_field(void *state, const char *name, int name_len, const char *value,
		   int value_len)
{
	Inference  *inference = state;
	char	   *plain = palloc(name_len);
	int			plain_len = ki_json_unescape(name + 1, name_len - 2, plain);
	Column	   *column;

	inference->place.field++;
	column = find_column(inference, plain, plain_len);
	if (compare_places(&inference->place, &column->first) < 0)
		column->first = inference->place;
	column->document = inference->ndocuments;
	column->value = value;
	column->value_len = value_len;
}

/* What the decoder let through is valid. */
static void
take_fields(Inference *inference, const KiField *document)
{
	inference->ndocuments++;
	inference->guess = 0;
	(void) ki_json_scan(&inference->scan, document->json, document->json_len);
	for (int i = 0; i < inference->ncolumns; i++)
	{
		Column	   *column = &inference->columns[i];
		int			saw;

		if (column->document != inference->ndocuments)
			continue;
		saw = shape_of(inference, column);
		column->saw |= saw;
		column->nvalues += saw != 0;
	}
}

static void
note_bad(Inference *inference, const char *why)
{
	if (inference->nbad++ > 0 &&
		compare_places(&inference->place, &inference->first_bad) > 0)
		return;
	inference->first_bad = inference->place;
	inference->first_bad_why = MemoryContextStrdup(GetMemoryChunkContext(inference->columns),
												   why);
}

/*
 * The whole document is asked for as the fields that no path takes; the
 * decoder has brought it into the server's encoding.
 */
static void
take_document(Inference *inference, const KiMessage *message)
{
	KiRecord	record;
	KiFault		fault = {0};

	if (!ki_decode_json(inference->decoder, message->value, message->value_len,
						&record, &fault))
		note_bad(inference, fault.message);
	else if (record.rest.kind != KI_FIELD_OBJECT)
		note_bad(inference, "it is JSON, but not an object");
	else
		take_fields(inference, &record.rest);
}

static void
take(void *state, const KiMessage *message)
{
	Inference  *inference = state;
	MemoryContext old = MemoryContextSwitchTo(inference->context);

	inference->place.partition = message->partition;
	inference->place.offset = message->offset;
	inference->place.field = 0;
	if (message->value == NULL)
		inference->ntombstones++;
	else
		take_document(inference, message);
	ki_json_lister_release(inference->lister);
	MemoryContextSwitchTo(old);
	MemoryContextReset(inference->context);
}

/* ------------------------------------------------------------------------
 * The statement
 * ------------------------------------------------------------------------
 */
static const char *
type_of(const Column *column)
{
	bool		is_evident = column->nvalues >= LEAST_SHAPED;

	if (column->saw & SAW_HUGE)
		return "text";
	if (column->saw & SAW_NESTED)
		return "jsonb";
	switch (column->saw)
	{
		case SAW_BOOLEAN:
			return "boolean";
		case SAW_BIGINT:
			return "bigint";
		case SAW_NUMERIC:
		case SAW_BIGINT | SAW_NUMERIC:
			return "numeric";
		case SAW_TIMESTAMP:
			return is_evident ? "timestamptz" : "text";
		case SAW_DATE:
			return is_evident ? "date" : "text";
		case SAW_UUID:
			return is_evident ? "uuid" : "text";
		default:
			return "text";
	}
}

/* Why a field can have no column of its own name; NULL: it can. */
static const char *
obstacle(const char *name)
{
	if (name[0] == '\0')
		return "a column needs a name";
	if (strlen(name) >= NAMEDATALEN)
		return "its name is too long for a column";
	if (SystemAttributeByName(name) != NULL)
		return "every table has a system column of that name";
	if (ki_origin_of_metadata_column(name) != NULL)
		return "a column of that name takes what it says of the message itself";
	return NULL;
}

static void
leave_out(const char *name, const char *why)
{
	ereport(NOTICE,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("field \"%s\" is left out: %s", name, why),
			 errhint("Add a column of another name, and map it with the option columns.")));
}

static void
append_column(StringInfo statement, const Inference *inference,
			  const Column *column, int nth)
{
	appendStringInfo(statement, "%s\n    %s %s", nth > 0 ? "," : "",
					 quote_identifier(column->name), type_of(column));
	if (inference->ndocuments >= LEAST_COMPLETE &&
		column->nvalues == inference->ndocuments)
		appendStringInfoString(statement, " NOT NULL");
}

static int
compare_columns(const void *a, const void *b)
{
	return compare_places(&((const Column *) a)->first,
						  &((const Column *) b)->first);
}

static char *
make_statement(Inference *inference, const char *table)
{
	StringInfoData statement;
	int			count = 0;

	qsort(inference->columns, inference->ncolumns, sizeof(Column),
		  compare_columns);
	initStringInfo(&statement);
	appendStringInfo(&statement, "CREATE TABLE %s (", table);
	for (int i = 0; i < inference->ncolumns; i++)
	{
		const Column *column = &inference->columns[i];
		const char *why = obstacle(column->name);

		if (why)
			leave_out(column->name, why);
		else
			append_column(&statement, inference, column, count++);
	}
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no field of the messages of topic \"%s\" could be a column",
						inference->look.topic),
				 errdetail("%d messages were read.", inference->ndocuments)));
	appendStringInfoString(&statement, "\n)");
	return statement.data;
}

static char *
first_bad(const Inference *inference)
{
	return psprintf("The first is at partition %d, offset " INT64_FORMAT ": %s.",
					inference->first_bad.partition,
					inference->first_bad.offset, inference->first_bad_why);
}

/* There must be something to go by. */
static void
check_sample(const Inference *inference)
{
	const char *topic = inference->look.topic;

	if (inference->ndocuments > 0 && inference->nbad > 0)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("%d of %d messages of topic \"%s\" could not be read as JSON objects and were passed over",
						inference->nbad, inference->nbad + inference->ndocuments,
						topic),
				 errdetail_internal("%s", first_bad(inference))));
	if (inference->ndocuments > 0)
		return;
	if (inference->nbad > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("no message of topic \"%s\" could be read as a JSON object", topic),
				 errdetail_internal("%s", first_bad(inference)),
				 errhint("Look at them with kafka_ingest.peek().")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 inference->ntombstones > 0 ?
			 errmsg("topic \"%s\" has only tombstones", topic) :
			 errmsg("topic \"%s\" is empty", topic),
			 errhint("Produce a message first, or write the table by hand.")));
}

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------
 */

/* As create_pipeline will take it: folded unless it is quoted. */
static char *
table_of(FunctionCallInfo fcinfo)
{
	char	   *name = ki_argument_text(fcinfo, ARG_TABLE_NAME, "table_name");
	RangeVar   *table = makeRangeVarFromNameList(ki_qualified_name_list(name));

	if (table->catalogname)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid table name \"%s\"", name),
				 errhint("Give a table, or a schema and a table.")));
	return table->schemaname ?
		quote_qualified_identifier(table->schemaname, table->relname) :
		pstrdup(quote_identifier(table->relname));
}

static void
check_kind(FunctionCallInfo fcinfo)
{
	char	   *format = ki_argument_text(fcinfo, ARG_FORMAT, "format");
	char	   *envelope;

	if (strcmp(format, "json") != 0)
		ki_looking_refuse_format("infer_table", format);
	if (PG_ARGISNULL(ARG_ENVELOPE))
		return;
	envelope = text_to_cstring(PG_GETARG_TEXT_PP(ARG_ENVELOPE));
	if (strcmp(envelope, "debezium") == 0 || strcmp(envelope, "connect") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("infer_table() does not open the envelope \"%s\" yet",
						envelope)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid envelope \"%s\"", envelope),
			 errhint("It is debezium or connect.")));
}

/* No path at all: every field is among the rest. */
static void
prepare_scan(Inference *inference)
{
	inference->root.first_field = -1;
	inference->root.wants_members = true;
	inference->scan.root = &inference->root;
	inference->scan.frames = &inference->frame;
	inference->scan.on_rest = note_field;
	inference->scan.rest_state = inference;
}

Datum
kafka_ingest_infer_table(PG_FUNCTION_ARGS)
{
	Inference	inference = {0};
	char	   *table;

	check_kind(fcinfo);
	inference.look.topic = ki_looking_topic(fcinfo, ARG_TOPIC);
	inference.look.connection = ki_argument_text(fcinfo, ARG_CONNECTION,
												 "connection");
	inference.look.max_messages = ki_looking_count(fcinfo, ARG_SAMPLE, "sample");
	table = table_of(fcinfo);
	inference.columns = palloc0_array(Column, MaxHeapAttributeNumber);
	inference.decoder = ki_decode_json_create(NULL, 0, true);
	prepare_scan(&inference);
	inference.lister = ki_json_lister_create();
	inference.context = AllocSetContextCreate(CurrentMemoryContext,
											  "kafka_ingest sample",
											  ALLOCSET_DEFAULT_SIZES);
	ki_look_read(&inference.look, take, &inference);
	check_sample(&inference);
	PG_RETURN_TEXT_P(cstring_to_text(make_statement(&inference, table)));
}
