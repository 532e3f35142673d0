/*
 * json_scan.h
 *	  One pass over a JSON document that takes out the mapped fields (floor 0).
 *
 * The whole document is checked against the grammar of RFC 8259, but only what
 * a path leads to is reported: as pointer and length within the document.
 * Plain C that allocates nothing and calls nothing of the server, so that it
 * can be linked alone and fuzzed.
 *
 * What it does not check is UTF-8: the caller has to where has_high is set.
 */
#ifndef KI_JSON_SCAN_H
#define KI_JSON_SCAN_H

#include "json_tokens.h"
#include "record.h"

/*
 * Most arrays and objects within each other.  jsonb refuses more than 14,505
 * arrays, or 13,061 objects, with PostgreSQL 15's default max_stack_depth of
 * 2 MB (x86-64): whatever passes here can be stored there.
 */
#define KI_SCAN_MAX_DEPTH 10000

/* Of what stands before a field's value so much is remembered. */
#define KI_SCAN_LEAD_BYTES 32

/*
 * One step of the paths, shared by all paths that begin alike.  The caller
 * makes nodes and zeroes them, with first_field -1.
 */
typedef struct KiScanNode
{
	const char *name;			/* UTF-8, not terminated; NULL: an index */
	int			name_len;		/* bytes */
	int			index;
	int			first_field;	/* field that ends here; -1: none */
	int			nfields;		/* how many do */
	bool		wants_members;	/* some child is a name */
	bool		wants_tokens;	/* list what is inside */
	KiJsonShapes *shapes;		/* of that; NULL: not remembered */
	struct KiScanNode **children;	/* indices first, each kind in order */
	int			nchildren;
	int			nindexes;

	/* what the scanner keeps */
	uint64		filter;			/* of the children's names */
	bool		is_plain;		/* the name stands in JSON as it is */
	uint64		seen;			/* the document this was last found in */
	struct KiScanNode *first;	/* the child found first in the last document */
	struct KiScanNode *follower;	/* the sibling found after this one */
	int			lead_len;		/* 0: none is known */
	char		lead[KI_SCAN_LEAD_BYTES];	/* what stood between the comma or
											 * bracket before a plain name and
											 * its value, last time */
} KiScanNode;

/* An array or object that is being read because paths lead into it. */
typedef struct KiScanFrame
{
	KiScanNode *node;
	const char *start;
	KiScanNode **guess;			/* where the next child is remembered */
	int			element;		/* index of the next element */
	int			next_index;		/* the child it may be */
} KiScanFrame;

/*
 * Called for each top-level field that no path enters: its name in quotes, as
 * written, and its value.
 */
typedef void (*KiScanRest) (void *state, const char *name, int name_len,
							const char *value, int value_len);

/* Why a document is refused. */
typedef enum KiScanError
{
	KI_SCAN_OK = 0,
	KI_SCAN_NO_VALUE,			/* a value is missing */
	KI_SCAN_NO_NAME,			/* a field's name is missing */
	KI_SCAN_NO_COLON,
	KI_SCAN_IN_ARRAY,			/* neither a comma nor the end */
	KI_SCAN_IN_OBJECT,			/* neither a comma nor the end, or no name */
	KI_SCAN_TOKEN,				/* no valid token */
	KI_SCAN_ESCAPE,				/* an invalid escape */
	KI_SCAN_SURROGATE,			/* half of a pair */
	KI_SCAN_CONTROL,			/* a control character in a string */
	KI_SCAN_ZERO,				/* \u0000 */
	KI_SCAN_TRAILING,			/* something behind the document */
	KI_SCAN_DEPTH				/* beyond KI_SCAN_MAX_DEPTH */
} KiScanError;

/*
 * A scanner; all memory is the caller's.  It remembers the order in which
 * fields came, since those of the next message mostly come in the same.
 */
typedef struct KiScan
{
	/* given by the caller */
	KiScanNode *root;
	KiField    *fields;			/* one per path */
	const int  *next_field;		/* of the same node; -1: none */
	int			nfields;
	KiScanFrame *frames;		/* one more than the longest path has steps */
	KiScanRest	on_rest;		/* NULL: not wanted */
	void	   *rest_state;
	KiJsonTokens *tokens;		/* NULL: no node wants any */

	/* of the last document */
	uint64		document;		/* counts documents; 0: none yet */
	KiFieldKind kind;			/* of the whole of it */
	int			npresent;		/* fields found, those without steps aside */
	bool		has_escapes;	/* some field is a string with escapes */
	bool		has_high;		/* a byte beyond ASCII was met */
	const char *error_at;		/* start of the token it was refused for */
} KiScan;

/*
 * Where the child for a step stands among the children of a node, or should:
 * then *is_there is false.  name NULL: an array index.
 */
extern int	ki_scan_child_place(const KiScanNode *parent, const char *name,
								int name_len, int index, bool *is_there);

/* Put a child there; parent->children must have room for one more. */
extern void ki_scan_add_child(KiScanNode *parent, KiScanNode *child,
							  int place);

/*
 * Read a document, which need not be terminated, into scan->fields: kind, json
 * and json_len of every field, data and len as record.h has them, except that
 * a string with escapes has data NULL.  A field that comes twice counts the
 * last time.  After an error the fields mean nothing.  The values of nodes that
 * want tokens are listed, if no path leads into them, they are not nested too
 * deeply and there is room for all.
 */
extern KiScanError ki_json_scan(KiScan *scan, const char *json, int len);

/*
 * Resolve the escapes of a string the scanner took: from and len are what
 * stands between its quotes.  The result, in UTF-8, needs at most len bytes;
 * returns its length.
 */
extern int	ki_json_unescape(const char *from, int len, char *to);

#endif							/* KI_JSON_SCAN_H */
