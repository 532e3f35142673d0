/*
 * fuzz_json_scan.c
 *		A libFuzzer target for the JSON scanner, with jansson as its oracle.
 *
 * Every document is scanned three times, which must give the same: by the
 * scanner with SSE2, which has not met any document before; by the same again,
 * which now guesses the order of the fields; and by the portable scanner, which
 * remembers whatever was before, and lists values besides, for which it has
 * little room.  Two more, one of each kind, list the whole document, and take
 * its objects for what those of the last one were.  jsonb is built of what is
 * valid, with and without what was remembered.  Then jansson decides whether it
 * is valid, and what the values at the paths are.
 *
 * The known differences from jansson are these, and no others: jansson refuses
 * integers beyond int64 and numbers beyond double, and nesting beyond 2048; it
 * passes over a zero byte behind a number, while no document may have one.
 */
#include "scan_tree.h"

#include <jansson.h>
#include <stdio.h>

#include "fuzz_build.h"
#include "fuzz_list.h"
#include "fuzz_oracle.h"
#include "json_shape.h"

/* those of the C library: there is no server to link with */
#undef fprintf

extern KiScanError portable_json_scan(KiScan *scan, const char *json, int len);
extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static const TreePath paths[] = {
	{{{NULL, 0}}, 0},
	{{{"a", 0}}, 1},
	{{{"a", 0}, {"b", 0}}, 2},
	{{{"a", 0}, {"b", 0}, {"c", 0}}, 3},
	{{{"a", 0}, {NULL, 0}}, 2},
	{{{"a", 0}, {NULL, 2}}, 2},
	{{{"a", 0}, {NULL, 2}, {"b", 0}}, 3},
	{{{"b", 0}}, 1},
	{{{"b", 0}}, 1},
	{{{"", 0}}, 1},
	{{{"asd", 0}}, 1},
	{{{"a name of more than sixteen bytes", 0}}, 1},
	{{{"\xC3\xA4", 0}}, 1},
	{{{"\xF0\x9F\x98\x80", 0}}, 1},
	{{{"\"\\\n", 0}}, 1},
	{{{NULL, 0}}, 1},
	{{{NULL, 1}}, 1},
	{{{NULL, 3}}, 1},
	{{{NULL, 0}, {NULL, 0}}, 2},
	{{{NULL, 0}, {"a", 0}}, 2},
};

#define NPATHS ((int) lengthof(paths))

#define FEW_TOKENS 8
#define MOST_BYTES 4096			/* of a document, as run.sh has it */

/* What a scan gave. */
typedef struct Outcome
{
	KiScanError error;
	int			error_at;
	int			npresent;
	bool		has_high;
	KiField		fields[NPATHS];
	Rest		rest;
} Outcome;

/*
 * Let the scanner forget the order in which fields came.
 */
static void
forget(KiScanNode *node)
{
	node->first = NULL;
	node->follower = NULL;
	for (int i = 0; i < node->nchildren; i++)
		forget(node->children[i]);
}

static KiScan *
new_scan(void)
{
	KiScan	   *scan = tree_scan(paths, NPATHS);

	scan->root->wants_members = true;
	scan->on_rest = add_rest;
	return scan;
}

/*
 * Let a scanner list the values of all its fields.
 */
static void
list_values(KiScan *scan, KiScanNode *node, int room)
{
	if (!scan->tokens)
	{
		scan->tokens = calloc(1, sizeof(KiJsonTokens));
		scan->tokens->list = calloc(room, sizeof(KiJsonToken));
		scan->tokens->max_count = room;
	}
	node->wants_tokens = node->first_field >= 0;
	node->shapes = calloc(1, sizeof(KiJsonShapes));
	for (int i = 0; i < node->nchildren; i++)
		list_values(scan, node->children[i], room);
}

static KiScan *
new_lister(void)
{
	static const TreePath whole[] = {{{{NULL, 0}}, 0}};
	KiScan	   *scan = tree_scan(whole, 1);

	list_values(scan, scan->root, MOST_BYTES / 2 + 1);
	return scan;
}

static void
run(KiScanError (*function) (KiScan *, const char *, int), KiScan *scan,
	const char *json, int len, Outcome *outcome)
{
	memset(outcome, 0, sizeof(Outcome));
	scan->rest_state = &outcome->rest;
	outcome->error = function(scan, json, len);
	if (outcome->error != KI_SCAN_OK)
	{
		outcome->error_at = scan->error_at - json;
		require(outcome->error_at >= 0 && outcome->error_at <= len,
				"the error is within the document");
		return;
	}
	outcome->npresent = scan->npresent;
	outcome->has_high = scan->has_high;
	for (int i = 0; i < NPATHS; i++)
	{
		outcome->fields[i].kind = scan->fields[i].kind;
		if (scan->fields[i].kind != KI_FIELD_ABSENT)
			outcome->fields[i] = scan->fields[i];
	}
}

static void
require_same(const Outcome *a, const Outcome *b, const char *what)
{
	require(a->error == b->error && a->error_at == b->error_at, what);
	require(a->npresent == b->npresent && a->has_high == b->has_high, what);
	require(a->rest.nmembers == b->rest.nmembers, what);
	for (int i = 0; i < NPATHS; i++)
	{
		require(a->fields[i].kind == b->fields[i].kind &&
				a->fields[i].data == b->fields[i].data &&
				a->fields[i].len == b->fields[i].len &&
				a->fields[i].json == b->fields[i].json &&
				a->fields[i].json_len == b->fields[i].json_len, what);
	}
}

/*
 * The value at a path; NULL: there is none.
 */
static json_t *
value_at(json_t *value, const TreePath *path)
{
	for (int i = 0; i < path->nsteps && value != NULL; i++)
	{
		if (path->steps[i].name != NULL)
			value = json_object_get(value, path->steps[i].name);
		else
			value = json_array_get(value, path->steps[i].index);
	}
	return value;
}

static void
require_values(const Outcome *outcome, json_t *document)
{
	int			npresent = 0;

	for (int i = 0; i < NPATHS; i++)
	{
		json_t	   *value = value_at(document, &paths[i]);

		require_value(&outcome->fields[i], value);
		if (value && outcome->fields[i].tokens)
			require_list(outcome->fields[i].tokens, value);
		npresent += value != NULL && paths[i].nsteps > 0;
	}
	require(outcome->npresent == npresent, "npresent");
	if (json_is_object(document))
	{
		json_t	   *untaken = json_deep_copy(document);

		for (int i = 0; i < NPATHS; i++)
			if (paths[i].nsteps > 0 && paths[i].steps[0].name != NULL)
				json_object_del(untaken, paths[i].steps[0].name);
		require_rest(&outcome->rest, untaken);
		json_decref(untaken);
	}
	else
		require(outcome->rest.nmembers == 0, "no rest without an object");
}

/*
 * Does jansson's verdict agree, or differ for a reason that is known?
 */
static void
require_verdict(const Outcome *outcome, bool is_utf8, const json_error_t *error,
				json_t *document)
{
	enum json_error_code code = json_error_code(error);

	if (document != NULL)
		require(outcome->error == KI_SCAN_OK && is_utf8, "jansson takes it");
	else if (code == json_error_numeric_overflow || code == json_error_stack_overflow)
		return;					/* it gave up before the end */
	else
		require(outcome->error != KI_SCAN_OK || !is_utf8, "jansson refuses it");
}

/*
 * List the whole document; jansson's is NULL if it gave up.
 */
static void
run_lister(KiScanError (*function) (KiScan *, const char *, int), KiScan *scan,
		   const char *json, int len, KiScanError expected, json_t *document)
{
	const KiJsonToken *list;

	require(function(scan, json, len) == expected, "the same error with a list");
	if (expected != KI_SCAN_OK)
		return;
	require(scan->has_high == has_high_byte((const uint8 *) json, len),
			"has_high with a list");
	list = scan->fields[0].tokens;
	require_listed(list, scan->fields[0].json, scan->fields[0].json_len);
	if (list && document)
		require_list(list, document);
	remember_objects(list);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static KiScan *scan = NULL;
	static KiScan *portable = NULL;
	static KiScan *lister = NULL;
	static KiScan *portable_lister = NULL;
	static Outcome first;
	static Outcome second;
	const char *json = (const char *) data;
	bool		is_utf8 = is_valid_utf8(data, size);
	json_error_t error;
	json_t	   *document;

	if (scan == NULL)
	{
		scan = new_scan();
		portable = new_scan();
		list_values(portable, portable->root, FEW_TOKENS);
		lister = new_lister();
		portable_lister = new_lister();
	}
	forget(scan->root);
	run(ki_json_scan, scan, json, size, &first);
	run(ki_json_scan, scan, json, size, &second);
	require_same(&first, &second, "the second time");
	free_rest(&second.rest);
	run(portable_json_scan, portable, json, size, &second);
	require_same(&first, &second, "portable");
	if (first.error == KI_SCAN_OK)
		require(first.has_high == has_high_byte(data, size), "has_high");
	if (memchr(data, 0, size) != NULL)
	{
		require(first.error != KI_SCAN_OK, "a zero byte");
		free_rest(&first.rest);
		free_rest(&second.rest);
		return 0;
	}

	document = json_loadb(json, size, JSON_DECODE_ANY, &error);
	require_verdict(&first, is_utf8, &error, document);
	if (document != NULL)
	{
		require_values(&first, document);
		require_values(&second, document);
	}
	if (size <= MOST_BYTES)
	{
		run_lister(ki_json_scan, lister, json, size, first.error, document);
		run_lister(portable_json_scan, portable_lister, json, size, first.error,
				   document);
	}
	if (first.error == KI_SCAN_OK && is_utf8)
		require_jsonb(json, size);
	json_decref(document);
	free_rest(&first.rest);
	free_rest(&second.rest);
	return 0;
}
