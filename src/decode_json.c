/*
 * decode_json.c
 *	  From bytes to a record: the JSON decoder.
 *
 * The paths are compiled once into the tree of keys that the scanner walks
 * along (json_scan.h).  Here is what it leaves to its caller: bytes that are
 * no JSON at all, UTF-8, escapes in the fields found, the rest, and databases
 * of other encodings.  Scanning is always done in UTF-8; only the fields found
 * are brought into the server's encoding.
 *
 * The decoder, its fields and its buffer for the rest live in the memory
 * context it was created in.  What belongs to one document lives in the
 * caller's context or in the document itself.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "decode.h"
#include "json_scan.h"
#include "json_shape.h"
#include "stage.h"
#include "text.h"

/* How many values of a document are listed, at first and at most. */
#define TOKENS_FIRST 512
#define TOKENS_MOST 32768

/* A buffer larger than this is given back after its document. */
#define REST_KEEP_BYTES (64 * 1024)

struct KiDecoder
{
	KiScan		scan;
	bool		is_server_utf8;
	bool		want_rest;
	StringInfoData rest;		/* of the current document */
	KiJsonTokens tokens;		/* likewise */
};

/* ---- compiling the paths ---- */

/*
 * Make a node without children; step NULL: the root.
 */
static KiScanNode *
make_node(const KiPathStep *step)
{
	KiScanNode *node = palloc0(sizeof(KiScanNode));

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
static KiScanNode *
grow_child(KiScanNode *parent, const KiPathStep *step)
{
	KiScanNode *child = make_node(step);
	bool		is_there;
	int			place = ki_scan_child_place(parent, child->name, child->name_len,
											child->index, &is_there);

	if (is_there)
	{
		pfree(child);
		return parent->children[place];
	}
	if (parent->nchildren == 0)
		parent->children = palloc(sizeof(KiScanNode *));
	else
		parent->children = repalloc(parent->children,
									sizeof(KiScanNode *) * (parent->nchildren + 1));
	ki_scan_add_child(parent, child, place);
	return child;
}

/*
 * The value of this node is to be listed, if the path wants that.
 */
static void
want_tokens(KiScan *scan, KiScanNode *node, const KiPath *path)
{
	if (!path->wants_tokens || node->wants_tokens || !ki_text_server_is_utf8())
		return;
	node->wants_tokens = true;
	node->shapes = ki_json_shapes_create();
	if (scan->tokens->list)
		return;
	scan->tokens->max_count = TOKENS_FIRST;
	scan->tokens->list = palloc(sizeof(KiJsonToken) * TOKENS_FIRST);
}

/*
 * Grow the tree of keys; returns the length of the longest path.
 */
static int
grow_tree(KiScan *scan, const KiPath *paths, int npaths)
{
	int		   *next_field = palloc(sizeof(int) * Max(npaths, 1));
	int			longest = 0;

	scan->root = make_node(NULL);
	for (int i = 0; i < npaths; i++)
	{
		KiScanNode *node = scan->root;

		for (int step = 0; step < paths[i].nsteps; step++)
			node = grow_child(node, &paths[i].steps[step]);
		next_field[i] = node->first_field;
		node->first_field = i;
		node->nfields++;
		want_tokens(scan, node, &paths[i]);
		longest = Max(longest, paths[i].nsteps);
	}
	scan->next_field = next_field;
	return longest;
}

/*
 * Add a top-level field that no path enters to the rest.
 */
static void
add_rest(void *state, const char *name, int name_len, const char *value,
		 int value_len)
{
	StringInfo	rest = state;

	appendStringInfoChar(rest, rest->len == 0 ? '{' : ',');
	appendBinaryStringInfo(rest, name, name_len);
	appendStringInfoChar(rest, ':');
	appendBinaryStringInfo(rest, value, value_len);
}

KiDecoder *
ki_decode_json_create(const KiPath *paths, int npaths, bool want_rest)
{
	KiDecoder  *decoder = palloc0(sizeof(KiDecoder));
	KiScan	   *scan = &decoder->scan;
	int			longest;

	ki_text_prepare();
	decoder->is_server_utf8 = ki_text_server_is_utf8();
	decoder->want_rest = want_rest;
	scan->tokens = &decoder->tokens;
	longest = grow_tree(scan, paths, npaths);
	scan->fields = palloc0(sizeof(KiField) * Max(npaths, 1));
	scan->nfields = npaths;
	scan->frames = palloc(sizeof(KiScanFrame) * (longest + 1));
	if (want_rest)
	{
		initStringInfo(&decoder->rest);
		scan->root->wants_members = true;
		scan->on_rest = add_rest;
		scan->rest_state = &decoder->rest;
	}
	return decoder;
}

/* ---- what is wrong with a document ---- */

/*
 * What an error means, without quoting the document.
 */
static const char *
describe_error(KiScanError error)
{
	switch (error)
	{
		case KI_SCAN_NO_VALUE:
			return "a value is missing";
		case KI_SCAN_TRAILING:
			return "something follows the document";
		case KI_SCAN_IN_ARRAY:
			return "an array element, a comma or the array's end is missing";
		case KI_SCAN_IN_OBJECT:
			return "a field, a comma or the object's end is missing";
		case KI_SCAN_NO_COLON:
			return "a colon is missing";
		case KI_SCAN_NO_NAME:
			return "a field's name is missing";
		case KI_SCAN_ESCAPE:
			return "an escape is invalid";
		case KI_SCAN_CONTROL:
			return "a control character is not escaped";
		case KI_SCAN_SURROGATE:
			return "half of a surrogate pair stands alone";
		default:
			return "there is no valid token";
	}
}

/*
 * The line, from 1, that a place in a document is in.
 */
static int
line_number(const char *json, const char *at)
{
	int			line = 1;

	for (const char *p = json; p < at; p++)
		line += *p == '\n';
	return line;
}

/*
 * Report why the scanner gave up.
 */
static bool
report_error(const KiScan *scan, const char *json, KiScanError error,
			 KiFault *fault)
{
	if (error == KI_SCAN_ZERO)
		return ki_fault_set(fault, ERRCODE_UNTRANSLATABLE_CHARACTER,
							KI_STAGE_DECODE,
							"invalid JSON: \\u0000 cannot be stored");
	if (error == KI_SCAN_DEPTH)
		return ki_fault_set(fault, ERRCODE_STATEMENT_TOO_COMPLEX,
							KI_STAGE_DECODE,
							psprintf("invalid JSON: more than %d arrays and objects are nested",
									 KI_SCAN_MAX_DEPTH));
	return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
						KI_STAGE_DECODE,
						psprintf("invalid JSON in line %d, near byte %d: %s",
								 line_number(json, scan->error_at),
								 (int) (scan->error_at - json) + 1,
								 describe_error(error)));
}

static bool
report_bytes(KiFault *fault)
{
	return ki_fault_set(fault, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						KI_STAGE_DECODE,
						"invalid JSON: its bytes are not valid UTF-8");
}

/* ---- decoding ---- */

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
 * Give back a buffer that a large document has left.
 */
static void
reset_rest(KiDecoder *decoder)
{
	if (decoder->rest.maxlen > REST_KEEP_BYTES)
	{
		decoder->rest.data = repalloc(decoder->rest.data, REST_KEEP_BYTES);
		decoder->rest.maxlen = REST_KEEP_BYTES;
	}
	resetStringInfo(&decoder->rest);
}

/*
 * Pass over framing and check what the scanner does not: that there is
 * something, no byte order mark, and not more than the server can hold.
 */
static bool
check_bytes(const char **data, size_t *len, KiFault *fault)
{
	size_t		framing_len;

	/* nearly all begin so, which is neither framing nor a mark */
	if (*len > 0 && **data == '{')
		return *len <= MaxAllocSize || report_bytes(fault);
	framing_len = ki_text_framing_len(*data, *len);
	*data += framing_len;
	*len -= framing_len;
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
	return *len <= MaxAllocSize || report_bytes(fault);
}

/*
 * Run the scanner.  UTF-8 is only verified where there is something beyond
 * ASCII, or something wrong: bad bytes are told before bad grammar.
 */
static bool
scan_document(KiDecoder *decoder, const char *json, int len, KiFault *fault)
{
	KiScanError error = ki_json_scan(&decoder->scan, json, len);

	if ((error != KI_SCAN_OK || decoder->scan.has_high) &&
		!ki_text_is_utf8(json, len))
		return report_bytes(fault);
	return error == KI_SCAN_OK ||
		report_error(&decoder->scan, json, error, fault);
}

/*
 * The same in a database of another encoding, where the server could not read
 * the non-ASCII escapes of fields that are JSON.
 */
static bool
scan_for_conversion(KiDecoder *decoder, const char *json, int len,
					KiFault *fault)
{
	const char *expanded;

	if (!ki_text_is_utf8(json, len))
		return report_bytes(fault);
	expanded = ki_text_expand_escapes(json, &len);
	return scan_document(decoder, expanded ? expanded : json, len, fault);
}

/*
 * Resolve the escapes of strings, in one piece of memory for all of them.
 */
static void
unescape_fields(KiScan *scan)
{
	Size		size = 0;
	char	   *to;

	for (int i = 0; i < scan->nfields; i++)
	{
		if (scan->fields[i].kind != KI_FIELD_ABSENT &&
			scan->fields[i].data == NULL)
			size += scan->fields[i].len;
	}
	to = MemoryContextAllocHuge(CurrentMemoryContext, Max(size, 1));
	for (int i = 0; i < scan->nfields; i++)
	{
		KiField    *field = &scan->fields[i];

		if (field->kind == KI_FIELD_ABSENT || field->data != NULL)
			continue;
		field->len = ki_json_unescape(field->json + 1, field->len, to);
		field->data = to;
		to += field->len;
	}
}

/*
 * The last document had more values than there was room for: another like it
 * may come.
 */
static void
grow_tokens(KiJsonTokens *tokens)
{
	uint32		count = tokens->max_count * 2;

	if (count > TOKENS_MOST)
		return;
	/* may fail: before the room is counted */
	tokens->list = repalloc(tokens->list, sizeof(KiJsonToken) * count);
	tokens->max_count = count;
}

/*
 * End the object of untaken fields; there is none of another kind of document.
 */
static void
finish_rest(KiDecoder *decoder, KiField *rest)
{
	if (decoder->scan.kind != KI_FIELD_OBJECT)
		return;
	appendStringInfoString(&decoder->rest, decoder->rest.len == 0 ? "{}" : "}");
	rest->kind = KI_FIELD_OBJECT;
	rest->data = rest->json = decoder->rest.data;
	rest->len = rest->json_len = decoder->rest.len;
}

bool
ki_decode_json(KiDecoder *decoder, const char *data, size_t len,
			   KiRecord *record, KiFault *fault)
{
	KiScan	   *scan = &decoder->scan;

	if (!check_bytes(&data, &len, fault))
		return false;
	if (decoder->want_rest)
		reset_rest(decoder);
	if (unlikely(decoder->tokens.is_full))
		grow_tokens(&decoder->tokens);
	/* check_bytes refuses more than 1 GB */
	if (!(decoder->is_server_utf8 ?
		  scan_document(decoder, data, (int) len, fault) :
		  scan_for_conversion(decoder, data, (int) len, fault)))
		return false;
	if (scan->has_escapes)
		unescape_fields(scan);

	record->fields = scan->fields;
	record->nfields = scan->nfields;
	record->npresent = scan->npresent;
	record->rest.kind = KI_FIELD_ABSENT;
	if (decoder->want_rest)
		finish_rest(decoder, &record->rest);
	return decoder->is_server_utf8 || convert_record(record, fault);
}
