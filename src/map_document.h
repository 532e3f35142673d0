/*
 * map_document.h
 *	  A value or key that columns take fields of, and conditions look at; for
 *	  map*.c alone (floor 2).
 */
#ifndef KI_MAP_DOCUMENT_H
#define KI_MAP_DOCUMENT_H

#include "decode.h"
#include "origin.h"

typedef struct KiDocument
{
	KiDecoder  *decoder;		/* NULL: nobody needs it */
	KiPath	   *paths;			/* the columns' first */
	int			npaths;
	int			ncolumns;		/* paths that columns take */
} KiDocument;

/* Make room for paths, in the current memory context. */
extern void ki_document_init(KiDocument *document, int max_paths);

/*
 * Add an origin's path; returns its number in the record.  wants_tokens: list
 * the value, if that costs little.
 */
extern int	ki_document_add(KiDocument *document, const KiOrigin *origin,
							bool wants_tokens);

/* Make the decoder, if there are paths or the rest is wanted. */
extern void ki_document_compile(KiDocument *document, bool want_rest);

/* Decode bytes; nothing is done, and all is well, without a decoder. */
static inline bool
ki_document_decode(const KiDocument *document, const char *data, size_t len,
				   KiRecord *record, KiFault *fault)
{
	return document->decoder == NULL ||
		ki_decode_json(document->decoder, data, len, record, fault);
}

/* Is any field present that a column's path leads to? */
extern bool ki_document_has_field(const KiDocument *document,
								  const KiRecord *record);

#endif							/* KI_MAP_DOCUMENT_H */
