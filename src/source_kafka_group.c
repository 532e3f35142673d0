/*
 * source_kafka_group.c
 *	  The consumer group as a notice board: offsets are published there for
 *	  Kafka's own tools, and nothing depends on it (floor 2).
 *
 * A commit is handed to the library and its reply comes as an event on the
 * main queue, some time or never: no callback, no waiting.  The client has no
 * membership in the group, so these are commits of a simple consumer, and
 * several clients may share a group.  A refusal is one line in the server log
 * an hour, and no trouble.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "source_kafka.h"
#include "utils/timestamp.h"

#define SAY_AGAIN_MS (60 * 60 * 1000)
#define SAID_MAX 16				/* different lines that are remembered */

/* A line about a group that was logged, by its hash. */
typedef struct Said
{
	uint32		hash;
	TimestampTz at;
} Said;

/*
 * Of this process, since a client does not live for an hour when its pipeline
 * is changed.
 */
static Said said[SAID_MAX];

/* Has this not been said for an hour?  Then it is now. */
static bool
is_news(uint32 hash)
{
	TimestampTz now = GetCurrentTimestamp();
	Said	   *oldest = &said[0];

	for (int i = 0; i < SAID_MAX; i++)
	{
		if (said[i].at != 0 && said[i].hash == hash &&
			!TimestampDifferenceExceeds(said[i].at, now, SAY_AGAIN_MS))
			return false;
		if (said[i].at < oldest->at)
			oldest = &said[i];
	}
	oldest->hash = hash;
	oldest->at = now;
	return true;
}

void
ki_source_group_error(KiSource *source, rd_kafka_resp_err_t err,
					  const char *what)
{
	uint32		hash = hash_combine(hash_bytes((const unsigned char *) source->group_id,
											   strlen(source->group_id)),
									(uint32) err);

	if (err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
		source->is_group_denied = true;
	if (is_news(hash))
		ereport(LOG,
				(errmsg("kafka client: group \"%s\" cannot be used: %s",
						source->group_id, what),
				 source->nreadings == 0 ? 0 :
				 errdetail("Only the offsets that Kafka's own tools show are concerned.")));
}

/* --- publishing --- */

bool
ki_source_publish(KiSource *source, const KiPosition *positions,
				  int npositions)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t err;

	if (source->publication == KI_PUBLICATION_UNDERWAY || npositions == 0)
		return false;
	list = rd_kafka_topic_partition_list_new(npositions);
	for (int i = 0; i < npositions; i++)
		rd_kafka_topic_partition_list_add(list, positions[i].topic,
										  positions[i].partition)->offset =
			positions[i].next_offset;
	err = rd_kafka_commit_queue(source->client, list, source->main_queue,
								NULL, NULL);
	rd_kafka_topic_partition_list_destroy(list);
	source->publication = err == RD_KAFKA_RESP_ERR_NO_ERROR ?
		KI_PUBLICATION_UNDERWAY : KI_PUBLICATION_FAILED;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ki_source_group_error(source, err, rd_kafka_err2str(err));
	return true;
}

KiPublication
ki_source_publication(const KiSource *source)
{
	return source->publication;
}

/* The first error in a reply. */
static rd_kafka_resp_err_t
reply_error(rd_kafka_event_t *event)
{
	const rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);

	list = rd_kafka_event_topic_partition_list(event);
	for (int i = 0; list != NULL && i < list->cnt; i++)
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = list->elems[i].err;
	return err;
}

/* The reply is source->event. */
void
ki_source_take_publication(KiSource *source)
{
	rd_kafka_resp_err_t err = reply_error(source->event);

	source->publication = err == RD_KAFKA_RESP_ERR_NO_ERROR ?
		KI_PUBLICATION_DONE : KI_PUBLICATION_FAILED;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		ki_source_group_error(source, err, rd_kafka_err2str(err));
}
