/*
 * text.h
 *	  Bytes that claim to be UTF-8, and the server's encoding (floor 0).
 *
 * Kafka knows no encodings: everything is bytes, and text among them is UTF-8.
 * Nothing here raises for what a message contains.
 */
#ifndef KI_TEXT_H
#define KI_TEXT_H

#include "record.h"

/*
 * Look up the conversion from UTF-8 to the server's encoding, once per
 * process.  Needs a transaction; call it before the functions below.
 */
extern void ki_text_prepare(void);

/* Is this valid UTF-8 without a zero byte? */
extern bool ki_text_is_utf8(const char *bytes, size_t len);

/*
 * Bring verified UTF-8 into the server's encoding, in place when there is
 * nothing to convert, else in the current memory context.  Returns false when
 * a character has no equivalent there.  SQL_ASCII keeps the UTF-8.
 */
extern bool ki_text_from_utf8(const char **string, int *len);

/*
 * Both together, for bytes that a column wants as text; returns false with
 * *fault filled (stage "map").
 */
extern bool ki_text_read(const char *bytes, size_t len,
						 const char **string, int *string_len, KiFault *fault);

/* The other way, for a C string of the server's own; raises 22P05. */
extern const char *ki_text_to_utf8(const char *string);

/*
 * A copy of a JSON document in which the non-ASCII \u escapes are the UTF-8
 * characters they stand for; lone surrogates stay as they are.  For databases
 * whose encoding is not UTF-8, where the server's JSON parser would refuse or
 * translate such escapes.  Updates *len; returns NULL when nothing is escaped.
 */
extern char *ki_text_expand_escapes(const char *json, int *len);

/* Bytes of Confluent's framing before a value: byte 0 and a schema id. */
extern size_t ki_text_framing_len(const char *bytes, size_t len);

/* Is the server's encoding UTF-8? */
extern bool ki_text_server_is_utf8(void);

#endif							/* KI_TEXT_H */
