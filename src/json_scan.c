/*
 * json_scan.c
 *	  One pass over a JSON document that takes out the mapped fields.
 *
 * Arrays and objects that paths lead into have a frame each (scan_value);
 * all others are passed over by a loop that keeps one bit per level
 * (skip_container), so that no document makes the stack grow.  Functions that read
 * something take the place where it begins and return the place behind it, or
 * NULL after noting an error.
 */
#include "postgres.h"

#include "json_scan_values.h"

/* ---- tokens ---- */

/*
 * Note an error for the token at p, which is not what is expected there: what
 * is wrong with the token itself comes first.
 */
static pg_noinline const char *
unexpected(Cursor *cursor, KiScanError error, const char *p)
{
	const char *behind = p;

	switch (peek(cursor, p))
	{
		case '{':
		case '}':
		case '[':
		case ']':
		case ',':
		case ':':
			break;
		case '"':
			behind = skip_string(cursor, p);
			break;
		case 't':
			behind = skip_word(cursor, p, "true", 4);
			break;
		case 'f':
			behind = skip_word(cursor, p, "false", 5);
			break;
		case 'n':
			behind = skip_word(cursor, p, "null", 4);
			break;
		default:
			if (p == cursor->end)
				error = KI_SCAN_NO_VALUE;
			else if (*p == '-' || is_digit(*p))
				behind = skip_number(cursor, p);
			else
				error = KI_SCAN_TOKEN;
	}
	return behind ? fail(cursor, error, p) : NULL;
}

/*
 * Pass over the colon behind a field's name and the space around it.
 */
static inline const char *
skip_colon(Cursor *cursor, const char *p)
{
	if (peek(cursor, p) != ':')
		p = skip_space(cursor, p);
	if (peek(cursor, p) != ':')
		return unexpected(cursor, KI_SCAN_NO_COLON, p);
	return skip_space(cursor, p + 1);
}

/*
 * Pass over a field's name, which should be at p, and the colon.
 */
static inline const char *
skip_name(Cursor *cursor, const char *p, KiScanError otherwise, FieldName *name)
{
	if (peek(cursor, p) != '"')
		return unexpected(cursor, otherwise, p);
	name->start = p + 1;
	p = skip_string(cursor, p);
	if (p == NULL)
		return NULL;
	name->len = p - 1 - name->start;
	name->has_escapes = cursor->has_escapes;
	return skip_colon(cursor, p);
}

/* ---- values that no path leads into ---- */

static inline const char *
skip_scalar(Cursor *cursor, const char *p)
{
	switch (peek(cursor, p))
	{
		case '"':
			return skip_string(cursor, p);
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return skip_number(cursor, p);
		case 't':
			return skip_word(cursor, p, "true", 4);
		case 'f':
			return skip_word(cursor, p, "false", 5);
		case 'n':
			return skip_word(cursor, p, "null", 4);
		default:
			return unexpected(cursor, KI_SCAN_NO_VALUE, p);
	}
}

/*
 * Go into the array or object at p: to its first value or, where *is_empty, to
 * its end.
 */
static inline const char *
enter_skipped(Cursor *cursor, const char *p, bool is_object, bool *is_empty)
{
	FieldName	name;

	if (++cursor->depth > KI_SCAN_MAX_DEPTH)
		return fail(cursor, KI_SCAN_DEPTH, p);
	p = skip_space(cursor, p + 1);
	*is_empty = peek(cursor, p) == (is_object ? '}' : ']');
	if (*is_empty || !is_object)
		return p;
	return skip_name(cursor, p, KI_SCAN_IN_OBJECT, &name);
}

/*
 * Go from the end of a value to the next of the same array or object or, where
 * *is_end, behind the array or object.
 */
static inline const char *
next_skipped(Cursor *cursor, const char *p, bool is_object, bool *is_end)
{
	FieldName	name;

	p = skip_space(cursor, p);
	*is_end = peek(cursor, p) == (is_object ? '}' : ']');
	if (*is_end)
		return p + 1;
	if (peek(cursor, p) != ',')
		return unexpected(cursor, is_object ? KI_SCAN_IN_OBJECT :
						  KI_SCAN_IN_ARRAY, p);
	p = skip_space(cursor, p + 1);
	return is_object ? skip_name(cursor, p, KI_SCAN_NO_NAME, &name) : p;
}

/*
 * Pass over the array or object at p, whatever it contains.
 */
static const char *
skip_container(Cursor *cursor, const char *p)
{
	uint8		objects[KI_SCAN_MAX_DEPTH / 8 + 1]; /* a bit per level */
	int			outer = cursor->depth;
	bool		ends;

	for (;;)
	{
		bool		is_object = peek(cursor, p) == '{';

		/* a value begins at p */
		if (is_object || peek(cursor, p) == '[')
		{
			p = enter_skipped(cursor, p, is_object, &ends);
			if (p == NULL)
				return NULL;
			if (is_object)
				objects[cursor->depth / 8] |= 1 << cursor->depth % 8;
			else
				objects[cursor->depth / 8] &= ~(1 << cursor->depth % 8);
			if (!ends)
				continue;
		}
		else
			p = skip_scalar(cursor, p);

		/* a value has ended at p, or an empty one is about to */
		do
		{
			if (p == NULL)
				return NULL;
			is_object = objects[cursor->depth / 8] & 1 << cursor->depth % 8;
			p = next_skipped(cursor, p, is_object, &ends);
			if (ends && --cursor->depth == outer)
				return p;
		} while (ends);
		if (p == NULL)
			return NULL;
	}
}

static inline const char *
skip_value(Cursor *cursor, const char *p)
{
	char		first = peek(cursor, p);

	return first == '{' || first == '[' ? skip_container(cursor, p) :
		skip_scalar(cursor, p);
}

/* ---- the children of a frame's node ---- */

/*
 * The child that the next field is taken for, since it came here in the last
 * document: is its name at p?  NULL if not.
 */
static inline KiScanNode *
guess_child(const Cursor *cursor, const char *p, const KiScanFrame *frame)
{
	KiScanNode *child = *frame->guess;

	if (child != NULL && child->is_plain &&
		cursor->end - p >= child->name_len + 2 && p[0] == '"' &&
		p[child->name_len + 1] == '"' &&
		memcmp(p + 1, child->name, child->name_len) == 0)
		return child;
	return NULL;
}

/*
 * The place behind all that stood before the expected child's value last time,
 * which was checked then; NULL: something else does now.
 */
static inline const char *
skip_lead(const Cursor *cursor, const char *p, const KiScanFrame *frame)
{
	const KiScanNode *child = *frame->guess;

	if (child == NULL || child->lead_len == 0 ||
		!is_at(cursor, p, child->lead, child->lead_len))
		return NULL;
	return skip_space(cursor, p + child->lead_len);
}

static inline void
remember_lead(KiScanNode *child, const char *from, const char *to)
{
	child->lead_len = 0;
	if (child->is_plain && to - from <= KI_SCAN_LEAD_BYTES)
	{
		child->lead_len = to - from;
		memcpy(child->lead, from, child->lead_len);
	}
}

/*
 * Find the child for the field whose name is at p, go to its value.
 */
static inline const char *
find_field(Cursor *cursor, const char *p, KiScanFrame *frame, bool is_first,
		   FieldName *name, KiScanNode **child)
{
	const char *lead = p;

	p = skip_space(cursor, p);
	*child = guess_child(cursor, p, frame);
	if (*child)
		p = skip_colon(cursor, p + (*child)->name_len + 2);
	else
	{
		p = skip_name(cursor, p, is_first ? KI_SCAN_IN_OBJECT : KI_SCAN_NO_NAME,
					  name);
		if (p == NULL)
			return NULL;
		if (!name->has_escapes &&
			!(frame->node->filter & filter_bit(name->start, name->len)))
			return p;
		*child = ki_scan_child(frame->node, name);
		if (*child == NULL)
			return p;
		*frame->guess = *child;
		if (name->has_escapes)
			return p;
	}
	if (p)
		remember_lead(*child, lead, p);
	return p;
}

/*
 * The same; mostly it is the one that came here in the last document, too.
 */
static inline const char *
next_field(Cursor *cursor, const char *p, KiScanFrame *frame, bool is_first,
		   FieldName *name, KiScanNode **child)
{
	const char *value = skip_lead(cursor, p, frame);

	if (value)
		*child = *frame->guess;
	else
	{
		value = find_field(cursor, p, frame, is_first, name, child);
		if (value == NULL || *child == NULL)
			return value;
	}
	frame->guess = &(*child)->follower;
	return value;
}

/*
 * The child for the next element of an array.
 */
static inline KiScanNode *
find_element(KiScanFrame *frame)
{
	KiScanNode *node = frame->node;

	if (frame->next_index < node->nindexes &&
		node->children[frame->next_index]->index == frame->element++)
		return node->children[frame->next_index++];
	return NULL;
}

/* ---- the fields ---- */

/*
 * The kind of value that begins with this byte.
 */
static inline KiFieldKind
kind_of_value(char c)
{
	switch (c)
	{
		case '"':
			return KI_FIELD_STRING;
		case '{':
			return KI_FIELD_OBJECT;
		case '[':
			return KI_FIELD_ARRAY;
		case 't':
		case 'f':
			return KI_FIELD_BOOL;
		case 'n':
			return KI_FIELD_NULL;
		default:
			return KI_FIELD_NUMBER;
	}
}

/*
 * Give the value between from and to to the fields of its node.
 */
static inline void
report(KiScan *scan, const KiScanNode *node, const char *from, const char *to,
	   bool has_escapes, const KiJsonToken *tokens)
{
	KiFieldKind kind;
	int			quotes;

	if (node->first_field < 0)
		return;
	kind = kind_of_value(*from);
	quotes = kind == KI_FIELD_STRING ? 1 : 0;
	if (quotes == 0)
		has_escapes = false;
	scan->has_escapes |= has_escapes;
	for (int i = node->first_field; i >= 0; i = scan->next_field[i])
	{
		KiField    *field = &scan->fields[i];

		field->kind = kind;
		field->data = has_escapes ? NULL : from + quotes;
		field->len = to - from - 2 * quotes;
		field->json = from;
		field->json_len = to - from;
		field->tokens = tokens;
	}
}

/*
 * Note that a node's value is about to be read.
 */
static inline void
meet(KiScan *scan, KiScanNode *node)
{
	if (unlikely(node->seen == scan->document))
		ki_scan_clear_children(scan, node);
	else
	{
		node->seen = scan->document;
		scan->npresent += node->nfields;
	}
}

/* ---- the document ---- */

/*
 * Does any path lead into the value that begins with this byte?
 */
static inline bool
is_wanted_inside(const KiScanNode *node, char c)
{
	return (c == '{' && node->wants_members) || (c == '[' && node->nindexes > 0);
}

/*
 * Go into the array or object at p with a frame, to what follows its bracket.
 */
static inline const char *
enter(Cursor *cursor, const char *p, KiScanNode *node, KiScanFrame *frame)
{
	if (++cursor->depth > KI_SCAN_MAX_DEPTH)
		return fail(cursor, KI_SCAN_DEPTH, p);
	frame->node = node;
	frame->start = p;
	frame->guess = &node->first;
	frame->element = 0;
	frame->next_index = 0;
	return skip_space(cursor, p + 1);
}

/*
 * Go to the next value within a frame and find its node.
 */
static inline const char *
next_value(KiScan *scan, Cursor *cursor, const char *p, KiScanFrame *frame,
		   bool is_first, FieldName *name, KiScanNode **node)
{
	if (*frame->start == '[')
	{
		p = skip_space(cursor, p);
		*node = find_element(frame);
	}
	else
	{
		p = next_field(cursor, p, frame, is_first, name, node);
		if (p == NULL)
			return NULL;
	}
	if (*node)
		meet(scan, *node);
	return p;
}

/*
 * Pass over the value at p and list it; *tokens stays NULL if that failed.
 */
static inline const char *
list_value(KiScan *scan, Cursor *cursor, const char *p, const KiScanNode *node,
		   const KiJsonToken **tokens)
{
	const KiJsonToken *first = &scan->tokens->list[scan->tokens->count];

	p = ki_scan_list(cursor, scan->tokens, node->shapes, p);
	if (p != NULL)
		*tokens = first;
	return p;
}

/*
 * Pass over the value at p and report it, if it has a node, or is a part of
 * the rest.
 */
static inline const char *
take_value(KiScan *scan, Cursor *cursor, const char *p, const KiScanNode *node,
		   const FieldName *name)
{
	const char *start = p;
	const KiJsonToken *tokens = NULL;

	if (node && node->wants_tokens)
		p = list_value(scan, cursor, start, node, &tokens);
	if (tokens == NULL)
		p = skip_value(cursor, start);
	if (p == NULL)
		return NULL;
	if (node)
		report(scan, node, start, p, cursor->has_escapes, tokens);
	else if (scan->on_rest && cursor->depth == 1 &&
			 *scan->frames[0].start == '{')
		scan->on_rest(scan->rest_state, name->start - 1, name->len + 2,
					  start, p - start);
	return p;
}

/*
 * Go from the end of a value, or from behind the bracket of an array or object
 * that has just begun (*is_first), to what follows: the comma or the first
 * value.  Frames that end on the way are left.  *nframes 0: all have ended.
 */
static inline const char *
leave(KiScan *scan, Cursor *cursor, const char *p, bool *is_first,
	  int *nframes)
{
	/* what follows most values, in arrays and objects alike */
	if (!*is_first && *nframes > 0 && peek(cursor, p) == ',')
		return p;
	while (*nframes > 0)
	{
		KiScanFrame *frame = &scan->frames[*nframes - 1];
		bool		is_object = *frame->start == '{';

		p = skip_space(cursor, p);
		if (peek(cursor, p) != (is_object ? '}' : ']'))
		{
			if (*is_first || peek(cursor, p) == ',')
				break;
			return unexpected(cursor, is_object ? KI_SCAN_IN_OBJECT :
							  KI_SCAN_IN_ARRAY, p);
		}
		p++;
		report(scan, frame->node, frame->start, p, false, NULL);
		cursor->depth--;
		(*nframes)--;
		*is_first = false;
	}
	return p;
}

/*
 * Read the one value a document is; returns its end.
 */
static const char *
scan_value(KiScan *scan, Cursor *cursor, const char *p)
{
	KiScanNode *node = scan->root;
	FieldName	name = {NULL, 0, false};
	int			nframes = 0;

	for (;;)
	{
		bool		is_first = node && is_wanted_inside(node, peek(cursor, p));

		/* a value begins at p */
		if (is_first)
			p = enter(cursor, p, node, &scan->frames[nframes++]);
		else
			p = take_value(scan, cursor, p, node, &name);
		if (p == NULL)
			return NULL;

		p = leave(scan, cursor, p, &is_first, &nframes);
		if (p == NULL || nframes == 0)
			return p;
		p = next_value(scan, cursor, is_first ? p : p + 1,
					   &scan->frames[nframes - 1], is_first, &name, &node);
		if (p == NULL)
			return NULL;
	}
}

KiScanError
ki_json_scan(KiScan *scan, const char *json, int len)
{
	Cursor		cursor = {json, json + len, 0, false, false, KI_SCAN_OK, NULL};
	const char *p;

	scan->document++;
	scan->npresent = 0;
	scan->has_escapes = false;
	if (scan->tokens)
	{
		scan->tokens->count = 0;
		scan->tokens->is_full = false;
	}
	for (int i = 0; i < scan->nfields; i++)
		scan->fields[i].kind = KI_FIELD_ABSENT;

	p = skip_space(&cursor, json);
	scan->kind = kind_of_value(peek(&cursor, p));
	p = scan_value(scan, &cursor, p);
	if (p != NULL)
	{
		p = skip_space(&cursor, p);
		if (p < cursor.end)
			unexpected(&cursor, KI_SCAN_TRAILING, p);
	}
	scan->has_high = cursor.has_high;
	scan->error_at = cursor.error_at;
	return cursor.error;
}
