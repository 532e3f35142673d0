/*
 * fuzz_oracle.h
 *		What the fuzz target compares: a field with jansson's value, the rest with
 *		an object, bytes with the rules of UTF-8.
 */
#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

#include "postgres.h"

#include <jansson.h>

#include "record.h"

/* The untaken fields of a document, written as an object. */
typedef struct Rest
{
	char	   *text;
	size_t		len;
	int			nmembers;
} Rest;

/* Ends the process, which is what libFuzzer calls a finding, if not. */
extern void require(bool condition, const char *what);

extern bool is_valid_utf8(const uint8 *bytes, size_t len);
extern bool has_high_byte(const uint8 *bytes, size_t len);

/* A KiScanRest. */
extern void add_rest(void *state, const char *name, int name_len,
					 const char *value, int value_len);
extern void free_rest(Rest *rest);
extern void require_rest(const Rest *rest, json_t *untaken);

extern void require_value(const KiField *field, json_t *value);

#endif							/* FUZZ_ORACLE_H */
