/*
 * fuzz_oracle.c
 *		What the fuzz target compares.
 */
#include "fuzz_oracle.h"

#include <stdlib.h>

#include "json_scan.h"

/* those of the C library: there is no server to link with */
#undef fprintf
#undef strtod

void
require(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* ---- bytes ---- */

/*
 * The length of the character at p, 0 if there is none, by the table of
 * well-formed sequences in the Unicode standard.
 */
static int
character_len(const uint8 *p, size_t left)
{
	uint8		second = left > 1 ? p[1] : 0;
	int			len;

	if (p[0] < 0x80)
		return p[0] != 0;
	if (p[0] >= 0xC2 && p[0] <= 0xDF)
		len = 2;
	else if ((p[0] & 0xF0) == 0xE0)
		len = 3;
	else if (p[0] >= 0xF0 && p[0] <= 0xF4)
		len = 4;
	else
		return 0;
	if ((p[0] == 0xE0 && second < 0xA0) || (p[0] == 0xED && second > 0x9F) ||
		(p[0] == 0xF0 && second < 0x90) || (p[0] == 0xF4 && second > 0x8F))
		return 0;
	for (int i = 1; i < len; i++)
		if (i >= left || (p[i] & 0xC0) != 0x80)
			return 0;
	return len;
}

bool
is_valid_utf8(const uint8 *bytes, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		int			step = character_len(bytes + i, len - i);

		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

bool
has_high_byte(const uint8 *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] >= 0x80)
			return true;
	return false;
}

/* ---- the rest ---- */

static void
append(Rest *rest, const char *bytes, size_t len)
{
	rest->text = realloc(rest->text, rest->len + len);
	memcpy(rest->text + rest->len, bytes, len);
	rest->len += len;
}

void
add_rest(void *state, const char *name, int name_len, const char *value,
		 int value_len)
{
	Rest	   *rest = state;

	append(rest, rest->nmembers++ == 0 ? "{" : ",", 1);
	append(rest, name, name_len);
	append(rest, ":", 1);
	append(rest, value, value_len);
}

void
free_rest(Rest *rest)
{
	free(rest->text);
	rest->text = NULL;
}

void
require_rest(const Rest *rest, json_t *untaken)
{
	Rest		copy = {NULL, 0, 0};
	json_t	   *found;

	append(&copy, rest->nmembers == 0 ? "{" : rest->text,
		   rest->nmembers == 0 ? 1 : rest->len);
	append(&copy, "}", 1);
	found = json_loadb(copy.text, copy.len, 0, NULL);
	require(found != NULL, "the rest is valid");
	require(json_equal(found, untaken), "the rest is what is not taken");
	json_decref(found);
	free_rest(&copy);
}

/* ---- fields ---- */

static void
require_string(const KiField *field, json_t *value)
{
	size_t		len = json_string_length(value);
	bool		has_escapes = memchr(field->json, '\\', field->json_len) != NULL;

	require(field->json[0] == '"' && field->json[field->json_len - 1] == '"',
			"quotes");
	require(field->len == field->json_len - 2, "length between quotes");
	require((field->data == NULL) == has_escapes, "escapes are told");
	if (has_escapes)
	{
		char	   *text = malloc(field->len);

		require(ki_json_unescape(field->json + 1, field->len, text) == len &&
				memcmp(text, json_string_value(value), len) == 0,
				"an escaped string");
		free(text);
	}
	else
		require(field->data == field->json + 1 && field->len == len &&
				memcmp(field->data, json_string_value(value), len) == 0,
				"a string");
}

static void
require_number(const KiField *field, json_t *value)
{
	char	   *text = strndup(field->json, field->json_len);

	if (json_is_integer(value))
		require(strtoll(text, NULL, 10) == json_integer_value(value), "an integer");
	else
		require(strtod(text, NULL) == json_real_value(value), "a real number");
	free(text);
}

/*
 * A value whose source text is all there is: it must read as the same.
 */
static void
require_text(const KiField *field, json_t *value)
{
	json_t	   *found = json_loadb(field->json, field->json_len,
								   JSON_DECODE_ANY, NULL);

	require(found != NULL && json_equal(found, value), "a source text");
	json_decref(found);
}

void
require_value(const KiField *field, json_t *value)
{
	static const KiFieldKind kinds[] = {
		[JSON_OBJECT] = KI_FIELD_OBJECT,
		[JSON_ARRAY] = KI_FIELD_ARRAY,
		[JSON_STRING] = KI_FIELD_STRING,
		[JSON_INTEGER] = KI_FIELD_NUMBER,
		[JSON_REAL] = KI_FIELD_NUMBER,
		[JSON_TRUE] = KI_FIELD_BOOL,
		[JSON_FALSE] = KI_FIELD_BOOL,
		[JSON_NULL] = KI_FIELD_NULL,
	};

	if (value == NULL)
	{
		require(field->kind == KI_FIELD_ABSENT, "absent");
		return;
	}
	require(field->kind == kinds[json_typeof(value)], "kind");
	if (field->kind == KI_FIELD_STRING)
	{
		require_string(field, value);
		return;
	}
	require(field->data == field->json && field->len == field->json_len, "data");
	if (field->kind == KI_FIELD_NUMBER)
		require_number(field, value);
	else
		require_text(field, value);
}
