/*
 * statement_messages.c
 *	  The relation "messages".
 *
 * Only the columns that are used are made: jsonb costs more than all else that
 * is done with a message.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "statement_messages.h"

/* ------------------------------------------------------------------------
 * The relation
 * ------------------------------------------------------------------------
 */
static const struct
{
	const char *name;
	Oid			type;
	KiOriginKind origin;
}			columns_by_number[] =

{
	{"topic", TEXTOID, KI_ORIGIN_TOPIC},
	{"partition", INT4OID, KI_ORIGIN_PARTITION},
	{"message_offset", INT8OID, KI_ORIGIN_OFFSET},
	{"message_timestamp", TIMESTAMPTZOID, KI_ORIGIN_TIMESTAMP},
	{"key", TEXTOID, KI_ORIGIN_KEY},
	{"value", JSONBOID, KI_ORIGIN_VALUE},
	{"headers", JSONBOID, KI_ORIGIN_HEADERS},
	{"raw", BYTEAOID, KI_ORIGIN_RAW},
};

TupleDesc
ki_messages_desc(const KiPipeline *pipeline)
{
	TupleDesc	desc = CreateTemplateTupleDesc(KI_MESSAGES_COLUMNS);

	for (int i = 0; i < (int) lengthof(columns_by_number); i++)
	{
		Oid			type = columns_by_number[i].type;

		if (i + 1 == KI_MESSAGES_KEY && strcmp(pipeline->key_format, "json") == 0)
			type = JSONBOID;
		TupleDescInitEntry(desc, i + 1, columns_by_number[i].name, type, -1, 0);
	}
	TupleDescInitEntry(desc, KI_MESSAGES_LAST_OF_KEY, "last_of_key", BOOLOID,
					   -1, 0);
	return desc;
}

KiMap *
ki_messages_map(const KiPipeline *pipeline, TupleDesc desc,
				const Bitmapset *columns)
{
	KiMappingItem items[KI_MESSAGES_COLUMNS];
	KiMapping	mapping = {items, 0};

	for (int i = 0; i < (int) lengthof(columns_by_number); i++)
	{
		if (!bms_is_member(i + 1, columns))
			continue;
		items[mapping.nitems].attnum = i + 1;
		items[mapping.nitems++].origin = ki_origin_make(columns_by_number[i].origin);
	}
	return ki_map_create_of(pipeline, desc, &mapping);
}

/* ------------------------------------------------------------------------
 * Order
 * ------------------------------------------------------------------------
 */
static int
compare_topics(const KiMessage *left, const KiMessage *right)
{
	return left->topic == right->topic ? 0 : strcmp(left->topic, right->topic);
}

static int
compare_places(const void *a, const void *b)
{
	const KiMessage *left = *(const KiMessage *const *) a;
	const KiMessage *right = *(const KiMessage *const *) b;
	int			order = compare_topics(left, right);

	if (order == 0 && left->partition != right->partition)
		order = left->partition < right->partition ? -1 : 1;
	if (order == 0)
		order = left->offset < right->offset ? -1 : 1;
	return order;
}

static bool
is_same_key(const KiMessage *left, const KiMessage *right)
{
	return left->key_len == right->key_len &&
		compare_topics(left, right) == 0 &&
		memcmp(left->key, right->key, left->key_len) == 0;
}

/*
 * For each message whether it is the last one of its key: met first, from the
 * end.  The table, at most half full, holds numbers of messages, from 1.
 */
static bool *
find_last_of_keys(const KiMessage **messages, int nmessages)
{
	uint32		size = pg_nextpower2_32(2 * nmessages + 1);
	int		   *table = MemoryContextAllocExtended(CurrentMemoryContext,
												   size * sizeof(int),
												   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	bool	   *is_last = palloc(nmessages);

	for (int i = nmessages - 1; i >= 0; i--)
	{
		const KiMessage *message = messages[i];
		uint32		slot;

		is_last[i] = true;
		if (!message->key)
			continue;
		slot = hash_bytes((const unsigned char *) message->key,
						  (int) message->key_len) & (size - 1);
		while (table[slot] && !is_same_key(messages[table[slot] - 1], message))
			slot = (slot + 1) & (size - 1);
		is_last[i] = table[slot] == 0;
		if (is_last[i])
			table[slot] = i + 1;
	}
	pfree(table);
	return is_last;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */

/* What was decoded before can hardly fail; if it does, the batch finds whose. */
static void
map_message(KiMap *map, const KiMessage *message, KiRow *row)
{
	KiFault		fault = {0};
	KiDecoded  *decoded = ki_map_decode(map, message, &fault);

	if (!decoded || !ki_map_row(map, message, decoded, row, &fault))
		ereport(ERROR,
				(errcode(fault.sqlerrcode),
				 errmsg_internal("%s", fault.message),
				 fault.column_name ?
				 err_generic_string(PG_DIAG_COLUMN_NAME, fault.column_name) : 0));
}

void
ki_messages_store(const KiMessage **messages, int nmessages, KiMap *map,
				  TupleDesc desc, const Bitmapset *columns,
				  Tuplestorestate *rows)
{
	Datum		values[KI_MESSAGES_COLUMNS] = {0};
	bool		nulls[KI_MESSAGES_COLUMNS];
	bool		absent[KI_MESSAGES_COLUMNS] = {0};
	KiRow		row = {.values = values,.nulls = nulls,.absent = absent};
	bool	   *is_last = NULL;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "kafka_ingest message",
													  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	memset(nulls, true, sizeof(nulls));
	qsort(messages, nmessages, sizeof(KiMessage *), compare_places);
	if (bms_is_member(KI_MESSAGES_LAST_OF_KEY, columns))
		is_last = find_last_of_keys(messages, nmessages);
	old = MemoryContextSwitchTo(row_context);
	for (int i = 0; i < nmessages; i++)
	{
		CHECK_FOR_INTERRUPTS();
		map_message(map, messages[i], &row);
		nulls[KI_MESSAGES_LAST_OF_KEY - 1] = !is_last;
		values[KI_MESSAGES_LAST_OF_KEY - 1] = BoolGetDatum(is_last && is_last[i]);
		tuplestore_putvalues(rows, desc, values, nulls);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_context);
}
