/*
 * stop.c
 *	  The end of a pipeline's loading that a person has to look at: stored with
 *	  its reason, in a transaction of its own.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "loader_parts.h"
#include "lock.h"

KiStep
ki_loader_stop(KiLoader *loader, const char *reason, const char *detail)
{
	KiPipeline *stored;
	bool		is_mine;

	ki_transaction_begin(loader->transaction);
	ki_lock_pipeline(loader->pipeline_id, true);
	stored = ki_pipeline_load(loader->pipeline_id);
	is_mine = stored && stored->version == loader->pipeline->version;
	if (is_mine)
	{
		stored->stop.reason = reason;
		stored->stop.detail = detail;
		stored->stop.at = GetCurrentTimestamp();
		ki_pipeline_store(stored, true);
		ki_event_insert(stored, "stop", psprintf("%s: %s", reason, detail));
		ki_slot_mark_changed();
	}
	ki_transaction_commit(loader->transaction);
	if (!is_mine)
		return KI_STEP_RELOAD;
	ki_slot_set_error(detail);
	ereport(LOG,
			(errmsg("pipeline \"%s\" stopped: %s", loader->pipeline->name, reason),
			 errdetail_internal("%s", detail)));
	return KI_STEP_STOPPED;
}

char *
ki_loader_detail(KiLoader *loader, const char *format,...)
{
	MemoryContext old = MemoryContextSwitchTo(loader->load_context);
	StringInfoData buf;

	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&buf, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	MemoryContextSwitchTo(old);
	return buf.data;
}
