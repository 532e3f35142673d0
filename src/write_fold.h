/*
 * write_fold.h
 *	  Rows and deletes of a piece, folded by key; shared by the files write_*.c
 *	  alone (floor 2).
 */
#ifndef KI_WRITE_FOLD_H
#define KI_WRITE_FOLD_H

#include "write_routine.h"

typedef enum KiDeletes
{
	KI_DELETES_NOT,
	KI_DELETES_ALWAYS,
	KI_DELETES_OLDER			/* stored rows not newer than the limit */
} KiDeletes;

/*
 * What is to be done with one key: perhaps delete its row, and then perhaps
 * write one.  The arrays have one element per mapped column; those of the key
 * are always filled in.
 */
typedef struct KiFoldStep
{
	KiDeletes	deletes;
	bool		limit_is_null;
	Datum		limit;			/* with KI_DELETES_OLDER: of newer_by */
	bool		has_row;
	bool		is_done;		/* the writer's mark, from false */
	Datum	   *values;
	bool	   *nulls;
	bool	   *absent;			/* keep what is stored */
	struct KiFoldStep *next;	/* of the same key, cannot be one with this */
} KiFoldStep;

typedef struct KiFold KiFold;

/*
 * How rows of one key become one: the last one counts, or the newest; with
 * is_keep absent columns take nothing away; with is_first the first one counts.
 * In the current context.
 */
extern KiFold *ki_fold_create(Relation target, const AttrNumber *attnums,
							  int ncolumns, const KiKey *key, bool is_keep,
							  bool is_first);

/* Forget everything. */
extern void ki_fold_reset(KiFold *fold);

/* Bytes that what is in it takes. */
extern Size ki_fold_memory(const KiFold *fold);

/* Fold in a row, which is copied; false: another of its key came first. */
extern bool ki_fold_add(KiFold *fold, const KiRow *row);

/*
 * Fold in a delete of the row's key: with newer_by and that column in the row
 * only of what is not newer.
 */
extern void ki_fold_delete(KiFold *fold, const KiRow *row);

/*
 * Take the first steps of all keys out of it, in the order of the keys; none
 * are left when there are 0.  They live until it is reset.
 */
extern int	ki_fold_take(KiFold *fold, KiFoldStep ***steps);

#endif							/* KI_WRITE_FOLD_H */
