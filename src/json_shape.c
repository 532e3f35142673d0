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

	shapes->context = CurrentMemoryContext;
	return shapes;
}

/* Does a name stand in the document as it is stored, within quotes? */
static inline bool
is_plain(const KiJsonTokens *tokens, const KiJsonToken *name)
{
	return name->data > tokens->begin && name->data < tokens->end;
}

/* Can an object be remembered? */
static bool
is_usable(const KiJsonTokens *tokens, const KiJsonToken *object,
		  uint32 stored_len)
{
	const KiJsonToken *name = object + 1;

	if (stored_len > MAX_NAMES_BYTES)
		return false;
	for (uint32 i = 0; i < object->len; i++)
	{
		if (!is_plain(tokens, name))
			return false;
		name = &tokens->list[name[1].next];
	}
	return true;
}

/* One allocation for all there is to a shape. */
static void
allocate(KiJsonShape *shape, MemoryContext context, uint32 nfields,
		 uint32 stored_len)
{
	if (shape->names)
		pfree(shape->names);
	shape->names = NULL;
	shape->nfields = 0;
	shape->names = MemoryContextAlloc(context,
									  nfields * (sizeof(char *) + 3 * sizeof(uint32) + 2) +
									  stored_len * 2);
	shape->lens = (uint32 *) (shape->names + nfields);
	shape->order = shape->lens + nfields;
	shape->entries = shape->order + nfields;
	shape->stored = (char *) (shape->entries + nfields);
}

/* The number of a field, by its value, in the order in which they are stored. */
static uint32
stored_place(const uint32 *values, uint32 value)
{
	uint32		place = 0;

	while (values[place] != value)
		place++;
	return place;
}

/* The names as the document has them, and which is stored where. */
static void
fill(KiJsonShape *shape, const KiJsonToken *list, const KiJsonToken *object,
	 const uint32 *values)
{
	const KiJsonToken *name = object + 1;
	char	   *to = shape->stored + shape->stored_len;

	for (uint32 i = 0; i < object->len; i++)
	{
		shape->names[i] = memcpy(to, name->data - 1, name->len + 2);
		shape->lens[i] = name->len;
		to += name->len + 2;
		shape->order[stored_place(values, name + 1 - list)] = i;
		name = &list[name[1].next];
	}
	shape->nfields = object->len;
}

void
ki_json_shape_learn(KiJsonShapes *shapes, int number,
					const KiJsonTokens *tokens, const KiJsonToken *object,
					const uint32 *values, const uint32 *entries,
					const char *stored, uint32 stored_len)
{
	KiJsonShape *shape = &shapes->items[number];

	if (shape->misses++ < shape->patience)
		return;
	shape->misses = 0;
	shape->patience = Min(shape->patience * 2 + 1, MAX_PATIENCE);
	if (!is_usable(tokens, object, stored_len))
		return;
	allocate(shape, shapes->context, object->len, stored_len);
	memcpy(shape->entries, entries, sizeof(uint32) * object->len);
	memcpy(shape->stored, stored, stored_len);
	shape->stored_len = stored_len;
	fill(shape, tokens->list, object, values);
}
