/*
 * array_literal.c
 *	  From a JSON array to the text array_in reads.
 *
 * The server's parser runs over the array once more; elements are written as
 * they end.  Objects, and for JSON elements arrays too, are copied whole from
 * the source.  The writer lives on the caller's stack.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "array_literal.h"
#include "compat.h"
#include "decimal.h"

typedef struct Writer
{
	StringInfo	literal;
	KiElementKind kind;
	char		delimiter;
	JsonLexContext *lexer;
	int			level;			/* arrays and objects entered */
	int			whole_level;	/* level of the array whose element is copied
								 * whole; -1: none is */
	const char *whole;			/* where that element begins */
	bool		needs_delimiter;
} Writer;

static void
append_quoted(StringInfo literal, const char *string, int len)
{
	appendStringInfoChar(literal, '"');
	for (int i = 0; i < len; i++)
	{
		if (string[i] == '"' || string[i] == '\\')
			appendStringInfoChar(literal, '\\');
		appendStringInfoChar(literal, string[i]);
	}
	appendStringInfoChar(literal, '"');
}

/*
 * Write a number, in an integer's own spelling if it can and should have one;
 * what cannot is left to the input function to refuse.
 */
static void
append_number(const Writer *writer, const char *string, int len)
{
	int64		integer;

	if (writer->kind == KI_ELEMENT_INTEGER &&
		ki_decimal_to_int64(string, len, 0, false, &integer) == KI_DECIMAL_OK)
		appendStringInfo(writer->literal, INT64_FORMAT, integer);
	else
		appendBinaryStringInfo(writer->literal, string, len);
}

/*
 * Write the scalar at the lexer's current token.
 */
static void
append_scalar(const Writer *writer)
{
	const JsonLexContext *lexer = writer->lexer;
	const char *token = lexer->token_start;
	int			len = lexer->token_terminator - lexer->token_start;

	if (lexer->token_type == JSON_TOKEN_NULL)
		appendStringInfoString(writer->literal, "NULL");
	else if (lexer->token_type == JSON_TOKEN_NUMBER)
		append_number(writer, token, len);
	else if (lexer->token_type == JSON_TOKEN_STRING &&
			 writer->kind != KI_ELEMENT_JSON)
		append_quoted(writer->literal, lexer->strval->data, lexer->strval->len);
	else
		append_quoted(writer->literal, token, len);
}

static KI_JSON_CALLBACK
on_element_start(void *state, bool isnull)
{
	Writer	   *writer = state;
	JsonTokenType token = writer->lexer->token_type;

	if (writer->whole_level >= 0)
		KI_JSON_CONTINUE;
	if (writer->needs_delimiter)
		appendStringInfoChar(writer->literal, writer->delimiter);
	writer->needs_delimiter = true;

	if (token == JSON_TOKEN_OBJECT_START ||
		(token == JSON_TOKEN_ARRAY_START && writer->kind == KI_ELEMENT_JSON))
	{
		writer->whole_level = writer->level;
		writer->whole = writer->lexer->token_start;
	}
	else if (token != JSON_TOKEN_ARRAY_START)
		append_scalar(writer);
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_element_end(void *state, bool isnull)
{
	Writer	   *writer = state;

	if (writer->whole_level == writer->level)
	{
		append_quoted(writer->literal, writer->whole,
					  writer->lexer->prev_token_terminator - writer->whole);
		writer->whole_level = -1;
	}
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_array_start(void *state)
{
	Writer	   *writer = state;

	writer->level++;
	if (writer->whole_level < 0)
	{
		appendStringInfoChar(writer->literal, '{');
		writer->needs_delimiter = false;
	}
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_array_end(void *state)
{
	Writer	   *writer = state;

	writer->level--;
	if (writer->whole_level < 0)
	{
		appendStringInfoChar(writer->literal, '}');
		writer->needs_delimiter = true;
	}
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_object_start(void *state)
{
	((Writer *) state)->level++;
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_object_end(void *state)
{
	((Writer *) state)->level--;
	KI_JSON_CONTINUE;
}

void
ki_array_literal_append(StringInfo literal, const char *json, int len,
						KiElementKind kind, char delimiter)
{
	Writer		writer = {0};
	JsonSemAction actions = {0};
	JsonParseErrorType error PG_USED_FOR_ASSERTS_ONLY;

	writer.literal = literal;
	writer.kind = kind;
	writer.delimiter = delimiter;
	writer.whole_level = -1;
	writer.lexer = ki_json_lexer(unconstify(char *, json), len);
	actions.semstate = &writer;
	actions.array_start = on_array_start;
	actions.array_end = on_array_end;
	actions.array_element_start = on_element_start;
	actions.array_element_end = on_element_end;
	actions.object_start = on_object_start;
	actions.object_end = on_object_end;
	error = pg_parse_json(writer.lexer, &actions);
	Assert(error == JSON_SUCCESS);
	ki_json_lexer_free(writer.lexer);
}
