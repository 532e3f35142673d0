/*
 * statement_query.c
 *	  What a pipeline's statements may be, and what they look at.
 *
 * SPI would run anything: SET ROLE, TRUNCATE, CREATE TABLE AS.  So the parsed
 * commands are looked at before anything else.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/plancache.h"

/* Before 16 the server's own declarations of walkers lack prototypes. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include "nodes/nodeFuncs.h"
#pragma GCC diagnostic pop

#include "compat.h"
#include "statement_messages.h"
#include "statement_query.h"

/* ------------------------------------------------------------------------
 * Commands
 * ------------------------------------------------------------------------
 */

/* A position is one in the statements, and not in the call of a function. */
static void
show_position(void *sql)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(sql);
	}
}

static List *
parse(const char *sql)
{
	ErrorContextCallback callback;
	List	   *commands;

	callback.callback = show_position;
	callback.arg = unconstify(char *, sql);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	commands = pg_parse_query(sql);
	error_context_stack = callback.previous;
	return commands;
}

/* Does the leftmost SELECT of a UNION and the like say INTO? */
static bool
makes_table(const SelectStmt *select)
{
	while (select->larg)
		select = select->larg;
	return select->intoClause != NULL;
}

static const char *
refused_command(Node *command)
{
	switch (nodeTag(command))
	{
		case T_SelectStmt:
			return makes_table((SelectStmt *) command) ? "SELECT INTO" : NULL;
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return NULL;
		default:
			return CreateCommandName(command);
	}
}

void
ki_statement_check_commands(const char *sql)
{
	List	   *commands = parse(sql);
	ListCell   *cell;

	if (commands == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"statement\" holds no statement"),
				 errhint("Leave it NULL to have none.")));
	foreach(cell, commands)
	{
		const char *refused = refused_command(lfirst_node(RawStmt, cell)->stmt);

		if (refused)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s cannot stand in the statement of a pipeline", refused),
					 errdetail("It is run in the transaction of a batch."),
					 errhint("Use SELECT, INSERT, UPDATE, DELETE or MERGE; pg_notify() does what NOTIFY does.")));
	}
}

/* ------------------------------------------------------------------------
 * Columns
 * ------------------------------------------------------------------------
 */
typedef struct Walk
{
	List	   *queries;		/* that the place is in, the innermost first */
	Bitmapset  *columns;
} Walk;

static bool walk(Node *node, Walk *w);

static void
use_column(Walk *w, AttrNumber attnum)
{
	if (attnum == 0)
		w->columns = bms_add_range(w->columns, 1, KI_MESSAGES_COLUMNS);
	else if (attnum > 0)
		w->columns = bms_add_member(w->columns, attnum);
}

/* A join's own column is one of a relation below it, or several. */
static void
use_join(Walk *w, const RangeTblEntry *join, const Var *var)
{
	List	   *queries = w->queries;

	w->queries = list_copy_tail(queries, var->varlevelsup);
	if (var->varattno > 0)
		walk(list_nth(join->joinaliasvars, var->varattno - 1), w);
	else
		walk((Node *) join->joinaliasvars, w);
	w->queries = queries;
}

static void
use_var(Walk *w, const Var *var)
{
	const Query *query = list_nth(w->queries, var->varlevelsup);
	const RangeTblEntry *entry = rt_fetch(var->varno, query->rtable);

	if (entry->rtekind == RTE_NAMEDTUPLESTORE)
		use_column(w, var->varattno);
	else if (entry->rtekind == RTE_JOIN)
		use_join(w, entry, var);
}

static bool
walk(Node *node, Walk *w)
{
	if (!node)
		return false;
	check_stack_depth();
	if (IsA(node, Var))
		use_var(w, (Var *) node);
	else if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		ki_check_query_rights(query);
		w->queries = lcons(query, w->queries);
		(void) query_tree_walker(query, walk, w, QTW_IGNORE_JOINALIASES);
		w->queries = list_delete_first(w->queries);
	}
	else
		return expression_tree_walker(node, walk, w);
	return false;
}

Bitmapset *
ki_statement_columns(const List *sources)
{
	Walk		w = {NIL, NULL};
	ListCell   *cell;

	foreach(cell, sources)
		(void) walk((Node *) ((CachedPlanSource *) lfirst(cell))->query_list, &w);
	return w.columns;
}
