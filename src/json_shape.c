/*
 * json_shape.c
 *	  Remembering what the objects of a column looked like.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "json_shape.h"

/* Longer names, together, are not remembered. */
#define MAX_NAMES_BYTES 4096

/* Where objects keep changing, one in so many is remembered. */
#define MAX_PATIENCE 1024

KiJsonShapes *
ki_json_shapes_create(void)
{
	KiJsonShapes *shapes = palloc0(sizeof(KiJsonShapes));

	for (int i = 0; i < KI_JSON_MAX_SHAPES; i++)
		shapes->items[i].context = CurrentMemoryContext;
	return shapes;
}

/* Can an object be remembered?  Its names must stand as they are stored. */
static bool
is_usable(const KiJsonToken *object, uint32 stored_len)
{
	const KiJsonToken *name = object + 1;

	if (stored_len > MAX_NAMES_BYTES)
		return false;
	for (uint32 i = 0; i < object->len; i++)
	{
		if (name->has_escapes)
			return false;
		name = ki_json_next_name(name);
	}
	return true;
}

/* One allocation for all there is to a shape. */
static void
allocate(KiJsonShape *shape, uint32 nfields, uint32 stored_len)
{
	if (shape->names)
		pfree(shape->names);
	shape->names = NULL;
	shape->nfields = 0;
	shape->names = MemoryContextAlloc(shape->context,
									  nfields * (sizeof(KiJsonName) + 2 * sizeof(uint32) + 2) +
									  stored_len * 2 + KI_JSON_SHAPE_PADDING);
	shape->order = (uint32 *) (shape->names + nfields);
	shape->entries = shape->order + nfields;
	shape->stored = (char *) (shape->entries + nfields);
}

/* The number of a field, by its value, in the order in which they are stored. */
static uint32
stored_place(const KiJsonToken *const *values, const KiJsonToken *value)
{
	uint32		place = 0;

	while (values[place] != value)
		place++;
	return place;
}

static bool
has_high_byte(const char *bytes, uint32 len)
{
	for (uint32 i = 0; i < len; i++)
		if (IS_HIGHBIT_SET(bytes[i]))
			return true;
	return false;
}

/* The names as the document has them, and which is stored where. */
static void
fill(KiJsonShape *shape, const KiJsonToken *object,
	 const KiJsonToken *const *values)
{
	const KiJsonToken *name = object + 1;
	char	   *to = shape->stored + shape->stored_len;

	for (uint32 i = 0; i < object->len; i++)
	{
		shape->names[i].quoted = memcpy(to, name->data - 1, name->len + 2);
		shape->names[i].len = name->len;
		shape->names[i].has_high = has_high_byte(name->data, name->len);
		to += name->len + 2;
		shape->order[stored_place(values, name + 1)] = i;
		name = ki_json_next_name(name);
	}
	memset(to, 0, KI_JSON_SHAPE_PADDING);
	shape->nfields = object->len;
}

void
ki_json_shape_learn(KiJsonShape *shape, const KiJsonToken *object,
					const KiJsonToken *const *values, const uint32 *entries,
					const char *stored, uint32 stored_len)
{
	if (object->len == 0 || shape->misses++ < shape->patience)
		return;
	shape->misses = 0;
	shape->patience = Min(shape->patience * 2 + 1, MAX_PATIENCE);
	if (!is_usable(object, stored_len))
		return;
	allocate(shape, object->len, stored_len);
	memcpy(shape->entries, entries, sizeof(uint32) * object->len);
	memcpy(shape->stored, stored, stored_len);
	shape->stored_len = stored_len;
	fill(shape, object, values);
}
