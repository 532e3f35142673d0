/*
 * reconciler.c
 *	  A short-lived process per database that reads which pipelines should run
 *	  there and publishes them to shared memory.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "access/htup_details.h"
#include "catalog.h"
#include "compat.h"
#include "launcher.h"
#include "slot.h"
#include "watermark.h"

/*
 * Could a session of this role begin here?  A worker that may not would end
 * before any of our code runs.
 */
static bool
may_connect(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		may;

	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin ||
		!KI_OWNER_NEEDS_LOGIN;
	ReleaseSysCache(tuple);
	return may && ki_database_aclcheck(MyDatabaseId, role, ACL_CONNECT) == ACLCHECK_OK;
}

static bool
should_run(const KiPipeline *pipeline)
{
	return !pipeline->paused && !pipeline->stop.reason &&
		ki_guard_matches(&pipeline->guard) && may_connect(pipeline->owner);
}

/*
 * Every worker of every pipeline that should run: the first of each before
 * the second of any, for when places are short.
 */
static KiWish *
collect_wishes(int *nwishes)
{
	List	   *pipelines = ki_pipeline_all();
	ListCell   *cell;
	KiWish	   *wishes;
	int			capacity = 1;
	int			most_workers = 0;

	foreach(cell, pipelines)
	{
		capacity += ((KiPipeline *) lfirst(cell))->workers;
		most_workers = Max(most_workers, ((KiPipeline *) lfirst(cell))->workers);
	}
	wishes = palloc0(capacity * sizeof(KiWish));
	*nwishes = 0;
	for (int i = 0; i < most_workers; i++)
		foreach(cell, pipelines)
	{
		KiPipeline *pipeline = lfirst(cell);

		if (i >= pipeline->workers || !should_run(pipeline))
			continue;
		wishes[*nwishes].pipeline = pipeline->id;
		wishes[*nwishes].worker = i;
		wishes[*nwishes].name = pipeline->name;
		wishes[*nwishes].owner = pipeline->owner;
		(*nwishes)++;
	}
	return wishes;
}

/* Of pipelines that do not load, what was seen last soon means nothing. */
static void
keep_watermarks(Oid database, const KiWish *wishes, int nwishes)
{
	int32	   *pipelines = palloc(sizeof(int32) * (nwishes + 1));

	for (int i = 0; i < nwishes; i++)
		pipelines[i] = wishes[i].pipeline;
	ki_watermark_keep_only(database, pipelines, nwishes);
}

void
kafka_ingest_reconciler_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	KiWish	   *wishes = NULL;
	int			nwishes = 0;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	/* Others wait for their turn; the next look tries again. */
	SetConfigOption("lock_timeout", "5s", PGC_SUSET, PGC_S_OVERRIDE);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ki_catalog_is_installed())
		wishes = collect_wishes(&nwishes);
	(void) ki_slot_publish(database, wishes, nwishes);
	keep_watermarks(database, wishes, nwishes);
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}
