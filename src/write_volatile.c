/*
 * write_volatile.c
 *	  Expressions that could see the rows before theirs.
 *
 * To the functions in a DEFAULT or a CHECK, INSERT shows each row with all
 * rows before it in the table, if they are volatile.  Where rows wait to be
 * written together that must be seen to.  The server's own functions do not
 * look into tables (nextval(), clock_timestamp(), gen_random_uuid(), …): they
 * are common in defaults, and need not be waited for.  Not seen to is what
 * nobody should do: a CHECK of a domain that looks, and server functions such
 * as pg_relation_size() of the target.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
/* before 16 its walkers are declared without prototypes */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include "nodes/nodeFuncs.h"
#pragma GCC diagnostic pop
#include "utils/syscache.h"

#include "write_routine.h"

static bool
function_looks(Oid function, void *context)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		looks;

	if (!HeapTupleIsValid(tuple))
		return true;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	looks = proc->provolatile == PROVOLATILE_VOLATILE &&
		proc->prolang != INTERNALlanguageId;
	ReleaseSysCache(tuple);
	return looks;
}

static bool
node_looks(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, function_looks, context) ||
		expression_tree_walker(node, node_looks, context);
}

bool
ki_write_expr_looks(Node *expr)
{
	return node_looks(expr, NULL);
}

bool
ki_write_checks_look(TupleDesc desc)
{
	TupleConstr *constraints = desc->constr;

	for (int i = 0; constraints && i < constraints->num_check; i++)
		if (ki_write_expr_looks(stringToNode(constraints->check[i].ccbin)))
			return true;
	return false;
}
