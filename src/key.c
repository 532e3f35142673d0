/*
 * key.c
 *	  Which columns tell the rows of a target apart.
 */
#include "postgres.h"

#include "key.h"

KiKey *
ki_key_resolve(const KiPipeline *pipeline, Relation target)
{
	return NULL;
}

bool
ki_key_has(const KiKey *key, AttrNumber attnum)
{
	for (int i = 0; key && i < key->nattnums; i++)
		if (key->attnums[i] == attnum)
			return true;
	return false;
}
