/*
 * kafka_ingest.c
 *	  Entry of the library: settings always; shared memory, the launcher and
 *	  the utility hook when it is preloaded.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "launcher.h"
#include "settings.h"
#include "slot.h"
#include "stepaside.h"
#include "watermark.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	ki_slot_request_shmem();
	ki_watermark_request_shmem();
}

static void
startup_shmem(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	ki_slot_init_shmem();
	ki_watermark_init_shmem();
}

void
_PG_init(void)
{
	ki_settings_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	ki_launcher_register();
	ki_stepaside_install();
}
