/*
 * functions_preview.c
 *	  SQL function preview: what a pipeline would write of a message.
 *
 * The message goes all the way, in a subtransaction that is undone; user code
 * runs as the owner, for anybody else in a security-restricted operation.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "ask.h"
#include "batch.h"
#include "catalog.h"
#include "header.h"
#include "mapping.h"
#include "owned.h"
#include "text.h"

PG_FUNCTION_INFO_V1(kafka_ingest_preview);

/* ------------------------------------------------------------------------
 * The message that was given
 * ------------------------------------------------------------------------
 */
static const char *
argument_bytes(FunctionCallInfo fcinfo, int arg, size_t *len)
{
	const char *string;

	if (PG_ARGISNULL(arg))
		return NULL;
	string = ki_text_to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
	*len = strlen(string);
	return string;
}

/* An object of strings, numbers, booleans or nulls. */
static void
take_headers(Jsonb *headers, KiMessage *message)
{
	JsonbIterator *iterator;
	JsonbValue	item;
	JsonbIteratorToken token;
	KiHeader   *header;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"headers\" must be a JSON object")));
	message->headers = header = palloc0(sizeof(KiHeader) * Max(JB_ROOT_COUNT(headers), 1));
	iterator = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&iterator, &item, true);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) == WJB_KEY)
	{
		header->name = ki_text_to_utf8(pnstrdup(item.val.string.val,
												item.val.string.len));
		(void) JsonbIteratorNext(&iterator, &item, true);
		if (item.type == jbvString)
			header->value = ki_text_to_utf8(pnstrdup(item.val.string.val,
													 item.val.string.len));
		else if (item.type != jbvNull)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("header \"%s\" is not a string", header->name)));
		header->value_len = header->value ? strlen(header->value) : 0;
		header++;
		message->nheaders++;
	}
}

static KiMessages *
given_message(FunctionCallInfo fcinfo, const KiPipeline *pipeline)
{
	KiMessages *messages = palloc0(sizeof(KiMessages));
	KiMessage  *message = palloc0(sizeof(KiMessage));

	message->topic = pipeline->topic;
	message->timestamp_ms = ki_time_to_ms(GetCurrentTimestamp());
	message->value = argument_bytes(fcinfo, 1, &message->value_len);
	message->key = argument_bytes(fcinfo, 2, &message->key_len);
	if (!PG_ARGISNULL(3))
		take_headers(PG_GETARG_JSONB_P(3), message);
	messages->items = message;
	messages->count = 1;
	return messages;
}

/* ------------------------------------------------------------------------
 * What comes of it
 * ------------------------------------------------------------------------
 */

/* Names of the fields that some column takes; *all: the whole value is. */
static List *
mapped_fields(const KiPipeline *pipeline, bool *all)
{
	Relation	target;
	KiMapping  *mapping;
	List	   *names = NIL;

	*all = !pipeline->target_name;
	if (*all)
		return NIL;
	target = relation_open(pipeline->target, AccessShareLock);
	mapping = ki_mapping_resolve(pipeline, RelationGetDescr(target));
	for (int i = 0; i < mapping->nitems; i++)
	{
		const KiOrigin *origin = mapping->items[i].origin;

		if (origin->kind == KI_ORIGIN_REST || origin->kind == KI_ORIGIN_RAW ||
			(origin->kind == KI_ORIGIN_VALUE && origin->steps == NIL))
			*all = true;
		else if (origin->kind == KI_ORIGIN_VALUE &&
				 IsA(linitial(origin->steps), String))
			names = lappend(names, strVal(linitial(origin->steps)));
	}
	relation_close(target, AccessShareLock);
	*all = *all || names == NIL;	/* nobody looks into the value */
	return names;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
		return true;
	return false;
}

/* The top-level fields of a good value that no column takes. */
static Datum
unmapped_fields(const KiPipeline *pipeline, const KiMessage *message)
{
	bool		all;
	List	   *names = mapped_fields(pipeline, &all);
	const char *string = message->value;
	int			len = message->value_len;
	int			framing_len;
	ArrayBuildState *unmapped = initArrayResult(TEXTOID, CurrentMemoryContext, true);
	JsonbIterator *iterator;
	JsonbValue	item;
	Jsonb	   *value;

	framing_len = ki_text_framing_len(string, len);
	string += framing_len;
	len -= framing_len;
	if (!all && string && ki_text_from_utf8(&string, &len))
	{
		value = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												   CStringGetDatum(pnstrdup(string, len))));
		iterator = JsonbIteratorInit(&value->root);
		if (JB_ROOT_IS_OBJECT(value))
			(void) JsonbIteratorNext(&iterator, &item, true);
		while (JB_ROOT_IS_OBJECT(value) &&
			   JsonbIteratorNext(&iterator, &item, true) == WJB_KEY)
		{
			char	   *name = pnstrdup(item.val.string.val, item.val.string.len);

			if (!is_listed(names, name))
				unmapped = accumArrayResult(unmapped, CStringGetTextDatum(name),
											false, TEXTOID, CurrentMemoryContext);
			(void) JsonbIteratorNext(&iterator, &item, true);
		}
	}
	return makeArrayResult(unmapped, CurrentMemoryContext);
}

/* The text alone would leave open which column is meant. */
static const char *
describe(const KiLetter *letter)
{
	return letter->fault.column_name ?
		psprintf("column \"%s\": %s", letter->fault.column_name, letter->error) :
		letter->error;
}

static void
return_preview(FunctionCallInfo fcinfo, const KiPipeline *pipeline,
			   const KiMessage *message, bool is_given,
			   const KiPreview *preview)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[6];
	bool		nulls[6] = {false};

	values[0] = Int32GetDatum(message->partition);
	values[1] = Int64GetDatum(message->offset);
	nulls[0] = nulls[1] = is_given;
	values[2] = preview->row;
	nulls[2] = preview->row == (Datum) 0;
	nulls[3] = preview->is_bad &&
		strcmp(preview->letter.fault.stage, "decode") == 0;
	values[3] = nulls[3] ? (Datum) 0 : unmapped_fields(pipeline, message);
	nulls[4] = !preview->is_bad;
	values[4] = nulls[4] ? (Datum) 0 :
		CStringGetTextDatum(unpack_sql_state(preview->letter.fault.sqlerrcode));
	values[5] = ki_text_or_null(preview->is_bad ? describe(&preview->letter) :
								preview->note, &nulls[5]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

#define MOST_MESSAGES 10000
#define LONGEST_WAIT_MS 10000	/* for the broker's answers */

static int
take_most(FunctionCallInfo fcinfo)
{
	int			most = PG_ARGISNULL(4) ? 10 : PG_GETARG_INT32(4);

	if (most < 1 || most > MOST_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_messages\" must be between 1 and %d",
						MOST_MESSAGES)));
	return most;
}

Datum
kafka_ingest_preview(PG_FUNCTION_ARGS)
{
	KiPipeline *pipeline = ki_owned_find(ki_argument_text(fcinfo, 0, "name"));
	bool		is_given = !PG_ARGISNULL(1) || !PG_ARGISNULL(2);
	KiMessages *messages;
	KiBatch    *batch;

	InitMaterializedSRF(fcinfo, 0);
	ki_text_prepare();
	messages = is_given ? given_message(fcinfo, pipeline) :
		ki_ask_messages(pipeline, take_most(fcinfo),
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													LONGEST_WAIT_MS));
	batch = ki_batch_create_for_caller(pipeline);
	for (int i = 0; i < messages->count; i++)
	{
		KiPreview	preview;

		CHECK_FOR_INTERRUPTS();
		ki_batch_preview(batch, messages, i, &preview);
		return_preview(fcinfo, pipeline, &messages->items[i], is_given, &preview);
	}
	ki_batch_free(batch);
	PG_RETURN_VOID();
}
