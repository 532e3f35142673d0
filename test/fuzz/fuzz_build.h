/*
 * fuzz_build.h
 *		jsonb, built with what was remembered of other documents and without.
 */
#ifndef FUZZ_BUILD_H
#define FUZZ_BUILD_H

/* A valid document, in valid UTF-8, has one jsonb whatever came before it. */
extern void require_jsonb(const char *json, int len);

#endif							/* FUZZ_BUILD_H */
