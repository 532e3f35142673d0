/*
 * header.h
 *	  The headers of a message: one by name, or all as jsonb (floor 1).
 */
#ifndef KI_HEADER_H
#define KI_HEADER_H

#include "message.h"
#include "utils/jsonb.h"

/* The last header of this name (UTF-8); NULL: none. */
extern const KiHeader *ki_header_find(const KiMessage *message,
									  const char *name);

/*
 * All headers as an object, in the current memory context: repeated names
 * become arrays in order of arrival, what is no text a string '\x...' of hex
 * digits, a header without a value JSON null.  Needs ki_text_prepare().
 */
extern Jsonb *ki_headers_to_jsonb(const KiMessage *message);

#endif							/* KI_HEADER_H */
