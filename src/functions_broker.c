/*
 * functions_broker.c
 *	  SQL-callable questions to a Kafka cluster: is the connection good, and
 *	  which topics are there (floor 6).
 *
 * Both open a client of their own, ask, and close it again.  What goes wrong
 * is an error that names the connection and says what the library said.
 *
 * Memory: the client lives in the call's context, so an error or a cancelled
 * query destroys it.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "funcapi.h"
#include "look.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define TOPICS_WAIT_MS 5000

PG_FUNCTION_INFO_V1(kafka_ingest_check_connection);
PG_FUNCTION_INFO_V1(kafka_ingest_topics);

/* --- check_connection --- */

static int
wait_of_interval(const Interval *interval)
{
	int64		ms = interval->time / 1000 +
	(interval->day + (int64) interval->month * DAYS_PER_MONTH) *
	SECS_PER_DAY * 1000;

	if (ms <= 0 || ms > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be positive and at most 24 days")));
	return (int) ms;
}

static void
put_brokers(ReturnSetInfo *result, const KiCluster *cluster)
{
	for (int i = 0; i < cluster->nbrokers; i++)
	{
		const KiBroker *broker = &cluster->brokers[i];
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = Int32GetDatum(broker->id);
		values[1] = CStringGetTextDatum(broker->host);
		values[2] = Int32GetDatum(broker->port);
		values[3] = BoolGetDatum(broker->id == cluster->controller_id);
		nulls[4] = cluster->cluster_id == NULL;
		values[4] = nulls[4] ? (Datum) 0 :
			CStringGetTextDatum(cluster->cluster_id);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

Datum
kafka_ingest_check_connection(PG_FUNCTION_ARGS)
{
	KiConnection *connection;
	KiSource   *source;
	KiCluster	cluster;
	int			wait_ms;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and timeout must not be null")));
	wait_ms = wait_of_interval(PG_GETARG_INTERVAL_P(1));
	InitMaterializedSRF(fcinfo, 0);
	connection = ki_connection_load(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									GetUserId(), NULL, false);
	source = ki_look_open(connection, NULL);
	ki_look_cluster(source, connection, NULL, wait_ms, &cluster);
	put_brokers((ReturnSetInfo *) fcinfo->resultinfo, &cluster);
	ki_source_close(source);
	return (Datum) 0;
}

/* --- topics --- */

static int
compare_partitions(const void *a, const void *b)
{
	const KiTopicPartition *x = a;
	const KiTopicPartition *y = b;
	int			order = strcmp(x->topic, y->topic);

	return order != 0 ? order : x->partition - y->partition;
}

static bool
is_like(const char *topic, text *pattern)
{
	return pattern == NULL ||
		DatumGetBool(DirectFunctionCall2Coll(textlike, C_COLLATION_OID,
											 CStringGetTextDatum(topic),
											 PointerGetDatum(pattern)));
}

/*
 * The offsets of a partition, or NULLs while it has no leader or we may not
 * know them.  False: it is no longer there.
 */
static bool
get_offsets(KiSource *source, const KiConnection *connection,
			const KiTopicPartition *partition, Datum *values, bool *nulls)
{
	int64		low_offset = -1;
	int64		stable_offset = -1;
	KiAnswer	answer = KI_ANSWER_NONE;

	if (partition->leader >= 0)
		answer = ki_source_watermarks(source, partition->topic,
									  partition->partition, TOPICS_WAIT_MS,
									  &low_offset, &stable_offset);
	if (answer == KI_ANSWER_MISSING)
		return false;
	if (answer == KI_ANSWER_NONE && partition->leader >= 0)
	{
		const char *reason = ki_source_trouble(source)->reason;

		if (reason == NULL || strcmp(reason, "not_authorized") != 0)
			ki_look_unanswered(source, connection);
	}
	nulls[3] = nulls[4] = answer != KI_ANSWER_OK;
	values[3] = Int64GetDatum(low_offset);
	values[4] = Int64GetDatum(stable_offset);
	return true;
}

static void
put_topics(ReturnSetInfo *result, KiSource *source,
		   const KiConnection *connection, const KiCluster *cluster,
		   text *pattern)
{
	for (int i = 0; i < cluster->npartitions; i++)
	{
		const KiTopicPartition *partition = &cluster->partitions[i];
		Datum		values[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		if (!is_like(partition->topic, pattern) ||
			!get_offsets(source, connection, partition, values, nulls))
			continue;
		values[0] = CStringGetTextDatum(partition->topic);
		values[1] = Int32GetDatum(partition->partition);
		values[2] = Int32GetDatum(partition->leader);
		nulls[2] = partition->leader < 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

Datum
kafka_ingest_topics(PG_FUNCTION_ARGS)
{
	KiConnection *connection;
	KiSource   *source;
	KiCluster	cluster;
	text	   *pattern = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("connection must not be null")));
	InitMaterializedSRF(fcinfo, 0);
	connection = ki_connection_load(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									GetUserId(), NULL, false);
	source = ki_look_open(connection, NULL);
	ki_look_cluster(source, connection, NULL, TOPICS_WAIT_MS, &cluster);
	qsort(cluster.partitions, cluster.npartitions, sizeof(KiTopicPartition),
		  compare_partitions);
	put_topics((ReturnSetInfo *) fcinfo->resultinfo, source, connection,
			   &cluster, pattern);
	ki_source_close(source);
	return (Datum) 0;
}
