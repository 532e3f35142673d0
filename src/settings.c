/*
 * settings.c
 *	  The settings kafka_ingest.*: their definition, checks and meaning.
 *
 * Settings that size shared memory or name the installation need a restart;
 * without shared_preload_libraries there is no shared memory, and they are
 * read when the library is loaded.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "settings.h"

bool		ki_setting_enabled = true;
char	   *ki_setting_databases = NULL;
int			ki_setting_max_workers = 32;
int			ki_setting_worker_memory_kb = 64 * 1024;
char	   *ki_setting_site = NULL;
int			ki_setting_retry_backoff_max_ms = 60 * 1000;
int			ki_setting_lock_timeout_ms = 10 * 1000;
int			ki_setting_max_pipelines_per_role = -1;
int			ki_setting_dead_letter_max_size_kb = 1024 * 1024;

#ifdef KI_FAULTS
static char *setting_fault = NULL;
#endif

/* '*' or a comma list of names, as search_path is written. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names = NIL;
	ListCell   *cell;
	bool		is_list = strcmp(copy, "*") == 0 ||
	SplitIdentifierString(copy, ',', &names);

	foreach(cell, names)
		is_list &= strcmp((char *) lfirst(cell), "*") != 0;
	if (!is_list)
		GUC_check_errdetail("The value is neither * nor a comma list of database names.");
	list_free(names);
	pfree(copy);
	return is_list;
}

bool
ki_setting_serves_database(const char *database)
{
	char	   *copy;
	List	   *names = NIL;
	ListCell   *cell;
	bool		serves = false;

	if (strcmp(ki_setting_databases, "*") == 0)
		return true;
	copy = pstrdup(ki_setting_databases);
	if (SplitIdentifierString(copy, ',', &names))
		foreach(cell, names)
			serves |= strcmp((char *) lfirst(cell), database) == 0;
	list_free(names);
	pfree(copy);
	return serves;
}

/* What may change with a reload. */
static void
define_reloadable(void)
{
	DefineCustomBoolVariable("kafka_ingest.enabled",
							 "Loads pipelines in the background.",
							 NULL,
							 &ki_setting_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_ingest.databases",
							   "Databases whose pipelines are loaded.",
							   "A comma list of names, or * for all.",
							   &ki_setting_databases, "*",
							   PGC_SIGHUP, 0, check_databases, NULL, NULL);
	DefineCustomIntVariable("kafka_ingest.worker_memory",
							"Memory for what a worker has fetched and holds in its batch.",
							NULL,
							&ki_setting_worker_memory_kb, 64 * 1024,
							1024, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_ingest.retry_backoff_max",
							"Longest wait between two tries after a passing error.",
							NULL,
							&ki_setting_retry_backoff_max_ms, 60 * 1000,
							100, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_ingest.lock_timeout",
							"Longest wait of a batch for a lock.",
							NULL,
							&ki_setting_lock_timeout_ms, 10 * 1000,
							1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_ingest.dead_letter_max_size",
							"Most the open dead letters of a pipeline may take before it stops.",
							NULL,
							&ki_setting_dead_letter_max_size_kb, 1024 * 1024,
							1, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_ingest.max_pipelines_per_role",
							"Most pipelines a role that is no superuser may own in a database.",
							"-1 means no limit.",
							&ki_setting_max_pipelines_per_role, -1,
							-1, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);
}

/* What needs a restart when the library is preloaded. */
static void
define_fixed(void)
{
	GucContext	context = process_shared_preload_libraries_in_progress ?
	PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable("kafka_ingest.max_workers",
							"Most background workers that load pipelines, over all databases.",
							NULL,
							&ki_setting_max_workers, 32, 0, 1024,
							context, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_ingest.site",
							   "Name of this installation of the server.",
							   "Pipelines created under another name wait until adopt().",
							   &ki_setting_site, "",
							   context, 0, NULL, NULL, NULL);
}

void
ki_settings_define(void)
{
	define_reloadable();
	define_fixed();
#ifdef KI_FAULTS
	DefineCustomStringVariable("kafka_ingest.fault",
							   "Fault points that are switched on (test builds only).",
							   NULL, &setting_fault, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
#endif
	MarkGUCPrefixReserved("kafka_ingest");
}

#ifdef KI_FAULTS
bool
ki_fault(const char *point)
{
	return setting_fault != NULL && strstr(setting_fault, point) != NULL;
}
#endif
