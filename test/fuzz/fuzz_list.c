/*
 * fuzz_list.c
 *		The lists that the scanner makes of values, held against jansson.
 */
#include "fuzz_list.h"

#include <stdlib.h>

#include "fuzz_oracle.h"
#include "json_shape.h"

/* those of the C library: there is no server to link with */
#undef strtod

#define LIST_MAX_DEPTH 100
#define NAME_PADDING 16
#define MAX_FIELDS 8

/*
 * ---- shapes, remembered at once ----
 *
 * json_shape.c bears ever more objects that look otherwise before it remembers
 * one, so that among documents like these next to none would be expected.
 */

static bool
can_be_remembered(const KiJsonToken *object)
{
	const KiJsonToken *name = object + 1;

	for (uint32 i = 0; i < object->len; i++)
	{
		if (name->has_escapes)
			return false;
		name = ki_json_next_name(name);
	}
	return object->shape && object->len <= MAX_FIELDS;
}

static void
remember_object(const KiJsonToken *object)
{
	KiJsonShape *shape = object->shape;
	const KiJsonToken *name = object + 1;

	for (uint32 i = 0; i < shape->nfields; i++)
		free(unconstify(char *, shape->names[i].quoted));
	if (!shape->names)
		shape->names = calloc(MAX_FIELDS, sizeof(KiJsonName));
	shape->nfields = object->len;
	for (uint32 i = 0; i < object->len; i++)
	{
		char	   *quoted = calloc(1, Max(name->len + 2, NAME_PADDING));

		memcpy(quoted, name->data - 1, name->len + 2);
		shape->names[i].quoted = quoted;
		shape->names[i].len = name->len;
		shape->names[i].has_high = has_high_byte((const uint8 *) name->data, name->len);
		name = ki_json_next_name(name);
	}
}

void
remember_objects(const KiJsonToken *list)
{
	for (uint32 i = 0; list && i < list->span; i++)
		if (list[i].kind == KI_JSON_OBJECT && can_be_remembered(&list[i]))
			remember_object(&list[i]);
}

/* ---- lists ---- */

static void
require_listed_string(const KiJsonToken *token, const char *expected, size_t len)
{
	char	   *text = malloc(token->len + 1);

	require(token->kind == KI_JSON_STRING, "a string is listed");
	require(token->has_escapes == (memchr(token->data, '\\', token->len) != NULL),
			"a list tells of escapes");
	require(ki_json_unescape(token->data, token->len, text) == len &&
			memcmp(text, expected, len) == 0, "a listed string");
	free(text);
}

static void
require_listed_number(const KiJsonToken *token, json_t *value)
{
	char	   *text = strndup(token->data, token->len);

	require(token->kind == KI_JSON_NUMBER, "a number is listed");
	if (json_is_integer(value))
		require(strtoll(text, NULL, 10) == json_integer_value(value),
				"a listed integer");
	else
		require(strtod(text, NULL) == json_real_value(value),
				"a listed real number");
	free(text);
}

static void
require_listed_array(const KiJsonToken *token, json_t *array)
{
	const KiJsonToken *element = token + 1;

	require(token->kind == KI_JSON_ARRAY, "an array is listed");
	require(token->len == json_array_size(array), "all elements are listed");
	for (uint32 i = 0; i < token->len; i++)
	{
		require_list(element, json_array_get(array, i));
		element += element->span;
	}
	require(element == token + token->span, "the span of an array");
}

/* The last one of a name counts, and jansson has no other. */
static void
require_listed_object(const KiJsonToken *token, json_t *object)
{
	const KiJsonToken *name = token + 1;
	json_t	   *last = json_object();

	require(token->kind == KI_JSON_OBJECT, "an object is listed");
	for (uint32 i = 0; i < token->len; i++)
	{
		char	   *text = malloc(name->len + 1);
		int			len = ki_json_unescape(name->data, name->len, text);

		require(name->kind == KI_JSON_STRING && name->span == 1, "a name");
		require_listed_string(name, text, len);
		text[len] = '\0';
		json_object_set_new(last, text, json_integer((json_int_t) (name + 1 - token)));
		free(text);
		name = ki_json_next_name(name);
	}
	require(name == token + token->span, "the span of an object");
	require(json_object_size(last) == json_object_size(object), "all fields are listed");
	for (void *at = json_object_iter(last); at; at = json_object_iter_next(last, at))
	{
		json_t	   *value = json_object_get(object, json_object_iter_key(at));

		require(value != NULL, "a listed field");
		require_list(token + json_integer_value(json_object_iter_value(at)), value);
	}
	json_decref(last);
}

void
require_list(const KiJsonToken *token, json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			require_listed_object(token, value);
			return;
		case JSON_ARRAY:
			require_listed_array(token, value);
			return;
		case JSON_STRING:
			require_listed_string(token, json_string_value(value),
								  json_string_length(value));
			break;
		case JSON_INTEGER:
		case JSON_REAL:
			require_listed_number(token, value);
			break;
		case JSON_TRUE:
			require(token->kind == KI_JSON_TRUE, "true is listed");
			break;
		case JSON_FALSE:
			require(token->kind == KI_JSON_FALSE, "false is listed");
			break;
		case JSON_NULL:
			require(token->kind == KI_JSON_NULL, "null is listed");
			break;
	}
	require(token->span == 1, "the span of a scalar");
}

/* ---- what is too deep ---- */

/* Of a valid document. */
static int
depth_of(const char *json, int len)
{
	int			depth = 0;
	int			deepest = 0;
	bool		is_string = false;

	for (int i = 0; i < len; i++)
	{
		if (json[i] == '"')
			is_string = !is_string;
		else if (is_string)
			i += json[i] == '\\';
		else if (json[i] == '[' || json[i] == '{')
			depth++;
		else if (json[i] == ']' || json[i] == '}')
			depth--;
		deepest = Max(deepest, depth);
	}
	return deepest;
}

void
require_listed(const KiJsonToken *list, const char *json, int len)
{
	require((list != NULL) == (depth_of(json, len) <= LIST_MAX_DEPTH),
			"what is not too deep is listed");
}
