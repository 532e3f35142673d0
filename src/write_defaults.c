/*
 * write_defaults.c
 *	  DEFAULTs of the columns that take no field of a message.
 *
 * An absent field means the column's DEFAULT for that row only, so they are
 * evaluated row by row: nextval() and clock_timestamp() count.  A column
 * without a DEFAULT becomes NULL, which a domain may refuse.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "write_routine.h"

typedef struct Default
{
	int			index;			/* of the attribute, from 0 */
	Oid			domain;			/* its type, if that is a domain */
	int16		len;			/* as in pg_type */
	Node	   *expr;			/* NULL: none */

	/* per piece, made at first use */
	ExprState  *state;
	void	   *domain_state;	/* what domain_check keeps between rows */
} Default;

struct KiDefaults
{
	Default    *items;
	int			nitems;
	bool		has_unmapped;
	bool		look;			/* at rows before their own, maybe */
	EState	   *estate;			/* of the piece under way */
};

static void
add_attribute(KiDefaults *defaults, Relation target, int index)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(target), index);
	Default    *item = &defaults->items[defaults->nitems++];

	item->index = index;
	if (attribute->attisdropped || attribute->attgenerated != '\0')
		return;
	item->len = attribute->attlen;
	item->expr = build_column_default(target, index + 1);
	defaults->look |= ki_write_expr_looks(item->expr);
	if (get_typtype(attribute->atttypid) == TYPTYPE_DOMAIN)
		item->domain = attribute->atttypid;
}

KiDefaults *
ki_defaults_create(Relation target, const AttrNumber *attnums, int ncolumns,
				   bool unmapped)
{
	KiDefaults *defaults = palloc0(sizeof(KiDefaults));
	int			natts = RelationGetNumberOfAttributes(target);

	defaults->items = palloc0(natts * sizeof(Default));
	if (unmapped)
	{
		for (int i = 0; i < natts; i++)
			add_attribute(defaults, target, i);
		defaults->has_unmapped = natts > ncolumns;
	}
	else
		for (int i = 0; i < ncolumns; i++)
			add_attribute(defaults, target, attnums[i] - 1);
	return defaults;
}

/* A domain's own default changes without a word to the tables that use it. */
static void
renew(KiDefaults *defaults, Default *item, Relation target)
{
	MemoryContext old = MemoryContextSwitchTo(defaults->estate->es_query_cxt);

	item->expr = build_column_default(target, item->index + 1);
	defaults->look |= ki_write_expr_looks(item->expr);
	MemoryContextSwitchTo(old);
}

void
ki_defaults_begin(KiDefaults *defaults, Relation target, EState *estate)
{
	defaults->estate = estate;
	for (int i = 0; i < defaults->nitems; i++)
	{
		Default    *item = &defaults->items[i];

		item->state = NULL;
		item->domain_state = NULL;
		if (OidIsValid(item->domain))
			renew(defaults, item, target);
	}
}

bool
ki_defaults_always(const KiDefaults *defaults)
{
	return defaults->has_unmapped;
}

bool
ki_defaults_look(const KiDefaults *defaults)
{
	return defaults->look;
}

static void
fill(KiDefaults *defaults, Default *item, Datum *value, bool *isnull)
{
	EState	   *estate = defaults->estate;

	*value = (Datum) 0;
	*isnull = true;
	if (item->expr && !item->state)
		item->state = ExecPrepareExpr((Expr *) item->expr, estate);
	if (item->expr)
		*value = ExecEvalExpr(item->state, GetPerTupleExprContext(estate),
							  isnull);
	/* a CHECK could change, or take away, what it may write to */
	*value = MakeExpandedObjectReadOnly(*value, *isnull, item->len);
	if (OidIsValid(item->domain))
		domain_check(*value, *isnull, item->domain, &item->domain_state,
					 estate->es_query_cxt);
}

void
ki_defaults_fill(KiDefaults *defaults, KiRow *row)
{
	for (int i = 0; i < defaults->nitems; i++)
	{
		Default    *item = &defaults->items[i];

		if (row->absent[item->index])
			fill(defaults, item, &row->values[item->index],
				 &row->nulls[item->index]);
	}
}
