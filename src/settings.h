/*
 * settings.h
 *	  The settings kafka_ingest.* (floor 1).
 */
#ifndef KI_SETTINGS_H
#define KI_SETTINGS_H

#include "postgres.h"

extern bool ki_setting_enabled;
extern char *ki_setting_databases;
extern int	ki_setting_max_workers;
extern int	ki_setting_worker_memory_kb;
extern char *ki_setting_site;
extern int	ki_setting_retry_backoff_max_ms;
extern int	ki_setting_lock_timeout_ms;
extern int	ki_setting_max_pipelines_per_role;
extern int	ki_setting_dead_letter_max_size_kb;

extern void ki_settings_define(void);

/* May pipelines of this database load, by kafka_ingest.databases? */
extern bool ki_setting_serves_database(const char *database);

#ifdef KI_FAULTS
/* Is this fault point switched on?  Only in builds for tests. */
extern bool ki_fault(const char *point);
#else
#define ki_fault(point) false
#endif

#endif							/* KI_SETTINGS_H */
