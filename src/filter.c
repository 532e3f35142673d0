/*
 * filter.c
 *	  The conditions that filter and delete_when hold.
 *
 *		{"$.type": ["order", "refund"], "@headers.v": "2"}
 *
 * Everything is allocated in the caller's memory context.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "filter.h"
#include "text.h"

#define CONDITION_HINT \
	"Write conditions such as {\"$.type\": [\"order\", \"refund\"], \"@headers.v\": \"2\"}."

/* ---- parsing ---- */

/*
 * The text a scalar is compared by; NULL for null.
 */
static const char *
scalar_text(const JsonbValue *scalar)
{
	switch (scalar->type)
	{
		case jbvString:
			return pnstrdup(scalar->val.string.val, scalar->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(scalar->val.numeric)));
		case jbvBool:
			return scalar->val.boolean ? "true" : "false";
		default:
			return NULL;
	}
}

static void
add_value(KiFilterItem *item, const JsonbValue *scalar)
{
	KiFilterValue *value = &item->values[item->nvalues++];

	value->text = scalar_text(scalar);
	if (!value->text)
		return;
	value->len = strlen(value->text);
	value->utf8 = ki_text_to_utf8(value->text);
	value->utf8_len = strlen(value->utf8);
}

static void
refuse_value(const char *option, const char *source, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\" in option \"%s\"", source, option),
			 errdetail_internal("%s", problem),
			 errhint(CONDITION_HINT)));
}

/*
 * Take the array of values that a source may have.
 */
static void
take_array(KiFilterItem *item, const JsonbValue *array, const char *option,
		   const char *source)
{
	JsonbIterator *iterator = JsonbIteratorInit(array->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue	value;

	token = JsonbIteratorNext(&iterator, &value, true);
	if (token != WJB_BEGIN_ARRAY)
		refuse_value(option, source, "An object is no value to compare with.");
	if (value.val.array.nElems == 0)
		refuse_value(option, source, "An empty list would match nothing.");
	item->values = palloc0(sizeof(KiFilterValue) * value.val.array.nElems);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) == WJB_ELEM)
	{
		if (value.type == jbvBinary)
			refuse_value(option, source,
						 "The values of a list are strings, numbers, true, false or null.");
		add_value(item, &value);
	}
}

/*
 * Raise unless this source is text, or a place that may hold some.
 */
static void
check_origin(const KiOrigin *origin, const KiPipeline *pipeline,
			 const char *option, const char *source)
{
	const char *detail = NULL;

	if (origin->conversion != KI_CONVERSION_NONE)
		detail = "Values are compared as they are in the message, without a conversion.";
	else if (origin->is_star)
		detail = "A source that ends in .* has no value of its own.";
	else if (origin->kind == KI_ORIGIN_TIMESTAMP ||
			 origin->kind == KI_ORIGIN_HEADERS || origin->kind == KI_ORIGIN_REST)
		detail = "Timestamps, all headers and the rest are not compared as text.";
	else if (origin->kind == KI_ORIGIN_KEY && origin->steps != NIL &&
			 (!pipeline->key_format || strcmp(pipeline->key_format, "json") != 0))
		detail = "Only a JSON key has parts: set key_format => 'json'.";
	if (detail)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" cannot stand in option \"%s\"",
						source, option),
				 errdetail_internal("%s", detail),
				 errhint(CONDITION_HINT)));
}

/*
 * Take one entry of the option.
 */
static void
take_entry(KiFilterItem *item, const KiPipeline *pipeline, const char *option,
		   const JsonbValue *key, const JsonbValue *value)
{
	char	   *source = pnstrdup(key->val.string.val, key->val.string.len);

	item->origin = ki_origin_parse(source, NULL);
	check_origin(item->origin, pipeline, option, source);
	if (item->origin->header)
		item->origin->header =
			unconstify(char *, ki_text_to_utf8(item->origin->header));
	if (value->type == jbvBinary)
	{
		take_array(item, value, option, source);
		return;
	}
	item->values = palloc0(sizeof(KiFilterValue));
	add_value(item, value);
}

KiFilter *
ki_filter_parse(const KiPipeline *pipeline, Jsonb *conditions,
				const char *option)
{
	KiFilter   *filter;
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbValue	value;

	if (!conditions)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(conditions) || JB_ROOT_COUNT(conditions) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be a JSON object with at least one condition",
						option),
				 errhint(CONDITION_HINT)));

	ki_text_prepare();
	filter = palloc0(sizeof(KiFilter));
	filter->items = palloc0(sizeof(KiFilterItem) * JB_ROOT_COUNT(conditions));
	iterator = JsonbIteratorInit(&conditions->root);
	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		take_entry(&filter->items[filter->nitems++], pipeline, option, &key,
				   &value);
	}
	return filter;
}

bool
ki_filter_wants_headers(const KiFilter *filter)
{
	for (int i = 0; i < filter->nitems; i++)
		if (filter->items[i].origin->kind == KI_ORIGIN_HEADER)
			return true;
	return false;
}

/* ---- comparing ---- */

static bool
is_equal(const char *left, size_t left_len, const char *right, size_t right_len)
{
	if (!left || !right)
		return left == right;
	return left_len == right_len && memcmp(left, right, left_len) == 0;
}

bool
ki_filter_has(const KiFilterItem *item, const char *string, int len)
{
	for (int i = 0; i < item->nvalues; i++)
		if (is_equal(item->values[i].text, item->values[i].len, string, len))
			return true;
	return false;
}

bool
ki_filter_has_bytes(const KiFilterItem *item, const char *bytes, size_t len)
{
	for (int i = 0; i < item->nvalues; i++)
		if (is_equal(item->values[i].utf8, item->values[i].utf8_len, bytes, len))
			return true;
	return false;
}
