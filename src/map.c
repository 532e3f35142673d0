/*
 * map.c
 *	  From message and record to the columns of a row.
 *
 * The mapping is compiled once: every column knows its origin, the field of
 * the record it takes, and how its type takes values.  The map, its decoders
 * and the caches of input functions live in the memory context of
 * ki_map_create; what belongs to a message lives in the caller's context.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/value.h"

#include "column.h"
#include "decode.h"
#include "stage.h"
#include "header.h"
#include "map.h"
#include "map_document.h"
#include "map_filter.h"
#include "text.h"

/* Where a column's value comes from and where it goes. */
typedef struct MapColumn
{
	int			field;			/* of the value's or key's record; -1: none */
	AttrNumber	attnum;
	bool		is_plain;		/* a place in the value, not converted */
	KiColumn	column;			/* what most messages need is at its start */
	KiOrigin	origin;
	int			whole;			/* the field to take instead if it is no
								 * object; -1: none */
	bool		is_key;			/* must not be NULL or absent */
	bool		is_newer;		/* newer_by */
} MapColumn;

struct KiDecoded
{
	bool		is_tombstone;
	bool		has_key;		/* key was decoded, a tombstone's for its own
								 * fields */
	KiRecord	value;
	KiRecord	key;
	KiRecord	judged_value;	/* for conditions alone */
	KiRecord	judged_key;
};

struct KiMap
{
	MapColumn  *columns;
	AttrNumber *attnums;
	int			ncolumns;
	bool		is_key_json;
	bool		is_missing_error;	/* on_missing = 'error' */
	bool		wants_headers;
	const char *nothing_present;	/* what is wrong if no path leads to
									 * anything; NULL: there are none */
	KiConditions filter;		/* no items: everything passes */
	KiConditions delete_when;	/* no items: nothing is deleted */
	KiDocument	value;
	KiDocument	key;
	KiDocument	judged_value;	/* when the rest is wanted: what conditions
								 * look at is part of it */
	KiDocument	judged_key;		/* of tombstones, too */
	bool		reads_tombstones;	/* as other messages */
	MapColumn  *tombstone_columns;	/* the key's, as a tombstone has them;
									 * NULL: none deletes */
	int			ntombstone_columns;
	KiDocument	tombstone;		/* a tombstone's key */
	KiDecoder  *embedded;		/* of strings that hold JSON */
	KiColumnSpace *space;		/* shared by the columns */
	KiDecoded	decoded;		/* the current message */
	const char *current_column;
};

/*
 * Is this origin a document or a place in one?
 */
static bool
is_in_document(const KiMap *map, const KiOrigin *origin)
{
	return origin->kind == KI_ORIGIN_VALUE ||
		(origin->kind == KI_ORIGIN_KEY && map->is_key_json);
}

/*
 * Compile one column.
 */
static void
add_column(KiMap *map, const KiMappingItem *item, TupleDesc target,
		   const KiKey *key)
{
	MapColumn  *column = &map->columns[map->ncolumns];

	ki_column_init(&column->column, TupleDescAttr(target, item->attnum - 1),
				   map->space);
	column->attnum = item->attnum;
	column->origin = *item->origin;
	column->field = column->whole = -1;
	column->is_key = ki_key_has(key, item->attnum);
	column->is_newer = key && key->newer_by == item->attnum;
	if (is_in_document(map, &column->origin))
		column->field = ki_document_add(column->origin.kind == KI_ORIGIN_KEY ?
										&map->key : &map->value, &column->origin,
										column->column.type == JSONBOID &&
										column->origin.conversion == KI_CONVERSION_NONE);
	column->is_plain = column->field >= 0 &&
		column->origin.kind == KI_ORIGIN_VALUE &&
		column->origin.conversion == KI_CONVERSION_NONE;
	if (column->origin.kind == KI_ORIGIN_HEADERS ||
		column->origin.kind == KI_ORIGIN_HEADER)
		map->wants_headers = true;
	if (column->origin.header)
		column->origin.header =
			unconstify(char *, ki_text_to_utf8(column->origin.header));
	map->attnums[map->ncolumns++] = item->attnum;
}

static bool
wants_rest(const KiMap *map)
{
	for (int i = 0; i < map->ncolumns; i++)
		if (map->columns[i].origin.kind == KI_ORIGIN_REST)
			return true;
	return false;
}

/*
 * All columns of the key, and the one that tells what is newer, come from
 * messages.
 */
static void
check_key(const KiMap *map, const KiKey *key, TupleDesc target)
{
	for (int i = 0; i <= key->nattnums; i++)
	{
		AttrNumber	attnum = i < key->nattnums ? key->attnums[i] : key->newer_by;
		bool		is_mapped = attnum == 0;

		for (int k = 0; k < map->ncolumns; k++)
			is_mapped |= map->attnums[k] == attnum;
		if (!is_mapped)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg(i < key->nattnums ? "key column \"%s\" is not mapped" :
							"column \"%s\" of option \"newer_by\" is not mapped",
							NameStr(TupleDescAttr(target, attnum - 1)->attname)),
					 errdetail("It takes nothing from a message."),
					 errhint("Map it in columns.")));
	}
}

/*
 * Where a tombstone has the value of a key column: where messages have it, if
 * that is not their value; else in its key's field of the column's name; else
 * the key is the value.
 */
static void
add_tombstone_column(KiMap *map, const MapColumn *column, const KiKey *key)
{
	MapColumn  *own = &map->tombstone_columns[map->ntombstone_columns++];
	KiOriginKind kind = column->origin.kind;
	bool		is_alone = key->nattnums == 1;

	*own = *column;
	own->field = -1;
	own->is_plain = false;
	if (kind == KI_ORIGIN_VALUE || kind == KI_ORIGIN_RAW || kind == KI_ORIGIN_REST)
	{
		KiOrigin   *whole = ki_origin_make(KI_ORIGIN_KEY);

		if (!map->is_key_json && !is_alone)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a tombstone has no value for key column \"%s\"",
							column->column.name),
					 errdetail("The key of a message is one text, and there are %d key columns.",
							   key->nattnums),
					 errhint("Set key_format => 'json', map the column to @key, or set on_tombstone => 'skip'.")));
		whole->conversion = column->origin.conversion;
		own->origin = *whole;
		if (map->is_key_json)
			own->origin.steps = list_make1(makeString(pstrdup(column->column.name)));
		if (map->is_key_json && is_alone)
			own->whole = ki_document_add(&map->tombstone, whole, false);
	}
	if (own->origin.kind == KI_ORIGIN_KEY && map->is_key_json)
		own->field = ki_document_add(&map->tombstone, &own->origin, false);
}

static void
add_tombstone_columns(KiMap *map, const KiKey *key)
{
	map->tombstone_columns = palloc0(sizeof(MapColumn) * key->nattnums);
	/* the only one has two ways */
	map->tombstone.paths = palloc0(sizeof(KiPath) * (key->nattnums + 1));
	for (int i = 0; i < map->ncolumns; i++)
		if (map->columns[i].is_key)
			add_tombstone_column(map, &map->columns[i], key);
}

/*
 * Compile conditions; on the value mostly in the columns' scan.
 */
static void
add_conditions(KiMap *map, KiConditions *conditions, const KiFilter *filter)
{
	if (!filter)
		return;
	ki_conditions_init(conditions, filter,
					   wants_rest(map) ? &map->judged_value : &map->value,
					   map->is_key_json ? &map->judged_key : NULL);
	map->wants_headers |= ki_filter_wants_headers(filter);
}

/*
 * Make the decoders that columns and conditions need.
 */
static void
create_decoders(KiMap *map)
{
	bool		wants_embedded = false;

	for (int i = 0; i < map->ncolumns; i++)
		wants_embedded |= map->columns[i].origin.conversion == KI_CONVERSION_JSON;
	ki_document_compile(&map->value, wants_rest(map));
	ki_document_compile(&map->key, false);
	ki_document_compile(&map->judged_value, false);
	ki_document_compile(&map->judged_key, false);
	ki_document_compile(&map->tombstone, false);
	if (wants_embedded)
	{
		KiPath		whole = {.steps = NULL};

		map->embedded = ki_decode_json_create(&whole, 1, false);
	}
}

/*
 * Compile columns and conditions.
 */
static KiMap *
create_map(const KiPipeline *pipeline, TupleDesc row, const KiMapping *mapping,
		   const KiKey *key, const KiFilter *filter,
		   const KiFilter *delete_when)
{
	KiMap	   *map = palloc0(sizeof(KiMap));
	int			nconditions = (filter ? filter->nitems : 0) +
	(delete_when ? delete_when->nitems : 0);

	map->columns = palloc0(sizeof(MapColumn) * mapping->nitems);
	map->attnums = palloc0(sizeof(AttrNumber) * mapping->nitems);
	ki_document_init(&map->value, mapping->nitems + nconditions);
	ki_document_init(&map->key, mapping->nitems);
	ki_document_init(&map->judged_value, nconditions);
	ki_document_init(&map->judged_key, nconditions);
	map->space = ki_column_space_create();
	map->is_key_json = pipeline->key_format &&
		strcmp(pipeline->key_format, "json") == 0;
	map->is_missing_error = pipeline->on_missing &&
		strcmp(pipeline->on_missing, "error") == 0;
	map->nothing_present = ki_mapping_complain(mapping);
	for (int i = 0; i < mapping->nitems; i++)
		add_column(map, &mapping->items[i], row, key);
	map->value.ncolumns = map->value.npaths;
	map->key.ncolumns = map->key.npaths;
	if (key)
		check_key(map, key, row);
	if (key && ki_pipeline_tombstone(pipeline) == KI_TOMBSTONE_DELETE)
		add_tombstone_columns(map, key);
	add_conditions(map, &map->filter, filter);
	add_conditions(map, &map->delete_when, delete_when);
	create_decoders(map);
	return map;
}

KiMap *
ki_map_create(const KiPipeline *pipeline, TupleDesc target, const KiKey *key)
{
	static const KiMapping nothing = {NULL, 0};

	return create_map(pipeline, target,
					  target ? ki_mapping_resolve(pipeline, target) : &nothing,
					  key,
					  ki_filter_parse(pipeline, pipeline->filter, "filter"),
					  ki_filter_parse(pipeline, pipeline->delete_when,
									  "delete_when"));
}

KiMap *
ki_map_create_of(const KiPipeline *pipeline, TupleDesc row,
				 const KiMapping *mapping)
{
	KiMap	   *map = create_map(pipeline, row, mapping, NULL, NULL, NULL);

	map->reads_tombstones = true;
	return map;
}

KiVerdict
ki_map_judge(KiMap *map, const KiMessage *message, const KiDecoded *decoded)
{
	KiJudged	judged = {.message = message};

	if (map->filter.nitems == 0 && map->delete_when.nitems == 0)
		return KI_VERDICT_WRITE;
	if (!decoded->is_tombstone)
		judged.value = map->judged_value.decoder ? &decoded->judged_value :
			&decoded->value;
	if (message->key && map->judged_key.decoder)
		judged.key = &decoded->judged_key;
	if (!ki_conditions_match(&map->filter, &judged))
		return KI_VERDICT_FILTERED;
	if (map->delete_when.nitems > 0 && !decoded->is_tombstone &&
		ki_conditions_match(&map->delete_when, &judged))
		return KI_VERDICT_DELETE;
	return KI_VERDICT_WRITE;
}

int
ki_map_columns(const KiMap *map, const AttrNumber **attnums)
{
	*attnums = map->attnums;
	return map->ncolumns;
}

bool
ki_map_wants_headers(const KiMap *map)
{
	return map->wants_headers;
}

void
ki_map_note_error(KiMap *map)
{
	for (int i = 0; map->current_column && i < map->ncolumns; i++)
		if (map->columns[i].column.name == map->current_column)
			map->columns[i].column.is_careful = true;
}

void
ki_map_let_raise(KiMap *map, bool may_raise)
{
	map->space->may_raise = may_raise;
}

const char *
ki_map_current_column(const KiMap *map)
{
	return map->current_column;
}

/*
 * Decode a message's key as a document; false: it is bad.
 */
static inline bool
decode_key(const KiDocument *document, const KiMessage *message,
		   KiRecord *record, KiFault *fault)
{
	if (!message->key ||
		ki_document_decode(document, message->key, message->key_len, record, fault))
		return true;
	fault->message = psprintf("key: %s", fault->message);
	return false;
}

KiDecoded *
ki_map_decode(KiMap *map, const KiMessage *message, KiFault *fault)
{
	KiDecoded  *decoded = &map->decoded;
	const KiDocument *key = &map->key;

	map->current_column = NULL;
	decoded->value.npresent = decoded->key.npresent = 0;
	decoded->is_tombstone = message->value == NULL;
	if (decoded->is_tombstone && !map->reads_tombstones)
		key = &map->tombstone;
	decoded->has_key = key->decoder && message->key;
	if (!decoded->is_tombstone &&
		(!ki_document_decode(&map->value, message->value, message->value_len,
							 &decoded->value, fault) ||
		 !ki_document_decode(&map->judged_value, message->value,
							 message->value_len, &decoded->judged_value, fault)))
		return NULL;
	if (!decode_key(key, message, &decoded->key, fault) ||
		!decode_key(&map->judged_key, message, &decoded->judged_key, fault))
		return NULL;
	return decoded;
}

/*
 * The field a column takes.  Without a document there is none of its fields,
 * but the document itself is NULL.  A JSON key that is no object is the value
 * of the only key column.
 */
static const KiField *
find_field(const MapColumn *column, const KiDecoded *decoded)
{
	static const KiField absent = {.kind = KI_FIELD_ABSENT};
	static const KiField null = {.kind = KI_FIELD_NULL};
	bool		is_key = column->origin.kind == KI_ORIGIN_KEY;

	if (column->whole >= 0 && decoded->has_key &&
		decoded->key.fields[column->whole].kind != KI_FIELD_OBJECT)
		return &decoded->key.fields[column->whole];
	if (is_key ? decoded->has_key : !decoded->is_tombstone)
		return is_key ? &decoded->key.fields[column->field] :
			&decoded->value.fields[column->field];
	return column->origin.steps == NIL ? &null : &absent;
}

/*
 * Is any field present that a column's path leads to?  Those of conditions do
 * not count.
 */
static bool
has_any_field(const KiMap *map, const KiDecoded *decoded)
{
	return ki_document_has_field(&map->value, &decoded->value) ||
		ki_document_has_field(&map->key, &decoded->key);
}

/*
 * Decode the JSON that a string holds; *embedded is valid until the next one.
 */
static bool
decode_embedded(KiMap *map, const KiField *field, const KiField **embedded,
				KiFault *fault)
{
	const char *json = field->data;
	int			json_len = field->len;
	KiRecord	record;

	if (field->kind != KI_FIELD_STRING)
		return ki_fault_set(fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							KI_STAGE_MAP,
							"a string that holds JSON is expected");
	if (!ki_text_server_is_utf8())
	{
		json = ki_text_to_utf8(pnstrdup(json, json_len));
		json_len = strlen(json);
	}
	if (!ki_decode_json(map->embedded, json, json_len, &record, fault))
	{
		fault->stage = KI_STAGE_MAP;
		return false;
	}
	*embedded = &record.fields[0];
	return true;
}

/*
 * Convert a field that is there.
 */
static bool
take_field(KiMap *map, MapColumn *column, const KiField *field,
		   Datum *value, bool *isnull, KiFault *fault)
{
	KiConversion conversion = column->origin.conversion;

	if (field->kind != KI_FIELD_NULL && conversion == KI_CONVERSION_JSON)
	{
		if (!decode_embedded(map, field, &field, fault))
			return false;
		conversion = KI_CONVERSION_NONE;
	}
	*isnull = field->kind == KI_FIELD_NULL;
	return *isnull ||
		ki_column_take_field(&column->column, field, conversion, value, fault);
}

/*
 * Convert bytes that no decoder saw: the raw value, a key, a header.
 */
static bool
take_bytes(KiMap *map, MapColumn *column, const char *bytes, size_t len,
		   Datum *value, bool *isnull, KiFault *fault)
{
	KiField		field = {.kind = KI_FIELD_STRING};

	*isnull = bytes == NULL;
	if (*isnull)
		return true;
	if (column->origin.conversion == KI_CONVERSION_NONE)
		return ki_column_take_bytes(&column->column, bytes, len, value, fault);
	return ki_text_read(bytes, len, &field.data, &field.len, fault) &&
		take_field(map, column, &field, value, isnull, fault);
}

/*
 * Convert a place in a document, or find it absent.
 */
static bool
take_path(KiMap *map, MapColumn *column, const KiDecoded *decoded,
		  Datum *value, bool *isnull, bool *absent, KiFault *fault)
{
	const KiField *field = find_field(column, decoded);

	if (field->kind != KI_FIELD_ABSENT)
		return take_field(map, column, field, value, isnull, fault);
	if (map->is_missing_error)
		return ki_fault_set(fault, ERRCODE_NO_SQL_JSON_ITEM, KI_STAGE_MAP,
							"the mapped field is not present");
	*absent = true;
	return true;
}

/*
 * Convert the top-level fields that no column takes.
 */
static bool
take_rest(MapColumn *column, const KiDecoded *decoded,
		  Datum *value, bool *isnull, KiFault *fault)
{
	const KiField *rest = &decoded->value.rest;

	*isnull = rest->kind == KI_FIELD_ABSENT;
	return *isnull ||
		ki_column_take_jsonb_text(&column->column, rest->json, rest->json_len,
								  value, fault);
}

/*
 * Convert all headers.
 */
static bool
take_headers(KiMap *map, MapColumn *column, const KiMessage *message,
			 Datum *value, KiFault *fault)
{
	MemoryContext caller = MemoryContextSwitchTo(map->space->context);
	Jsonb	   *headers = ki_headers_to_jsonb(message);

	MemoryContextSwitchTo(caller);
	return ki_column_take_jsonb(&column->column, headers, value, fault);
}

/*
 * Convert what one column takes; *isnull comes in true.
 */
static bool
take_origin(KiMap *map, MapColumn *column, const KiMessage *message,
			const KiDecoded *decoded, Datum *value, bool *isnull,
			bool *absent, KiFault *fault)
{
	const KiHeader *header;

	if (column->field >= 0)
		return take_path(map, column, decoded, value, isnull, absent, fault);

	switch (column->origin.kind)
	{
		case KI_ORIGIN_REST:
			return take_rest(column, decoded, value, isnull, fault);
		case KI_ORIGIN_KEY:
			return take_bytes(map, column, message->key, message->key_len,
							  value, isnull, fault);
		case KI_ORIGIN_RAW:
			return take_bytes(map, column, message->value, message->value_len,
							  value, isnull, fault);
		case KI_ORIGIN_HEADER:
			header = ki_header_find(message, column->origin.header);
			return header == NULL ||
				take_bytes(map, column, header->value, header->value_len,
						   value, isnull, fault);
		case KI_ORIGIN_TIMESTAMP:
			*isnull = message->timestamp_ms == -1;
			return *isnull ||
				ki_column_take_epoch_ms(&column->column, message->timestamp_ms,
										value, fault);
		case KI_ORIGIN_TOPIC:
			*isnull = false;
			return ki_column_take_text(&column->column, message->topic,
									   strlen(message->topic), value, fault);
		case KI_ORIGIN_PARTITION:
			*isnull = false;
			return ki_column_take_integer(&column->column, message->partition,
										  value, fault);
		case KI_ORIGIN_OFFSET:
			*isnull = false;
			return ki_column_take_integer(&column->column, message->offset,
										  value, fault);
		case KI_ORIGIN_HEADERS:
			*isnull = false;
			return take_headers(map, column, message, value, fault);
		case KI_ORIGIN_VALUE:
			break;				/* always a field */
	}
	Assert(false);
	return true;
}

/*
 * Fill in one column of the row.  Most take a place in the value that is there,
 * and need no more than its converter, which raises nothing.
 */
static inline bool
map_column(KiMap *map, MapColumn *column, const KiMessage *message,
		   const KiDecoded *decoded, KiRow *row, int to, KiFault *fault)
{
	const KiField *field = column->is_plain && !decoded->is_tombstone ?
	&decoded->value.fields[column->field] : NULL;

	map->current_column = column->column.name;
	row->nulls[to] = row->absent[to] = false;
	if (field && field->kind > KI_FIELD_NULL)
		return ki_column_take_at_once(&column->column, field, &row->values[to]) ||
			ki_column_take_field(&column->column, field, KI_CONVERSION_NONE,
								 &row->values[to], fault);
	row->values[to] = (Datum) 0;
	row->nulls[to] = true;
	if (!take_origin(map, column, message, decoded, &row->values[to],
					 &row->nulls[to], &row->absent[to], fault))
		return false;
	row->has_absent |= row->absent[to];
	if (column->is_key && row->nulls[to])
		return ki_fault_set(fault, ERRCODE_NOT_NULL_VIOLATION, KI_STAGE_MAP,
							decoded->is_tombstone && !message->key &&
							column->origin.kind == KI_ORIGIN_KEY ?
							"the tombstone has no key to take the column from" :
							row->absent[to] ? "a key column is absent" :
							"a key column is null");
	return !row->nulls[to] || row->absent[to] ||
		ki_column_take_null(&column->column, fault);
}

/*
 * Fill in columns of the row.
 */
static bool
map_columns(KiMap *map, MapColumn *columns, int ncolumns,
			const KiMessage *message, const KiDecoded *decoded, KiRow *row,
			KiFault *fault)
{
	for (int i = 0; i < ncolumns; i++)
	{
		MapColumn  *column = &columns[i];

		if (!map_column(map, column, message, decoded, row,
						column->attnum - 1, fault))
		{
			fault->column_name = column->column.name;
			map->current_column = NULL;
			return false;
		}
	}
	map->current_column = NULL;
	return true;
}

bool
ki_map_row(KiMap *map, const KiMessage *message, const KiDecoded *decoded,
		   KiRow *row, KiFault *fault)
{
	row->has_absent = false;
	if (map->nothing_present && !has_any_field(map, decoded))
		return ki_fault_set(fault, ERRCODE_NO_SQL_JSON_ITEM, KI_STAGE_MAP,
							pstrdup(map->nothing_present));
	return map_columns(map, map->columns, map->ncolumns, message, decoded, row,
					   fault);
}

/* What a message with a value has of them. */
static bool
map_own_key(KiMap *map, const KiMessage *message, const KiDecoded *decoded,
			KiRow *row, KiFault *fault)
{
	for (int i = 0; i < map->ncolumns; i++)
		if ((map->columns[i].is_key || map->columns[i].is_newer) &&
			!map_columns(map, &map->columns[i], 1, message, decoded, row, fault))
			return false;
	return true;
}

bool
ki_map_key(KiMap *map, const KiMessage *message, const KiDecoded *decoded,
		   KiRow *row, KiFault *fault)
{
	for (int i = 0; i < map->ncolumns; i++)
		row->absent[map->attnums[i] - 1] = true;
	row->has_absent = true;
	if (!decoded->is_tombstone)
		return map_own_key(map, message, decoded, row, fault);
	return map_columns(map, map->tombstone_columns, map->ntombstone_columns,
					   message, decoded, row, fault);
}
