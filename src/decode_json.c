/*
 * decode_json.c
 *	  From bytes to a record: the JSON decoder.
 *
 * The paths are compiled once into a tree of keys.  Per document the server's
 * own parser runs over the text, and its callbacks walk that tree: frames is
 * the way from the root to the node whose value is being read, skipped counts
 * the levels below it that no path enters.  Parsing is always done in UTF-8;
 * only the fields found are brought into the server's encoding.
 *
 * The decoder, its fields and its buffer for the rest live in the memory
 * context it was created in.  What belongs to one document lives in the
 * caller's context or in the document itself.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "compat.h"
#include "decode.h"
#include "stage.h"
#include "text.h"

/* A buffer larger than this is given back after its document. */
#define REST_KEEP_BYTES (64 * 1024)

/* Byte 0 and a schema id, which schema registries' clients put in front. */
#define FRAMING_BYTES 5

/* One step of the paths, shared by all paths that begin alike. */
typedef struct KeyNode
{
	const char *name;			/* UTF-8; NULL: an array index */
	int			name_len;
	int			index;
	int			first_field;	/* field that ends here; -1: none */
	uint64		seen;			/* the document this was last found in */
	struct KeyNode **children;	/* sorted by compare_step */
	int			nchildren;
} KeyNode;

/* A node whose value is being read. */
typedef struct Frame
{
	KeyNode    *node;
	int			element;		/* index of the next element of an array */
} Frame;

struct KiDecoder
{
	MemoryContext context;
	KeyNode    *root;
	KiField    *fields;
	int		   *next_field;		/* of the same node; -1: none */
	int			nfields;
	bool		want_rest;
	JsonSemAction actions;

	/* the document being parsed */
	JsonLexContext *lexer;
	uint64		document;		/* counts documents; never 0 */
	Frame	   *frames;
	int			depth;			/* of the current frame; 0: the root */
	int			skipped;		/* levels below it that no path enters */
	StringInfoData rest;
	const char *rest_value;		/* start of the value being added to rest */
};

/*
 * Order of a step among the children of a node.
 */
static int
compare_step(const char *name, int name_len, int index, const KeyNode *node)
{
	if (name == NULL || node->name == NULL)
	{
		if (name != NULL || node->name != NULL)
			return name == NULL ? -1 : 1;
		return index < node->index ? -1 : index > node->index ? 1 : 0;
	}
	if (name_len != node->name_len)
		return name_len < node->name_len ? -1 : 1;
	return memcmp(name, node->name, name_len);
}

static int
compare_nodes(const void *a, const void *b)
{
	const KeyNode *node = *(KeyNode *const *) a;

	return compare_step(node->name, node->name_len, node->index,
						*(KeyNode *const *) b);
}

/*
 * The child of a sorted node for this step; NULL: no path goes there.
 */
static KeyNode *
find_child(const KeyNode *node, const char *name, int name_len, int index)
{
	int			low = 0;
	int			high = node->nchildren;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_step(name, name_len, index,
										 node->children[middle]);

		if (order == 0)
			return node->children[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * Make a node without children.
 */
static KeyNode *
make_node(const KiPathStep *step)
{
	KeyNode    *node = palloc0(sizeof(KeyNode));

	if (step && step->name)
	{
		node->name = ki_text_to_utf8(step->name);
		node->name_len = strlen(node->name);
	}
	else if (step)
		node->index = step->index;
	node->first_field = -1;
	return node;
}

/*
 * The child for this step while the tree grows, made where there is none.
 */
static KeyNode *
grow_child(KeyNode *parent, const KiPathStep *step)
{
	KeyNode    *child = make_node(step);

	for (int i = 0; i < parent->nchildren; i++)
	{
		if (compare_nodes(&child, &parent->children[i]) == 0)
		{
			pfree(child);
			return parent->children[i];
		}
	}
	if (parent->nchildren == 0)
		parent->children = palloc(sizeof(KeyNode *));
	else
		parent->children = repalloc(parent->children,
									sizeof(KeyNode *) * (parent->nchildren + 1));
	parent->children[parent->nchildren++] = child;
	return child;
}

/*
 * Sort the children of a grown tree, at every level; paths are as short as
 * people write them.
 */
static void
sort_children(KeyNode *node)
{
	if (node->nchildren > 1)
		qsort(node->children, node->nchildren, sizeof(KeyNode *), compare_nodes);
	for (int i = 0; i < node->nchildren; i++)
		sort_children(node->children[i]);
}

/*
 * Forget what an earlier field of the same name gave to a node and to the
 * ones below it.
 */
static void
clear_node(KiDecoder *decoder, KeyNode *node)
{
	for (int i = node->first_field; i >= 0; i = decoder->next_field[i])
		memset(&decoder->fields[i], 0, sizeof(KiField));
	for (int i = 0; i < node->nchildren; i++)
	{
		if (node->children[i]->seen == decoder->document)
			clear_node(decoder, node->children[i]);
	}
}

/*
 * The kind of value a token begins.
 */
static KiFieldKind
kind_of_token(JsonTokenType token)
{
	switch (token)
	{
		case JSON_TOKEN_STRING:
			return KI_FIELD_STRING;
		case JSON_TOKEN_NUMBER:
			return KI_FIELD_NUMBER;
		case JSON_TOKEN_OBJECT_START:
			return KI_FIELD_OBJECT;
		case JSON_TOKEN_ARRAY_START:
			return KI_FIELD_ARRAY;
		case JSON_TOKEN_TRUE:
		case JSON_TOKEN_FALSE:
			return KI_FIELD_BOOL;
		case JSON_TOKEN_NULL:
			return KI_FIELD_NULL;
		default:
			return KI_FIELD_ABSENT; /* a syntax error the parser will find */
	}
}

/*
 * Read the value that begins at the lexer's current token.  The end of an
 * object or array is not known yet: close_value fills it in.
 */
static KiField
open_value(const JsonLexContext *lexer)
{
	KiField		field;

	field.kind = kind_of_token(lexer->token_type);
	field.json = field.data = lexer->token_start;
	field.json_len = field.len = lexer->token_terminator - lexer->token_start;
	if (field.kind == KI_FIELD_STRING)
	{
		/* Escapes are always longer than what they stand for. */
		if (lexer->strval->len == field.json_len - 2)
			field.data = field.json + 1;
		else
			field.data = pnstrdup(lexer->strval->data, lexer->strval->len);
		field.len = lexer->strval->len;
	}
	return field;
}

/*
 * Go down into the value at the lexer's current token.
 */
static void
enter(KiDecoder *decoder, KeyNode *node)
{
	KiField		value;

	if (node == NULL)
	{
		decoder->skipped++;
		return;
	}
	decoder->depth++;
	decoder->frames[decoder->depth].node = node;
	decoder->frames[decoder->depth].element = 0;

	if (node->seen == decoder->document)
		clear_node(decoder, node);
	node->seen = decoder->document;
	if (node->first_field < 0)
		return;
	value = open_value(decoder->lexer);
	for (int i = node->first_field; i >= 0; i = decoder->next_field[i])
		decoder->fields[i] = value;
}

/*
 * Leave the value that ended before the lexer's current token.
 */
static void
leave(KiDecoder *decoder)
{
	const char *end = decoder->lexer->prev_token_terminator;
	KeyNode    *node;

	if (decoder->skipped > 0)
	{
		decoder->skipped--;
		return;
	}
	node = decoder->frames[decoder->depth--].node;
	for (int i = node->first_field; i >= 0; i = decoder->next_field[i])
	{
		KiField    *field = &decoder->fields[i];

		if (field->kind == KI_FIELD_OBJECT || field->kind == KI_FIELD_ARRAY)
			field->len = field->json_len = end - field->json;
	}
}

static KI_JSON_CALLBACK
on_field_start(void *state, char *name, bool isnull)
{
	KiDecoder  *decoder = state;
	bool		is_top = decoder->depth == 0 && decoder->skipped == 0;
	KeyNode    *child = NULL;

	if (decoder->skipped == 0)
		child = find_child(decoder->frames[decoder->depth].node,
						   name, strlen(name), 0);
	if (is_top && child == NULL && decoder->want_rest)
	{
		appendStringInfoChar(&decoder->rest,
							 decoder->rest.len == 0 ? '{' : ',');
		escape_json(&decoder->rest, name);
		appendStringInfoChar(&decoder->rest, ':');
		decoder->rest_value = decoder->lexer->token_start;
	}
	enter(decoder, child);
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_field_end(void *state, char *name, bool isnull)
{
	KiDecoder  *decoder = state;

	leave(decoder);
	if (decoder->rest_value && decoder->depth == 0 && decoder->skipped == 0)
	{
		appendBinaryStringInfo(&decoder->rest, decoder->rest_value,
							   decoder->lexer->prev_token_terminator -
							   decoder->rest_value);
		decoder->rest_value = NULL;
	}
	pfree(name);				/* the parser leaves it to us */
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_element_start(void *state, bool isnull)
{
	KiDecoder  *decoder = state;
	Frame	   *frame = &decoder->frames[decoder->depth];
	KeyNode    *child = NULL;

	if (decoder->skipped == 0)
		child = find_child(frame->node, NULL, 0, frame->element++);
	enter(decoder, child);
	KI_JSON_CONTINUE;
}

static KI_JSON_CALLBACK
on_element_end(void *state, bool isnull)
{
	leave((KiDecoder *) state);
	KI_JSON_CONTINUE;
}

/*
 * Only called for a document that is a scalar: there is no other way to see
 * its unescaped text.
 */
static KI_JSON_CALLBACK
on_scalar(void *state, char *token, JsonTokenType type)
{
	KiDecoder  *decoder = state;
	KiField		value = {0};

	value.kind = kind_of_token(type);
	value.data = token;
	value.len = strlen(token);
	for (int i = decoder->root->first_field; i >= 0; i = decoder->next_field[i])
		decoder->fields[i] = value;
	KI_JSON_CONTINUE;
}

/*
 * Grow the tree of keys; returns the length of the longest path.
 */
static int
grow_tree(KiDecoder *decoder, const KiPath *paths)
{
	int			longest = 0;

	decoder->root = make_node(NULL);
	for (int i = 0; i < decoder->nfields; i++)
	{
		KeyNode    *node = decoder->root;

		for (int step = 0; step < paths[i].nsteps; step++)
			node = grow_child(node, &paths[i].steps[step]);
		decoder->next_field[i] = node->first_field;
		node->first_field = i;
		longest = Max(longest, paths[i].nsteps);
	}
	sort_children(decoder->root);
	return longest;
}

KiDecoder *
ki_decode_json_create(const KiPath *paths, int npaths, bool want_rest)
{
	KiDecoder  *decoder = palloc0(sizeof(KiDecoder));
	int			longest;

	ki_text_prepare();
	decoder->context = CurrentMemoryContext;
	decoder->fields = palloc0(sizeof(KiField) * Max(npaths, 1));
	decoder->next_field = palloc(sizeof(int) * Max(npaths, 1));
	decoder->nfields = npaths;
	decoder->want_rest = want_rest;
	longest = grow_tree(decoder, paths);
	decoder->frames = palloc0(sizeof(Frame) * (longest + 1));
	decoder->frames[0].node = decoder->root;
	if (want_rest)
		initStringInfo(&decoder->rest);

	/* Without callbacks the parser only validates. */
	decoder->actions.semstate = decoder;
	if (longest > 0 || want_rest)
	{
		decoder->actions.object_field_start = on_field_start;
		decoder->actions.object_field_end = on_field_end;
		decoder->actions.array_element_start = on_element_start;
		decoder->actions.array_element_end = on_element_end;
	}
	return decoder;
}

/*
 * What a parser's error means, without quoting the document.
 */
static const char *
describe_error(JsonParseErrorType error)
{
	switch (error)
	{
		case JSON_EXPECTED_JSON:
		case JSON_EXPECTED_MORE:
			return "a value is missing";
		case JSON_EXPECTED_END:
			return "something follows the document";
		case JSON_EXPECTED_ARRAY_FIRST:
		case JSON_EXPECTED_ARRAY_NEXT:
			return "an array element, a comma or the array's end is missing";
		case JSON_EXPECTED_OBJECT_FIRST:
		case JSON_EXPECTED_OBJECT_NEXT:
			return "a field, a comma or the object's end is missing";
		case JSON_EXPECTED_COLON:
			return "a colon is missing";
		case JSON_EXPECTED_STRING:
			return "a field's name is missing";
		case JSON_ESCAPING_INVALID:
		case JSON_UNICODE_ESCAPE_FORMAT:
			return "an escape is invalid";
		case JSON_ESCAPING_REQUIRED:
			return "a control character is not escaped";
		case JSON_UNICODE_HIGH_SURROGATE:
		case JSON_UNICODE_LOW_SURROGATE:
			return "half of a surrogate pair stands alone";
		default:
			return "there is no valid token";
	}
}

/*
 * Report why the parser gave up.
 */
static bool
report_error(const KiDecoder *decoder, JsonParseErrorType error, KiFault *fault)
{
	const JsonLexContext *lexer = decoder->lexer;
	const char *at = lexer->token_start ? lexer->token_start :
	lexer->token_terminator;

	if (error == JSON_UNICODE_CODE_POINT_ZERO)
		return ki_fault_set(fault, ERRCODE_UNTRANSLATABLE_CHARACTER,
							KI_STAGE_DECODE,
							"invalid JSON: \\u0000 cannot be stored");
	return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
						KI_STAGE_DECODE,
						psprintf("invalid JSON in line %d, near byte %d: %s",
								 lexer->line_number,
								 (int) (at - lexer->input) + 1,
								 describe_error(error)));
}

/*
 * Give the whole document to the paths without steps, and finish the rest.
 */
static void
finish_root(KiDecoder *decoder, const char *json, int len, KiRecord *record)
{
	for (int i = decoder->root->first_field; i >= 0; i = decoder->next_field[i])
	{
		KiField    *field = &decoder->fields[i];

		if (*json == '{' || *json == '[')
		{
			field->kind = *json == '{' ? KI_FIELD_OBJECT : KI_FIELD_ARRAY;
			field->data = json;
			field->len = len;
		}
		field->json = json;
		field->json_len = len;
	}

	record->fields = decoder->fields;
	record->nfields = decoder->nfields;
	record->is_tombstone = false;
	memset(&record->rest, 0, sizeof(KiField));
	if (!decoder->want_rest || *json != '{')
		return;
	appendStringInfoString(&decoder->rest, decoder->rest.len == 0 ? "{}" : "}");
	record->rest.kind = KI_FIELD_OBJECT;
	record->rest.data = record->rest.json = decoder->rest.data;
	record->rest.len = record->rest.json_len = decoder->rest.len;
}

/*
 * Bring one field into the server's encoding.
 */
static bool
convert_field(KiField *field)
{
	bool		is_same = field->data == field->json;

	if (field->kind == KI_FIELD_ABSENT)
		return true;
	if (!ki_text_from_utf8(&field->json, &field->json_len))
		return false;
	if (is_same)
	{
		field->data = field->json;
		field->len = field->json_len;
		return true;
	}
	return ki_text_from_utf8(&field->data, &field->len);
}

/*
 * Bring all of a record into the server's encoding.
 */
static bool
convert_record(KiRecord *record, KiFault *fault)
{
	bool		fits = convert_field(&record->rest);

	for (int i = 0; fits && i < record->nfields; i++)
		fits = convert_field(&record->fields[i]);
	if (fits)
		return true;
	return ki_fault_set(fault, ERRCODE_UNTRANSLATABLE_CHARACTER,
						KI_STAGE_DECODE,
						psprintf("a character of a mapped field has no equivalent in the database encoding %s",
								 GetDatabaseEncodingName()));
}

/*
 * Forget the previous document.
 */
static void
reset(KiDecoder *decoder)
{
	decoder->document++;
	decoder->depth = 0;
	decoder->skipped = 0;
	decoder->frames[0].element = 0;
	decoder->rest_value = NULL;
	memset(decoder->fields, 0, sizeof(KiField) * decoder->nfields);
	if (!decoder->want_rest)
		return;
	if (decoder->rest.maxlen > REST_KEEP_BYTES)
	{
		MemoryContext caller = MemoryContextSwitchTo(decoder->context);

		pfree(decoder->rest.data);
		initStringInfo(&decoder->rest);
		MemoryContextSwitchTo(caller);
	}
	resetStringInfo(&decoder->rest);
}

/*
 * Pass over framing and check what the parser does not: that there is
 * something, that it is UTF-8, and no byte order mark.
 */
static bool
check_bytes(const char **data, size_t *len, KiFault *fault)
{
	if (*len >= FRAMING_BYTES && **data == '\0')
	{
		*data += FRAMING_BYTES;
		*len -= FRAMING_BYTES;
	}
	if (*len == 0)
		return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							KI_STAGE_DECODE,
							"invalid JSON: there are no bytes");
	if ((*len >= 3 && memcmp(*data, "\xEF\xBB\xBF", 3) == 0) ||
		(*len >= 2 && (memcmp(*data, "\xFE\xFF", 2) == 0 ||
					   memcmp(*data, "\xFF\xFE", 2) == 0)))
		return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							KI_STAGE_DECODE,
							"invalid JSON: it begins with a byte order mark (BOM)");
	if (!ki_text_is_utf8(*data, *len))
		return ki_fault_set(fault, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							KI_STAGE_DECODE,
							"invalid JSON: its bytes are not valid UTF-8");
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/*
 * Take off the white space around a document.
 */
static void
trim(const char **json, int *len)
{
	while (*len > 0 && is_space((*json)[*len - 1]))
		(*len)--;
	while (*len > 0 && is_space(**json))
	{
		(*json)++;
		(*len)--;
	}
}

/*
 * Run the parser over a document.
 */
static bool
parse(KiDecoder *decoder, const char *json, int len, KiFault *fault)
{
	const char *first = json;
	int			trimmed_len = len;
	JsonParseErrorType error;

	trim(&first, &trimmed_len);
	decoder->actions.scalar = NULL;
	if (decoder->root->first_field >= 0 && trimmed_len > 0 &&
		*first != '{' && *first != '[')
		decoder->actions.scalar = on_scalar;

	decoder->lexer = ki_json_lexer_utf8(unconstify(char *, json), len);
	error = pg_parse_json(decoder->lexer, &decoder->actions);
	if (error != JSON_SUCCESS)
		report_error(decoder, error, fault);
	ki_json_lexer_free(decoder->lexer);
	decoder->lexer = NULL;
	return error == JSON_SUCCESS;
}

bool
ki_decode_json(KiDecoder *decoder, const char *data, size_t len,
			   KiRecord *record, KiFault *fault)
{
	const char *json;
	int			json_len;

	reset(decoder);
	if (!check_bytes(&data, &len, fault))
		return false;
	json = data;
	json_len = (int) len;		/* check_bytes refuses more than 1 GB */
	if (!ki_text_server_is_utf8())
	{
		char	   *expanded = ki_text_expand_escapes(json, &json_len);

		json = expanded ? expanded : json;
	}
	if (!parse(decoder, json, json_len, fault))
		return false;
	trim(&json, &json_len);
	finish_root(decoder, json, json_len, record);
	return ki_text_server_is_utf8() || convert_record(record, fault);
}
