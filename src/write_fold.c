/*
 * write_fold.c
 *	  Rows and deletes of a piece, folded by key.
 *
 * Afterwards the table must be as if they had been applied one by one, so two
 * of a key become one step only where that cannot be told apart, whatever is
 * stored:
 *
 * - Without newer_by the later row overwrites the columns it has.
 * - With newer_by an older row is nothing, for what it would have to replace is
 *   newer still, be it stored or not.  One that is not older replaces the one
 *   before it, if it has all columns.  If it has not, whether the columns of
 *   the one before it are kept depends on what is stored: a step of its own.
 * - A delete makes all before it nothing, with newer_by if it is not older.
 * - A row after a delete stays together with it, since both must be done.
 *
 * A tree keeps the keys in the order in which they are applied, the same in
 * all workers.
 */
#include "postgres.h"

#include "lib/rbtree.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sortsupport.h"
#include "utils/typcache.h"

#include "write_fold.h"

typedef struct FoldColumn
{
	AttrNumber	attnum;
	int16		len;			/* as in pg_type */
	bool		is_by_value;
	bool		is_key;
} FoldColumn;

/* All there is of one key. */
typedef struct Entry
{
	RBTNode		node;
	Datum	   *key;			/* per key column */
	KiFoldStep *first;			/* NULL: taken */
	KiFoldStep *last;
} Entry;

struct KiFold
{
	FoldColumn *columns;		/* the mapped ones */
	int			ncolumns;
	int		   *key;			/* columns of the key, by index */
	SortSupport order;			/* of the key's columns */
	int			nkey;
	int			newer;			/* column that decides; -1: none */
	SortSupport newer_order;
	bool		is_keep;
	bool		is_first;
	MemoryContext context;		/* of everything below */
	RBTree	   *entries;		/* NULL: empty */
	Datum	   *probe;			/* the key looked for */
};

/* ------------------------------------------------------------------------
 * Making one
 * ------------------------------------------------------------------------
 */
static void
init_order(SortSupport order, Form_pg_attribute attribute)
{
	TypeCacheEntry *type = lookup_type_cache(attribute->atttypid,
											 TYPECACHE_LT_OPR);

	order->ssup_cxt = CurrentMemoryContext;
	order->ssup_collation = attribute->attcollation;
	PrepareSortSupportFromOrderingOp(type->lt_opr, order);
}

static void
add_column(KiFold *fold, Form_pg_attribute attribute, const KiKey *key)
{
	int			index = fold->ncolumns++;
	FoldColumn *column = &fold->columns[index];

	column->attnum = attribute->attnum;
	column->len = attribute->attlen;
	column->is_by_value = attribute->attbyval;
	column->is_key = ki_key_has(key, attribute->attnum);
	if (column->is_key)
	{
		init_order(&fold->order[fold->nkey], attribute);
		fold->key[fold->nkey++] = index;
	}
	if (key->newer_by == attribute->attnum)
	{
		fold->newer = index;
		init_order(fold->newer_order, attribute);
	}
}

KiFold *
ki_fold_create(Relation target, const AttrNumber *attnums, int ncolumns,
			   const KiKey *key, bool is_keep, bool is_first)
{
	KiFold	   *fold = palloc0(sizeof(KiFold));

	fold->columns = palloc0(ncolumns * sizeof(FoldColumn));
	fold->key = palloc(key->nattnums * sizeof(int));
	fold->order = palloc0(key->nattnums * sizeof(SortSupportData));
	fold->newer_order = palloc0(sizeof(SortSupportData));
	fold->probe = palloc(key->nattnums * sizeof(Datum));
	fold->newer = -1;
	for (int i = 0; i < ncolumns; i++)
		add_column(fold, TupleDescAttr(RelationGetDescr(target), attnums[i] - 1),
				   key);
	Assert(fold->nkey == key->nattnums);
	fold->is_keep = is_keep;
	fold->is_first = is_first;
	fold->context = AllocSetContextCreate(CurrentMemoryContext,
										  "kafka_ingest fold",
										  ALLOCSET_DEFAULT_SIZES);
	return fold;
}

void
ki_fold_reset(KiFold *fold)
{
	MemoryContextReset(fold->context);
	fold->entries = NULL;
}

Size
ki_fold_memory(const KiFold *fold)
{
	return MemoryContextMemAllocated(fold->context, true);
}

/* ------------------------------------------------------------------------
 * Keys
 * ------------------------------------------------------------------------
 */
static int
compare_keys(const RBTNode *a, const RBTNode *b, void *arg)
{
	KiFold	   *fold = arg;
	const Datum *x = ((const Entry *) a)->key;
	const Datum *y = ((const Entry *) b)->key;

	for (int i = 0; i < fold->nkey; i++)
	{
		int			order = ApplySortComparator(x[i], false, y[i], false,
												&fold->order[i]);

		if (order != 0)
			return order;
	}
	return 0;
}

static void
keep_entry(RBTNode *existing, const RBTNode *new, void *arg)
{
}

static RBTNode *
alloc_entry(void *arg)
{
	return MemoryContextAllocZero(((KiFold *) arg)->context, sizeof(Entry));
}

static Datum
copy_value(const FoldColumn *column, Datum value)
{
	return datumCopy(value, column->is_by_value, column->len);
}

/* A further step of a key that comes after all others. */
static KiFoldStep *
append_step(KiFold *fold, Entry *entry)
{
	KiFoldStep *step = palloc0(sizeof(KiFoldStep));

	step->values = palloc0(fold->ncolumns * sizeof(Datum));
	step->nulls = palloc(fold->ncolumns * sizeof(bool));
	step->absent = palloc0(fold->ncolumns * sizeof(bool));
	memset(step->nulls, true, fold->ncolumns * sizeof(bool));
	for (int i = 0; i < fold->nkey; i++)
	{
		step->values[fold->key[i]] = entry->key[i];
		step->nulls[fold->key[i]] = false;
	}
	if (entry->last)
		entry->last->next = step;
	else
		entry->first = step;
	entry->last = step;
	return step;
}

/* The entry of a row's key, made if need be, with a step that is empty. */
static Entry *
find_entry(KiFold *fold, const KiRow *row)
{
	Entry		probe = {.key = fold->probe};
	Entry	   *entry;
	bool		is_new;

	if (!fold->entries)
		fold->entries = rbt_create(sizeof(Entry), compare_keys, keep_entry,
								   alloc_entry, NULL, fold);
	for (int i = 0; i < fold->nkey; i++)
		fold->probe[i] = row->values[fold->columns[fold->key[i]].attnum - 1];
	entry = (Entry *) rbt_insert(fold->entries, &probe.node, &is_new);
	if (!is_new)
		return entry;
	entry->key = palloc(fold->nkey * sizeof(Datum));
	for (int i = 0; i < fold->nkey; i++)
		entry->key[i] = copy_value(&fold->columns[fold->key[i]], fold->probe[i]);
	(void) append_step(fold, entry);
	return entry;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
static bool
is_absent(const KiFold *fold, const KiRow *row, int i)
{
	return fold->is_keep && row->absent[fold->columns[i].attnum - 1];
}

/*
 * Put a row's columns into a step.  A row that is there keeps what an update
 * does not change: its key, which may be spelled otherwise (1.0 and 1.00), and
 * the columns that the new one has not.
 */
static void
take_row(KiFold *fold, KiFoldStep *step, const KiRow *row)
{
	for (int i = 0; i < fold->ncolumns; i++)
	{
		const FoldColumn *column = &fold->columns[i];
		int			from = column->attnum - 1;

		if (step->has_row && (column->is_key || is_absent(fold, row, i)))
			continue;
		if (step->has_row && !column->is_by_value && !step->nulls[i] &&
			!step->absent[i])
			pfree(DatumGetPointer(step->values[i]));
		step->absent[i] = is_absent(fold, row, i);
		step->nulls[i] = step->absent[i] || row->nulls[from];
		step->values[i] = step->nulls[i] ? (Datum) 0 :
			copy_value(column, row->values[from]);
	}
	step->has_row = true;
}

/* May what has the one value change what has the other? */
static bool
is_newer(const KiFold *fold, Datum value, bool isnull, Datum than,
		 bool than_is_null)
{
	if (isnull || than_is_null)
		return than_is_null;
	return ApplySortComparator(value, false, than, false, fold->newer_order) >= 0;
}

static bool
row_is_newer(const KiFold *fold, const KiRow *row, Datum than, bool than_is_null)
{
	int			from = fold->columns[fold->newer].attnum - 1;

	return is_newer(fold, row->values[from], row->nulls[from], than,
					than_is_null);
}

/* A row after another one of its key, with newer_by. */
static void
fold_newer(KiFold *fold, Entry *entry, const KiRow *row)
{
	KiFoldStep *step = entry->last;
	int			newer = fold->newer;

	if (step->absent[newer] || is_absent(fold, row, newer))
		take_row(fold, append_step(fold, entry), row);
	else if (!row_is_newer(fold, row, step->values[newer], step->nulls[newer]))
		return;
	else if (fold->is_keep && row->has_absent)
		take_row(fold, append_step(fold, entry), row);
	else
		take_row(fold, step, row);
}

bool
ki_fold_add(KiFold *fold, const KiRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(fold->context);
	Entry	   *entry = find_entry(fold, row);
	KiFoldStep *step = entry->last;
	bool		is_other = fold->is_first && step->has_row;

	if (step->has_row && fold->newer >= 0)
		fold_newer(fold, entry, row);
	else if (!is_other)
		take_row(fold, step, row);
	MemoryContextSwitchTo(old);
	return !is_other;
}

/* ------------------------------------------------------------------------
 * Deletes
 * ------------------------------------------------------------------------
 */

/* Delete what is not newer than the row; the step has none of its own. */
static void
delete_older(const KiFold *fold, KiFoldStep *step, const KiRow *row)
{
	const FoldColumn *column = &fold->columns[fold->newer];
	int			from = column->attnum - 1;

	if (step->deletes == KI_DELETES_ALWAYS ||
		(step->deletes == KI_DELETES_OLDER &&
		 !row_is_newer(fold, row, step->limit, step->limit_is_null)))
		return;
	step->deletes = KI_DELETES_OLDER;
	step->limit_is_null = row->nulls[from];
	step->limit = step->limit_is_null ? (Datum) 0 :
		copy_value(column, row->values[from]);
}

static void
fold_older(KiFold *fold, Entry *entry, const KiRow *row)
{
	KiFoldStep *step = entry->last;
	int			newer = fold->newer;

	if (step->has_row && step->absent[newer])
		step = append_step(fold, entry);
	else if (step->has_row &&
			 !row_is_newer(fold, row, step->values[newer], step->nulls[newer]))
		return;
	step->has_row = false;
	delete_older(fold, step, row);
}

void
ki_fold_delete(KiFold *fold, const KiRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(fold->context);
	Entry	   *entry = find_entry(fold, row);

	if (fold->newer >= 0 && !row->absent[fold->columns[fold->newer].attnum - 1])
		fold_older(fold, entry, row);
	else
	{
		/* whatever came before is gone */
		entry->first = entry->last;
		entry->last->has_row = false;
		entry->last->deletes = KI_DELETES_ALWAYS;
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------
 * Out of it
 * ------------------------------------------------------------------------
 */
int
ki_fold_take(KiFold *fold, KiFoldStep ***steps)
{
	MemoryContext old = MemoryContextSwitchTo(fold->context);
	RBTreeIterator iterator;
	Entry	   *entry;
	int			count = 0;
	int			room = 64;

	*steps = palloc(room * sizeof(KiFoldStep *));
	if (fold->entries)
		rbt_begin_iterate(fold->entries, LeftRightWalk, &iterator);
	while (fold->entries && (entry = (Entry *) rbt_iterate(&iterator)) != NULL)
	{
		if (!entry->first)
			continue;
		if (count == room)
			*steps = repalloc_huge(*steps, (room *= 2) * sizeof(KiFoldStep *));
		(*steps)[count++] = entry->first;
		entry->first = entry->first->next;
	}
	MemoryContextSwitchTo(old);
	return count;
}
