/*
 * source_kafka_health.c
 *	  What the library tells beside messages: log lines, errors, and what they
 *	  mean for a person (floor 2).
 *
 * Error events make complaints: why something may be wrong.  Whether anything
 * is wrong is judged from the statistics (source_kafka_stats.c) and from
 * unanswered questions; only then a complaint becomes trouble.  Log lines go
 * to the server log, cleaned, and not the same again and again.
 *
 * Memory: texts are copied into buffers of the source; an event is held in
 * source->event while it is looked at, so an error on the way frees it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "source_kafka.h"
#include "utils/timestamp.h"

#define LOG_LEVEL_SHOWN 5		/* notices and what is more severe */
#define LOG_AGAIN_MS 10000		/* the same line at most this often */
#define COMPLAINT_AGES_MS 60000 /* then a less telling one may replace it */
#define ANSWER_GRACE_MS 3000	/* silence that is no trouble yet */

#define RANK_ALL_DOWN 0			/* tells nothing, or of what we do not need */
#define RANK_CONNECTION 1		/* refused, timed out, closed */
#define RANK_IDENTITY 2			/* certificates, passwords: the cause itself */

/* --- texts --- */

/*
 * Copy a text of the library or the broker, fit to be shown: one line of
 * printable ASCII, whatever encoding the database has, and clipped.
 */
static void
copy_printable(const char *raw, char *clean, size_t size)
{
	size_t		used = 0;

	for (; *raw != '\0' && used + 5 < size; raw++)
	{
		unsigned char c = (unsigned char) *raw;

		if (c >= ' ' && c < 0x7f)
			clean[used++] = (char) c;
		else if (c == '\n' || c == '\t' || c == '\r')
			clean[used++] = ' ';
		else
			used += snprintf(clean + used, size - used, "\\x%02x", c);
	}
	while (used > 0 && clean[used - 1] == ' ')
		used--;
	clean[used] = '\0';
}

/* Put stars over each occurrence of a secret that is long enough to be one. */
static void
mask_secret(char *line, const char *secret)
{
	size_t		len = strlen(secret);
	char	   *found = line;

	if (len < 4)
		return;
	while ((found = strstr(found, secret)) != NULL)
	{
		memset(found, '*', len);
		found += len;
	}
}

/* source NULL: no secrets are known. */
void
ki_source_clean(const KiSource *source, const char *raw, char *clean,
				size_t size)
{
	char		line[2 * KI_TEXT_SIZE];

	strlcpy(line, raw ? raw : "", sizeof(line));
	for (int i = 0; source != NULL && i < source->nsecrets; i++)
		mask_secret(line, source->secrets[i]);
	copy_printable(line, clean, size);
}

/* --- log lines --- */

/* A hash of a line without its digits: durations and ports differ each time. */
static uint32
hash_line(const char *line)
{
	char		letters[KI_TEXT_SIZE];
	int			used = 0;

	for (; *line != '\0' && used < KI_TEXT_SIZE; line++)
		if (*line < '0' || *line > '9')
			letters[used++] = *line;
	return hash_bytes((const unsigned char *) letters, used);
}

/* The slot of this line, or the one that has been quiet for longest. */
static KiLogLine *
find_line(KiHealth *health, uint32 hash)
{
	KiLogLine  *oldest = &health->lines[0];

	for (int i = 0; i < KI_LOG_MEMORY; i++)
	{
		KiLogLine  *line = &health->lines[i];

		if (line->at != 0 && line->hash == hash)
			return line;
		if (line->at < oldest->at)
			oldest = line;
	}
	oldest->hash = hash;
	oldest->at = 0;
	oldest->left_out = 0;
	return oldest;
}

void
ki_source_log(KiSource *source, const char *facility, const char *clean)
{
	TimestampTz now = GetCurrentTimestamp();
	KiLogLine  *line = find_line(&source->health, hash_line(clean));
	int			left_out = line->left_out;

	if (line->at != 0 &&
		!TimestampDifferenceExceeds(line->at, now, LOG_AGAIN_MS))
	{
		line->left_out++;
		return;
	}
	line->at = now;
	line->left_out = 0;
	if (left_out > 0)
		ereport(LOG,
				(errmsg("kafka client: %s: %s (%d times more since then)",
						facility, clean, left_out)));
	else
		ereport(LOG, (errmsg("kafka client: %s: %s", facility, clean)));
}

/*
 * Errors of a partition that does not exist (any more) reach us only as log
 * lines of this facility, since the library takes them from the consumer's
 * queue itself.  Reading on is not safe then: when the topic comes back it is
 * another one.
 */
static void
notice_lost_topic(KiSource *source, const char *clean)
{
	bool		denied = strstr(clean, "uthorization") != NULL;

	ki_source_topic_trouble(source, source->wanted, denied ?
							RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED :
							RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, clean);
	ki_source_block(source, KI_BARRIER_OTHER, NULL, clean);
}

/*
 * The library fetches on where it was after a connection was lost, a leader
 * changed, or a topic was away for a moment, and does not look whether it is
 * still the same topic: one that was deleted, made anew and filled beyond our
 * position is read on as if nothing had happened.  These lines stand in the
 * main queue before any message that was fetched later is in the other, so
 * whoever takes messages first and serves the main queue then misses nothing.
 * Newer libraries close a bootstrap connection once they know the brokers;
 * nothing was ever fetched through it.
 */
static bool
is_interruption(const char *facility, const char *line)
{
	if (strcmp(facility, "BROKERUA") == 0)
		return true;			/* a fetch found the partition away */
	if (strcmp(facility, "BRKMIGR") == 0)
		return strstr(line, "from (none)") == NULL;
	return strcmp(facility, "STATE") == 0 &&
		(strstr(line, "UP -> DOWN") || strstr(line, "UPDATE -> DOWN") ||
		 strstr(line, "REAUTH -> DOWN")) &&
		strstr(line, "GroupCoordinator") == NULL &&
		strstr(line, "/bootstrap: Broker changed") == NULL;
}

static void
serve_log(KiSource *source)
{
	const char *facility;
	const char *line;
	int			level;
	char		clean[KI_TEXT_SIZE];

	if (rd_kafka_event_log(source->event, &facility, &line, &level) != 0)
		return;
	if (is_interruption(facility, line))
		source->is_doubtful = true;
	if (level > LOG_LEVEL_SHOWN && !source->wants_debug)
		return;
	ki_source_clean(source, line, clean, sizeof(clean));
	ki_source_log(source, facility, clean);
	if (level > LOG_LEVEL_SHOWN || source->nreadings == 0)
		return;
	if (strcmp(facility, "ERROR") == 0)
		notice_lost_topic(source, clean);
	if (strcmp(facility, "CLUSTERID") == 0)
		ki_source_block(source, KI_BARRIER_OTHER, NULL, clean);
}

/* --- errors --- */

bool
ki_source_error_denies(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

bool
ki_source_error_missing(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
		err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
		err == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
}

/*
 * The reason a connection fails, and how telling that is.  For a connection
 * the other side just closes, the library guesses the cause in its text; the
 * guess may be wrong (a broker that stops), so the next error replaces it.
 */
static const char *
connection_reason(rd_kafka_resp_err_t err, const char *what, int *rank)
{
	*rank = RANK_IDENTITY;
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
		case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
			return "authentication_failed";
		case RD_KAFKA_RESP_ERR__SSL:
			if (strstr(what, " eof ") || strstr(what, "Disconnected"))
				*rank = RANK_CONNECTION;	/* a broker that stops does so,
											 * too */
			return "tls_failed";
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
			return "not_authorized";
		default:
			break;
	}
	*rank = err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
		strstr(what, "GroupCoordinator") != NULL ?
		RANK_ALL_DOWN : RANK_CONNECTION;
	if (strstr(what, "SSL alert"))
		*rank = RANK_IDENTITY;	/* the broker refuses our certificate */
	if (strstr(what, "SSL"))
		return "tls_failed";
	if (strstr(what, "require SASL"))
		return "authentication_failed";
	return "broker_unreachable";
}

/* Keep what an error event says, unless something more telling is known. */
void
ki_source_complain(KiSource *source, rd_kafka_resp_err_t err,
				   const char *what)
{
	KiComplaint *complaint = &source->health.complaint;
	TimestampTz now = GetCurrentTimestamp();
	char		clean[KI_TEXT_SIZE];
	const char *reason;
	int			rank;

	ki_source_clean(source, what ? what : rd_kafka_err2str(err),
					clean, sizeof(clean));
	reason = connection_reason(err, clean, &rank);
	if (complaint->reason != NULL && rank < complaint->rank &&
		!TimestampDifferenceExceeds(complaint->at, now, COMPLAINT_AGES_MS))
		return;
	complaint->reason = reason;
	complaint->rank = rank;
	complaint->at = now;
	if (source->has_old_scram && strcmp(reason, "authentication_failed") == 0)
		snprintf(complaint->what, sizeof(complaint->what),
				 "%.700s (librdkafka %s cannot do SCRAM with Kafka 4; 2.6.1 and newer can)",
				 clean, rd_kafka_version_str());
	else
		strlcpy(complaint->what, clean, sizeof(complaint->what));
}

/* Trouble with the topic itself, found while the broker answers well. */
void
ki_source_topic_trouble(KiSource *source, const char *topic,
						rd_kafka_resp_err_t err, const char *what)
{
	char		clean[KI_TEXT_SIZE];
	char		detail[KI_TEXT_SIZE];

	ki_source_clean(source, what ? what : rd_kafka_err2str(err),
					clean, sizeof(clean));
	snprintf(detail, sizeof(detail),
			 ki_source_error_denies(err) ?
			 "The broker refuses topic \"%.249s\": %.700s" :
			 "Topic \"%.249s\" does not exist at the broker: %.700s",
			 topic ? topic : "", clean);
	ki_source_set_trouble(source, ki_source_error_denies(err) ?
						  "not_authorized" : "topic_missing",
						  true, GetCurrentTimestamp(), detail);
}

static void
serve_error(KiSource *source)
{
	rd_kafka_resp_err_t err = rd_kafka_event_error(source->event);
	const char *what = rd_kafka_event_error_string(source->event);

	if (rd_kafka_event_error_is_fatal(source->event))
		ki_source_block(source, KI_BARRIER_OTHER, NULL, what);
	ki_source_complain(source, err, what);
}

/* --- questions --- */

/*
 * A broker answered.  That is not the last word while we read: another one may
 * be the one that fails us, which the statistics tell.
 */
void
ki_source_answered(KiSource *source)
{
	source->health.answered_at = GetCurrentTimestamp();
	if (source->nreadings == 0 || source->health.is_topics)
		ki_source_clear_trouble(source);
}

/*
 * No answer in time.  With a complaint at hand it is the cause; without one,
 * only a longer silence is trouble, for the wait may just have been short.
 */
void
ki_source_unanswered(KiSource *source, rd_kafka_resp_err_t err)
{
	KiHealth   *health = &source->health;
	TimestampTz now = GetCurrentTimestamp();
	char		detail[KI_TEXT_SIZE];

	if (health->trouble.reason != NULL && health->complaint.reason == NULL)
		return;
	if (health->complaint.reason != NULL)
		snprintf(detail, sizeof(detail), "The broker cannot be used: %.900s",
				 health->complaint.what);
	else if (TimestampDifferenceExceeds(health->answered_at, now,
										ANSWER_GRACE_MS))
		snprintf(detail, sizeof(detail),
				 "No broker of \"%.500s\" answers: %s",
				 source->brokers, rd_kafka_err2str(err));
	else
		return;
	ki_source_set_trouble(source, health->complaint.reason != NULL ?
						  health->complaint.reason : "broker_unreachable",
						  false, now, detail);
}

/* --- serving --- */

static void
serve_event(KiSource *source)
{
	const char *json;

	switch (rd_kafka_event_type(source->event))
	{
		case RD_KAFKA_EVENT_LOG:
			serve_log(source);
			break;
		case RD_KAFKA_EVENT_ERROR:
			serve_error(source);
			break;
		case RD_KAFKA_EVENT_STATS:
			json = rd_kafka_event_stats(source->event);
			ki_source_take_stats(source, json, strlen(json));
			break;
		case RD_KAFKA_EVENT_OFFSET_COMMIT:
			ki_source_take_publication(source);
			break;
		default:
			break;
	}
}

static void
end_event(KiSource *source)
{
	if (source->event != NULL)
		rd_kafka_event_destroy(source->event);
	source->event = NULL;
}

void
ki_source_serve(KiSource *source)
{
	end_event(source);
	while ((source->event = rd_kafka_queue_poll(source->main_queue, 0)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		serve_event(source);
		end_event(source);
	}
}

const KiTrouble *
ki_source_trouble(const KiSource *source)
{
	return &source->health.trouble;
}
