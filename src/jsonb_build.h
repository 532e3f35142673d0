/*
 * jsonb_build.h
 *	  From JSON text to jsonb without jsonb_in (floor 0).
 */
#ifndef KI_JSONB_BUILD_H
#define KI_JSONB_BUILD_H

#include "json_shape.h"

/* Working memory that is used again for every document. */
typedef struct KiJsonbBuilder KiJsonbBuilder;

/* In the current memory context. */
extern KiJsonbBuilder *ki_jsonb_builder_create(void);

/*
 * Make the very bytes of jsonb_in from a document that was validated before,
 * escapes included.  The Datum is one allocation in the current memory context.
 * Returns false for what is left to jsonb_in: large or deep documents, huge
 * numbers, servers whose encoding is not UTF-8 -- and, should it happen, for
 * what is no valid document.  tokens: the document as a list; NULL: it is made
 * here, and shapes are what the documents before looked like, one for each
 * place in messages.
 */
extern bool ki_jsonb_build(KiJsonbBuilder *builder, const KiJsonToken *tokens,
						   KiJsonShapes *shapes, const char *json, int len,
						   Datum *value);

#endif							/* KI_JSONB_BUILD_H */
