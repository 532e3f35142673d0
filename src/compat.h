/*
 * compat.h
 *	  Every PG_VERSION_NUM test of the project: one spelling for PostgreSQL 15
 *	  to 18 (floor 0).
 */
#ifndef KI_COMPAT_H
#define KI_COMPAT_H

#include "postgres.h"
#include "fmgr.h"
#if PG_VERSION_NUM >= 160000
#include "access/hio.h"
#include "nodes/miscnodes.h"
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "kafka_ingest needs PostgreSQL 15 or newer"
#endif

/*
 * Let go of the page that rows went to last.  From 16 on the state remembers
 * pages that the table was extended by, too, in order to extend it by ever
 * more; that is for one table and one load of it.
 */
#if PG_VERSION_NUM >= 160000
#define ki_bulk_release(bulk) \
	(ReleaseBulkInsertStatePin(bulk), \
	 (bulk)->next_free = (bulk)->last_free = InvalidBlockNumber, \
	 (bulk)->already_extended_by = 0)
#else
#define ki_bulk_release(bulk) ReleaseBulkInsertStatePin(bulk)
#endif

/* Callbacks of the server's JSON parser return a result from 16 on. */
#if PG_VERSION_NUM >= 160000
#define KI_JSON_CALLBACK JsonParseErrorType
#define KI_JSON_CONTINUE return JSON_SUCCESS
#else
#define KI_JSON_CALLBACK void
#define KI_JSON_CONTINUE return
#endif

/* From 17 on a lexer may be made in place, and is freed by a function. */
#if PG_VERSION_NUM >= 170000
#define ki_json_lexer(text, len) \
	makeJsonLexContextCstringLen(NULL, (text), (len), GetDatabaseEncoding(), true)
#define ki_json_lexer_free(lexer) freeJsonLexContext(lexer)
#else
#define ki_json_lexer(text, len) \
	makeJsonLexContextCstringLen((text), (len), GetDatabaseEncoding(), true)
#define ki_json_lexer_free(lexer) \
	(pfree((lexer)->strval->data), pfree((lexer)->strval), pfree(lexer))
#endif

/*
 * Before 17 a background worker cannot begin as a role that may not log in;
 * from then on it may be told to.
 */
#if PG_VERSION_NUM >= 170000
#define KI_OWNER_NEEDS_LOGIN false
#define KI_WORKER_CONNECT_FLAGS BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define KI_OWNER_NEEDS_LOGIN true
#define KI_WORKER_CONNECT_FLAGS 0
#endif

/* A query is always run to its end here; 18 dropped the argument for it. */
#if PG_VERSION_NUM >= 180000
#define ki_executor_run(desc) ExecutorRun((desc), ForwardScanDirection, 0)
#else
#define ki_executor_run(desc) ExecutorRun((desc), ForwardScanDirection, 0, true)
#endif

/* Time limits of sessions that do not exist everywhere. */
#if PG_VERSION_NUM >= 170000
#define KI_TRANSACTION_TIMEOUT "transaction_timeout"
#else
#define KI_TRANSACTION_TIMEOUT NULL
#endif

#if PG_VERSION_NUM >= 170000
#define ki_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define ki_lock_held_by_me(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* May this role hand something to that one? */
#if PG_VERSION_NUM >= 160000
#define ki_check_can_give_to(role, owner) check_can_set_role((role), (owner))
#else
#define ki_check_can_give_to(role, owner) check_is_member_of_role((role), (owner))
#endif

/* One function checks the privileges of every kind of object from 16 on. */
#if PG_VERSION_NUM >= 160000
#define ki_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, (server), (role), (mode))
#define ki_schema_aclcheck(schema, role, mode) \
	object_aclcheck(NamespaceRelationId, (schema), (role), (mode))
#define ki_database_aclcheck(database, role, mode) \
	object_aclcheck(DatabaseRelationId, (database), (role), (mode))
#define ki_database_ownercheck(database, role) \
	object_ownercheck(DatabaseRelationId, (database), (role))
#else
#define ki_schema_aclcheck(schema, role, mode) \
	pg_namespace_aclcheck((schema), (role), (mode))
#define ki_database_aclcheck(database, role, mode) \
	pg_database_aclcheck((database), (role), (mode))
#define ki_database_ownercheck(database, role) \
	pg_database_ownercheck((database), (role))
#define ki_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck((server), (role), (mode))
#endif

/*
 * Returns what deferrable constraints are to be checked again; and those of the
 * indexes in the list "silent", if any, that met an equal key, instead of
 * raising.  One argument more from 16 on: only the summarizing indexes.
 */
#if PG_VERSION_NUM >= 160000
#define ki_insert_index_tuples(rel, slot, estate, silent) \
	ExecInsertIndexTuples((rel), (slot), (estate), false, (silent) != NIL, NULL, (silent), false)
#else
#define ki_insert_index_tuples(rel, slot, estate, silent) \
	ExecInsertIndexTuples((rel), (slot), (estate), false, (silent) != NIL, NULL, (silent))
#endif

/* One argument more from 18 on: what EXPLAIN shows. */
#if PG_VERSION_NUM >= 180000
#define ki_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define ki_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/*
 * A range table of one relation that these columns (a Bitmapset) are inserted
 * into, by the current user, whose rights are checked (and other extensions
 * asked); from 16 on the rights are a list of their own, and from 18 on it is
 * said which entries no pruning removed.
 */
#if PG_VERSION_NUM >= 180000
#define ki_exec_init_range_table(estate, table, rights) \
	ExecInitRangeTable((estate), (table), (rights), bms_make_singleton(1))
#else
#define ki_exec_init_range_table(estate, table, rights) \
	ExecInitRangeTable((estate), (table), (rights))
#endif
#if PG_VERSION_NUM >= 160000
#define ki_init_range_table(estate, entry, columns) \
	do { \
		List	   *rights_ = NIL; \
		RTEPermissionInfo *right_ = addRTEPermissionInfo(&rights_, (entry)); \
		right_->requiredPerms = ACL_INSERT; \
		right_->insertedCols = (columns); \
		(void) ExecCheckPermissions(list_make1(entry), rights_, true); \
		ki_exec_init_range_table((estate), list_make1(entry), rights_); \
	} while (0)
#else
#define ki_init_range_table(estate, entry, columns) \
	do { \
		(entry)->requiredPerms = ACL_INSERT; \
		(entry)->insertedCols = (columns); \
		(void) ExecCheckRTPerms(list_make1(entry), true); \
		ExecInitRangeTable((estate), list_make1(entry)); \
	} while (0)
#endif

/* From 18 on a CHECK may be declared only, and a column computed when read. */
#if PG_VERSION_NUM >= 180000
#define KI_CHECK_IS_ENFORCED(check) ((check)->ccenforced)
#define KI_HAS_VIRTUAL(constraints) ((constraints)->has_generated_virtual)
#else
#define KI_CHECK_IS_ENFORCED(check) true
#define KI_HAS_VIRTUAL(constraints) false
#endif

/*
 * Raise unless the current user may do what a query, after rewriting, says of
 * the relations it names itself.
 */
#if PG_VERSION_NUM >= 160000
#define ki_check_query_rights(query) \
	((void) ExecCheckPermissions((query)->rtable, (query)->rteperminfos, true))
#else
#define ki_check_query_rights(query) \
	((void) ExecCheckRTPerms((query)->rtable, true))
#endif

/* From 16 on it may report an error softly. */
#if PG_VERSION_NUM >= 160000
#define ki_qualified_name_list(string) stringToQualifiedNameList((string), NULL)
#else
#define ki_qualified_name_list(string) stringToQualifiedNameList(string)
#endif

/* Stands before a declaration; its old spelling, behind one, is gone in 18. */
#if PG_VERSION_NUM >= 180000
#define KI_NORETURN pg_noreturn
#else
#define KI_NORETURN pg_attribute_noreturn()
#endif

/* How a partition's columns lie, seen from its root; NULL: as there. */
#if PG_VERSION_NUM >= 160000
#define ki_root_to_child_map(rel, estate) ExecGetRootToChildMap((rel), (estate))
#else
#define ki_root_to_child_map(rel, estate) ((rel)->ri_RootToPartitionMap)
#endif

/*
 * Call a type's input function; a soft error (from 16 on) fills *sqlerrcode
 * and returns false, before 16 every error is raised.
 */
#if PG_VERSION_NUM >= 160000
#define ki_input_call(input, text, ioparam, typmod, result, sqlerrcode, constraint) \
	ki_input_call_safe((input), (text), (ioparam), (typmod), (result), \
					   (sqlerrcode), (constraint))
static inline bool
ki_input_call_safe(FmgrInfo *input, char *string, Oid ioparam, int32 typmod,
				   Datum *result, int *sqlerrcode, const char **constraint)
{
	ErrorSaveContext errors = {.type = T_ErrorSaveContext};

	errors.details_wanted = true;
	if (InputFunctionCallSafe(input, string, ioparam, typmod,
							  (Node *) &errors, result))
		return true;
	*sqlerrcode = errors.error_data->sqlerrcode;
	*constraint = errors.error_data->constraint_name;
	return false;
}
#else
#define ki_input_call(input, text, ioparam, typmod, result, sqlerrcode, constraint) \
	(*(result) = InputFunctionCall((input), (text), (ioparam), (typmod)), true)
#endif

#endif							/* KI_COMPAT_H */
