/*
 * write_routine.h
 *	  What every writer has, shared by the files write_*.c alone (floor 2).
 */
#ifndef KI_WRITE_ROUTINE_H
#define KI_WRITE_ROUTINE_H

#include "nodes/execnodes.h"
#include "write.h"

/* Rows and their tuples may take this much memory before they are written. */
#define KI_ROW_MEMORY (2 * 1024 * 1024)

typedef struct KiWriteRoutine
{
	bool		(*fits) (const KiWriter *writer, Relation target);
	void		(*begin) (KiWriter *writer, Relation target, int memory_kb);
	bool		(*add) (KiWriter *writer, KiFault *fault);
	void		(*end) (KiWriter *writer);
	void		(*delete) (KiWriter *writer);	/* only with a key */
} KiWriteRoutine;

/* The first member of each writer. */
struct KiWriter
{
	const KiWriteRoutine *routine;
	Oid			relid;
	MemoryContext row_context;	/* of the rows not written yet */
	KiRow		row;
	bool		ran_code;		/* a volatile function of a user's, or a
								 * trigger, while the last row was added */
	int			nmessages;		/* of this piece, each a row at most */
	int64		nadded;			/* rows of this piece so far */
	int64		culprit;		/* the row being worked on; -1: several */
	int64		ignored;		/* rows of the piece that were not written,
								 * which has a meaning only for insert_ignore */
	bool		may_refuse;		/* rows of this piece, without raising */
	List	   *refused;		/* KiRefusals of this piece, in order */
};

/* DEFAULTs of the columns that take no field. */
typedef struct KiDefaults KiDefaults;

/*
 * Of all of the target's attributes but the generated ones; with unmapped
 * false only of the given ones.  In the current context.
 */
extern KiDefaults *ki_defaults_create(Relation target,
									  const AttrNumber *attnums, int ncolumns,
									  bool unmapped);

/* Before the first row of a piece; both must last until its end. */
extern void ki_defaults_begin(KiDefaults *defaults, Relation target,
							  EState *estate);

/* Is there anything to do for a row in which no mapped column is absent? */
extern bool ki_defaults_always(const KiDefaults *defaults);

/* Could one of them see the rows before its own? */
extern bool ki_defaults_look(const KiDefaults *defaults);

/* Evaluate the defaults of the absent columns, in the current context. */
extern void ki_defaults_fill(KiDefaults *defaults, KiRow *row);

/* Could this, or a CHECK of a table, see the rows before its own? */
extern bool ki_write_expr_looks(Node *expr);
extern bool ki_write_checks_look(TupleDesc desc);

/*
 * NOT NULL and CHECK constraints of a table, tested without raising (fault's
 * stage: "write"); made per piece in its estate.
 */
typedef struct KiChecks KiChecks;
extern KiChecks *ki_checks_create(Relation relation, EState *estate);
extern bool ki_checks_pass(KiChecks *checks, TupleTableSlot *slot,
						   KiFault *fault);

/*
 * The unique indexes of a table, the target or a partition of it (root), whose
 * conflicts can be told without raising; NIL: none.  In the current memory
 * context.
 */
extern List *ki_unique_indexes(const ResultRelInfo *rel,
							   const ResultRelInfo *root);

/*
 * A row was put into all indexes, and some of them ("suspects", OIDs) met an
 * equal key.  Returns why it must go again, in this memory context; NULL: it
 * may stay, as only others than the unique ones above are suspects.  Raises
 * what cannot be told now.
 */
extern KiRefusal *ki_unique_refuse(ResultRelInfo *rel, TupleTableSlot *slot,
								   EState *estate, const List *unique,
								   const List *suspects,
								   MemoryContext context);

/*
 * Slots of heap tuples that leave a formed tuple where it is; the server takes
 * them for a kind of ours.
 */
extern const TupleTableSlotOps *ki_tuple_ops(void);

extern KiWriter *ki_write_insert_create(Relation target,
										const AttrNumber *attnums,
										int ncolumns);
extern KiWriter *ki_write_multi_create(Relation target,
									   const AttrNumber *attnums,
									   int ncolumns);
extern KiWriter *ki_write_upsert_create(Relation target,
										const AttrNumber *attnums,
										int ncolumns,
										const KiPipeline *pipeline,
										const KiKey *key);

#endif							/* KI_WRITE_ROUTINE_H */
