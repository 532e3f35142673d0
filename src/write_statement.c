/*
 * write_statement.c
 *	  Statements over the rows of a piece.
 *
 * The rows of a piece are put into a tuplestore, which a statement reads under
 * the name kafka_ingest_rows.  So every kind of target behaves as it always
 * does: generated columns, identity, triggers, constraints, routing, views.
 *
 * A statement is analyzed for every piece, and what it names must be the very
 * relation that was checked and locked: a name can come to mean another
 * relation at any time, and a kept plan would follow it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "write_statement.h"

char *
ki_write_target_name(Relation target)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)),
									  RelationGetRelationName(target));
}

static QueryEnvironment *
environment_of(const KiRows *rows)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = KI_ROWS_NAME;
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = rows->desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = rows->count;
	relation->reldata = rows->store;
	register_ENR(environment, relation);
	return environment;
}

/* All relations that the statement names are locked now: the right ones? */
static void
check_named(const Query *query, Relation target)
{
	ListCell   *cell;

	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_SUBQUERY)
			check_named(entry->subquery, target);
		else if (entry->rtekind == RTE_RELATION &&
				 entry->relid != RelationGetRelid(target))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("%s became another relation while it was loaded",
							ki_write_target_name(target))));
	}
}

static List *
analyze(Relation target, const char *sql, QueryEnvironment *environment)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	Query	   *query = parse_analyze_fixedparams(raw, sql, NULL, 0, environment);
	List	   *queries;

	check_named(query, target);
	queries = pg_rewrite_query(query);
	if (queries == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule of %s makes nothing of an INSERT",
						ki_write_target_name(target))));
	return queries;
}

/*
 * Rules may write elsewhere: what they write must be as durable, and in this
 * transaction.
 */
static void
check_written(const Query *query)
{
	Oid			relid;

	if (query->resultRelation == 0)
		return;
	relid = rt_fetch(query->resultRelation, query->rtable)->relid;
	if (get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE ||
		get_rel_persistence(relid) != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a rule of the target writes into \"%s\", which is no permanent table of this server",
						get_rel_name(relid))));
}

/* With is_fixed by the active snapshot, else by that and what came after it. */
static int64
execute(Query *query, const char *sql, QueryEnvironment *environment,
		DestReceiver *receiver, bool is_fixed)
{
	PlannedStmt *plan;
	QueryDesc  *desc;
	int64		processed;

	if (query->commandType == CMD_UTILITY)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rules of a target cannot run utility commands")));
	plan = pg_plan_query(query, sql, CURSOR_OPT_PARALLEL_OK, NULL);
	CommandCounterIncrement();
	PushCopiedSnapshot(GetActiveSnapshot());
	if (!is_fixed)
		UpdateActiveSnapshotCommandId();
	desc = CreateQueryDesc(plan, sql, GetActiveSnapshot(), InvalidSnapshot,
						   receiver, NULL, environment, 0);
	ExecutorStart(desc, 0);
	ki_executor_run(desc);
	processed = desc->estate->es_processed;
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
	return processed;
}

int64
ki_write_run(Relation target, const char *sql, const KiRows *rows,
			 Tuplestorestate *result, Snapshot snapshot)
{
	MemoryContext statement = AllocSetContextCreate(CurrentMemoryContext,
													"kafka_ingest statement",
													ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(statement);
	QueryEnvironment *environment = environment_of(rows);
	DestReceiver *receiver = None_Receiver;
	int64		processed = 0;
	ListCell   *cell;

	if (result)
	{
		receiver = CreateDestReceiver(DestTuplestore);
		SetTuplestoreDestReceiverParams(receiver, result, old, false, NULL, NULL);
	}

	/* The rows were put in by this transaction; triggers see a fresh view. */
	PushActiveSnapshot(snapshot ? snapshot : GetTransactionSnapshot());
	foreach(cell, analyze(target, sql, environment))
	{
		check_written(lfirst_node(Query, cell));
		processed += execute(lfirst_node(Query, cell), sql, environment,
							 receiver, snapshot != NULL);
	}
	PopActiveSnapshot();
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(statement);
	return processed;
}

void
ki_write_fill_absent(KiDefaults *defaults, Relation target, MemoryContext piece,
					 EState **estate, KiRow *row)
{
	if (!*estate)
	{
		MemoryContext rows = MemoryContextSwitchTo(piece);

		/* they see what was there before the piece, as in a statement */
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		*estate = CreateExecutorState();
		MemoryContextSwitchTo(rows);
		ki_defaults_begin(defaults, target, *estate);
	}
	ki_defaults_fill(defaults, row);
	ResetPerTupleExprContext(*estate);
}

void
ki_write_free_estate(EState **estate)
{
	if (!*estate)
		return;
	FreeExecutorState(*estate);
	PopActiveSnapshot();
	*estate = NULL;
}
