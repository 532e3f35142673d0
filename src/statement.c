/*
 * statement.c
 *	  A pipeline's own statements, run over its messages.
 *
 * SPI does it: the messages of a piece are an ephemeral relation under the
 * name "messages", in a tuplestore.  The statements are analyzed and planned
 * for every piece.  So the planner knows how many messages there are, and what
 * columns of them are used is known for certain before the rows are made,
 * whatever names have come to mean since the last batch.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"

#include "session.h"
#include "statement.h"
#include "statement_messages.h"
#include "statement_query.h"
#include "text.h"

#define FIRST_CAPACITY 1024		/* messages */

struct KiStatement
{
	const KiPipeline *pipeline;
	TupleDesc	desc;			/* of messages */
	bool		is_key_json;

	/* what prepare found, in a context of its own */
	MemoryContext shape_context;
	Bitmapset  *columns;		/* of messages that are used */
	KiMap	   *map;			/* makes them */
	bool		is_shaped;

	/* the piece under way */
	MemoryContext piece;
	int			memory_kb;
	const KiMessage **messages;
	int			nmessages;
	int			capacity;
	const KiMessage *taken;		/* to be added */
};

/* ------------------------------------------------------------------------
 * Analysis
 * ------------------------------------------------------------------------
 */
static EphemeralNamedRelation
make_relation(const KiStatement *statement, int nmessages,
			  Tuplestorestate *rows)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = pstrdup(KI_MESSAGES_NAME);
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = statement->desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = nmessages;
	relation->reldata = rows;
	return relation;
}

/* Connected to SPI: analyze over a relation of so many messages. */
static SPIPlanPtr
analyze(const KiStatement *statement, int nmessages, Tuplestorestate *rows)
{
	SPIPlanPtr	plan;

	if (SPI_register_relation(make_relation(statement, nmessages, rows)) < 0)
		elog(ERROR, "cannot register relation \"%s\"", KI_MESSAGES_NAME);
	plan = SPI_prepare(statement->pipeline->statement, 0, NULL);
	if (!plan)
		elog(ERROR, "cannot prepare statements: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

/* Make what depends on the columns that are used. */
static void
take_shape(KiStatement *statement, const Bitmapset *columns)
{
	MemoryContext old;

	if (statement->is_shaped && bms_equal(statement->columns, columns))
		return;
	statement->is_shaped = false;
	MemoryContextReset(statement->shape_context);
	old = MemoryContextSwitchTo(statement->shape_context);
	statement->columns = bms_copy(columns);
	statement->map = ki_messages_map(statement->pipeline, statement->desc, columns);
	MemoryContextSwitchTo(old);
	statement->is_shaped = true;
}

void
ki_statement_prepare(KiStatement *statement)
{
	SPI_connect();
	ki_statement_check_commands(statement->pipeline->statement);
	take_shape(statement,
			   ki_statement_columns(SPI_plan_get_plan_sources(analyze(statement, 0, NULL))));
	SPI_finish();
}

KiStatement *
ki_statement_create(const KiPipeline *pipeline)
{
	KiStatement *statement = palloc0(sizeof(KiStatement));

	statement->pipeline = pipeline;
	statement->is_key_json = strcmp(pipeline->key_format, "json") == 0;
	statement->desc = ki_messages_desc(pipeline);
	statement->shape_context = AllocSetContextCreate(CurrentMemoryContext,
													 "kafka_ingest statement",
													 ALLOCSET_SMALL_SIZES);
	return statement;
}

bool
ki_statement_wants_headers(const KiStatement *statement)
{
	return ki_map_wants_headers(statement->map);
}

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------
 */
void
ki_statement_begin(KiStatement *statement, int memory_kb)
{
	statement->piece = CurrentMemoryContext;
	statement->memory_kb = memory_kb;
	statement->nmessages = 0;
	statement->capacity = FIRST_CAPACITY;
	statement->messages = palloc(sizeof(KiMessage *) * statement->capacity);
}

/* What is not used is not looked at. */
static bool
is_of_format(const KiStatement *statement, const KiMessage *message, KiFault *fault)
{
	bool		uses_key = bms_is_member(KI_MESSAGES_KEY, statement->columns);
	const char *string;
	int			len;

	if ((bms_is_member(KI_MESSAGES_VALUE, statement->columns) ||
		 (uses_key && statement->is_key_json)) &&
		!ki_map_decode(statement->map, message, fault))
		return false;
	return !uses_key || statement->is_key_json || !message->key ||
		ki_text_read(message->key, message->key_len, &string, &len, fault);
}

bool
ki_statement_take(KiStatement *statement, const KiMessage *message,
				  KiFault *fault)
{
	statement->taken = message;
	return is_of_format(statement, message, fault);
}

void
ki_statement_add(KiStatement *statement)
{
	if (statement->nmessages == statement->capacity)
	{
		statement->capacity *= 2;
		statement->messages = repalloc_huge(statement->messages,
											sizeof(KiMessage *) * statement->capacity);
	}
	statement->messages[statement->nmessages++] = statement->taken;
}

/* ------------------------------------------------------------------------
 * Execution
 * ------------------------------------------------------------------------
 */

/* Connected to SPI. */
static void
run(const KiStatement *statement, Tuplestorestate *rows)
{
	SPIPlanPtr	plan = analyze(statement, statement->nmessages, rows);
	SPIExecuteOptions options = {.dest = None_Receiver};
	int			result;

	if (!bms_equal(ki_statement_columns(SPI_plan_get_plan_sources(plan)),
				   statement->columns))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a name in the statement of pipeline \"%s\" came to mean something else while it was run",
						statement->pipeline->name)));
	ki_messages_store(statement->messages, statement->nmessages,
					  statement->map, statement->desc, statement->columns, rows);
	result = SPI_execute_plan_extended(plan, &options);
	if (result < 0)
		elog(ERROR, "cannot run statements: %s", SPI_result_code_string(result));
}

void
ki_statement_end(KiStatement *statement)
{
	Tuplestorestate *rows;
	MemoryContext old;

	if (statement->nmessages == 0)
		return;
	old = MemoryContextSwitchTo(statement->piece);
	rows = tuplestore_begin_heap(false, false, statement->memory_kb);
	SPI_connect();
	run(statement, rows);
	SPI_finish();
	tuplestore_end(rows);
	pfree(statement->messages);
	statement->messages = NULL;
	MemoryContextSwitchTo(old);
	ki_session_check_constraints();
}
