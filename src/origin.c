/*
 * origin.c
 *	  Where a column's value comes from: parsing of sources.
 *
 *		source:		base steps [ "::" conversion ]
 *		base:		"$"  or  "@" and one of the names below
 *		step:		"." name  |  "[" JSON string "]"  |  "[" digits "]"
 *
 * Everything is allocated in the caller's memory context.
 */
#include "postgres.h"

#include <ctype.h>

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/value.h"
#include "utils/json.h"

#include "compat.h"
#include "origin.h"

#define MAX_STEPS 64
#define MAX_SHOWN 200			/* bytes of a source in an error */

/* The names after @, and the columns that take them when mapping by name. */
static const struct
{
	const char *name;
	const char *column;			/* NULL: none */
	KiOriginKind kind;
}			metadata[] =

{
	{"topic", "_topic", KI_ORIGIN_TOPIC},
	{"partition", "_partition", KI_ORIGIN_PARTITION},
	{"offset", "_offset", KI_ORIGIN_OFFSET},
	{"timestamp", "_timestamp", KI_ORIGIN_TIMESTAMP},
	{"key", "_key", KI_ORIGIN_KEY},
	{"headers", "_headers", KI_ORIGIN_HEADERS},
	{"raw", NULL, KI_ORIGIN_RAW},
	{"rest", "_rest", KI_ORIGIN_REST}
};

static const struct
{
	const char *name;
	KiConversion conversion;
}			conversions[] =

{
	{"epoch_s", KI_CONVERSION_EPOCH_S},
	{"epoch_ms", KI_CONVERSION_EPOCH_MS},
	{"epoch_us", KI_CONVERSION_EPOCH_US},
	{"epoch_days", KI_CONVERSION_EPOCH_DAYS},
	{"base64", KI_CONVERSION_BASE64},
	{"hex", KI_CONVERSION_HEX},
	{"json", KI_CONVERSION_JSON}
};

/* A source being parsed. */
typedef struct Parser
{
	const char *source;
	const char *column;			/* NULL: it is a condition's */
	const char *at;				/* next character */
	KiOrigin   *origin;
} Parser;

#define PATH_HINT \
	"Write a path such as $.a.b, $[\"odd name\"] or $.items[0].sku."

/*
 * Raise that the source cannot be read at this place.
 */
static void
refuse(const Parser *parser, const char *problem, const char *hint)
{
	int			position;
	int			len = strlen(parser->source);
	int			shown = pg_mbcliplen(parser->source, len, MAX_SHOWN);

	position = pg_mbstrlen_with_len(parser->source,
									parser->at - parser->source) + 1;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 parser->column ?
			 errmsg("invalid source \"%.*s%s\" for column \"%s\"",
					shown, parser->source, shown < len ? "..." : "",
					parser->column) :
			 errmsg("invalid source \"%.*s%s\" of a condition",
					shown, parser->source, shown < len ? "..." : ""),
			 errdetail("At position %d: %s.", position, problem),
			 errhint("%s", hint)));
}

static bool
is_name_character(char c)
{
	return IS_HIGHBIT_SET(c) || isalnum((unsigned char) c) ||
		(c != '\0' && strchr("_-$@/", c) != NULL);
}

/*
 * Can it stand behind a dot?
 */
static bool
is_plain_name(const char *name)
{
	for (const char *at = name; *at != '\0'; at++)
		if (!is_name_character(*at))
			return false;
	return *name != '\0';
}

/*
 * Read a name made of ordinary characters; empty when there is none.
 */
static char *
read_name(Parser *parser)
{
	const char *start = parser->at;

	while (is_name_character(*parser->at))
		parser->at++;
	return pnstrdup(start, parser->at - start);
}

/*
 * Read a JSON string up to its closing quote, with the server's own lexer.
 */
static char *
read_quoted(Parser *parser)
{
	JsonLexContext *lex;

	lex = ki_json_lexer(unconstify(char *, parser->at), strlen(parser->at));
	if (json_lex(lex) != JSON_SUCCESS || lex->token_type != JSON_TOKEN_STRING)
		refuse(parser, "this is no JSON string", PATH_HINT);
	parser->at = lex->token_terminator;
	return pstrdup(lex->strval->data);
}

/*
 * Read an array index.
 */
static int
read_index(Parser *parser)
{
	const char *start = parser->at;
	int64		index = 0;

	while (*parser->at >= '0' && *parser->at <= '9')
	{
		index = index * 10 + (*parser->at++ - '0');
		if (index > PG_INT32_MAX)
			refuse(parser, "the array index is too large", PATH_HINT);
	}
	if (parser->at == start)
		refuse(parser, "an array index or a quoted name is expected", PATH_HINT);
	return (int) index;
}

/*
 * Read the rest of a step in brackets; at stands behind the opening one.
 */
static Node *
read_bracket(Parser *parser)
{
	Node	   *step;

	if (*parser->at == '"')
		step = (Node *) makeString(read_quoted(parser));
	else
		step = (Node *) makeInteger(read_index(parser));
	if (*parser->at != ']')
		refuse(parser, "a closing bracket is expected", PATH_HINT);
	parser->at++;
	return step;
}

/*
 * Read all steps, including a final ".*".
 */
static void
read_steps(Parser *parser)
{
	KiOrigin   *origin = parser->origin;

	while (*parser->at == '.' || *parser->at == '[')
	{
		char	   *name;

		if (list_length(origin->steps) == MAX_STEPS)
			refuse(parser, "the path has too many steps",
				   "A path has at most 64 steps.");
		if (*parser->at++ == '[')
		{
			origin->steps = lappend(origin->steps, read_bracket(parser));
			continue;
		}
		if (*parser->at == '*')
		{
			parser->at++;
			origin->is_star = true;
			return;
		}
		name = read_name(parser);
		if (*name == '\0')
			refuse(parser, "a field's name is expected", PATH_HINT);
		origin->steps = lappend(origin->steps, makeString(name));
	}
}

/*
 * Turn the steps behind @headers into the name of one header.
 */
static void
take_header_name(Parser *parser)
{
	KiOrigin   *origin = parser->origin;

	if (origin->steps == NIL && !origin->is_star)
		return;
	if (origin->is_star || list_length(origin->steps) != 1 ||
		!IsA(linitial(origin->steps), String))
		refuse(parser, "a header has a name and no parts",
			   "Write @headers.name, or @headers[\"odd.name\"].");
	origin->kind = KI_ORIGIN_HEADER;
	origin->header = strVal(linitial(origin->steps));
	origin->steps = NIL;
}

/*
 * Read the name behind an "@".
 */
static void
read_metadata_name(Parser *parser)
{
	const char *start = parser->at;
	char	   *name = read_name(parser);

	for (int i = 0; i < (int) lengthof(metadata); i++)
	{
		if (strcmp(name, metadata[i].name) == 0)
		{
			parser->origin->kind = metadata[i].kind;
			return;
		}
	}
	parser->at = start;
	refuse(parser, "there is no such part of a message",
		   "Known are @key, @topic, @partition, @offset, @timestamp, @headers, @headers.name, @raw and @rest.");
}

/*
 * Read "$..." or "@name...".
 */
static void
read_base(Parser *parser)
{
	KiOrigin   *origin = parser->origin;
	const char *start;

	if (*parser->at != '$' && *parser->at != '@')
		refuse(parser, "a source begins with $ or @", PATH_HINT);
	if (*parser->at++ == '@')
		read_metadata_name(parser);

	start = parser->at;
	read_steps(parser);
	if (origin->kind == KI_ORIGIN_HEADERS)
		take_header_name(parser);
	else if (origin->kind != KI_ORIGIN_VALUE && origin->kind != KI_ORIGIN_KEY &&
			 parser->at != start)
	{
		parser->at = start;
		refuse(parser, "this source has no parts",
			   "Only $, @key and @headers have parts.");
	}
}

/*
 * May this origin be converted at all?
 */
static bool
can_convert(const KiOrigin *origin)
{
	switch (origin->kind)
	{
		case KI_ORIGIN_VALUE:
		case KI_ORIGIN_KEY:
		case KI_ORIGIN_HEADER:
		case KI_ORIGIN_RAW:
			return !origin->is_star;
		default:
			return false;
	}
}

/*
 * Read "::conversion"; at stands behind the colons.
 */
static void
read_conversion(Parser *parser)
{
	const char *start = parser->at;
	char	   *name = read_name(parser);

	for (int i = 0; i < (int) lengthof(conversions); i++)
	{
		if (strcmp(name, conversions[i].name) == 0)
			parser->origin->conversion = conversions[i].conversion;
	}
	if (parser->origin->conversion == KI_CONVERSION_NONE)
	{
		parser->at = start;
		refuse(parser, "there is no such conversion",
			   "Conversions are epoch_s, epoch_ms, epoch_us, epoch_days, base64, hex and json.");
	}
	if (!can_convert(parser->origin))
	{
		parser->at = start;
		refuse(parser, "this source cannot be converted",
			   "Conversions apply to $, @key, paths into them, @headers.name and @raw.");
	}
}

KiOrigin *
ki_origin_parse(const char *source, const char *column)
{
	Parser		parser = {source, column, source, NULL};

	parser.origin = ki_origin_make(KI_ORIGIN_VALUE);
	read_base(&parser);
	if (strncmp(parser.at, "::", 2) == 0)
	{
		parser.at += 2;
		read_conversion(&parser);
	}
	if (*parser.at != '\0')
		refuse(&parser, "this does not belong to a source",
			   "Quote odd names, as in $[\"odd name\"].");
	return parser.origin;
}

KiOrigin *
ki_origin_make(KiOriginKind kind)
{
	KiOrigin   *origin = palloc0(sizeof(KiOrigin));

	origin->kind = kind;
	return origin;
}

KiOrigin *
ki_origin_of_metadata_column(const char *column)
{
	for (int i = 0; i < (int) lengthof(metadata); i++)
	{
		if (metadata[i].column && strcmp(column, metadata[i].column) == 0)
			return ki_origin_make(metadata[i].kind);
	}
	return NULL;
}

KiOrigin *
ki_origin_of_field(const KiOrigin *parent, const char *name)
{
	KiOrigin   *origin = ki_origin_make(parent->kind);

	origin->steps = lappend(list_copy(parent->steps),
							makeString(pstrdup(name)));
	return origin;
}

void
ki_origin_append(StringInfo buf, const KiOrigin *origin)
{
	ListCell   *cell;

	appendStringInfoString(buf, origin->kind == KI_ORIGIN_KEY ? "@key" : "$");
	foreach(cell, origin->steps)
	{
		const char *name;

		if (!IsA(lfirst(cell), String))
		{
			appendStringInfo(buf, "[%d]", intVal(lfirst(cell)));
			continue;
		}
		name = strVal(lfirst(cell));
		if (is_plain_name(name))
			appendStringInfo(buf, ".%s", name);
		else
		{
			appendStringInfoChar(buf, '[');
			escape_json(buf, name);
			appendStringInfoChar(buf, ']');
		}
	}
}
