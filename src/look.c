/*
 * look.c
 *	  Questions to a cluster outside any pipeline, and what is said when there
 *	  is no answer.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "look.h"

#define GROUP_ID "kafka_ingest"
#define QUESTION_BYTES (1024 * 1024)
#define READING_BYTES (16 * 1024 * 1024)	/* of the prefetch */
#define FIRST_WAIT_MS 500
#define FETCH_WAIT_MS "50"

/* --- errors --- */

static bool
has_property(const KiConnection *connection, const char *name)
{
	for (int i = 0; i < connection->nproperties; i++)
		if (strcmp(connection->properties[i].name, name) == 0)
			return true;
	return false;
}

static int
sqlstate_of(const char *reason, const KiConnection *connection)
{
	if (strcmp(reason, "authentication_failed") == 0)
		return has_property(connection, "sasl.username") ?
			ERRCODE_INVALID_PASSWORD :
			ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
	if (strcmp(reason, "not_authorized") == 0)
		return ERRCODE_INSUFFICIENT_PRIVILEGE;
	return ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
}

static const char *
hint_of(const char *reason, const KiConnection *connection)
{
	if (strcmp(reason, "authentication_failed") == 0)
		return !connection->has_mapping ?
			"There is no user mapping with credentials for this user." :
			"Check security.protocol and sasl.mechanisms, and sasl.username and sasl.password of the user mapping.";
	if (strcmp(reason, "tls_failed") == 0)
		return "Check security.protocol and the certificates: ssl.ca.pem, and ssl.certificate.pem and ssl.key.pem if the broker wants one of the client.";
	if (strcmp(reason, "not_authorized") == 0)
		return "The Kafka user needs permission to describe the cluster and to read its topics.";
	return "Check the option \"brokers\", and that the database server can reach the addresses that the brokers advertise.";
}

void
ki_look_unanswered(const KiSource *source, const KiConnection *connection)
{
	const KiTrouble *trouble = ki_source_trouble(source);
	const char *reason = trouble->reason ? trouble->reason : "broker_unreachable";

	ereport(ERROR,
			(errcode(sqlstate_of(reason, connection)),
			 errmsg("cannot use the Kafka brokers \"%s\" of connection \"%s\": %s",
					connection->brokers, connection->name, reason),
			 trouble->detail ? errdetail("%s", trouble->detail) :
			 errdetail("No broker answered in time."),
			 errhint("%s", hint_of(reason, connection))));
}

/* --- asking --- */

/*
 * A broker that has nothing more says so only after a wait, and here somebody
 * waits for the end of a partition.
 */
static KiConnection *
make_impatient(const KiConnection *connection)
{
	KiConnection *copy = palloc_object(KiConnection);
	KiProperty *properties = palloc_array(KiProperty,
										  connection->nproperties + 1);

	memcpy(copy, connection, sizeof(KiConnection));
	memcpy(properties + 1, connection->properties,
		   sizeof(KiProperty) * connection->nproperties);
	properties[0].name = "fetch.wait.max.ms";
	properties[0].value = FETCH_WAIT_MS;
	properties[0].is_secret = false;
	copy->properties = properties;
	copy->nproperties++;
	return copy;
}

KiSource *
ki_look_open(const KiConnection *connection, const char *topic)
{
	KiSourceOptions options = {0};

	if (connection->needs_secret)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("connection \"%s\" has no credentials for this user",
						connection->name),
				 errhint("Give them with kafka_ingest.alter_connection(), or CREATE USER MAPPING.")));
	options.connection = make_impatient(connection);
	options.topics = topic;
	options.group_id = GROUP_ID;
	options.memory_bytes = topic ? READING_BYTES : QUESTION_BYTES;
	options.want_headers = topic != NULL;
	return ki_source_create(&options);
}

bool
ki_look_is_hopeless(const KiSource *source)
{
	const char *reason = ki_source_trouble(source)->reason;

	return reason != NULL &&
		(strcmp(reason, "authentication_failed") == 0 ||
		 strcmp(reason, "tls_failed") == 0 ||
		 strcmp(reason, "not_authorized") == 0);
}

/*
 * A topic that is just being made may be unknown to the first broker asked:
 * only the second such answer counts.
 */
static void
check_missing(KiAnswer answer, const KiConnection *connection,
			  const char *topic, int *nmissing)
{
	if (answer == KI_ANSWER_MISSING && ++*nmissing > 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist in connection \"%s\"",
						topic, connection->name),
				 errhint("The function kafka_ingest.topics() lists those that do.")));
}

/* The first waits are short, so that what is wrong for good shows soon. */
void
ki_look_cluster(KiSource *source, const KiConnection *connection,
				const char *topic, int wait_ms, KiCluster *cluster)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  wait_ms);
	int			patience_ms = FIRST_WAIT_MS;
	int			nmissing = 0;

	for (;;)
	{
		int			left_ms = (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
																	end);
		KiAnswer	answer = ki_source_cluster(source, Min(patience_ms, left_ms),
											   cluster);

		if (answer == KI_ANSWER_OK)
			return;
		check_missing(answer, connection, topic, &nmissing);
		if (GetCurrentTimestamp() >= end || ki_look_is_hopeless(source))
			ki_look_unanswered(source, connection);
		patience_ms *= 2;
	}
}
