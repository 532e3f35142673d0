/*
 * write_checks.c
 *	  NOT NULL and CHECK constraints of a table, tested without raising.
 *
 * One bad row in a hundred would otherwise mean as many attempts, each thrown
 * away.  The tests are those of the executor's ExecConstraints, in its order.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/rel.h"

#include "compat.h"
#include "stage.h"
#include "write_routine.h"

struct KiChecks
{
	TupleDesc	desc;			/* the relation's */
	EState	   *estate;
	ExprState **states;			/* per CHECK constraint; NULL: not enforced */
	int			nstates;
};

KiChecks *
ki_checks_create(Relation relation, EState *estate)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	TupleConstr *constraints = RelationGetDescr(relation)->constr;
	KiChecks   *checks = palloc0(sizeof(KiChecks));

	checks->desc = RelationGetDescr(relation);
	checks->estate = estate;
	checks->nstates = constraints->num_check;
	checks->states = palloc0(sizeof(ExprState *) * Max(checks->nstates, 1));
	for (int i = 0; i < checks->nstates; i++)
		if (KI_CHECK_IS_ENFORCED(&constraints->check[i]))
			checks->states[i] = ExecPrepareExpr(stringToNode(constraints->check[i].ccbin),
												estate);
	MemoryContextSwitchTo(old);
	return checks;
}

static bool
has_values(const KiChecks *checks, TupleTableSlot *slot, KiFault *fault)
{
	for (int i = 0; i < checks->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(checks->desc, i);

		if (!attribute->attnotnull || !slot_attisnull(slot, i + 1))
			continue;
		(void) ki_fault_set(fault, ERRCODE_NOT_NULL_VIOLATION, KI_STAGE_WRITE,
							"null value violates a not-null constraint");
		fault->column_name = NameStr(attribute->attname);
		return false;
	}
	return true;
}

bool
ki_checks_pass(KiChecks *checks, TupleTableSlot *slot, KiFault *fault)
{
	ExprContext *context = GetPerTupleExprContext(checks->estate);

	if (checks->desc->constr->has_not_null &&
		!has_values(checks, slot, fault))
		return false;
	context->ecxt_scantuple = slot;
	for (int i = 0; i < checks->nstates; i++)
	{
		if (!checks->states[i] || ExecCheck(checks->states[i], context))
			continue;
		(void) ki_fault_set(fault, ERRCODE_CHECK_VIOLATION, KI_STAGE_WRITE,
							"new row violates a check constraint");
		fault->constraint_name = checks->desc->constr->check[i].ccname;
		return false;
	}
	return true;
}
