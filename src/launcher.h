/*
 * launcher.h
 *	  Which workers should run, do they: the launcher and its reconcilers
 *	  (floor 5).
 */
#ifndef KI_LAUNCHER_H
#define KI_LAUNCHER_H

#include "postgres.h"

/* Register the launcher, while the library is preloaded. */
extern void ki_launcher_register(void);

extern PGDLLEXPORT void kafka_ingest_launcher_main(Datum arg);
extern PGDLLEXPORT void kafka_ingest_reconciler_main(Datum arg);

#endif							/* KI_LAUNCHER_H */
