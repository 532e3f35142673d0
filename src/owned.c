/*
 * owned.c
 *	  Pipelines as SQL functions address them, and their arguments.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "lock.h"
#include "owned.h"

char *
ki_argument_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

int64
ki_argument_ms(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval   *interval;
	double		ms;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	interval = PG_GETARG_INTERVAL_P(n);
	ms = interval->time / 1000.0 +
		(interval->day + interval->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY * 1000.0;
	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", name)));
	return (int64) Min(ms, 1e15);
}

/*
 * In a copy of a database the owner's OID means nothing, or another role: its
 * name counts until adopt() finds the role again.
 */
bool
ki_is_mine(const KiPipeline *pipeline)
{
	Oid			owner = pipeline->owner;

	if (!ki_guard_matches(&pipeline->guard))
		owner = get_role_oid(pipeline->owner_name, true);
	return OidIsValid(owner) ? has_privs_of_role(GetUserId(), owner) : superuser();
}

KiPipeline *
ki_owned_find(const char *name)
{
	KiPipeline *pipeline = ki_pipeline_find(name);

	if (!pipeline)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pipeline \"%s\" does not exist", name),
				 errhint("The view kafka_ingest.pipelines lists yours.")));
	if (!ki_is_mine(pipeline))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of pipeline \"%s\"", name)));
	return pipeline;
}

KiPipeline *
ki_owned_lock(const char *name)
{
	KiPipeline *pipeline = ki_owned_find(name);

	/* While we waited it may have been dropped and made again. */
	for (;;)
	{
		int32		locked = pipeline->id;

		ki_lock_pipeline(locked, true);
		pipeline = ki_owned_find(name);
		if (pipeline->id == locked)
			return pipeline;
	}
}

bool
ki_stop_is_of_letters(const char *reason)
{
	return strcmp(reason, "error_ratio") == 0 ||
		strcmp(reason, "dead_letters_full") == 0;
}

/* No seek() leads past what one bad message after the other has caused. */
const char *
ki_stop_hint(const char *reason)
{
	return ki_stop_is_of_letters(reason) ?
		"Mend the mapping or the target, or make room among the dead letters; then resume()." :
		"Once the cause is mended, resume() tries again; seek() goes on elsewhere.";
}

void
ki_note_stopped(const KiPipeline *pipeline)
{
	if (pipeline->stop.reason)
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" stays stopped: %s", pipeline->name,
						pipeline->stop.reason),
				 errhint("resume() lets it go on.")));
}

char *
ki_count_letters(int64 count)
{
	return psprintf(INT64_FORMAT " dead letter%s", count, count == 1 ? "" : "s");
}

List *
ki_owned_all(void)
{
	List	   *mine = NIL;
	ListCell   *cell;

	foreach(cell, ki_pipeline_all())
		if (ki_is_mine(lfirst(cell)))
		mine = lappend(mine, lfirst(cell));
	return mine;
}
