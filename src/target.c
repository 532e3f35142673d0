/*
 * target.c
 *	  The relation a pipeline writes into.
 *
 * The same checks run when a pipeline is created and at every batch, since
 * the relation may have changed in between.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "compat.h"
#include "target.h"

#define PARTITION_HINT "Partitions of a target must be permanent tables."

static void
refuse(const char *name, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" cannot be the target of a pipeline", name),
			 errdetail_internal("%s", why),
			 hint ? errhint("%s", hint) : 0));
}

static void
check_persistence(const char *name, char persistence)
{
	if (persistence == RELPERSISTENCE_UNLOGGED)
		refuse(name, "It is unlogged: a crash would empty it while the offsets stay.",
			   "Use ALTER TABLE ... SET LOGGED.");
	if (persistence == RELPERSISTENCE_TEMP)
		refuse(name, "It is temporary: no other session can see it.", NULL);
}

static void
check_kind(const char *name, char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_VIEW:
			break;
		case RELKIND_FOREIGN_TABLE:
			refuse(name, "It is a foreign table: its rows would not be written in the transaction that moves the offsets.",
				   NULL);
			break;
		default:
			refuse(name, "It is no table and no view that takes INSERT.", NULL);
	}
}

/* A leaf or level of a partitioned target must be as good as the target. */
static void
check_partition(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (!name)
		return;					/* dropped just now */
	if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE)
		refuse(name, "It is a foreign table: its rows would not be written in the transaction that moves the offsets.",
			   PARTITION_HINT);
	if (get_rel_persistence(relid) != RELPERSISTENCE_PERMANENT)
		refuse(name, "It is not a permanent table.", PARTITION_HINT);
}

/* A superuser must not run what somebody else attached to a table. */
static void
check_owned_by_same(Oid relid, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			relowner;

	if (!HeapTupleIsValid(tuple))
		return;
	relowner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner) && relowner != owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("pipeline of superuser \"%s\" cannot load table \"%s\" of role \"%s\"",
						GetUserNameFromId(owner, false), get_rel_name(relid),
						GetUserNameFromId(relowner, false)),
				 errdetail("Triggers and functions of that table would run with a superuser's rights."),
				 errhint("Let the owner of the table own the pipeline.")));
}

static void
check_partitions(Relation target, Oid owner)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(RelationGetRelid(target),
									  AccessShareLock, NULL))
	{
		check_partition(lfirst_oid(cell));
		check_owned_by_same(lfirst_oid(cell), owner);
	}
}

/* To name a table in INSERT takes this, and only INSERT names it. */
static void
check_schema(Oid schema, Oid owner)
{
	if (ki_schema_aclcheck(schema, owner, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema \"%s\"",
						get_namespace_name(schema)),
				 errdetail("Role \"%s\" may not use it.",
						   GetUserNameFromId(owner, false)),
				 errhint("GRANT USAGE ON the schema to the pipeline's owner.")));
}

static void
check_rights(Relation target, Oid owner)
{
	Oid			relid = RelationGetRelid(target);

	check_schema(RelationGetNamespace(target), owner);
	if (pg_class_aclcheck(relid, owner, ACL_INSERT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, owner, ACL_INSERT,
								  ACLMASK_ANY) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table \"%s\"",
						RelationGetRelationName(target)),
				 errdetail("Role \"%s\" may not insert into it.",
						   GetUserNameFromId(owner, false)),
				 errhint("GRANT INSERT ON the table to the pipeline's owner.")));
	if (check_enable_rls(relid, owner, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security of table \"%s\" applies to role \"%s\"",
						RelationGetRelationName(target),
						GetUserNameFromId(owner, false)),
				 errhint("Let the table's owner, or a role with BYPASSRLS, own the pipeline.")));
}

static void check_shape(Relation target, Oid owner);

/*
 * What an INSERT into a view writes is what counts: the table below it must be
 * as good as a target itself.  With an INSTEAD OF trigger user code decides;
 * that much is the view's owner's own doing.
 */
static void
check_view(Relation view, Oid owner)
{
	const char *name = RelationGetRelationName(view);
	Query	   *query = get_view_query(view);
	RangeTblRef *below;
	Relation	base;

	if (view->trigdesc && view->trigdesc->trig_insert_instead_row)
		return;
	if (view->rd_rules && view->rd_rules->numLocks > 1)
		return;					/* the writer sees what rules make of it */
	if (view_query_is_auto_updatable(query, true) != NULL)
		refuse(name, "It is a view that takes no INSERT.",
			   "Give it an INSTEAD OF trigger.");
	below = linitial_node(RangeTblRef, query->jointree->fromlist);
	base = table_open(rt_fetch(below->rtindex, query->rtable)->relid,
					  RowExclusiveLock);
	check_shape(base, owner);
	table_close(base, NoLock);
}

/* Kind, durability and owner, down to what is really written. */
static void
check_shape(Relation target, Oid owner)
{
	const char *name = RelationGetRelationName(target);

	check_stack_depth();
	check_kind(name, target->rd_rel->relkind);
	check_persistence(name, target->rd_rel->relpersistence);
	if (IsCatalogRelation(target) || IsToastRelation(target) ||
		RelationGetRelid(target) < FirstNormalObjectId)
		refuse(name, "It is a system catalog.", NULL);
	if (RelationGetNamespace(target) == get_namespace_oid(KI_SCHEMA, true))
		refuse(name, "It belongs to the extension kafka_ingest.", NULL);
	check_owned_by_same(RelationGetRelid(target), owner);
	if (target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		check_partitions(target, owner);
	if (target->rd_rel->relkind == RELKIND_VIEW)
		check_view(target, owner);
}

void
ki_target_check(Relation target, Oid owner)
{
	check_shape(target, owner);
	check_rights(target, owner);
}

/* May the owner do this to a column, or to the whole table? */
static void
check_column(Relation target, AttrNumber attnum, Oid owner, AclMode mode,
			 const char *verb, const char *privilege)
{
	Oid			relid = RelationGetRelid(target);

	if (pg_class_aclcheck(relid, owner, mode) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, attnum, owner, mode) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for column \"%s\" of table \"%s\"",
						get_attname(relid, attnum, false),
						RelationGetRelationName(target)),
				 errdetail("Role \"%s\" may not %s it.",
						   GetUserNameFromId(owner, false), verb),
				 errhint("GRANT %s ON the table to the pipeline's owner.",
						 privilege)));
}

void
ki_target_check_columns(Relation target, const AttrNumber *attnums,
						int ncolumns, Oid owner)
{
	if (pg_class_aclcheck(RelationGetRelid(target), owner,
						  ACL_INSERT) == ACLCHECK_OK)
		return;
	for (int i = 0; i < ncolumns; i++)
		check_column(target, attnums[i], owner, ACL_INSERT, "insert into",
					 "INSERT");
}

void
ki_target_check_key(Relation target, const AttrNumber *attnums, int ncolumns,
					const KiPipeline *pipeline, const KiKey *key)
{
	Oid			owner = pipeline->owner;
	bool		deletes = pipeline->delete_when ||
	ki_pipeline_tombstone(pipeline) == KI_TOMBSTONE_DELETE;

	if (!key)
		return;
	for (int i = 0; i < key->nattnums; i++)
		check_column(target, key->attnums[i], owner, ACL_SELECT, "read", "SELECT");
	if (!ki_pipeline_is_upsert(pipeline))
		return;
	for (int i = 0; i < ncolumns; i++)
		if (!ki_key_has(key, attnums[i]))
		{
			check_column(target, attnums[i], owner, ACL_SELECT, "read", "SELECT");
			check_column(target, attnums[i], owner, ACL_UPDATE, "update", "UPDATE");
		}
	if (deletes && pg_class_aclcheck(RelationGetRelid(target), owner,
									 ACL_DELETE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table \"%s\"",
						RelationGetRelationName(target)),
				 errdetail("Role \"%s\" may not delete from it.",
						   GetUserNameFromId(owner, false)),
				 errhint("GRANT DELETE ON the table to the pipeline's owner, or use on_tombstone => 'skip'.")));
}

static Oid
find_by_name(const KiPipeline *pipeline)
{
	Oid			schema = get_namespace_oid(pipeline->target_schema, true);

	return OidIsValid(schema) ?
		get_relname_relid(pipeline->target_name, schema) : InvalidOid;
}

Relation
ki_target_open(const KiPipeline *pipeline, bool *was_found_by_name)
{
	Relation	target = try_relation_open(pipeline->target, RowExclusiveLock);

	*was_found_by_name = false;
	if (!target)
	{
		Oid			relid = find_by_name(pipeline);

		if (OidIsValid(relid))
			target = try_relation_open(relid, RowExclusiveLock);
		*was_found_by_name = target != NULL;
	}
	if (!target)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("target \"%s.%s\" of pipeline \"%s\" does not exist",
						pipeline->target_schema, pipeline->target_name,
						pipeline->name),
				 errhint("Create it again under this name, or use alter_pipeline(target => ...).")));
	ki_target_check(target, pipeline->owner);
	return target;
}
