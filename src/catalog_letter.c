/*
 * catalog_letter.c
 *	  The table kafka_ingest.dead_letter: messages that could not be written,
 *	  whole, each with its fault.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "catalog.h"
#include "compat.h"
#include "text.h"

/* Columns of kafka_ingest.dead_letter. */
enum
{
	COL_ID = 1, COL_PIPELINE, COL_TOPIC, COL_PARTITION, COL_MESSAGE_OFFSET,
	COL_MESSAGE_TIMESTAMP, COL_KEY, COL_VALUE, COL_HEADERS, COL_SUPERSEDED,
	COL_STAGE, COL_SQLSTATE, COL_ERROR, COL_COLUMN_NAME, COL_CONSTRAINT_NAME,
	COL_ATTEMPTS, COL_FIRST_FAILED_AT, COL_LAST_FAILED_AT,
	COL_KEY_HASH,				/* from 0.3.0 on */
	NCOLS = COL_KEY_HASH
};

/* What a row takes beside its message, roughly. */
#define ROW_BYTES 256

typedef struct Row
{
	Datum		values[NCOLS + 1];	/* from 1, as attribute numbers */
	bool		nulls[NCOLS + 1];
	bool		replaces[NCOLS + 1];
} Row;

static void
put(Row *row, int col, Datum value)
{
	row->values[col] = value;
	row->nulls[col] = false;
	row->replaces[col] = true;
}

static void
put_text(Row *row, int col, const char *value)
{
	row->values[col] = ki_text_or_null(value, &row->nulls[col]);
	row->replaces[col] = true;
}

static Datum
bytes_datum(const char *bytes, size_t len)
{
	return PointerGetDatum(cstring_to_text_with_len(bytes, len));
}

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------
 */

/* A name is bytes to Kafka and text to us: hex digits where it is none. */
static Datum
header_name(const char *name)
{
	const char *string = name;
	int			len = strlen(name);

	if (ki_text_is_utf8(name, len) && ki_text_from_utf8(&string, &len))
		return bytes_datum(string, len);
	string = psprintf("\\x%*s", len * 2, "");
	hex_encode(name, len, unconstify(char *, string) + 2);
	return CStringGetTextDatum(string);
}

static Datum
headers_datum(const KiMessage *message, Oid element)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(element, -1);
	Datum	   *items = palloc(sizeof(Datum) * Max(message->nheaders, 1));
	ArrayType  *array;

	for (int i = 0; i < message->nheaders; i++)
	{
		const KiHeader *header = &message->headers[i];
		Datum		values[2];
		bool		nulls[2] = {false, header->value == NULL};

		values[0] = header_name(header->name);
		values[1] = header->value ? bytes_datum(header->value, header->value_len) :
			(Datum) 0;
		items[i] = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	}
	array = construct_array(items, message->nheaders, element, -1, false,
							TYPALIGN_DOUBLE);
	ReleaseTupleDesc(desc);
	return PointerGetDatum(array);
}

static const char *
copy_bytes(Datum value, size_t *len)
{
	text	   *bytes = DatumGetTextPCopy(value);

	*len = VARSIZE_ANY_EXHDR(bytes);
	return VARDATA_ANY(bytes);
}

/* What names were in the database's encoding becomes what Kafka had. */
static void
read_headers(Datum array, Oid element, KiMessage *message)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(element, -1);
	KiHeader   *headers;
	Datum	   *items;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(array), element, -1, false,
					  TYPALIGN_DOUBLE, &items, NULL, &count);
	headers = palloc0(sizeof(KiHeader) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		HeapTupleHeader header = DatumGetHeapTupleHeader(items[i]);
		HeapTupleData tuple = {0};
		Datum		values[2];
		bool		nulls[2];

		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		tuple.t_data = header;
		heap_deform_tuple(&tuple, desc, values, nulls);
		headers[i].name = ki_text_to_utf8(TextDatumGetCString(values[0]));
		if (!nulls[1])
			headers[i].value = copy_bytes(values[1], &headers[i].value_len);
	}
	ReleaseTupleDesc(desc);
	message->headers = headers;
	message->nheaders = count;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */
static void
put_fault(Row *row, const KiLetter *letter)
{
	const KiFault *fault = &letter->fault;

	put_text(row, COL_STAGE, fault->stage);
	put_text(row, COL_SQLSTATE, unpack_sql_state(fault->sqlerrcode));
	put_text(row, COL_ERROR, letter->error);
	put_text(row, COL_COLUMN_NAME, fault->column_name);
	put_text(row, COL_CONSTRAINT_NAME, fault->constraint_name);
	put(row, COL_LAST_FAILED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
}

static void
put_message(Row *row, const KiMessage *message, Oid header_type)
{
	TimestampTz at;

	put_text(row, COL_TOPIC, message->topic);
	put(row, COL_PARTITION, Int32GetDatum(message->partition));
	put(row, COL_MESSAGE_OFFSET, Int64GetDatum(message->offset));
	if (ki_time_from_ms(message->timestamp_ms, &at))
		put(row, COL_MESSAGE_TIMESTAMP, TimestampTzGetDatum(at));
	if (message->key)
	{
		put(row, COL_KEY, bytes_datum(message->key, message->key_len));
		put(row, COL_KEY_HASH, Int32GetDatum(ki_letter_key_hash(message)));
	}
	if (message->value)
		put(row, COL_VALUE, bytes_datum(message->value, message->value_len));
	put(row, COL_HEADERS, headers_datum(message, header_type));
}

static Oid
header_type(Relation rel)
{
	return get_element_type(TupleDescAttr(RelationGetDescr(rel),
										  COL_HEADERS - 1)->atttypid);
}

static HeapTuple
letter_tuple(Relation rel, int32 pipeline, const KiLetter *letter)
{
	Row			row;

	memset(&row, 0, sizeof(row));
	memset(row.nulls, true, sizeof(row.nulls));
	put(&row, COL_ID, Int64GetDatum(ki_catalog_next("dead_letter_id")));
	put(&row, COL_PIPELINE, Int32GetDatum(pipeline));
	put_message(&row, &letter->message, header_type(rel));
	put(&row, COL_SUPERSEDED, BoolGetDatum(false));
	put_fault(&row, letter);
	put(&row, COL_ATTEMPTS, Int32GetDatum(1));
	put(&row, COL_FIRST_FAILED_AT, row.values[COL_LAST_FAILED_AT]);
	return heap_form_tuple(RelationGetDescr(rel), row.values + 1, row.nulls + 1);
}

void
ki_letter_insert(int32 pipeline, const KiLetter *letters, int nletters)
{
	Relation	rel = ki_catalog_open("dead_letter", RowExclusiveLock);
	CatalogIndexState indexes = CatalogOpenIndexes(rel);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "kafka_ingest dead letter",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	ki_text_prepare();
	for (int i = 0; i < nletters; i++)
	{
		CHECK_FOR_INTERRUPTS();
		CatalogTupleInsertWithInfo(rel, letter_tuple(rel, pipeline, &letters[i]),
								   indexes);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	CatalogCloseIndexes(indexes);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* The newest version of a row that nobody else may change now. */
static HeapTuple
fetch_tuple(Relation rel, const KiLetterRow *row)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, COL_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(row->id));
	scan = systable_beginscan(rel, ki_catalog_relation_id("dead_letter_pkey"),
							  true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("dead letter " INT64_FORMAT " was removed meanwhile",
						row->id)));
	tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

/* Replace what the row says is replaced. */
static void
update(Relation rel, HeapTuple tuple, const Row *row)
{
	tuple = heap_modify_tuple(tuple, RelationGetDescr(rel),
							  (Datum *) row->values + 1,
							  (bool *) row->nulls + 1,
							  (bool *) row->replaces + 1);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
}

void
ki_letter_fail_again(const KiLetterRow *old, const KiLetter *letter)
{
	Relation	rel = ki_catalog_open("dead_letter", RowExclusiveLock);
	HeapTuple	tuple = fetch_tuple(rel, old);
	bool		isnull;
	int			attempts = DatumGetInt32(heap_getattr(tuple, COL_ATTEMPTS,
													  RelationGetDescr(rel),
													  &isnull));
	Row			row;

	memset(&row, 0, sizeof(row));
	put_fault(&row, letter);
	put(&row, COL_ATTEMPTS, Int32GetDatum(attempts + 1));
	update(rel, tuple, &row);
	table_close(rel, RowExclusiveLock);
}

void
ki_letter_delete(const KiLetterRow *row)
{
	Relation	rel = ki_catalog_open("dead_letter", RowExclusiveLock);
	HeapTuple	tuple = fetch_tuple(rel, row);

	CatalogTupleDelete(rel, &tuple->t_self);
	table_close(rel, RowExclusiveLock);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */
static SysScanDesc
scan_pipeline(Relation rel, int32 pipeline)
{
	ScanKeyData key;

	ScanKeyInit(&key, COL_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	return systable_beginscan(rel, ki_catalog_relation_id("dead_letter_pipeline"),
							  true, NULL, 1, &key);
}

static void
deform(Relation rel, HeapTuple tuple, Row *row)
{
	for (int col = RelationGetNumberOfAttributes(rel) + 1; col <= NCOLS; col++)
		row->nulls[col] = true; /* tables of 0.2.0 */
	heap_deform_tuple(tuple, RelationGetDescr(rel), row->values + 1,
					  row->nulls + 1);
}

/* Without fetching what is stored out of line. */
static int64
stored_bytes(const Row *row)
{
	const int	cols[] = {COL_KEY, COL_VALUE, COL_HEADERS, COL_ERROR};
	int64		bytes = ROW_BYTES;

	for (int i = 0; i < (int) lengthof(cols); i++)
		if (!row->nulls[cols[i]])
			bytes += toast_raw_datum_size(row->values[cols[i]]) - VARHDRSZ;
	return bytes;
}

int64
ki_letter_bytes(const KiMessage *message)
{
	int64		bytes = ROW_BYTES + message->key_len + message->value_len;

	for (int i = 0; i < message->nheaders; i++)
		bytes += strlen(message->headers[i].name) +
			message->headers[i].value_len;
	return bytes;
}

static KiLetterRow *
row_from_tuple(Relation rel, HeapTuple tuple)
{
	KiLetterRow *letter = palloc0(sizeof(KiLetterRow));
	Row			row;

	deform(rel, tuple, &row);
	letter->id = DatumGetInt64(row.values[COL_ID]);
	letter->topic = TextDatumGetCString(row.values[COL_TOPIC]);
	letter->partition = DatumGetInt32(row.values[COL_PARTITION]);
	letter->message_offset = DatumGetInt64(row.values[COL_MESSAGE_OFFSET]);
	letter->has_key = !row.nulls[COL_KEY_HASH];
	letter->is_superseded = DatumGetBool(row.values[COL_SUPERSEDED]);
	letter->first_failed_at = DatumGetTimestampTz(row.values[COL_FIRST_FAILED_AT]);
	letter->bytes = stored_bytes(&row);
	return letter;
}

static int
compare_rows(const ListCell *a, const ListCell *b)
{
	const KiLetterRow *left = lfirst(a);
	const KiLetterRow *right = lfirst(b);
	int			order = strcmp(left->topic, right->topic);

	if (order == 0)
		order = (left->partition > right->partition) -
			(left->partition < right->partition);
	if (order == 0)
		order = (left->message_offset > right->message_offset) -
			(left->message_offset < right->message_offset);
	if (order == 0)
		order = (left->id > right->id) - (left->id < right->id);
	return order;
}

List *
ki_letter_all(int32 pipeline)
{
	Relation	rel = ki_catalog_open("dead_letter", AccessShareLock);
	SysScanDesc scan = scan_pipeline(rel, pipeline);
	HeapTuple	tuple;
	List	   *rows = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		rows = lappend(rows, row_from_tuple(rel, tuple));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(rows, compare_rows);
	return rows;
}

void
ki_letter_sum(int32 pipeline, int64 *count, int64 *bytes)
{
	Relation	rel = ki_catalog_open("dead_letter", AccessShareLock);
	SysScanDesc scan = scan_pipeline(rel, pipeline);
	HeapTuple	tuple;

	*count = *bytes = 0;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		deform(rel, tuple, &row);
		*count += 1;
		*bytes += stored_bytes(&row);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

void
ki_letter_message(const KiLetterRow *letter, KiMessage *message)
{
	Relation	rel = ki_catalog_open("dead_letter", AccessShareLock);
	HeapTuple	tuple = fetch_tuple(rel, letter);
	Row			row;

	deform(rel, tuple, &row);
	memset(message, 0, sizeof(KiMessage));
	message->topic = letter->topic;
	message->partition = letter->partition;
	message->offset = letter->message_offset;
	message->timestamp_ms = -1;
	if (!row.nulls[COL_MESSAGE_TIMESTAMP])
		message->timestamp_ms =
			ki_time_to_ms(DatumGetTimestampTz(row.values[COL_MESSAGE_TIMESTAMP]));
	if (!row.nulls[COL_KEY])
		message->key = copy_bytes(row.values[COL_KEY], &message->key_len);
	if (!row.nulls[COL_VALUE])
		message->value = copy_bytes(row.values[COL_VALUE], &message->value_len);
	if (!row.nulls[COL_HEADERS])
		read_headers(row.values[COL_HEADERS], header_type(rel), message);
	table_close(rel, AccessShareLock);
}

/* ------------------------------------------------------------------------
 * Keys
 * ------------------------------------------------------------------------
 */
int32
ki_letter_key_hash(const KiMessage *message)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, message->key, message->key_len);
	FIN_CRC32C(crc);
	return (int32) crc;
}

List *
ki_letter_key_hashes(int32 pipeline)
{
	Relation	rel = ki_catalog_open("dead_letter", AccessShareLock);
	SysScanDesc scan = scan_pipeline(rel, pipeline);
	HeapTuple	tuple;
	List	   *hashes = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		deform(rel, tuple, &row);
		if (!DatumGetBool(row.values[COL_SUPERSEDED]) && !row.nulls[COL_KEY_HASH])
			hashes = lappend_int(hashes, DatumGetInt32(row.values[COL_KEY_HASH]));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return hashes;
}

/* Is this an older message of the same place and key? */
static bool
is_older_of_key(const Row *row, const KiMessage *message)
{
	size_t		len;
	const char *key;

	if (row->nulls[COL_KEY] ||
		DatumGetInt32(row->values[COL_PARTITION]) != message->partition ||
		DatumGetInt64(row->values[COL_MESSAGE_OFFSET]) >= message->offset ||
		strcmp(TextDatumGetCString(row->values[COL_TOPIC]), message->topic) != 0)
		return false;
	key = copy_bytes(row->values[COL_KEY], &len);
	return len == message->key_len && memcmp(key, message->key, len) == 0;
}

static void
mark_superseded(Relation rel, HeapTuple tuple)
{
	Row			row;

	memset(&row, 0, sizeof(row));
	put(&row, COL_SUPERSEDED, BoolGetDatum(true));
	update(rel, tuple, &row);
}

bool
ki_letter_supersede(int32 pipeline, const KiMessage *message)
{
	Relation	rel = ki_catalog_open("dead_letter", RowExclusiveLock);
	bool		has_other = false;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], COL_PIPELINE, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(pipeline));
	ScanKeyInit(&keys[1], COL_KEY_HASH, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(ki_letter_key_hash(message)));
	ScanKeyInit(&keys[2], COL_SUPERSEDED, BTEqualStrategyNumber, F_BOOLEQ,
				BoolGetDatum(false));
	scan = systable_beginscan(rel, ki_catalog_relation_id("dead_letter_key"),
							  true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		deform(rel, tuple, &row);
		if (is_older_of_key(&row, message))
			mark_superseded(rel, tuple);
		else
			has_other = true;
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
	return has_other;
}

void
ki_letter_forget_keys(int32 pipeline)
{
	Relation	rel = ki_catalog_open("dead_letter", RowExclusiveLock);
	SysScanDesc scan = scan_pipeline(rel, pipeline);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		memset(&row, 0, sizeof(row));
		row.nulls[COL_KEY_HASH] = row.replaces[COL_KEY_HASH] = true;
		update(rel, tuple, &row);
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}
