/*
 * worker.h
 *	  The background worker that loads a pipeline (floor 4).
 */
#ifndef KI_WORKER_H
#define KI_WORKER_H

#include "postgres.h"

/* What the launcher hands to a worker, in bgw_extra. */
typedef struct KiWorkerArgument
{
	int			slot;
	int64		generation;
} KiWorkerArgument;

extern PGDLLEXPORT void kafka_ingest_worker_main(Datum arg);

#endif							/* KI_WORKER_H */
