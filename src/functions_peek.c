/*
 * functions_peek.c
 *	  SQL function peek: messages of a topic as they are, without a pipeline.
 *
 * Memory: what is shown is copied from the messages into the call's context.
 * Of the newest ones at most twice as many are kept as are shown.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "functions_looking.h"
#include "header.h"
#include "hex.h"
#include "look.h"
#include "owned.h"
#include "text.h"

PG_FUNCTION_INFO_V1(kafka_ingest_peek);

enum
{
	ARG_TOPIC, ARG_CONNECTION, ARG_START_FROM, ARG_START_TIMESTAMP,
	ARG_START_OFFSETS, ARG_FORMAT, ARG_MAX_MESSAGES
};

#define MAX_BYTES (256 * 1024 * 1024)

/* A message as it is shown. */
typedef struct Shown
{
	int32		partition;
	int64		offset;
	int64		timestamp_ms;
	text	   *key;			/* NULL: none */
	text	   *value;			/* NULL: a tombstone */
	Jsonb	   *headers;
} Shown;

typedef struct Peek
{
	KiLook		look;
	bool		is_json;
	bool		is_raw;
	int64		bytes;			/* read so far */
	Shown	   *shown;
	int			nshown;
	int			capacity;
} Peek;

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------
 */
static void
take_format(FunctionCallInfo fcinfo, Peek *peek)
{
	char	   *format = ki_argument_text(fcinfo, ARG_FORMAT, "format");

	peek->is_json = strcmp(format, "json") == 0;
	peek->is_raw = strcmp(format, "raw") == 0;
	if (!peek->is_json && !peek->is_raw && strcmp(format, "text") != 0)
		ki_looking_refuse_format("peek", format);
}

/* There is exactly one way to say where to begin. */
static void
take_start(FunctionCallInfo fcinfo, KiLook *look)
{
	const char *from = PG_ARGISNULL(ARG_START_FROM) ? "earliest" :
	text_to_cstring(PG_GETARG_TEXT_PP(ARG_START_FROM));
	bool		has_offsets = !PG_ARGISNULL(ARG_START_OFFSETS);

	look->is_newest = strcmp(from, "latest") == 0;
	look->start.has_timestamp = !PG_ARGISNULL(ARG_START_TIMESTAMP);
	if (!look->is_newest && strcmp(from, "earliest") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"start_from\": \"%s\"", from),
				 errhint("It is earliest or latest.")));
	if (look->is_newest + look->start.has_timestamp + has_offsets > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is more than one start"),
				 errhint("Give one of start_from, start_timestamp and start_offsets.")));
	if (look->start.has_timestamp)
		look->start.timestamp = PG_GETARG_TIMESTAMPTZ(ARG_START_TIMESTAMP);
	if (look->start.has_timestamp && TIMESTAMP_NOT_FINITE(look->start.timestamp))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"start_timestamp\" must be finite"),
				 errhint("Use start_from => 'earliest' or 'latest'.")));
	if (has_offsets)
		look->start.offsets = ki_offsets_parse(PG_GETARG_JSONB_P(ARG_START_OFFSETS),
											   look->topic, "start_offsets",
											   &look->start.noffsets);
}

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------
 */
static text *
hex_text(const char *bytes, size_t len)
{
	text	   *shown = palloc(VARHDRSZ + 2 + 2 * len);

	SET_VARSIZE(shown, VARHDRSZ + 2 + 2 * len);
	memcpy(VARDATA(shown), "\\x", 2);
	(void) hex_encode(bytes, len, VARDATA(shown) + 2);
	return shown;
}

/* Text if it is, else hex digits; NULL if there are no bytes. */
static text *
readable(const char *bytes, size_t len)
{
	const char *string = bytes;
	int			string_len = (int) len;

	if (bytes == NULL)
		return NULL;
	if (!ki_text_is_utf8(bytes, len) || !ki_text_from_utf8(&string, &string_len))
		return hex_text(bytes, len);
	return cstring_to_text_with_len(string, string_len);
}

static text *
readable_value(const Peek *peek, const KiMessage *message)
{
	size_t		framing_len = peek->is_json ?
	ki_text_framing_len(message->value, message->value_len) : 0;

	if (peek->is_raw && message->value != NULL)
		return hex_text(message->value, message->value_len);

	/* What follows framing may be binary: then all of it is shown. */
	if (framing_len > 0 &&
		ki_text_is_utf8(message->value + framing_len,
						message->value_len - framing_len))
		return readable(message->value + framing_len,
						message->value_len - framing_len);
	return readable(message->value, message->value_len);
}

/* The newest first; of the same age by place, the last one first. */
static int
compare_age(const void *a, const void *b)
{
	const Shown *x = a;
	const Shown *y = b;

	if (x->timestamp_ms != y->timestamp_ms)
		return x->timestamp_ms > y->timestamp_ms ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset > y->offset ? -1 : 1;
	return x->partition - y->partition;
}

static int
compare_place(const void *a, const void *b)
{
	const Shown *x = a;
	const Shown *y = b;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Forget all but the newest. */
static void
keep_newest(Peek *peek)
{
	qsort(peek->shown, peek->nshown, sizeof(Shown), compare_age);
	while (peek->nshown > peek->look.max_messages)
	{
		Shown	   *old = &peek->shown[--peek->nshown];

		if (old->key)
			pfree(old->key);
		if (old->value)
			pfree(old->value);
		pfree(old->headers);
	}
}

/* A session's memory is the server's. */
static void
check_memory(Peek *peek, const KiMessage *message)
{
	peek->bytes += message->key_len + message->value_len;
	if (peek->bytes > MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("messages of topic \"%s\" are too large to be looked at together",
						peek->look.topic),
				 errdetail("At most %d MB are read at once.", MAX_BYTES / (1024 * 1024)),
				 errhint("Use a smaller max_messages.")));
}

static void
take(void *state, const KiMessage *message)
{
	Peek	   *peek = state;
	Shown	   *shown;

	if (peek->nshown == peek->capacity)
		keep_newest(peek);
	check_memory(peek, message);
	shown = &peek->shown[peek->nshown];
	shown->partition = message->partition;
	shown->offset = message->offset;
	shown->timestamp_ms = message->timestamp_ms;
	shown->key = readable(message->key, message->key_len);
	shown->value = readable_value(peek, message);
	shown->headers = ki_headers_to_jsonb(message);
	peek->nshown++;
}

static void
put_shown(ReturnSetInfo *result, const char *topic, const Shown *shown)
{
	TimestampTz at = 0;
	Datum		values[7];
	bool		nulls[7] = {false};

	values[0] = CStringGetTextDatum(topic);
	values[1] = Int32GetDatum(shown->partition);
	values[2] = Int64GetDatum(shown->offset);
	nulls[3] = !ki_time_from_ms(shown->timestamp_ms, &at);
	values[3] = TimestampTzGetDatum(at);
	values[4] = PointerGetDatum(shown->key);
	nulls[4] = shown->key == NULL;
	values[5] = PointerGetDatum(shown->value);
	nulls[5] = shown->value == NULL;
	values[6] = JsonbPGetDatum(shown->headers);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
kafka_ingest_peek(PG_FUNCTION_ARGS)
{
	Peek		peek = {0};

	peek.look.topic = ki_looking_topic(fcinfo, ARG_TOPIC);
	peek.look.connection = ki_argument_text(fcinfo, ARG_CONNECTION, "connection");
	peek.look.max_messages = ki_looking_count(fcinfo, ARG_MAX_MESSAGES,
											  "max_messages");
	take_format(fcinfo, &peek);
	take_start(fcinfo, &peek.look);
	InitMaterializedSRF(fcinfo, 0);
	ki_text_prepare();
	peek.capacity = 2 * peek.look.max_messages;
	peek.shown = palloc_array(Shown, peek.capacity);
	ki_look_read(&peek.look, take, &peek);
	keep_newest(&peek);
	qsort(peek.shown, peek.nshown, sizeof(Shown), compare_place);
	for (int i = 0; i < peek.nshown; i++)
		put_shown((ReturnSetInfo *) fcinfo->resultinfo, peek.look.topic,
				  &peek.shown[i]);
	PG_RETURN_VOID();
}
