/*
 * header.c
 *	  The headers of a message.
 *
 * Everything is allocated in the caller's memory context.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "header.h"
#include "text.h"

const KiHeader *
ki_header_find(const KiMessage *message, const char *name)
{
	for (int i = message->nheaders - 1; i >= 0; i--)
	{
		if (strcmp(message->headers[i].name, name) == 0)
			return &message->headers[i];
	}
	return NULL;
}

/*
 * By name; of the same name in order of arrival, which is the order of their
 * addresses.
 */
static int
compare_headers(const void *a, const void *b)
{
	const KiHeader *left = *(const KiHeader *const *) a;
	const KiHeader *right = *(const KiHeader *const *) b;
	int			order = strcmp(left->name, right->name);

	if (order != 0)
		return order;
	return left < right ? -1 : left > right ? 1 : 0;
}

/*
 * Bytes as a jsonb string: text if they are, else hex digits.
 */
static JsonbValue
make_string(const char *bytes, size_t len)
{
	JsonbValue	value;
	const char *string = bytes;
	int			string_len = (int) len;

	value.type = jbvString;
	if (!ki_text_is_utf8(bytes, len) || !ki_text_from_utf8(&string, &string_len))
	{
		char	   *hex = palloc(len * 2 + 3);

		memcpy(hex, "\\x", 2);
		hex_encode(bytes, len, hex + 2);
		string = hex;
		string_len = len * 2 + 2;
	}
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = string_len;
	return value;
}

/*
 * Push one header's value, as an element of an array or as a field's value.
 */
static void
push_value(JsonbParseState **state, JsonbIteratorToken token,
		   const KiHeader *header)
{
	JsonbValue	value;

	if (header->value == NULL)
		value.type = jbvNull;
	else
		value = make_string(header->value, header->value_len);
	pushJsonbValue(state, token, &value);
}

/*
 * Push a name and the values of the count headers that have it.
 */
static void
push_headers(JsonbParseState **state, const KiHeader *const *headers, int count)
{
	JsonbValue	name = make_string(headers[0]->name, strlen(headers[0]->name));

	pushJsonbValue(state, WJB_KEY, &name);
	if (count == 1)
	{
		push_value(state, WJB_VALUE, headers[0]);
		return;
	}
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
		push_value(state, WJB_ELEM, headers[i]);
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

Jsonb *
ki_headers_to_jsonb(const KiMessage *message)
{
	JsonbParseState *state = NULL;
	const KiHeader **sorted;
	int			nheaders = message->nheaders;

	sorted = palloc(sizeof(KiHeader *) * Max(nheaders, 1));
	for (int i = 0; i < nheaders; i++)
		sorted[i] = &message->headers[i];
	qsort(sorted, nheaders, sizeof(KiHeader *), compare_headers);

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int first = 0, next; first < nheaders; first = next)
	{
		for (next = first + 1; next < nheaders; next++)
		{
			if (strcmp(sorted[first]->name, sorted[next]->name) != 0)
				break;
		}
		push_headers(&state, &sorted[first], next - first);
	}
	pfree(sorted);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
