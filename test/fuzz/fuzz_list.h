/*
 * fuzz_list.h
 *		The lists that the scanner makes of values.
 */
#ifndef FUZZ_LIST_H
#define FUZZ_LIST_H

#include "postgres.h"

#include <jansson.h>

#include "json_scan.h"

/* A list, or the part of it for a value, against what jansson read. */
extern void require_list(const KiJsonToken *token, json_t *value);

/* Is a valid document listed (list not NULL), if it should be? */
extern void require_listed(const KiJsonToken *list, const char *json, int len);

/* Let the objects of a list be what the next document is taken to look like. */
extern void remember_objects(const KiJsonToken *list);

#endif							/* FUZZ_LIST_H */
