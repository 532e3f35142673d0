/*
 * map_filter.h
 *	  Conditions on a message that is being mapped; for map.c alone (floor 2).
 */
#ifndef KI_MAP_FILTER_H
#define KI_MAP_FILTER_H

#include "filter.h"
#include "map_document.h"
#include "message.h"
#include "record.h"

/* A condition and the field it looks at. */
typedef struct KiCondition
{
	const KiFilterItem *item;
	int			field;			/* of the value's or the key's record; -1: it
								 * is no place in a document */
} KiCondition;

typedef struct KiConditions
{
	KiCondition *items;
	int			nitems;
} KiConditions;

/*
 * Compile a filter, in the current memory context: its paths are added to the
 * documents.  key NULL: keys are text.
 */
extern void ki_conditions_init(KiConditions *conditions, const KiFilter *filter,
							   KiDocument *value, KiDocument *key);

/* What conditions look at. */
typedef struct KiJudged
{
	const KiMessage *message;
	const KiRecord *value;		/* NULL: a tombstone */
	const KiRecord *key;		/* NULL: there is no document */
} KiJudged;

/*
 * Do all conditions match?  Those on the value say nothing about a tombstone,
 * which has none: they are passed over.
 */
extern bool ki_conditions_match(const KiConditions *conditions,
								const KiJudged *judged);

#endif							/* KI_MAP_FILTER_H */
