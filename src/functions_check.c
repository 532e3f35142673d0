/*
 * functions_check.c
 *	  What check() knows from here: the states of pipelines, and what their
 *	  configuration will lead to.  The rest of check() is SQL over the views.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "owned.h"
#include "settings.h"
#include "slot.h"
#include "source.h"
#include "state.h"
#include "write.h"

PG_FUNCTION_INFO_V1(kafka_ingest_check_rows);

#define NEAR_LIMIT 0.8			/* of the size that stops a pipeline */
#define PAUSED_LONG_MS ((int) (24 * SECS_PER_HOUR * 1000))

/* Where advice goes, and which pipeline it is about. */
typedef struct Check
{
	ReturnSetInfo *result;
	const KiPipeline *pipeline; /* NULL: the server */
	KiState		state;			/* of the pipeline */
	KiState		server;			/* of one that the server holds back */
} Check;

/* What to do about a reason, and whether it takes a person. */
typedef struct Advice
{
	const char *reason;
	bool		needs_person;
	const char *hint;
} Advice;

/* A reason that is not here says in its detail what there is to say. */
static const Advice advices[] = {
	{"broker_unreachable", false, "Check the brokers and the network; check_connection() tells more."},
	{"authentication_failed", true, "Check the credentials in the user mapping of the owner, with check_connection()."},
	{"not_authorized", true, "Let the Kafka user describe and read the topic."},
	{"tls_failed", true, "Check security.protocol and the certificates of the connection."},
	{"topic_missing", true, "Make the topic, or alter_pipeline() to another one."},
	{"connection_missing", true, "Make the connection again, or alter_pipeline() to another one."},
	{"offset_lost", true, "Decide where to go on: seek()."},
	{"topic_recreated", true, "Decide where to go on: seek()."},
	{"corrupt", true, "seek() leads past the place; replicas of the topic may be whole."},
	{"bad_message", true, "Correct the mapping or the table and resume(), or seek() past the message."},
	{"error_ratio", true, "The view dead_letters says what is wrong; correct it, resume() and retry_dead_letters()."},
	{"dead_letters_full", true, "Retry or discard dead letters, or raise kafka_ingest.dead_letter_max_size; then resume()."},
	{"target_missing", true, "Make the table again, or alter_pipeline() to another one."},
	{"target_changed", true, "Alter the table or the mapping so that they fit."},
	{"permission_denied", true, "Grant the owner what the detail names."},
	{"owner_missing", true, "Give the pipeline to another role: alter_pipeline(owner => ...)."},
	{"owner_cannot_login", true, "ALTER ROLE ... LOGIN, and GRANT CONNECT ON DATABASE."},
	{"lock_timeout", false, "Look at pg_blocking_pids() of the worker."},
	{"out_of_space", true, "Make room on the disk."},
	{"database_error", true, "The server log and last_error say more."},
	{"no_worker_slot", true, "Raise kafka_ingest.max_workers and max_worker_processes, and restart the server."},
	{"copied_database", true, "adopt() lets the pipeline load in this copy too; drop_pipeline() gives it up."},
};

static void
advise(const Check *check, const char *severity, const char *code,
	   const char *problem, const char *hint)
{
	const char *texts[5] = {NULL, severity, code, problem, hint};
	Datum		values[5];
	bool		nulls[5];

	texts[0] = check->pipeline ? check->pipeline->name : NULL;
	for (int i = 0; i < 5; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(check->result->setResult, check->result->setDesc,
						 values, nulls);
}

static bool
is_state(const Check *check, const char *state)
{
	return strcmp(check->state.state, state) == 0;
}

static bool
has_reason(const Check *check, const char *reason)
{
	return check->state.reason && strcmp(check->state.reason, reason) == 0;
}

/* ------------------------------------------------------------------------
 * The state
 * ------------------------------------------------------------------------
 */
static const Advice *
find_advice(const char *reason)
{
	for (int i = 0; i < (int) lengthof(advices); i++)
		if (strcmp(advices[i].reason, reason) == 0)
			return &advices[i];
	return NULL;
}

static void
check_state(Check *check)
{
	const KiState *state = &check->state;
	const Advice *advice;
	const char *problem;

	if (state->reason == NULL)
		return;

	/* What holds the whole server back is said once, not for each pipeline. */
	if (has_reason(check, "not_preloaded") || has_reason(check, "standby") ||
		has_reason(check, "disabled"))
	{
		check->server = *state;
		return;
	}
	advice = find_advice(state->reason);
	problem = state->detail ? state->detail :
		psprintf("The pipeline is %s.", state->state);
	advise(check, is_state(check, "stopped") || (advice && advice->needs_person) ?
		   "error" : "warning",
		   state->reason, problem, advice ? advice->hint : NULL);
}

static void
check_paused(const Check *check)
{
	if (is_state(check, "paused") &&
		TimestampDifferenceExceeds(check->state.since, GetCurrentTimestamp(),
								   PAUSED_LONG_MS))
		advise(check, "info", "paused",
			   psprintf("The pipeline is paused, and was last changed at %s.",
						timestamptz_to_str(check->state.since)),
			   "resume() before the topic's retention removes what was not loaded, or drop_pipeline().");
}

/* ------------------------------------------------------------------------
 * The connection
 * ------------------------------------------------------------------------
 */
static const char *
option_of(const ForeignServer *server, const char *name)
{
	ListCell   *cell;

	foreach(cell, server->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return "";
}

static bool
has_mapping(Oid server, Oid role)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
								 ObjectIdGetDatum(server)) ||
		SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							  ObjectIdGetDatum(InvalidOid),
							  ObjectIdGetDatum(server));
}

/* Does this librdkafka fail at SCRAM with brokers 4.0 and newer? */
static bool
has_old_scram(void)
{
	int			major = 0;
	int			minor = 0;
	int			patch = 0;

	(void) sscanf(ki_source_library_version(), "%d.%d.%d", &major, &minor,
				  &patch);
	return major < 2 || (major == 2 && (minor < 6 || (minor == 6 && patch < 1)));
}

static void
check_connection(const Check *check)
{
	const KiPipeline *pipeline = check->pipeline;
	ForeignServer *server = GetForeignServerByName(pipeline->connection, true);
	const char *mechanism;

	if (server == NULL)
	{
		if (!has_reason(check, "connection_missing"))
			advise(check, "error", "connection_missing",
				   psprintf("The connection \"%s\" does not exist any more.",
							pipeline->connection),
				   find_advice("connection_missing")->hint);
		return;
	}
	mechanism = option_of(server, "sasl.mechanisms");
	if (strncmp(mechanism, "SCRAM-", 6) == 0 && has_old_scram())
		advise(check, "warning", "old_scram",
			   psprintf("Connection \"%s\" uses SCRAM, which librdkafka %s cannot do with Kafka 4 and newer.",
						pipeline->connection, ki_source_library_version()),
			   "Use librdkafka 2.6.1 or newer, or another mechanism.");
	if (pg_strncasecmp(option_of(server, "security.protocol"), "sasl", 4) == 0 &&
		(strcmp(mechanism, "PLAIN") == 0 || strncmp(mechanism, "SCRAM-", 6) == 0) &&
		!has_mapping(server->serverid, pipeline->owner))
		advise(check, "error", "no_credentials",
			   psprintf("Connection \"%s\" uses SASL, and neither the owner, role \"%s\", nor PUBLIC has a user mapping.",
						pipeline->connection, pipeline->owner_name),
			   "alter_connection(secrets => ..., secrets_for => ...) or CREATE USER MAPPING.");
}

/* ------------------------------------------------------------------------
 * Dead letters
 * ------------------------------------------------------------------------
 */

/*
 * Those that later messages superseded, and those of which nobody knows, so
 * that retrying leaves them alone.
 */
static void
count_kinds(const KiPipeline *pipeline, int64 *nsuperseded, int64 *nstale)
{
	bool		is_upsert = ki_pipeline_is_upsert(pipeline);
	ListCell   *cell;

	*nsuperseded = *nstale = 0;
	foreach(cell, ki_letter_all(pipeline->id))
	{
		const KiLetterRow *row = lfirst(cell);

		*nsuperseded += row->is_superseded;
		*nstale += is_upsert && !row->is_superseded && !row->has_key;
	}
}

static void
check_letters(const Check *check)
{
	int64		limit = (int64) ki_setting_dead_letter_max_size_kb * 1024;
	int64		count;
	int64		bytes;
	int64		nsuperseded;
	int64		nstale;

	ki_letter_sum(check->pipeline->id, &count, &bytes);
	if (count == 0)
		return;
	count_kinds(check->pipeline, &nsuperseded, &nstale);
	if (count > nsuperseded)
		advise(check, "warning", "dead_letters",
			   psprintf("Messages that could not be written and wait as dead letters: " INT64_FORMAT ".",
						count - nsuperseded),
			   nstale == 0 ?
			   "The view dead_letters says why; retry_dead_letters() or discard_dead_letters()." :
			   psprintf("The view dead_letters says why; retry_dead_letters(), for " INT64_FORMAT " of them with allow_stale => true, or discard_dead_letters().",
						nstale));
	if (nsuperseded > 0)
		advise(check, "info", "superseded_letters",
			   psprintf("Dead letters that later messages of their keys supersede, and that will never be applied: " INT64_FORMAT ".",
						nsuperseded),
			   "discard_dead_letters() removes them.");
	if (bytes > limit * NEAR_LIMIT)
		advise(check, "warning", "dead_letters_near_limit",
			   psprintf("The dead letters take " INT64_FORMAT " bytes, and the pipeline stops at " INT64_FORMAT ".",
						bytes, limit),
			   "Retry or discard them, or raise kafka_ingest.dead_letter_max_size.");
}

/* ------------------------------------------------------------------------
 * The work
 * ------------------------------------------------------------------------
 */
static void
check_workers(const Check *check)
{
	const KiPipeline *pipeline = check->pipeline;
	ListCell   *cell;
	int			npartitions = 0;

	foreach(cell, ki_position_all(pipeline->id))
	{
		const KiPosition *at = &((KiPositionRow *) lfirst(cell))->at;

		npartitions += ki_pipeline_reads(pipeline, at->topic, at->partition);
	}
	if (npartitions > 0 && pipeline->workers > npartitions)
		advise(check, "info", "idle_workers",
			   psprintf("There are %d workers for %d partitions: those beyond have nothing to do.",
						pipeline->workers, npartitions),
			   "Lower workers with alter_pipeline(), or add partitions to the topic.");
}

static void
check_topics(const Check *check)
{
	char	   *no_topic = is_state(check, "running") ?
	ki_state_no_topic(check->pipeline) : NULL;

	if (no_topic)
		advise(check, "warning", "no_topic", no_topic,
			   "Topics that appear are read from offset 0; alter_pipeline() changes the pattern.");
}

static void
check_transactions(const Check *check)
{
	char	   *held = ki_state_held_back(check->pipeline);

	if (held)
		advise(check, "warning", "open_transaction", held,
			   "End the producer's transaction, or abort it with kafka-transactions.sh; Kafka does so after transaction.timeout.ms.");
}

static void
check_writer(const Check *check)
{
	const KiPipeline *pipeline = check->pipeline;
	char		kind = OidIsValid(pipeline->target) ?
	get_rel_relkind(pipeline->target) : '\0';

	if (strcmp(pipeline->mode, "append") == 0 &&
		(kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) &&
		ki_write_method(pipeline->target) == KI_WRITE_INSERT)
		advise(check, "info", "slow_writer",
			   "Rows are written by INSERT, which is slower than writing them directly.",
			   "BEFORE triggers, rules, transition tables, and the extensions citus and timescaledb make it necessary; see pipelines.write_method.");
}

static void
check_pipeline(Check *check)
{
	memset(&check->state, 0, sizeof(KiState));
	ki_state_derive(check->pipeline, &check->state);
	check_state(check);
	check_paused(check);
	check_connection(check);
	check_letters(check);
	check_workers(check);
	check_topics(check);
	check_transactions(check);
	check_writer(check);
}

/* ------------------------------------------------------------------------
 * The server
 * ------------------------------------------------------------------------
 */

static void
check_server(Check *check)
{
	check->pipeline = NULL;
	check->state = check->server;
	if (!ki_slot_available())
		advise(check, "error", "not_preloaded",
			   "The server was started without kafka_ingest in shared_preload_libraries, so nothing loads in the background.",
			   "Add it and restart the server; CALL run() loads by hand.");
	else if (has_reason(check, "disabled"))
		advise(check, "warning", "disabled", check->state.detail,
			   "Change the setting and reload the configuration.");
	else if (has_reason(check, "standby"))
		advise(check, "info", "standby", check->state.detail, NULL);
}

Datum
kafka_ingest_check_rows(PG_FUNCTION_ARGS)
{
	Check		check = {0};
	bool		sees_all = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	check.result = (ReturnSetInfo *) fcinfo->resultinfo;
	foreach(cell, sees_all ? ki_pipeline_all() : ki_owned_all())
	{
		check.pipeline = lfirst(cell);
		check_pipeline(&check);
	}
	check_server(&check);
	PG_RETURN_VOID();
}
