/*
 * write_unique.c
 *	  Rows that break a unique constraint, told without raising.
 *
 * Every index takes the row in any case and says whether it met an equal key.
 * Where it did, the index is looked at once more: an equal key of a row that
 * is there for certain refuses ours, which is deleted again.  Nobody sees it;
 * but who wants to insert that key, having deleted the other row, waits for our
 * transaction's end.  What cannot be told for certain (somebody's transaction
 * with that key is still open, the equal row has just gone) is raised: the
 * piece is undone, and the row is tried alone, in INSERT's own way, which waits.
 *
 * Not where the row and its deletion would be decoded: a subscriber would meet
 * the conflict before the deletion.  Nor where triggers of users run behind the
 * rows: they might take the equal row away before ours would have come.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "fault.h"
#include "stage.h"
#include "write_routine.h"

/*
 * Equal keys looked at for one row.  Rows that were refused stay among them
 * until they are vacuumed; looking at thousands each time would cost more than
 * raising.
 */
#define MAX_EQUAL 100

/* A key as an index has it. */
typedef struct Key
{
	Relation	index;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
} Key;

/* Deferrable ones are checked by triggers, and exclusion by other operators. */
static bool
can_be_told(Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indisunique && index->rd_index->indimmediate &&
		index->rd_index->indisvalid && !index->rd_index->indisexclusion;
}

static bool
has_trigger_behind(const ResultRelInfo *rel)
{
	for (int i = 0; rel->ri_TrigDesc && i < rel->ri_TrigDesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->ri_TrigDesc->triggers[i];

		if (!trigger->tgisinternal &&
			trigger->tgenabled != TRIGGER_DISABLED &&
			TRIGGER_FOR_AFTER(trigger->tgtype) &&
			TRIGGER_FOR_INSERT(trigger->tgtype))
			return true;
	}
	return false;
}

List *
ki_unique_indexes(const ResultRelInfo *rel, const ResultRelInfo *root)
{
	Relation	heap = rel->ri_RelationDesc;
	List	   *indexes = NIL;

	if (heap->rd_rel->relam != HEAP_TABLE_AM_OID ||
		RelationIsLogicallyLogged(heap) ||
		has_trigger_behind(rel) || has_trigger_behind(root))
		return NIL;
	for (int i = 0; i < rel->ri_NumIndices; i++)
		if (can_be_told(rel->ri_IndexRelationDescs[i]))
			indexes = lappend_oid(indexes, RelationGetRelid(rel->ri_IndexRelationDescs[i]));
	return indexes;
}

/* What finds the rows that the index would take for equal. */
static void
make_scan_keys(const Key *key, ScanKey scan_keys)
{
	Relation	index = key->index;

	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			equal = get_opfamily_member(index->rd_opfamily[i], type, type,
												BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&scan_keys[i],
							   key->nulls[i] ? SK_ISNULL | SK_SEARCHNULL : 0,
							   i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(equal),
							   key->values[i]);
	}
}

/* Is a row with this key there, for certain and beside the one at self? */
static bool
is_taken(const Key *key, Relation heap, ItemPointer self)
{
	int			nkeys = IndexRelationGetNumberOfKeyAttributes(key->index);
	ScanKeyData scan_keys[INDEX_MAX_KEYS];
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	bool		is_taken = false;
	SnapshotData dirty;
	IndexScanDesc scan;
	ItemPointer tid;

	InitDirtySnapshot(dirty);
	make_scan_keys(key, scan_keys);
	scan = ki_index_beginscan(heap, key->index, &dirty, nkeys);
	index_rescan(scan, scan_keys, nkeys, NULL, 0);
	for (int i = 0; !is_taken && i < MAX_EQUAL &&
		 (tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL; i++)
		is_taken = !ItemPointerEquals(tid, self) &&
			index_fetch_heap(scan, slot) &&
			!TransactionIdIsValid(dirty.xmin) &&	/* whose end is open */
			!TransactionIdIsValid(dirty.xmax);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return is_taken;
}

/* What the index would have raised, in its words. */
static KiRefusal *
make_refusal(Key *key)
{
	KiRefusal  *refusal = palloc0(sizeof(KiRefusal));
	char	   *name = pstrdup(RelationGetRelationName(key->index));
	char	   *description = BuildIndexValueDescription(key->index, key->values,
														 key->nulls);

	(void) ki_fault_set(&refusal->fault, ERRCODE_UNIQUE_VIOLATION, KI_STAGE_WRITE,
						ki_error_condition(ERRCODE_UNIQUE_VIOLATION));
	refusal->fault.constraint_name = name;
	refusal->error = ki_error_whole(psprintf(_("duplicate key value violates unique constraint \"%s\""), name),
									description ? psprintf(_("Key %s already exists."), description) : NULL);
	return refusal;
}

/* The first of the indexes that met an equal key; -1: none. */
static int
first_suspect(const ResultRelInfo *rel, const List *unique,
			  const List *suspects)
{
	for (int i = 0; i < rel->ri_NumIndices; i++)
	{
		Oid			relid = RelationGetRelid(rel->ri_IndexRelationDescs[i]);

		if (list_member_oid(suspects, relid) && list_member_oid(unique, relid))
			return i;
	}
	return -1;
}

KiRefusal *
ki_unique_refuse(ResultRelInfo *rel, TupleTableSlot *slot, EState *estate,
				 const List *unique, const List *suspects,
				 MemoryContext context)
{
	int			i = first_suspect(rel, unique, suspects);
	MemoryContext old;
	KiRefusal  *refusal;
	Key			key;

	if (i < 0)
		return NULL;
	key.index = rel->ri_IndexRelationDescs[i];
	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	FormIndexDatum(rel->ri_IndexRelationInfo[i], slot, estate, key.values,
				   key.nulls);
	if (!is_taken(&key, rel->ri_RelationDesc, &slot->tts_tid))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("a row may break a unique constraint"),
				 errtableconstraint(rel->ri_RelationDesc,
									RelationGetRelationName(key.index))));
	old = MemoryContextSwitchTo(context);
	refusal = make_refusal(&key);
	MemoryContextSwitchTo(old);
	return refusal;
}
