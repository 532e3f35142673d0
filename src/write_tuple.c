/*
 * write_tuple.c
 *	  Slots for tuples that are formed before they are written.
 *
 * Memory: such a tuple lives as long as its row waits, whatever becomes of the
 * slot, and need not be copied to belong to it.
 */
#include "postgres.h"

#include "write_routine.h"

static void
keep_formed_tuple(TupleTableSlot *slot)
{
	if (((HeapTupleTableSlot *) slot)->tuple == NULL)
		TTSOpsHeapTuple.materialize(slot);
}

const TupleTableSlotOps *
ki_tuple_ops(void)
{
	static TupleTableSlotOps ops;

	if (ops.materialize == NULL)
	{
		ops = TTSOpsHeapTuple;
		ops.materialize = keep_formed_tuple;
	}
	return &ops;
}
