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

static KiSource *
open_source(const KiPipeline *pipeline, bool want_headers)
{
	KiSourceOptions options = {0};

	options.connection = ki_connection_load(pipeline->connection,
											pipeline->owner,
											pipeline->properties, false);
	options.topics = pipeline->topic;
	options.group_id = pipeline->group_id[0] ? pipeline->group_id : "kafka_ingest";
	options.memory_bytes = (int64) ki_setting_worker_memory_kb * 1024;
	options.want_headers = want_headers;
	return ki_source_create(&options);
}

KiSource *
ki_ask_open(const KiPipeline *pipeline)
{
	return open_source(pipeline, false);
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

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------
 */
static void
raise_unanswered(const KiPipeline *pipeline, const KiSource *source,
				 bool is_missing)
{
	const KiTrouble *trouble = ki_source_trouble(source);

	ereport(ERROR,
			(errcode(is_missing ? ERRCODE_UNDEFINED_OBJECT :
					 ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 is_missing ?
			 errmsg("topic \"%s\" does not exist", pipeline->topic) :
			 errmsg("the broker of connection \"%s\" did not answer",
					pipeline->connection),
			 trouble->detail ? errdetail_internal("%s", trouble->detail) : 0));
}

/* Where to read on: the position, if the log still has it. */
static KiPosition *
next_positions(const KiPipeline *pipeline, const KiStartPoint *points,
			   int npoints)
{
	KiPosition *positions = palloc0(sizeof(KiPosition) * (npoints + 1));

	for (int i = 0; i < npoints; i++)
	{
		const KiStartPoint *point = &points[i];
		KiPositionRow *row = ki_position_find(pipeline->id, point->topic,
											  point->partition);

		positions[i].topic = unconstify(char *, point->topic);
		positions[i].partition = point->partition;
		positions[i].last_offset = -1;
		positions[i].next_offset = point->low_offset;
		if (row && row->at.next_offset > point->low_offset)
			positions[i].next_offset = Min(row->at.next_offset,
										   point->stable_offset);
	}
	return positions;
}

static bool
are_all_at_end(KiSource *source, const KiStartPoint *points, int npoints)
{
	for (int i = 0; i < npoints; i++)
		if (ki_source_end(source, i) < points[i].stable_offset)
			return false;
	return true;
}

KiMessages *
ki_ask_messages(const KiPipeline *pipeline, int most, TimestampTz deadline)
{
	KiSource   *source = open_source(pipeline, true);
	KiStart		start = {.from = "earliest"};
	KiMessages *messages = ki_messages_create(most);
	int64		most_bytes = (int64) ki_setting_worker_memory_kb * 1024 / 4;
	KiStartPoint *points;
	int			npoints;
	bool		is_missing;

	points = ki_ask_points(source, pipeline, &start, deadline, &npoints,
						   &is_missing);
	if (!points)
		raise_unanswered(pipeline, source, is_missing);
	ki_source_assign(source, next_positions(pipeline, points, npoints), NULL,
					 npoints);
	for (;;)
	{
		ki_source_drain(source);
		ki_source_serve(source);
		while (ki_source_collect(source, messages, most, most_bytes) > 0)
			CHECK_FOR_INTERRUPTS();
		if (messages->count >= most || messages->bytes >= most_bytes || are_all_at_end(source, points, npoints) ||
			ki_source_barrier(source)->kind != KI_BARRIER_NONE ||
			GetCurrentTimestamp() >= deadline)
			return messages;
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 ki_source_socket(source), 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
