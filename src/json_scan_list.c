/*
 * json_scan_list.c
 *	  Listing a value, with all that is inside, while it is passed over.
 *
 * Nothing is explained here: what is wrong, too deep or too much is left to
 * the scanner, which passes over the value once more and tells.
 */
#include "postgres.h"

#include "json_scan_values.h"
#include "json_shape.h"

/* A value that is nested more deeply is not listed. */
#define LIST_MAX_DEPTH 100

/* A value while it is listed. */
typedef struct List
{
	Cursor	   *cursor;
	KiJsonTokens *tokens;
	KiJsonShapes *shapes;		/* NULL: none are remembered */
	int			nobjects;		/* met so far */
} List;

/* Behind a name and its colon. */
static inline const char *
pass_colon(const Cursor *cursor, const char *p)
{
	if (peek(cursor, p) != ':')
		p = skip_space(cursor, p);
	return peek(cursor, p) == ':' ? skip_space(cursor, p + 1) : NULL;
}

static const char *list_container(List *list, const char *p, int depth);

/* Returns NULL when there is no room, else behind. */
static inline const char *
add_token(List *list, KiJsonKind kind, const char *data, uint32 len,
		  const char *behind)
{
	KiJsonTokens *tokens = list->tokens;
	KiJsonToken *token;

	if (unlikely(tokens->count == tokens->max_count))
	{
		tokens->is_full = true;
		return NULL;
	}
	token = &tokens->list[tokens->count++];
	token->kind = kind;
	token->has_escapes = false;
	token->data = data;
	token->len = len;
	token->span = 1;
	return behind;
}

static inline const char *
list_string(List *list, const char *p)
{
	const char *behind = skip_string(list->cursor, p);

	if (behind == NULL ||
		!add_token(list, KI_JSON_STRING, p + 1, behind - p - 2, behind))
		return NULL;
	list->tokens->list[list->tokens->count - 1].has_escapes =
		list->cursor->has_escapes;
	return behind;
}

static inline const char *
list_number(List *list, const char *p)
{
	const char *behind = p < list->cursor->end ?
	skip_number(list->cursor, p) : NULL;

	return behind ? add_token(list, KI_JSON_NUMBER, p, behind - p, behind) : NULL;
}

static inline const char *
list_word(List *list, const char *p, KiJsonKind kind, const char *word, int len)
{
	const char *behind = skip_word(list->cursor, p, word, len);

	return behind ? add_token(list, kind, NULL, 0, behind) : NULL;
}

static inline const char *
list_value(List *list, const char *p, int depth)
{
	switch (peek(list->cursor, p))
	{
		case '"':
			return list_string(list, p);
		case '{':
		case '[':
			return list_container(list, p, depth + 1);
		case 't':
			return list_word(list, p, KI_JSON_TRUE, "true", 4);
		case 'f':
			return list_word(list, p, KI_JSON_FALSE, "false", 5);
		case 'n':
			return list_word(list, p, KI_JSON_NULL, "null", 4);
		default:
			return list_number(list, p);
	}
}

/*
 * What an object is taken to look like; NULL: nothing is known.
 */
static inline const KiJsonShape *
guess_shape(List *list, KiJsonToken *object)
{
	object->shape = NULL;
	object->fits = false;
	if (list->shapes == NULL || list->nobjects >= KI_JSON_MAX_SHAPES)
		return NULL;
	object->shape = &list->shapes->items[list->nobjects++];
	return object->shape->nfields > 0 ? object->shape : NULL;
}

/*
 * List a field's name and go to its value.  The name need not be looked at
 * closely if it is the expected one; if not, nothing is expected of the others
 * either.
 */
static inline const char *
list_name(List *list, const char *p, const KiJsonShape **shape, uint32 number)
{
	Cursor	   *cursor = list->cursor;

	if (*shape && number < (*shape)->nfields)
	{
		const KiJsonName *name = &(*shape)->names[number];

		if (is_at(cursor, p, name->quoted, name->len + 2))
		{
			cursor->has_high |= name->has_high;
			p = add_token(list, KI_JSON_STRING, p + 1, name->len,
						  p + name->len + 2);
			return p ? pass_colon(cursor, p) : NULL;
		}
	}
	*shape = NULL;
	if (peek(cursor, p) != '"')
		return NULL;
	p = list_string(list, p);
	return p ? pass_colon(cursor, p) : NULL;
}

static const char *
list_container(List *list, const char *p, int depth)
{
	Cursor	   *cursor = list->cursor;
	bool		is_object = *p == '{';
	char		closing = is_object ? '}' : ']';
	uint32		container = list->tokens->count;
	uint32		inside = 0;
	const KiJsonShape *shape = NULL;
	KiJsonToken *token;

	if (depth > LIST_MAX_DEPTH ||
		!add_token(list, is_object ? KI_JSON_OBJECT : KI_JSON_ARRAY, NULL, 0, p))
		return NULL;
	token = &list->tokens->list[container];
	if (is_object)
		shape = guess_shape(list, token);
	p = skip_space(cursor, p + 1);
	if (peek(cursor, p) == closing)
		return p + 1;
	for (;;)
	{
		if (is_object)
			p = list_name(list, p, &shape, inside);
		if (p)
			p = list_value(list, p, depth);
		if (!p)
			return NULL;
		inside++;
		p = skip_space(cursor, p);
		if (peek(cursor, p) != ',')
			break;
		p = skip_space(cursor, p + 1);
	}
	token->len = inside;
	token->span = list->tokens->count - container;
	token->fits = shape && inside == shape->nfields;
	return peek(cursor, p) == closing ? p + 1 : NULL;
}

const char *
ki_scan_list(Cursor *cursor, KiJsonTokens *tokens, KiJsonShapes *shapes,
			 const char *p)
{
	List		list = {cursor, tokens, shapes, 0};
	uint32		before = tokens->count;
	bool		fits = cursor->depth <= KI_SCAN_MAX_DEPTH - LIST_MAX_DEPTH;
	const char *behind = fits ? list_value(&list, p, 0) : NULL;

	if (behind)
		return behind;
	tokens->count = before;
	cursor->error = KI_SCAN_OK;
	return NULL;
}
