/*
 * decode.h
 *	  From bytes to a record: the interface of every decoder (floor 2).
 *
 * A decoder is compiled once from the paths a mapping needs and then called
 * per message.  It raises nothing for a bad document, but reports a KiFault.
 */
#ifndef KI_DECODE_H
#define KI_DECODE_H

#include "record.h"

/* One step into a document: a field's name, or (name NULL) an array index. */
typedef struct KiPathStep
{
	const char *name;
	int			index;
} KiPathStep;

/* No step at all is the whole document. */
typedef struct KiPath
{
	KiPathStep *steps;
	int			nsteps;
	bool		wants_tokens;	/* if it costs little, list the value */
} KiPath;

typedef struct KiDecoder KiDecoder;

/*
 * Compile a JSON decoder for these paths, in the current memory context.
 * With want_rest, record->rest collects the top-level fields no path enters.
 */
extern KiDecoder *ki_decode_json_create(const KiPath *paths, int npaths,
										bool want_rest);

/*
 * Decode one document into *record, whose fields array the decoder owns and
 * overwrites at the next call; their bytes live in the current memory context
 * or in data itself.  data is UTF-8 of any content and need not be terminated.
 * Confluent framing (byte 0 and a four-byte schema id) is passed over.
 * Tokens live in the decoder; there are none where the server is not in UTF-8.
 * Returns false with *fault filled when it is no valid document.
 */
extern bool ki_decode_json(KiDecoder *decoder, const char *data, size_t len,
						   KiRecord *record, KiFault *fault);

#endif							/* KI_DECODE_H */
