/*
 * source_kafka_ask.c
 *	  Questions to the brokers: the cluster, watermarks, offsets of times
 *	  and of groups (floor 2).
 *
 * The library's calls block and know nothing of interrupts, so a question is
 * asked in slices that grow from a tenth of a second to one; between them
 * interrupts are checked and errors collected, which alone tell why no answer
 * comes.  Watermarks are asked with rd_kafka_offsets_for_times (-2 and -1 are
 * the protocol's own marks for both ends), for rd_kafka_query_watermark_offsets
 * of 2.0.2 waits for the socket's timeout, whatever its own timeout says.
 *
 * Memory: a metadata answer is held in source->metadata while it is copied
 * into the caller's context, so an error on the way frees it with the source.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "source_kafka.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "topics.h"

#define SLICE_MIN_MS 100
#define SLICE_MAX_MS 1000
#define PAUSE_MS 50				/* after an answer that came too soon */

#define TIME_OF_START (-2)
#define TIME_OF_END (-1)

typedef rd_kafka_resp_err_t (*Question) (KiSource *source, void *about,
										 int wait_ms);

/* Will asking again not help? */
static bool
is_final(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_NO_ERROR ||
		err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
		ki_source_error_missing(err) || ki_source_error_denies(err);
}

/* A call that failed at once must not be repeated at once. */
static void
pause_briefly(void)
{
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_MS,
					 PG_WAIT_EXTENSION);
}

static rd_kafka_resp_err_t
ask(KiSource *source, Question question, void *about, int wait_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  wait_ms);
	int			slice_ms = SLICE_MIN_MS;

	for (;;)
	{
		TimestampTz start = GetCurrentTimestamp();
		int			left_ms = (int) TimestampDifferenceMilliseconds(start, end);
		rd_kafka_resp_err_t err;

		CHECK_FOR_INTERRUPTS();
		err = question(source, about, Min(slice_ms, left_ms));
		ki_source_serve(source);
		if (is_final(err))
			return err;
		if (GetCurrentTimestamp() >= end)
			return err;
		if (!TimestampDifferenceExceeds(start, GetCurrentTimestamp(),
										PAUSE_MS))
			pause_briefly();
		slice_ms = Min(slice_ms * 2, SLICE_MAX_MS);
	}
}

static void
refuse_group(KiSource *source, rd_kafka_resp_err_t err)
{
	char		detail[KI_TEXT_SIZE];

	snprintf(detail, sizeof(detail), "The broker refuses group \"%.500s\": %s",
			 source->group_id, rd_kafka_err2str(err));
	ki_source_set_trouble(source, "not_authorized", true,
						  GetCurrentTimestamp(), detail);
}

/* topic: what the question was about. */
static KiAnswer
conclude(KiSource *source, const char *topic, rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		ki_source_answered(source);
		return KI_ANSWER_OK;
	}
	if (err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
		refuse_group(source, err);
	else if (is_final(err))
		ki_source_topic_trouble(source, topic, err, NULL);
	else
		ki_source_unanswered(source, err);
	return ki_source_error_missing(err) ? KI_ANSWER_MISSING : KI_ANSWER_NONE;
}

/* --- metadata --- */

static void
forget_metadata(KiSource *source)
{
	if (source->metadata)
		rd_kafka_metadata_destroy(source->metadata);
	source->metadata = NULL;
}

/* about: the topic's handle; NULL: all topics. */
static rd_kafka_resp_err_t
ask_metadata(KiSource *source, void *about, int wait_ms)
{
	rd_kafka_resp_err_t err;

	forget_metadata(source);
	err = rd_kafka_metadata(source->client, about == NULL, about,
							&source->metadata, wait_ms);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && about != NULL &&
		source->metadata->topic_cnt == 1)
		err = source->metadata->topics[0].err;

	/* Some partition without a leader is no reason to know nothing. */
	if (err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
		err = RD_KAFKA_RESP_ERR_NO_ERROR;
	return err;
}

static void
copy_brokers(const struct rd_kafka_metadata *metadata, KiCluster *cluster)
{
	cluster->brokers = palloc0(sizeof(KiBroker) * Max(metadata->broker_cnt, 1));
	cluster->nbrokers = metadata->broker_cnt;
	for (int i = 0; i < metadata->broker_cnt; i++)
	{
		cluster->brokers[i].id = metadata->brokers[i].id;
		cluster->brokers[i].host = pstrdup(metadata->brokers[i].host);
		cluster->brokers[i].port = metadata->brokers[i].port;
	}
}

/* Add a topic to what the cluster has. */
static void
copy_topic(const struct rd_kafka_metadata_topic *topic, KiCluster *cluster)
{
	Size		size = sizeof(KiTopicPartition) *
	(cluster->npartitions + topic->partition_cnt);
	char	   *name = pstrdup(topic->topic);

	if (topic->partition_cnt == 0)
		return;
	cluster->partitions = cluster->partitions ?
		repalloc(cluster->partitions, size) : palloc(size);
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		KiTopicPartition *partition;

		partition = &cluster->partitions[cluster->npartitions++];
		partition->topic = name;
		partition->partition = topic->partitions[i].id;
		partition->leader = topic->partitions[i].leader;
	}
	cluster->topics = lappend(cluster->topics, name);
}

/* The library keeps the cluster's id with any metadata: no waiting. */
static void
copy_cluster(KiSource *source, KiCluster *cluster)
{
	char	   *id = rd_kafka_clusterid(source->client, 0);
	char		kept[KI_TEXT_SIZE];

	if (id != NULL)
	{
		strlcpy(kept, id, sizeof(kept));
		rd_kafka_mem_free(source->client, id);
		cluster->cluster_id = pstrdup(kept);
	}
	cluster->controller_id = rd_kafka_controllerid(source->client, 0);
	copy_brokers(source->metadata, cluster);
}

/* All topics, or those that match a pattern of ours. */
static rd_kafka_resp_err_t
ask_all(KiSource *source, int wait_ms, KiCluster *cluster)
{
	rd_kafka_resp_err_t err = ask(source, ask_metadata, NULL, wait_ms);

	for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR &&
		 i < source->metadata->topic_cnt; i++)
		if (source->wanted == NULL ||
			ki_topics_match(source->wanted, source->metadata->topics[i].topic))
			copy_topic(&source->metadata->topics[i], cluster);
	return err;
}

/*
 * One topic by its name; the library goes on to keep an eye on it.  There is
 * no handle for a name no topic can have.
 */
static rd_kafka_resp_err_t
ask_named(KiSource *source, const char *name, int wait_ms, KiCluster *cluster)
{
	int			number = ki_source_topic(source, name);
	KiSourceTopic *topic = &source->topics[number]; /* after it may move */
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;

	if (topic->handle == NULL)
		topic->handle = rd_kafka_topic_new(source->client, name, NULL);
	if (topic->handle != NULL)
		err = ask(source, ask_metadata, topic->handle, wait_ms);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && source->metadata->topic_cnt == 1)
	{
		copy_topic(&source->metadata->topics[0], cluster);
		topic->partition_count = source->metadata->topics[0].partition_cnt;
	}
	return err;
}

static bool
has_string(List *list, const char *string)
{
	ListCell   *cell;

	foreach(cell, list)
		if (strcmp(lfirst(cell), string) == 0)
		return true;
	return false;
}

/*
 * The topics read by their names.  One that is not there is no error while
 * another one is; *about becomes the name of what the error is about.
 */
static rd_kafka_resp_err_t
ask_names(KiSource *source, int wait_ms, KiCluster *cluster, const char **about)
{
	rd_kafka_resp_err_t first = RD_KAFKA_RESP_ERR_NO_ERROR;
	ListCell   *cell;

	foreach(cell, ki_topics_names(source->wanted))
	{
		char	   *name = lfirst(cell);
		rd_kafka_resp_err_t err;

		if (has_string(cluster->topics, name))
			continue;
		err = ask_named(source, name, wait_ms, cluster);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR && !is_final(err))
			return err;
		if (ki_source_error_missing(err))
			cluster->missing = lappend(cluster->missing, name);
		else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			cluster->denied = lappend(cluster->denied, name);
		if (first == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			first = err;
			*about = name;
		}
	}
	return cluster->topics == NIL ? first : RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* *about becomes what an error is about. */
static rd_kafka_resp_err_t
ask_topics(KiSource *source, int wait_ms, KiCluster *cluster,
		   const char **about)
{
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	bool		asks_all = source->wanted == NULL ||
	ki_topics_has_pattern(source->wanted);

	memset(cluster, 0, sizeof(*cluster));
	*about = source->wanted;
	if (asks_all)
		err = ask_all(source, wait_ms, cluster);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && source->wanted != NULL)
		err = ask_names(source, wait_ms, cluster, about);
	if (source->metadata != NULL && err == RD_KAFKA_RESP_ERR_NO_ERROR)
		copy_cluster(source, cluster);
	forget_metadata(source);
	return err;
}

KiAnswer
ki_source_cluster(KiSource *source, int wait_ms, KiCluster *cluster)
{
	const char *about;
	rd_kafka_resp_err_t err = ask_topics(source, wait_ms, cluster, &about);

	return conclude(source, about, err);
}

bool
ki_source_look(KiSource *source, int wait_ms, KiCluster *cluster)
{
	const char *about;

	return ask_topics(source, wait_ms, cluster, &about) ==
		RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* --- offsets --- */

typedef struct OffsetQuestion
{
	const char *topic;
	int32		partition;
	int64		timestamp_ms;
	int64		offset;			/* the answer; -1: none that late */
} OffsetQuestion;

/*
 * The library also says "unknown" when it could not find out in time: only an
 * answer about the topic itself tells.
 */
static rd_kafka_resp_err_t
confirm_missing(KiSource *source, const OffsetQuestion *question, int wait_ms)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(source->client,
												  question->topic, NULL);
	rd_kafka_resp_err_t err;

	if (handle == NULL)
		return RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
	err = ask_metadata(source, handle, wait_ms);
	rd_kafka_topic_destroy(handle);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		err = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
		for (int i = 0; i < source->metadata->topics[0].partition_cnt; i++)
			if (source->metadata->topics[0].partitions[i].id == question->partition)
				err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	}
	forget_metadata(source);
	return err;
}

static rd_kafka_resp_err_t
ask_offset(KiSource *source, void *about, int wait_ms)
{
	OffsetQuestion *question = about;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(list, question->topic,
									  question->partition)->offset =
		question->timestamp_ms;
	err = rd_kafka_offsets_for_times(source->client, list, wait_ms);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = list->elems[0].err;
	question->offset = list->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(list);
	if (ki_source_error_missing(err))
		err = confirm_missing(source, question, wait_ms);
	return err;
}

static rd_kafka_resp_err_t
ask_offset_at(KiSource *source, const char *topic, int32 partition,
			  int64 timestamp_ms, int wait_ms, int64 *offset)
{
	OffsetQuestion question = {topic, partition, timestamp_ms, -1};
	rd_kafka_resp_err_t err = ask(source, ask_offset, &question, wait_ms);

	*offset = err == RD_KAFKA_RESP_ERR_NO_ERROR ? question.offset : -1;
	return err;
}

KiAnswer
ki_source_watermarks(KiSource *source, const char *topic, int32 partition,
					 int wait_ms, int64 *low_offset, int64 *stable_offset)
{
	rd_kafka_resp_err_t err;

	err = ask_offset_at(source, topic, partition, TIME_OF_START, wait_ms,
						low_offset);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = ask_offset_at(source, topic, partition, TIME_OF_END, wait_ms,
							stable_offset);
	return conclude(source, topic, err);
}

KiAnswer
ki_source_offset_at(KiSource *source, const char *topic, int32 partition,
					int64 timestamp_ms, int wait_ms, int64 *offset)
{
	rd_kafka_resp_err_t err;

	err = ask_offset_at(source, topic, partition, Max(timestamp_ms, 0), wait_ms,
						offset);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR && *offset < 0)
		err = ask_offset_at(source, topic, partition, TIME_OF_END, wait_ms,
							offset);
	return conclude(source, topic, err);
}

/* --- the group --- */

/*
 * That the broker refuses the group the library tells only once, as an error
 * of the consumer, while it goes on to look for the group's coordinator.
 */
static rd_kafka_resp_err_t
ask_committed(KiSource *source, void *about, int wait_ms)
{
	OffsetQuestion *question = about;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(list, question->topic,
									  question->partition);
	err = rd_kafka_committed(source->client, list, wait_ms);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = list->elems[0].err;
	question->offset = list->elems[0].offset;
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ki_source_take_group_errors(source);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && source->is_group_denied)
		err = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
	return err;
}

KiAnswer
ki_source_committed(KiSource *source, const char *topic, int32 partition,
					int wait_ms, int64 *offset)
{
	OffsetQuestion question = {topic, partition, 0, -1};
	rd_kafka_resp_err_t err = ask(source, ask_committed, &question, wait_ms);

	/* "None" is a negative number, and not the same in all libraries. */
	*offset = err == RD_KAFKA_RESP_ERR_NO_ERROR && question.offset >= 0 ?
		question.offset : -1;
	return conclude(source, topic, err);
}
