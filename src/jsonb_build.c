/*
 * jsonb_build.c
 *	  From JSON text to jsonb without jsonb_in.
 *
 * jsonb_in builds a tree of allocations and then serializes it.  Here the
 * storage form (utils/jsonb.h) is written from the list of the document's
 * values (json_tokens.h), mostly made by the decoder on its way, and the fields
 * of each object are sorted meanwhile.
 *
 * The builder's buffers live in the context it was created in.  They are made
 * large enough before they are filled.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "convert.h"
#include "json_scan.h"
#include "json_shape.h"
#include "jsonb_build.h"

/* Larger documents are left to jsonb_in. */
#define MAX_DOCUMENT_BYTES (1024 * 1024)

/* Up to this many fields are sorted where they stand. */
#define INSERTION_SORT_FIELDS 16

/*
 * A copy of constant size is faster than one of just the bytes that are needed.
 * There must be as many to copy from.
 */
#define SHORT_COPY 16
#define SHAPE_COPY KI_JSON_SHAPE_PADDING

/* A field of an object that is being sorted. */
typedef struct Field
{
	const char *name;
	uint32		len;
	const KiJsonToken *value;
} Field;

struct KiJsonbBuilder
{
	MemoryContext context;
	KiJsonLister *lister;		/* of documents that come without a list */
	KiJsonBuffer field_buffer;
	KiJsonBuffer name_buffer;	/* of names that have escapes */
	KiJsonBuffer image;			/* of the document at hand */
	Field	   *fields;			/* next free one */
	char	   *name;			/* next byte of name_buffer; NULL: unused */
	char	   *to;				/* next byte of the image */
	const char *end;			/* of the document at hand */
	Size		len;			/* its bytes */
	bool		is_too_hard;	/* jsonb_in is to decide */
};

static JEntry write_any(KiJsonbBuilder *builder, const KiJsonToken *token);

KiJsonbBuilder *
ki_jsonb_builder_create(void)
{
	KiJsonbBuilder *builder = palloc0(sizeof(KiJsonbBuilder));

	builder->context = CurrentMemoryContext;
	builder->lister = ki_json_lister_create();
	return builder;
}

/*
 * Pad to the alignment of containers and numbers.
 */
static inline void
write_padding(KiJsonbBuilder *builder)
{
	const uint32 zeros = 0;

	/* more than are needed, without a branch */
	memcpy(builder->to, &zeros, sizeof(uint32));
	builder->to += -(builder->to - builder->image.data) & (sizeof(uint32) - 1);
}

static inline JEntry
write_text(KiJsonbBuilder *builder, const char *data, uint32 len)
{
	memcpy(builder->to, data, len);
	builder->to += len;
	return JENTRY_ISSTRING | len;
}

static inline JEntry
write_string(KiJsonbBuilder *builder, const KiJsonToken *token)
{
	uint32		len = token->len;

	if (len <= SHORT_COPY && !token->has_escapes &&
		builder->end - token->data >= SHORT_COPY)
	{
		memcpy(builder->to, token->data, SHORT_COPY);
		builder->to += len;
		return JENTRY_ISSTRING | len;
	}
	if (!token->has_escapes)
		return write_text(builder, token->data, len);
	len = ki_json_unescape(token->data, token->len, builder->to);
	builder->to += len;
	return JENTRY_ISSTRING | len;
}

static JEntry
write_number(KiJsonbBuilder *builder, const KiJsonToken *token)
{
	char	   *start = builder->to;
	int			len;

	write_padding(builder);
	len = ki_convert_write_numeric(token->data, token->len, builder->to);
	if (len == 0)
		builder->is_too_hard = true;
	builder->to += len;
	return JENTRY_ISNUMERIC | (uint32) (builder->to - start);
}

/*
 * Write a container's header and leave room for its entries, which are
 * returned.
 */
static JEntry *
open_container(KiJsonbBuilder *builder, uint32 header, uint32 nentries)
{
	uint32	   *start;

	write_padding(builder);
	start = (uint32 *) builder->to;
	*start = header;
	builder->to += sizeof(uint32) + sizeof(JEntry) * nentries;
	return (JEntry *) (start + 1);
}

/*
 * Fill in the entry of one of a container's children: its length, or every so
 * often the offset of its end.
 */
static inline void
set_entry(JEntry *entries, uint32 child, JEntry entry, uint32 *total)
{
	*total += JBE_OFFLENFLD(entry);
	if (child % JB_OFFSET_STRIDE == 0)
		entry = (entry & JENTRY_TYPEMASK) | *total | JENTRY_HAS_OFF;
	entries[child] = entry;
}

/*
 * Write a value; returns its type and length.  Most are strings and numbers,
 * and an indirect jump would often be predicted wrongly.
 */
static inline JEntry
write_value(KiJsonbBuilder *builder, const KiJsonToken *token)
{
	if (token->kind == KI_JSON_STRING)
		return write_string(builder, token);
	if (token->kind == KI_JSON_NUMBER)
		return write_number(builder, token);
	return write_any(builder, token);
}

static JEntry
write_array(KiJsonbBuilder *builder, const KiJsonToken *array)
{
	char	   *start = builder->to;
	JEntry	   *entries = open_container(builder, array->len | JB_FARRAY,
										 array->len);
	const KiJsonToken *element = array + 1;
	uint32		total = 0;

	for (uint32 i = 0; i < array->len; i++)
	{
		set_entry(entries, i, write_value(builder, element), &total);
		element += element->span;
	}
	return JENTRY_ISCONTAINER | (uint32) (builder->to - start);
}

/*
 * The order of an object's fields; of those with the same name the last one
 * comes first.
 */
static inline int
compare_fields(const Field *a, const Field *b)
{
	int			order;

	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	order = memcmp(a->name, b->name, a->len);
	if (order != 0)
		return order;
	return a->value > b->value ? -1 : a->value < b->value ? 1 : 0;
}

static int
compare_fields_qsort(const void *a, const void *b)
{
	return compare_fields(a, b);
}

static void
sort_fields(Field *fields, uint32 nfields)
{
	if (nfields > INSERTION_SORT_FIELDS)
	{
		qsort(fields, nfields, sizeof(Field), compare_fields_qsort);
		return;
	}
	for (uint32 i = 1; i < nfields; i++)
	{
		Field		field = fields[i];
		uint32		place = i;

		for (; place > 0 && compare_fields(&field, &fields[place - 1]) < 0; place--)
			fields[place] = fields[place - 1];
		fields[place] = field;
	}
}

/*
 * Look at a value that is not written: jsonb_in may refuse its numbers.
 */
static void
check_dropped(KiJsonbBuilder *builder, const KiJsonToken *value)
{
	char	   *to = builder->to;

	for (uint32 i = 0; i < value->span; i++)
	{
		if (value[i].kind == KI_JSON_NUMBER)
		{
			(void) write_number(builder, &value[i]);
			builder->to = to;
		}
	}
}

static inline bool
is_same_name(const Field *a, const Field *b)
{
	return a->len == b->len && memcmp(a->name, b->name, a->len) == 0;
}

/*
 * Keep the first of the fields of each name; returns how many are left.
 */
static uint32
drop_duplicates(KiJsonbBuilder *builder, Field *fields, uint32 nfields)
{
	uint32		kept = 1;

	if (nfields == 0)
		return 0;
	for (uint32 i = 1; i < nfields; i++)
	{
		if (is_same_name(&fields[i], &fields[kept - 1]))
		{
			check_dropped(builder, fields[i].value);
			continue;
		}
		if (i > kept)
			fields[kept] = fields[i];
		kept++;
	}
	return kept;
}

/*
 * A field's name, its escapes resolved.
 */
static inline void
take_name(KiJsonbBuilder *builder, const KiJsonToken *name, Field *field)
{
	field->name = name->data;
	field->len = name->len;
	if (!name->has_escapes)
		return;
	/* What is unescaped is never longer than it was. */
	if (builder->name == NULL)
		builder->name = ki_json_buffer_reserve(&builder->name_buffer,
											   builder->context, builder->len);
	field->name = builder->name;
	field->len = ki_json_unescape(name->data, name->len, builder->name);
	builder->name += field->len;
}

/*
 * Collect the fields of an object as they are stored; returns how many.
 */
static uint32
collect_fields(KiJsonbBuilder *builder, const KiJsonToken *object, Field *fields)
{
	const KiJsonToken *name = object + 1;

	for (uint32 i = 0; i < object->len; i++)
	{
		take_name(builder, name, &fields[i]);
		fields[i].value = name + 1;
		name = ki_json_next_name(name);
	}
	sort_fields(fields, object->len);
	return drop_duplicates(builder, fields, object->len);
}

/*
 * Where an object's values are listed; room for all of them.
 */
static void
find_values(const KiJsonToken *object, const KiJsonToken **values)
{
	const KiJsonToken *name = object + 1;

	for (uint32 i = 0; i < object->len; i++)
	{
		values[i] = name + 1;
		name = ki_json_next_name(name);
	}
}

static inline void
copy_of_shape(void *to, const void *from, uint32 len)
{
	memcpy(to, from, SHAPE_COPY);
	if (len > SHAPE_COPY)
		memcpy((char *) to + SHAPE_COPY, (const char *) from + SHAPE_COPY,
			   len - SHAPE_COPY);
}

/*
 * An object that looks like the one before it.
 */
static void
write_known_object(KiJsonbBuilder *builder, const KiJsonToken *object,
				   KiJsonShape *shape)
{
	uint32		nfields = shape->nfields;
	bool		is_flat = object->span == 1 + 2 * nfields;
	const KiJsonToken *values[KI_JSON_MAX_FIELDS];
	JEntry	   *entries = open_container(builder, nfields | JB_FOBJECT,
										 nfields * 2);
	uint32		total = shape->stored_len;

	shape->misses = 0;
	copy_of_shape(entries, shape->entries, sizeof(JEntry) * nfields);
	copy_of_shape(builder->to, shape->stored, total);
	builder->to += total;
	if (!is_flat)
		find_values(object, values);
	for (uint32 i = 0; i < nfields; i++)
	{
		uint32		number = shape->order[i];
		const KiJsonToken *value = is_flat ? object + 2 + 2 * number :
		values[number];

		set_entry(entries, nfields + i, write_value(builder, value), &total);
	}
}

/*
 * An object whose names are to be sorted, and perhaps remembered.
 */
static void
write_other_object(KiJsonbBuilder *builder, const KiJsonToken *object)
{
	Field	   *fields = builder->fields;
	uint32		nfields = collect_fields(builder, object, fields);
	JEntry	   *entries = open_container(builder, nfields | JB_FOBJECT,
										 nfields * 2);
	const char *names = builder->to;
	uint32		total = 0;

	for (uint32 i = 0; i < nfields; i++)
		set_entry(entries, i,
				  write_text(builder, fields[i].name, fields[i].len), &total);
	if (object->shape && nfields == object->len &&
		nfields <= KI_JSON_MAX_FIELDS)
	{
		const KiJsonToken *values[KI_JSON_MAX_FIELDS];

		for (uint32 i = 0; i < nfields; i++)
			values[i] = fields[i].value;
		ki_json_shape_learn(object->shape, object, values, entries, names,
							total);
	}
	/* Objects below this one take what follows. */
	builder->fields += nfields;
	for (uint32 i = 0; i < nfields; i++)
		set_entry(entries, nfields + i, write_value(builder, fields[i].value),
				  &total);
	builder->fields = fields;
}

/*
 * Names come first, then the values.
 */
static JEntry
write_object(KiJsonbBuilder *builder, const KiJsonToken *object)
{
	char	   *start = builder->to;

	if (object->fits)
		write_known_object(builder, object, object->shape);
	else
		write_other_object(builder, object);
	return JENTRY_ISCONTAINER | (uint32) (builder->to - start);
}

static JEntry
write_any(KiJsonbBuilder *builder, const KiJsonToken *token)
{
	switch (token->kind)
	{
		case KI_JSON_NULL:
			return JENTRY_ISNULL;
		case KI_JSON_FALSE:
			return JENTRY_ISBOOL_FALSE;
		case KI_JSON_TRUE:
			return JENTRY_ISBOOL_TRUE;
		case KI_JSON_ARRAY:
			return write_array(builder, token);
		case KI_JSON_OBJECT:
			return write_object(builder, token);
	}
	pg_unreachable();
}

/*
 * Make room for all that can be written.  What a token can take beside its
 * text, or half of it for a number, is padding, an entry, and a container's or
 * number's header.
 */
static void
reserve_buffers(KiJsonbBuilder *builder, Size ntokens)
{
	Size		token_bytes = sizeof(uint32) * 2 + sizeof(JEntry) +
	KI_NUMERIC_BYTES(0);

	ki_json_buffer_reserve(&builder->image, builder->context,
						   VARHDRSZ + sizeof(uint32) + SHAPE_COPY + builder->len +
						   ntokens * token_bytes);
	builder->fields = ki_json_buffer_reserve(&builder->field_buffer,
											 builder->context,
											 sizeof(Field) *
											 (ntokens / 2 + 1));
}

/*
 * Write the listed document; returns the bytes of the whole, 0 for what is
 * left to jsonb_in.
 */
static Size
write_document(KiJsonbBuilder *builder, const KiJsonToken *root)
{
	Size		total;

	reserve_buffers(builder, root->span);
	builder->name = NULL;
	builder->is_too_hard = false;
	builder->to = builder->image.data + VARHDRSZ;
	if (root->kind == KI_JSON_ARRAY || root->kind == KI_JSON_OBJECT)
		(void) write_value(builder, root);
	else
	{
		/* A scalar is stored as an array of it that says so. */
		JEntry	   *entry = open_container(builder, 1 | JB_FARRAY | JB_FSCALAR,
										   1);
		uint32		ignored = 0;

		set_entry(entry, 0, write_value(builder, root), &ignored);
	}
	total = builder->to - builder->image.data;
	Assert(total <= builder->image.size);
	SET_VARSIZE(builder->image.data, total);
	return builder->is_too_hard ? 0 : total;
}

bool
ki_jsonb_build(KiJsonbBuilder *builder, const KiJsonToken *tokens,
			   KiJsonShapes *shapes, const char *json, int len, Datum *value)
{
	Size		size = 0;

	if (len > MAX_DOCUMENT_BYTES || GetDatabaseEncoding() != PG_UTF8)
		return false;
	builder->len = len;
	builder->end = json + len;
	if (tokens == NULL)
		tokens = ki_json_list(builder->lister, shapes, json, len);
	if (tokens)
		size = write_document(builder, tokens);
	if (size > 0)
	{
		char	   *jsonb = palloc(size);

		memcpy(jsonb, builder->image.data, size);
		*value = PointerGetDatum(jsonb);
	}
	ki_json_lister_release(builder->lister);
	ki_json_buffer_release(&builder->field_buffer);
	ki_json_buffer_release(&builder->name_buffer);
	ki_json_buffer_release(&builder->image);
	return size > 0;
}
