/*
 * key.c
 *	  Which columns tell the rows of a target apart.
 *
 * The key must be what a unique index says it is, by the same equality that
 * rows are folded with in memory: the default one of the columns' types, and
 * their collations.  Only then do the rows of a batch that are one to us
 * conflict with one stored row, and no two of them with the same.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "nodes/bitmapset.h"
#include "rewrite/prs2lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "key.h"

#define INDEX_HINT "Make a unique index over exactly these columns, neither partial, nor over expressions, nor deferrable."

static void
check_kind(const KiPipeline *pipeline, Relation target)
{
	const char *name = RelationGetRelationName(target);
	char		relkind = target->rd_rel->relkind;

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("mode => '%s' cannot write into \"%s\"",
						pipeline->mode, name),
				 errdetail("It is no table: only a table has the unique index that finds a key's row."),
				 errhint("Use the table itself as target, or mode => 'append'.")));
	if (target->rd_rules && target->rd_rules->numLocks > 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("mode => '%s' cannot write into \"%s\"",
						pipeline->mode, name),
				 errdetail("The table has rules, and ON CONFLICT does not go with them."),
				 errhint("Use triggers instead of rules, or mode => 'append'.")));
}

static AttrNumber
find_column(Relation target, const char *name, const char *option)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(target), name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of option \"%s\" does not exist",
						name, option),
				 errdetail("The target is \"%s\".",
						   RelationGetRelationName(target))));
	return attnum;
}

/* ------------------------------------------------------------------------
 * Indexes
 * ------------------------------------------------------------------------
 */

/* Numbers of an index' key columns; those over expressions are 0. */
static Bitmapset *
columns_of(const FormData_pg_index * index)
{
	Bitmapset  *columns = NULL;

	for (int i = 0; i < index->indnkeyatts; i++)
		columns = bms_add_member(columns, Max(index->indkey.values[i], 0));
	return columns;
}

/* Is a key's equality in the index the one of its type and column? */
static bool
has_usual_equality(Relation index)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];
		Oid			type;
		int32		typmod;
		Oid			collation;

		get_atttypetypmodcoll(index->rd_index->indrelid, attnum, &type,
							  &typmod, &collation);
		if (index->rd_indcollation[i] != collation ||
			get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
								index->rd_opcintype[i], BTEqualStrategyNumber) !=
			lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr)
			return false;
	}
	return true;
}

/* Why a unique index over the right columns does not do; NULL: it does. */
static const char *
complaint_about(Relation index)
{
	const		FormData_pg_index *form = index->rd_index;

	if (!form->indimmediate)
		return "is deferrable";
	if (!form->indisvalid || !form->indisready || !form->indislive)
		return "is not valid";
	if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return "is partial";
	if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL))
		return "is over expressions";
	if (index->rd_rel->relam != BTREE_AM_OID || !has_usual_equality(index))
		return "compares otherwise than the columns' types do";
	return NULL;
}

static void
raise_no_index(Relation target, const char *columns, const char *index,
			   const char *complaint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
			 errmsg("no unique index of \"%s\" is over exactly the key columns (%s)",
					RelationGetRelationName(target), columns),
			 index ? errdetail("Index \"%s\" %s.", index, complaint) : 0,
			 errhint(INDEX_HINT)));
}

static char *
list_names(Relation target, const Bitmapset *columns)
{
	StringInfoData buf;
	int			attnum = -1;

	initStringInfo(&buf);
	while ((attnum = bms_next_member(columns, attnum)) >= 0)
		appendStringInfo(&buf, "%s%s", buf.len ? ", " : "",
						 attnum > 0 ?
						 quote_identifier(get_attname(RelationGetRelid(target),
													  attnum, false)) :
						 "an expression");
	return buf.data;
}

/* Is there an index that finds the row of a key? */
static void
check_index(Relation target, const Bitmapset *columns)
{
	const char *nearest = NULL;
	const char *why = NULL;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		const char *complaint = NULL;
		bool		is_over_them = index->rd_index->indisunique &&
		bms_equal(columns_of(index->rd_index), columns);

		if (is_over_them)
			complaint = complaint_about(index);
		if (complaint)
		{
			nearest = pstrdup(RelationGetRelationName(index));
			why = complaint;
		}
		index_close(index, NoLock);
		if (is_over_them && !complaint)
			return;
	}
	raise_no_index(target, list_names(target, columns), nearest, why);
}

/* ------------------------------------------------------------------------
 * Columns
 * ------------------------------------------------------------------------
 */
static Bitmapset *
primary_key(Relation target)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Bitmapset  *columns = index->rd_index->indisprimary ?
		columns_of(index->rd_index) : NULL;

		index_close(index, NoLock);
		if (columns)
			return columns;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
			 errmsg("\"%s\" has no primary key", RelationGetRelationName(target)),
			 errhint("Name the columns of a unique index in key_columns.")));
	return NULL;				/* keep the compiler quiet */
}

static Bitmapset *
named_columns(const KiPipeline *pipeline, Relation target)
{
	Bitmapset  *columns = NULL;
	Datum	   *names;
	bool	   *nulls;
	int			count;

	deconstruct_array(pipeline->key_columns, TEXTOID, -1, false, TYPALIGN_INT,
					  &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *name = nulls[i] ? "NULL" : TextDatumGetCString(names[i]);
		AttrNumber	attnum = find_column(target, name, "key_columns");

		if (bms_is_member(attnum, columns))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"key_columns\" names column \"%s\" twice",
							name)));
		columns = bms_add_member(columns, attnum);
	}
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"key_columns\" names no column"),
				 errhint("Leave it NULL for the primary key.")));
	return columns;
}

/* Values of this column decide which of two rows of a key is the newer one. */
static AttrNumber
newer_by(const KiPipeline *pipeline, Relation target, const Bitmapset *columns)
{
	AttrNumber	attnum;
	Oid			type;

	if (!pipeline->newer_by)
		return 0;
	attnum = find_column(target, pipeline->newer_by, "newer_by");
	type = get_atttype(RelationGetRelid(target), attnum);
	if (bms_is_member(attnum, columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"newer_by\" names the key column \"%s\"",
						pipeline->newer_by),
				 errhint("Rows of one key are all the same there.")));
	if (!OidIsValid(lookup_type_cache(type, TYPECACHE_CMP_PROC)->cmp_proc))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"newer_by\" names column \"%s\", whose type %s has no order",
						pipeline->newer_by, format_type_be(type)),
				 errhint("Use a number or a timestamp.")));
	return attnum;
}

KiKey *
ki_key_resolve(const KiPipeline *pipeline, Relation target)
{
	KiKey	   *key;
	Bitmapset  *columns;
	int			attnum = -1;

	if (strcmp(pipeline->mode, "append") == 0)
		return NULL;
	check_kind(pipeline, target);
	columns = pipeline->key_columns ? named_columns(pipeline, target) :
		primary_key(target);
	check_index(target, columns);
	key = palloc0(sizeof(KiKey));
	key->attnums = palloc(bms_num_members(columns) * sizeof(AttrNumber));
	while ((attnum = bms_next_member(columns, attnum)) >= 0)
		key->attnums[key->nattnums++] = attnum;
	key->newer_by = newer_by(pipeline, target, columns);
	return key;
}

bool
ki_key_has(const KiKey *key, AttrNumber attnum)
{
	for (int i = 0; key && i < key->nattnums; i++)
		if (key->attnums[i] == attnum)
			return true;
	return false;
}
