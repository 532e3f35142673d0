/*
 * write_multi.c
 *	  Rows to tables by table_multi_insert: what COPY does, without its text.
 *
 * Everything INSERT promises of a table happens here in INSERT's order:
 * defaults, routing to a partition, generated columns, NOT NULL and CHECK,
 * indexes, AFTER triggers and foreign keys, which fire in the order of arrival.
 * A partition with a BEFORE trigger of its own gets its rows one by one, after
 * all rows before them; so do defaults and CHECKs that could see those.
 *
 * Memory: slots live as long as the writer, on descriptors of its own, since
 * making them per batch would cost as much as filling them.  Rows and the
 * tuples made of them live until they are written.  What a piece needs of the
 * executor lives in an EState from its first row to its end; an error on the
 * way leaves that to the subtransaction's end.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "parser/parse_relation.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "session.h"
#include "write_routine.h"

/* As many rows wait for one call, as in COPY; with 256 or 100 it is slower. */
#define MAX_ROWS 1000

/* Slots kept for all partitions together. */
#define MAX_SLOTS 4000

/* A table that rows are put into: the target, or a partition of it. */
typedef struct Leaf
{
	Oid			relid;
	TupleDesc	desc;			/* our own copy: no reference is counted */
	const TableAmRoutine *am;
	bool		is_heap;		/* that is the heap's */
	const TupleTableSlotOps *ops;	/* of its slots */
	bool		looks;			/* a CHECK of it, at the rows before */
	TupleTableSlot **slots;
	int			nslots;			/* made so far */

	/* the piece under way */
	ResultRelInfo *rel;			/* NULL: no row of it yet */
	List	   *unique;			/* indexes that need not raise */
	KiChecks   *checks;			/* NULL: not made yet */
	int			nrows;			/* waiting */
} Leaf;

/* A row that is in one of its leaf's slots. */
typedef struct Waiting
{
	Leaf	   *leaf;
	TupleTableSlot *slot;
} Waiting;

typedef struct MultiWriter
{
	KiWriter	base;
	bool		is_partitioned;
	TupleTableSlot *routed;		/* a row on its way to a partition */
	KiDefaults *defaults;
	Bitmapset  *mapped;			/* as a range table has it */
	MemoryContext leaf_context;
	BulkInsertState ring;		/* of all large pieces */
	List	   *leaves;			/* that have been met */
	int			nslots;			/* of all leaves */
	int			max_rows;		/* that may wait */

	/* the piece under way */
	Relation	target;
	MemoryContext piece;		/* lasts until its end */
	EState	   *estate;			/* NULL: no row yet */
	ModifyTableState *state;
	ResultRelInfo *root;
	PartitionTupleRouting *routing;
	BulkInsertState bulk;		/* the ring; NULL: a small piece */
	CommandId	command;
	CommandId	flushed_by;		/* no row of the flush is of a later one */
	Leaf	   *plain;			/* the target, if it is no partitioned table */
	int			nrows;			/* waiting in all leaves */
	int64		nflushed;		/* rows written before these */
	Size		leaf_memory;	/* leaf_context's, with no row waiting */
	Waiting		waiting[MAX_ROWS];	/* in order of arrival */
} MultiWriter;

/* ------------------------------------------------------------------------
 * Leaves
 * ------------------------------------------------------------------------
 */

/*
 * Begin anew without leaves, their slots and rows, whatever state an error left
 * them in, and with another ring: if the old one still names a buffer, that was
 * unpinned when the error's transaction ended.
 *
 * The pages of a backlog go through the same few buffers, as those of COPY.
 * With another ring for each piece they went through all, driving out those of
 * other tables, and writing to memory that is in no cache is dear: with one
 * ring tiny messages take 16 percent less of the worker's main thread (medians
 * of seven rounds in turns).
 */
static void
reset_leaves(MultiWriter *writer)
{
	MemoryContext old;

	MemoryContextReset(writer->leaf_context);
	old = MemoryContextSwitchTo(writer->leaf_context);
	writer->ring = GetBulkInsertState();
	MemoryContextSwitchTo(old);
	writer->leaves = NIL;
	writer->nslots = 0;
}

static Leaf *
make_leaf(MultiWriter *writer, Relation relation)
{
	bool		looks = ki_write_checks_look(RelationGetDescr(relation));
	MemoryContext old = MemoryContextSwitchTo(writer->leaf_context);
	Leaf	   *leaf = palloc0(sizeof(Leaf));

	leaf->relid = RelationGetRelid(relation);
	leaf->desc = CreateTupleDescCopyConstr(RelationGetDescr(relation));
	leaf->am = relation->rd_tableam;
	leaf->is_heap = leaf->am == GetHeapamTableAmRoutine();
	leaf->ops = leaf->is_heap ? ki_tuple_ops() :
		table_slot_callbacks(relation);
	leaf->looks = looks;
	leaf->slots = palloc0(MAX_ROWS * sizeof(TupleTableSlot *));
	writer->leaves = lappend(writer->leaves, leaf);
	MemoryContextSwitchTo(old);
	return leaf;
}

static Leaf *
find_leaf(MultiWriter *writer, Relation relation)
{
	ListCell   *cell;

	foreach(cell, writer->leaves)
	{
		Leaf	   *leaf = lfirst(cell);

		/* one whose shape changed stays unused until all are forgotten */
		if (leaf->relid == RelationGetRelid(relation) &&
			leaf->am == relation->rd_tableam &&
			equalTupleDescs(leaf->desc, RelationGetDescr(relation)))
			return leaf;
	}
	return make_leaf(writer, relation);
}

/* What was checked of the target holds for a partition added since, too. */
static void
check_leaf(Relation relation)
{
	if (relation->rd_rel->relkind == RELKIND_RELATION &&
		relation->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("partition \"%s\" of the target is not a permanent table",
					RelationGetRelationName(relation)),
			 errhint("Partitions of a target must be permanent tables.")));
}

/* A leaf gets its first row of this piece. */
static Leaf *
enter_leaf(MultiWriter *writer, Leaf *leaf, ResultRelInfo *rel)
{
	check_leaf(rel->ri_RelationDesc);
	leaf->rel = rel;
	leaf->unique = writer->base.may_refuse ?
		ki_unique_indexes(rel, writer->root) : NIL;
	leaf->checks = NULL;
	/* COPY's own place for the same thing, and COPY has no part in this */
	rel->ri_CopyMultiInsertBuffer = (struct CopyMultiInsertBuffer *) leaf;
	return leaf;
}

/* The next free slot of a leaf. */
static TupleTableSlot *
next_slot(MultiWriter *writer, Leaf *leaf)
{
	MemoryContext old;

	if (leaf->nrows < leaf->nslots)
		return leaf->slots[leaf->nrows];
	old = MemoryContextSwitchTo(writer->leaf_context);
	leaf->slots[leaf->nslots] = MakeSingleTupleTableSlot(leaf->desc, leaf->ops);
	leaf->nslots++;
	writer->nslots++;
	MemoryContextSwitchTo(old);
	return leaf->slots[leaf->nrows];
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

/* A row that a unique constraint refuses is taken out again. */
static void
take_out(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot,
		 KiRefusal *refusal)
{
	MemoryContext rows = MemoryContextSwitchTo(writer->piece);

	refusal->row = writer->base.culprit;
	writer->base.refused = lappend(writer->base.refused, refusal);
	MemoryContextSwitchTo(rows);
	/* only a later command may, and one is enough for all rows of a flush */
	if (GetCurrentCommandId(false) <= writer->flushed_by)
		CommandCounterIncrement();
	simple_table_tuple_delete(leaf->rel->ri_RelationDesc, &slot->tts_tid,
							  writer->estate->es_snapshot);
}

/*
 * What follows a row that is in the table.  Some of "unique" may refuse it,
 * which must be NIL after code of a user's ran for the row: only raising takes
 * back what that did.
 */
static void
finish_row(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot, List *unique)
{
	ResultRelInfo *rel = leaf->rel;
	KiRefusal  *refusal = NULL;
	List	   *recheck = NIL;

	if (rel->ri_NumIndices > 0)
		recheck = ki_insert_index_tuples(rel, slot, writer->estate, unique);
	if (recheck && unique)
		refusal = ki_unique_refuse(rel, slot, writer->estate, unique, recheck,
								   writer->piece);
	if (refusal)
		take_out(writer, leaf, slot, refusal);
	else if (rel->ri_TrigDesc)
		ExecARInsertTriggers(writer->estate, rel, slot, recheck, NULL);
	list_free(recheck);
	ResetPerTupleExprContext(writer->estate);
}

/* Put the rows that wait in a leaf into its table. */
static void
insert_leaf(MultiWriter *writer, Leaf *leaf)
{
	if (leaf->nrows == 0)
		return;
	table_multi_insert(leaf->rel->ri_RelationDesc, leaf->slots, leaf->nrows,
					   writer->command, 0, writer->bulk);
	leaf->nrows = 0;
	if (writer->bulk && writer->is_partitioned)
		ki_bulk_release(writer->bulk);
}

/* Write all rows that wait, and forget what they were made of. */
static void
flush(MultiWriter *writer)
{
	MemoryContext old = MemoryContextSwitchTo(writer->base.row_context);
	int64		first = writer->nflushed;
	bool		runs_code = writer->max_rows == 1;
	ListCell   *cell;

	writer->base.culprit = -1;
	foreach(cell, writer->leaves)
		insert_leaf(writer, lfirst(cell));
	writer->flushed_by = GetCurrentCommandId(false);
	for (int i = 0; i < writer->nrows; i++)
	{
		Leaf	   *leaf = writer->waiting[i].leaf;
		TupleTableSlot *slot = writer->waiting[i].slot;

		writer->base.culprit = first + i;
		if (leaf->rel->ri_NumIndices > 0 || leaf->rel->ri_TrigDesc)
			finish_row(writer, leaf, slot, runs_code ? NIL : leaf->unique);
		ExecClearTuple(slot);
	}
	writer->base.culprit = -1;
	MemoryContextSwitchTo(old);
	MemoryContextReset(writer->base.row_context);
	writer->leaf_memory = writer->leaf_context->mem_allocated;
	writer->nflushed += writer->nrows;
	writer->nrows = 0;
}

/*
 * A row that was checked waits in the next slot of its leaf, as a tuple while
 * its values are at hand, unless their computing has made one already.
 */
static void
let_wait(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot)
{
	HeapTuple  *tuple = &((HeapTupleTableSlot *) slot)->tuple;

	Assert(CurrentMemoryContext == writer->base.row_context);
	if (leaf->is_heap && *tuple == NULL)
		*tuple = heap_form_tuple(leaf->desc, slot->tts_values, slot->tts_isnull);
	writer->waiting[writer->nrows].leaf = leaf;
	writer->waiting[writer->nrows++].slot = slot;
	leaf->nrows++;
}

/*
 * Generated columns and constraints: what INSERT does before it writes.  False:
 * a constraint refuses the row.
 */
static bool
check_row(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot, KiFault *fault)
{
	ResultRelInfo *rel = leaf->rel;
	TupleConstr *constraints = RelationGetDescr(rel->ri_RelationDesc)->constr;

	slot->tts_tableOid = RelationGetRelid(rel->ri_RelationDesc);
	if (constraints == NULL)
		return true;
	if (constraints->has_generated_stored)
		ExecComputeStoredGenerated(rel, writer->estate, slot, CMD_INSERT);
	if (KI_HAS_VIRTUAL(constraints))
	{
		/* which their constraints would have to be computed for */
		ExecConstraints(rel, slot, writer->estate);
		return true;
	}
	if (!leaf->checks)
		leaf->checks = ki_checks_create(rel->ri_RelationDesc, writer->estate);
	return ki_checks_pass(leaf->checks, slot, fault);
}

static bool
has_before_trigger(const ResultRelInfo *rel)
{
	return rel->ri_TrigDesc && rel->ri_TrigDesc->trig_insert_before_row;
}

/*
 * False: a BEFORE trigger skips the row.  What it returns lives only until the
 * next row, so the slot takes a copy.
 */
static bool
pass_triggers(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot)
{
	if (!has_before_trigger(leaf->rel))
		return true;
	if (!ExecBRInsertTriggers(writer->estate, leaf->rel, slot))
		return false;
	ExecMaterializeSlot(slot);
	return true;
}

/*
 * A row of a partition with a BEFORE trigger, which may change the row, skip
 * it, or look at the table; or with a CHECK that may look.
 */
static bool
write_alone(MultiWriter *writer, Leaf *leaf, TupleTableSlot *slot,
			KiFault *fault)
{
	ResultRelInfo *rel = leaf->rel;
	bool		is_good = true;

	flush(writer);
	writer->base.culprit = writer->base.nadded;
	writer->base.ran_code = true;
	slot->tts_tableOid = RelationGetRelid(rel->ri_RelationDesc);
	if (pass_triggers(writer, leaf, slot) &&
		(is_good = check_row(writer, leaf, slot, fault)))
	{
		(void) ExecPartitionCheck(rel, slot, writer->estate, true);
		table_tuple_insert(rel->ri_RelationDesc, slot, writer->command, 0,
						   NULL);
		finish_row(writer, leaf, slot, NIL);
	}
	ExecClearTuple(slot);
	writer->nflushed += is_good;
	return is_good;
}

/* ------------------------------------------------------------------------
 * Routing
 * ------------------------------------------------------------------------
 */

/* Bring a row of the target into the shape of its partition. */
static TupleTableSlot *
take_over(MultiWriter *writer, Leaf *leaf, TupleTableSlot *from)
{
	TupleConversionMap *map = ki_root_to_child_map(leaf->rel, writer->estate);
	TupleTableSlot *to = next_slot(writer, leaf);

	if (map)
		return execute_attr_map_slot(map->attrMap, from, to);
	ExecClearTuple(to);
	memcpy(to->tts_values, from->tts_values,
		   from->tts_tupleDescriptor->natts * sizeof(Datum));
	memcpy(to->tts_isnull, from->tts_isnull,
		   from->tts_tupleDescriptor->natts * sizeof(bool));
	return ExecStoreVirtualTuple(to);
}

/* The leaf of the partition that a row belongs to. */
static Leaf *
route(MultiWriter *writer, TupleTableSlot *slot)
{
	MemoryContext rows = MemoryContextSwitchTo(writer->piece);
	ResultRelInfo *rel = ExecFindPartition(writer->state, writer->root,
										   writer->routing, slot,
										   writer->estate);
	Leaf	   *leaf = (Leaf *) rel->ri_CopyMultiInsertBuffer;

	if (!leaf)
		leaf = enter_leaf(writer, find_leaf(writer, rel->ri_RelationDesc), rel);
	MemoryContextSwitchTo(rows);
	return leaf;
}

/* The row that was filled in goes to its partition. */
static bool
add_routed(MultiWriter *writer, KiFault *fault)
{
	Leaf	   *leaf = route(writer, ExecStoreVirtualTuple(writer->routed));
	TupleTableSlot *slot;
	bool		is_good;

	if (has_before_trigger(leaf->rel) || leaf->looks)
	{
		/* what waits goes first, and takes the memory of all rows along */
		slot = take_over(writer, leaf, writer->routed);
		ExecMaterializeSlot(slot);
		is_good = write_alone(writer, leaf, slot, fault);
	}
	else
	{
		slot = take_over(writer, leaf, writer->routed);
		is_good = check_row(writer, leaf, slot, fault);
		if (is_good)
			let_wait(writer, leaf, slot);
		else
			ExecClearTuple(slot);
	}
	ExecClearTuple(writer->routed);
	return is_good;
}

/* The row that was filled in is the target's own. */
static bool
add_plain(MultiWriter *writer, KiFault *fault)
{
	Leaf	   *leaf = writer->plain;
	TupleTableSlot *slot = ExecStoreVirtualTuple(leaf->slots[leaf->nrows]);

	if (!check_row(writer, leaf, slot, fault))
	{
		ExecClearTuple(slot);
		return false;
	}
	if (leaf->rel->ri_RelationDesc->rd_rel->relispartition)
		(void) ExecPartitionCheck(leaf->rel, slot, writer->estate, true);
	let_wait(writer, leaf, slot);
	return true;
}

/* ------------------------------------------------------------------------
 * A piece
 * ------------------------------------------------------------------------
 */

/* The next row is filled in right where it will be written from. */
static void
offer_slot(MultiWriter *writer)
{
	TupleTableSlot *slot = writer->is_partitioned ? writer->routed :
	next_slot(writer, writer->plain);

	writer->base.row.values = slot->tts_values;
	writer->base.row.nulls = slot->tts_isnull;
}

static void
init_range_table(MultiWriter *writer)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = RelationGetRelid(writer->target);
	entry->relkind = writer->target->rd_rel->relkind;
	entry->rellockmode = RowExclusiveLock;
	ki_init_range_table(writer->estate, entry, writer->mapped);
}

/* What ModifyTable would have: routing and triggers look there. */
static void
open_target(MultiWriter *writer)
{
	EState	   *estate = writer->estate;

	init_range_table(writer);
	writer->root = makeNode(ResultRelInfo);
	ExecInitResultRelation(estate, writer->root, 1);
	ExecOpenIndices(writer->root, false);
	writer->state = makeNode(ModifyTableState);
	writer->state->ps.state = estate;
	writer->state->operation = CMD_INSERT;
	writer->state->mt_nrels = 1;
	writer->state->resultRelInfo = writer->root;
	writer->state->rootResultRelInfo = writer->root;
	writer->routing = NULL;
	if (writer->is_partitioned)
		writer->routing = ExecSetupPartitionTupleRouting(estate, writer->target);
	else
		enter_leaf(writer, writer->plain, writer->root);
}

/* The first row of a piece. */
static void
open_piece(MultiWriter *writer)
{
	MemoryContext rows = MemoryContextSwitchTo(writer->piece);

	/* The rows are put in by this command; defaults see a fresh view. */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	writer->estate = CreateExecutorState();
	writer->command = GetCurrentCommandId(true);
	writer->estate->es_output_cid = writer->command;
	writer->estate->es_snapshot = GetActiveSnapshot();
	/* rows that come as they are produced may be asked for soon */
	writer->bulk = writer->base.nmessages < MAX_ROWS ? NULL : writer->ring;
	open_target(writer);
	ki_defaults_begin(writer->defaults, writer->target, writer->estate);
	writer->max_rows = ki_defaults_look(writer->defaults) ||
		(writer->plain && writer->plain->looks) ? 1 : MAX_ROWS;
	AfterTriggerBeginQuery();
	ExecBSInsertTriggers(writer->estate, writer->root);
	MemoryContextSwitchTo(rows);
}

static void
close_piece(MultiWriter *writer)
{
	EState	   *estate = writer->estate;
	ListCell   *cell;

	ExecASInsertTriggers(estate, writer->root, NULL);
	AfterTriggerEndQuery(estate);
	foreach(cell, writer->leaves)
	{
		Leaf	   *leaf = lfirst(cell);

		if (leaf->rel)
			table_finish_bulk_insert(leaf->rel->ri_RelationDesc, 0);
		leaf->rel = NULL;
	}
	if (writer->bulk)
		ki_bulk_release(writer->bulk);
	if (writer->routing)
		ExecCleanupTupleRouting(writer->state, writer->routing);
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseResultRelations(estate);
	ExecCloseRangeTableRelations(estate);
	FreeExecutorState(estate);
	writer->estate = NULL;
	PopActiveSnapshot();
	CommandCounterIncrement();
}

/* What the waiting rows take; generated columns are made in the slots. */
static Size
memory_of_rows(const MultiWriter *writer)
{
	return writer->base.row_context->mem_allocated +
		writer->leaf_context->mem_allocated - writer->leaf_memory;
}

static bool
multi_fits(const KiWriter *base, Relation target)
{
	return true;				/* whatever its name */
}

/* After an error leaves point to what is gone. */
static void
clear_leaves(MultiWriter *writer)
{
	ListCell   *cell;

	foreach(cell, writer->leaves)
	{
		Leaf	   *leaf = lfirst(cell);

		for (int i = 0; i < leaf->nslots; i++)
			ExecClearTuple(leaf->slots[i]);
		leaf->nrows = 0;
		leaf->rel = NULL;
	}
}

static void
multi_begin(KiWriter *base, Relation target, int memory_kb)
{
	MultiWriter *writer = (MultiWriter *) base;

	if (writer->estate || writer->nslots > MAX_SLOTS)
		reset_leaves(writer);
	else
		clear_leaves(writer);
	ExecClearTuple(writer->routed);
	writer->target = target;
	writer->piece = CurrentMemoryContext;
	writer->estate = NULL;
	writer->leaf_memory = writer->leaf_context->mem_allocated;
	writer->nrows = 0;
	writer->nflushed = 0;
	writer->plain = writer->is_partitioned ? NULL : find_leaf(writer, target);
	offer_slot(writer);
}

static bool
multi_add(KiWriter *base, KiFault *fault)
{
	MultiWriter *writer = (MultiWriter *) base;
	bool		is_good;

	if (!writer->estate)
		open_piece(writer);
	if (base->row.has_absent || ki_defaults_always(writer->defaults))
		ki_defaults_fill(writer->defaults, &base->row);
	is_good = writer->is_partitioned ? add_routed(writer, fault) :
		add_plain(writer, fault);
	ResetPerTupleExprContext(writer->estate);
	if (writer->max_rows == 1)
		base->ran_code = true;
	if (writer->nrows >= writer->max_rows ||
		memory_of_rows(writer) > KI_ROW_MEMORY)
		flush(writer);
	offer_slot(writer);
	return is_good;
}

static void
multi_end(KiWriter *base)
{
	MultiWriter *writer = (MultiWriter *) base;

	if (writer->estate)
	{
		flush(writer);
		close_piece(writer);
	}
	ki_session_check_constraints();
}

static const KiWriteRoutine routine = {multi_fits, multi_begin, multi_add, multi_end, NULL};

KiWriter *
ki_write_multi_create(Relation target, const AttrNumber *attnums, int ncolumns)
{
	MultiWriter *writer = palloc0(sizeof(MultiWriter));

	writer->base.routine = &routine;
	writer->is_partitioned =
		target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	writer->routed = MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(target)),
											  &TTSOpsVirtual);
	writer->defaults = ki_defaults_create(target, attnums, ncolumns, true);
	for (int i = 0; i < ncolumns; i++)
		writer->mapped = bms_add_member(writer->mapped, attnums[i] -
										FirstLowInvalidHeapAttributeNumber);
	writer->leaf_context = AllocSetContextCreate(CurrentMemoryContext,
												 "kafka_ingest slots",
												 ALLOCSET_DEFAULT_SIZES);
	reset_leaves(writer);
	return &writer->base;
}
