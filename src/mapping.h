/*
 * mapping.h
 *	  Which column takes what: a pipeline's columns argument, or the names of
 *	  its target's columns, resolved against the target (floor 1).
 */
#ifndef KI_MAPPING_H
#define KI_MAPPING_H

#include "access/tupdesc.h"
#include "origin.h"
#include "pipeline.h"

typedef struct KiMappingItem
{
	AttrNumber	attnum;
	KiOrigin   *origin;
} KiMappingItem;

typedef struct KiMapping
{
	KiMappingItem *items;		/* in attribute order */
	int			nitems;			/* at least one */
} KiMapping;

/*
 * Resolve in the current memory context.  Raises 42703 for columns that do
 * not exist, 428C9 for generated ones, 22023 for everything else.
 */
extern KiMapping *ki_mapping_resolve(const KiPipeline *pipeline,
									 TupleDesc target);

/*
 * That no field is there which a path leads to, with the first of the paths;
 * NULL: there are no paths.
 */
extern char *ki_mapping_complain(const KiMapping *mapping);

#endif							/* KI_MAPPING_H */
