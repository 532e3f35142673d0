/*
 * fuzz_server.c
 *		What the server gives to the code under test, on the C library's heap, so
 *		that the address sanitizer knows the end of every allocation.
 */
#include "postgres.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* that of the C library: there is no server to link with */
#undef qsort

MemoryContext CurrentMemoryContext = NULL;

void *
palloc(Size size)
{
	return malloc(size);
}

void *
palloc0(Size size)
{
	return calloc(1, size);
}

void
pfree(void *pointer)
{
	free(pointer);
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return malloc(size);
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

void
pg_qsort(void *base, size_t nel, size_t elsize, int (*cmp) (const void *, const void *))
{
	qsort(base, nel, elsize, cmp);
}

unsigned char
pg_ascii_tolower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c;
}
