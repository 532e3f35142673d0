/*
 * key.h
 *	  Which columns tell the rows of a target apart, in the modes that change
 *	  or skip rows that are there (floor 1).
 */
#ifndef KI_KEY_H
#define KI_KEY_H

#include "access/attnum.h"
#include "pipeline.h"
#include "utils/relcache.h"

typedef struct KiKey
{
	AttrNumber *attnums;		/* in attribute order */
	int			nattnums;
	AttrNumber	newer_by;		/* 0: none */
} KiKey;

/*
 * The pipeline's key_columns, or the primary key; NULL in append mode.  In the
 * current memory context.  Raises 42703 for columns that do not exist, 42P10
 * where no unique index of exactly these columns would do (partial, deferrable
 * or over expressions), 42809 for targets that are no tables.
 */
extern KiKey *ki_key_resolve(const KiPipeline *pipeline, Relation target);

extern bool ki_key_has(const KiKey *key, AttrNumber attnum);

#endif							/* KI_KEY_H */
