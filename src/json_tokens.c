/*
 * json_tokens.c
 *	  The values of a JSON document as a list, by one pass over the text.
 *
 * The text was validated by the decoder.  Its structure is checked all the
 * same, since it costs nothing and what looks wrong can go to the server's own
 * parser; what stands inside of strings and words is believed.
 *
 * Buffers are made large enough before they are filled.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "hex.h"
#include "json_shape.h"
#include "json_tokens.h"

#define MAX_DEPTH 100

/* Buffers are not smaller, and a larger one is given back after its document. */
#define BUFFER_LEAST_BYTES (4 * 1024)
#define BUFFER_KEEP_BYTES (64 * 1024)

static bool read_container(KiJsonTokens *tokens, KiJsonKind kind, char closing,
						   int depth);

static inline void
skip_space(KiJsonTokens *tokens)
{
	while (tokens->at < tokens->end &&
		   (*tokens->at == ' ' || *tokens->at == '\n' ||
			*tokens->at == '\t' || *tokens->at == '\r'))
		tokens->at++;
}

/*
 * The next character that is not white space, which is passed over; 0 at the
 * end.
 */
static inline char
next_character(KiJsonTokens *tokens)
{
	skip_space(tokens);
	return tokens->at < tokens->end ? *tokens->at++ : '\0';
}

/*
 * List a token whose text ends at the current place, next to nothing inside.
 */
static inline bool
add_token(KiJsonTokens *tokens, KiJsonKind kind, const char *data, uint32 len)
{
	KiJsonToken *token = &tokens->list[tokens->count];

	if (tokens->count == tokens->max_count)
		return false;
	token->kind = kind;
	token->data = data;
	token->len = len;
	token->next = ++tokens->count;
	return true;
}

/*
 * Go to the next quote or backslash, or to the end.
 */
static inline const char *
find_special(const char *at, const char *end)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	const uint64 highs = UINT64CONST(0x8080808080808080);

	/* Eight bytes at a time, as long as none of them can be either. */
	for (; end - at >= (int) sizeof(uint64); at += sizeof(uint64))
	{
		uint64		quotes;
		uint64		backslashes;

		memcpy(&quotes, at, sizeof(uint64));
		backslashes = quotes ^ (ones * '\\');
		quotes ^= ones * '"';
		if ((((quotes - ones) & ~quotes) |
			 ((backslashes - ones) & ~backslashes)) & highs)
			break;
	}
	while (at < end && *at != '"' && *at != '\\')
		at++;
	return at;
}

/*
 * Read the four digits of a \u escape; -1 when there are none.
 */
static int
read_code_unit(KiJsonTokens *tokens)
{
	if (tokens->end - tokens->at < 4)
		return -1;
	tokens->at += 4;
	return ki_hex_unit(tokens->at - 4);
}

/*
 * Unescape \uXXXX, or a surrogate pair, behind its "\u".
 */
static bool
unescape_unicode(KiJsonTokens *tokens)
{
	int			unit = read_code_unit(tokens);
	pg_wchar	character;

	if (unit <= 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
		return false;
	character = (pg_wchar) unit;
	if (unit >= 0xD800 && unit < 0xDC00)
	{
		int			low;

		if (tokens->end - tokens->at < 2 || tokens->at[0] != '\\' ||
			tokens->at[1] != 'u')
			return false;
		tokens->at += 2;
		low = read_code_unit(tokens);
		if (low < 0xDC00 || low > 0xDFFF)
			return false;
		character = surrogate_pair_to_codepoint(unit, low);
	}
	unicode_to_utf8(character, (unsigned char *) tokens->unescaped);
	tokens->unescaped += pg_utf_mblen((unsigned char *) tokens->unescaped);
	return true;
}

/*
 * Unescape what stands behind a backslash.
 */
static bool
unescape(KiJsonTokens *tokens)
{
	static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
	char		c;

	if (tokens->at == tokens->end)
		return false;
	c = *tokens->at++;
	if (c == 'u')
		return unescape_unicode(tokens);
	for (int i = 0; i < (int) sizeof(escapes) - 1; i += 2)
	{
		if (escapes[i] == c)
		{
			*tokens->unescaped++ = escapes[i + 1];
			return true;
		}
	}
	return false;
}

/*
 * Read a string that has escapes, from its first one on.
 */
static bool
read_escaped(KiJsonTokens *tokens, const char *start)
{
	char	   *data;

	/* What is unescaped is never longer than it was. */
	if (tokens->unescaped == NULL)
		tokens->unescaped = ki_json_buffer_reserve(&tokens->string_buffer, tokens->context,
												   tokens->end - start);
	data = tokens->unescaped;

	for (;;)
	{
		memcpy(tokens->unescaped, start, tokens->at - start);
		tokens->unescaped += tokens->at - start;
		if (tokens->at == tokens->end)
			return false;
		if (*tokens->at++ == '"')
			return add_token(tokens, KI_JSON_STRING, data,
							 tokens->unescaped - data);
		if (!unescape(tokens))
			return false;
		start = tokens->at;
		tokens->at = find_special(start, tokens->end);
	}
}

/*
 * Read a string behind its first quote.
 */
static inline bool
read_string(KiJsonTokens *tokens)
{
	const char *start = tokens->at;

	tokens->at = find_special(start, tokens->end);
	if (tokens->at == tokens->end)
		return false;
	if (*tokens->at == '\\')
		return read_escaped(tokens, start);
	return add_token(tokens, KI_JSON_STRING, start, tokens->at++ - start);
}

/*
 * Read a number from its first character on; ki_convert_write_numeric looks
 * at it closely.
 */
static bool
read_number(KiJsonTokens *tokens)
{
	const char *start = tokens->at;

	while (tokens->at < tokens->end &&
		   ((*tokens->at >= '0' && *tokens->at <= '9') ||
			*tokens->at == '.' || *tokens->at == '-' || *tokens->at == '+' ||
			*tokens->at == 'e' || *tokens->at == 'E'))
		tokens->at++;
	return tokens->at > start &&
		add_token(tokens, KI_JSON_NUMBER, start, tokens->at - start);
}

static bool
read_word(KiJsonTokens *tokens, KiJsonKind kind, const char *word)
{
	int			len = strlen(word);

	if (tokens->end - tokens->at < len ||
		memcmp(tokens->at, word, len) != 0)
		return false;
	tokens->at += len;
	return add_token(tokens, kind, NULL, 0);
}

/*
 * Read a value.
 */
static bool
read_value(KiJsonTokens *tokens, int depth)
{
	skip_space(tokens);
	if (tokens->at == tokens->end)
		return false;
	switch (*tokens->at)
	{
		case '"':
			tokens->at++;
			return read_string(tokens);
		case '{':
			return read_container(tokens, KI_JSON_OBJECT, '}', depth + 1);
		case '[':
			return read_container(tokens, KI_JSON_ARRAY, ']', depth + 1);
		case 't':
			return read_word(tokens, KI_JSON_TRUE, "true");
		case 'f':
			return read_word(tokens, KI_JSON_FALSE, "false");
		case 'n':
			return read_word(tokens, KI_JSON_NULL, "null");
		default:
			return read_number(tokens);
	}
}

/*
 * What an object is taken to look like; NULL: nothing is known.
 */
static inline const KiJsonShape *
guess_shape(KiJsonTokens *tokens, KiJsonToken *object)
{
	const KiJsonShape *shape;

	object->shape = -1;
	object->fits = false;
	if (tokens->shapes == NULL || tokens->nobjects >= KI_JSON_MAX_SHAPES)
		return NULL;
	shape = &tokens->shapes->items[tokens->nobjects];
	object->shape = tokens->nobjects++;
	return shape->nfields > 0 ? shape : NULL;
}

/*
 * Read a field's name and the colon.  It need not be looked at closely if it
 * is the expected one; if not, nothing is expected of the others either.
 */
static inline bool
read_name(KiJsonTokens *tokens, const KiJsonShape **shape, uint32 number)
{
	skip_space(tokens);
	if (*shape && number < (*shape)->nfields)
	{
		uint32		len = (*shape)->lens[number];

		if (tokens->end - tokens->at > (ptrdiff_t) len + 1 &&
			memcmp(tokens->at, (*shape)->names[number], len + 2) == 0)
		{
			tokens->at += len + 2;
			return add_token(tokens, KI_JSON_STRING, tokens->at - len - 1, len) &&
				next_character(tokens) == ':';
		}
	}
	*shape = NULL;
	return next_character(tokens) == '"' && read_string(tokens) &&
		next_character(tokens) == ':';
}

/*
 * Read an array or object, with all that is inside.
 */
static bool
read_container(KiJsonTokens *tokens, KiJsonKind kind, char closing, int depth)
{
	uint32		container = tokens->count;
	uint32		inside = 0;
	const KiJsonShape *shape = NULL;
	char		c;

	tokens->at++;
	if (depth > MAX_DEPTH || !add_token(tokens, kind, NULL, 0))
		return false;
	if (kind == KI_JSON_OBJECT)
		shape = guess_shape(tokens, &tokens->list[container]);
	skip_space(tokens);
	if (tokens->at < tokens->end && *tokens->at == closing)
	{
		tokens->at++;
		return true;
	}
	do
	{
		if (kind == KI_JSON_OBJECT && !read_name(tokens, &shape, inside))
			return false;
		if (!read_value(tokens, depth))
			return false;
		inside++;
		c = next_character(tokens);
	} while (c == ',');
	tokens->list[container].len = inside;
	tokens->list[container].next = tokens->count;
	tokens->list[container].fits = shape && inside == shape->nfields;
	return c == closing;
}

bool
ki_json_tokens_read(KiJsonTokens *tokens, const KiJsonShapes *shapes,
					const char *json, int len)
{
	/*
	 * Between any two values stands a character that belongs to neither, or
	 * one of them encloses the other and has an end; add_token would notice
	 * if that were not so.
	 */
	tokens->max_count = len / 2 + 1;
	tokens->list = ki_json_buffer_reserve(&tokens->list_buffer, tokens->context,
										  sizeof(KiJsonToken) *
										  tokens->max_count);
	tokens->count = 0;
	tokens->unescaped = NULL;
	tokens->shapes = shapes;
	tokens->nobjects = 0;
	tokens->begin = tokens->at = json;
	tokens->end = json + len;
	return read_value(tokens, 0) && tokens->at == tokens->end;
}

void
ki_json_tokens_init(KiJsonTokens *tokens)
{
	memset(tokens, 0, sizeof(KiJsonTokens));
	tokens->context = CurrentMemoryContext;
}

void
ki_json_tokens_release(KiJsonTokens *tokens)
{
	ki_json_buffer_release(&tokens->list_buffer);
	ki_json_buffer_release(&tokens->string_buffer);
}

void *
ki_json_buffer_reserve(KiJsonBuffer *buffer, MemoryContext context, Size size)
{
	if (buffer->size >= size)
		return buffer->data;
	if (buffer->data != NULL)
		pfree(buffer->data);
	buffer->data = NULL;
	buffer->size = 0;
	size = Max(size, BUFFER_LEAST_BYTES);
	buffer->data = MemoryContextAlloc(context, size);
	buffer->size = size;
	return buffer->data;
}

void
ki_json_buffer_release(KiJsonBuffer *buffer)
{
	if (buffer->size <= BUFFER_KEEP_BYTES)
		return;
	pfree(buffer->data);
	buffer->data = NULL;
	buffer->size = 0;
}
