/*
 * ask.c
 *	  Questions a session puts to the broker about a pipeline's topics.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "ask.h"
#include "catalog.h"
#include "connection.h"
#include "settings.h"
#include "source.h"

#define NETWORK_WAIT_MS 1000

KiSource *
ki_ask_open(const KiPipeline *pipeline)
{
	KiSourceOptions options = {0};

	options.connection = ki_connection_load(pipeline->connection,
											pipeline->owner,
											pipeline->properties, false);
	options.topics = pipeline->topic;
	options.group_id = pipeline->group_id[0] ? pipeline->group_id : "kafka_ingest";
	options.memory_bytes = (int64) ki_setting_worker_memory_kb * 1024;
	return ki_source_create(&options);
}

/* Between two tries of a question. */
static void
pause_a_little(KiSource *source)
{
	ki_source_serve(source);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 100, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
ask_cluster(KiSource *source, TimestampTz deadline, KiCluster *cluster,
			bool *is_missing)
{
	int			missing = 0;

	for (;;)
	{
		KiAnswer	answer = ki_source_cluster(source, NETWORK_WAIT_MS, cluster);

		if (answer == KI_ANSWER_OK)
			return true;
		missing += answer == KI_ANSWER_MISSING;
		*is_missing = missing > 1;
		if (*is_missing || GetCurrentTimestamp() >= deadline)
			return false;
		pause_a_little(source);
	}
}

KiStartPoint *
ki_ask_points(KiSource *source, const KiPipeline *pipeline,
			  const KiStart *start, TimestampTz deadline,
			  int *npoints, bool *is_missing)
{
	KiCluster	cluster = {0};
	KiStartPoint *points;
	int			n = 0;

	*is_missing = false;
	if (!ask_cluster(source, deadline, &cluster, is_missing))
		return NULL;
	points = palloc0(sizeof(KiStartPoint) * (cluster.npartitions + 1));
	for (int i = 0; i < cluster.npartitions; i++)
	{
		const KiTopicPartition *partition = &cluster.partitions[i];

		if (!ki_pipeline_reads(pipeline, partition->topic, partition->partition))
			continue;
		points[n].topic = partition->topic;
		points[n].partition = partition->partition;
		while (ki_start_resolve(source, start, NETWORK_WAIT_MS,
								&points[n]) != KI_ANSWER_OK)
		{
			if (GetCurrentTimestamp() >= deadline)
				return NULL;
			pause_a_little(source);
		}
		n++;
	}
	*npoints = n;
	return points;
}
