/*
 * mapping.c
 *	  Which column takes what.
 *
 * A mapping is an origin or NULL per column of the target; a NULL column is
 * left to its DEFAULT.  Everything lives in the caller's memory context.
 */
#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "mapping.h"

/* So many columns are listed in a hint. */
#define HINT_COLUMNS_MAX 30

/* So many paths are named when nothing is where they lead. */
#define COMPLAINT_PATHS_MAX 5

/* A mapping in the making. */
typedef struct Resolution
{
	const KiPipeline *pipeline;
	TupleDesc	target;
	KiOrigin  **origins;		/* per attribute; NULL: none */
	bool	   *listed;			/* per attribute: named in columns */
	KiOrigin   *star;			/* "*"; NULL: none */
} Resolution;

/*
 * Does the database make this column's value itself, whatever we say?
 */
static bool
is_generated(Form_pg_attribute attribute)
{
	return attribute->attgenerated != '\0' ||
		attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;
}

/*
 * The target's columns, for a hint.
 */
static char *
list_columns(TupleDesc target)
{
	StringInfoData list;
	int			count = 0;

	initStringInfo(&list);
	for (int i = 0; i < target->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(target, i);

		if (attribute->attisdropped)
			continue;
		if (++count > HINT_COLUMNS_MAX)
		{
			appendStringInfoString(&list, ", ...");
			break;
		}
		appendStringInfo(&list, "%s%s", count > 1 ? ", " : "",
						 quote_identifier(NameStr(attribute->attname)));
	}
	return list.data;
}

/*
 * Index of the column of this name; raises when there is none.
 */
static int
find_column(const Resolution *resolution, const char *name)
{
	TupleDesc	target = resolution->target;

	for (int i = 0; i < target->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(target, i);

		if (!attribute->attisdropped &&
			strcmp(NameStr(attribute->attname), name) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of the mapping does not exist", name),
			 errdetail("The target is %s.",
					   quote_qualified_identifier(resolution->pipeline->target_schema,
												  resolution->pipeline->target_name)),
			 errhint("Its columns are: %s.", list_columns(target))));
	return -1;					/* keep the compiler quiet */
}

/*
 * Raise for a path into a key that has no parts.
 */
static void
check_key_format(const Resolution *resolution, const KiOrigin *origin,
				 const char *column)
{
	const char *key_format = resolution->pipeline->key_format;

	if (origin->kind != KI_ORIGIN_KEY ||
		(origin->steps == NIL && !origin->is_star))
		return;
	if (key_format == NULL || strcmp(key_format, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" takes a part of the key, but the key format is \"%s\"",
						column, key_format ? key_format : "text"),
				 errdetail("Only a JSON key has parts."),
				 errhint("Set key_format => 'json', or map the column to @key.")));
}

/*
 * Take "*": the place below which columns find their fields by name.
 */
static void
take_star(Resolution *resolution, const char *source)
{
	KiOrigin   *star = ki_origin_parse(source, "*");

	if (!star->is_star)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid source \"%s\" for column \"*\"", source),
				 errdetail("The columns not listed take fields below a path that ends in .*."),
				 errhint("Write \"$.*\", or a path such as \"$.payload.*\".")));
	check_key_format(resolution, star, "*");
	resolution->star = star;
}

/*
 * Take one column's source.
 */
static void
take_column(Resolution *resolution, int index, const char *source)
{
	Form_pg_attribute attribute = TupleDescAttr(resolution->target, index);
	const char *name = NameStr(attribute->attname);
	KiOrigin   *origin;

	if (is_generated(attribute))
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("column \"%s\" cannot be mapped", name),
				 attribute->attgenerated != '\0' ?
				 errdetail("Column \"%s\" is a generated column.", name) :
				 errdetail("Column \"%s\" is an identity column defined as GENERATED ALWAYS.", name),
				 errhint("Leave the column out of the mapping, or map it to null.")));

	origin = ki_origin_parse(source, name);
	if (origin->is_star)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid source \"%s\" for column \"%s\"", source, name),
				 errdetail("A source that ends in .* belongs to all columns not listed."),
				 errhint("Write \"*\": \"%s\", or name one field.", source)));
	check_key_format(resolution, origin, name);
	resolution->origins[index] = origin;
}

/*
 * Take one entry of the columns argument.
 */
static void
take_entry(Resolution *resolution, const JsonbValue *key,
		   const JsonbValue *value)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);
	bool		is_star = strcmp(name, "*") == 0;
	int			index = is_star ? -1 : find_column(resolution, name);
	char	   *source;

	if (!is_star)
		resolution->listed[index] = true;
	if (value->type == jbvNull && !is_star)
		return;
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the source of column \"%s\" is not a string", name),
				 errdetail("In columns, every column has a source, or null for its DEFAULT."),
				 errhint("Write a source such as \"$.a.b\" or \"@offset\".")));

	source = pnstrdup(value->val.string.val, value->val.string.len);
	if (is_star)
		take_star(resolution, source);
	else
		take_column(resolution, index, source);
}

/*
 * Take all of the columns argument.
 */
static void
take_columns(Resolution *resolution, Jsonb *columns)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(columns) || JB_ROOT_COUNT(columns) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns must be a JSON object that maps at least one column"),
				 errdetail("Its fields are columns of the target, its values are sources."),
				 errhint("Write an object such as {\"id\": \"$.order.id\", \"*\": \"$.*\"}, or leave columns out to map by name.")));

	iterator = JsonbIteratorInit(&columns->root);
	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while ((token = JsonbIteratorNext(&iterator, &key, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		take_entry(resolution, &key, &value);
	}
}

/*
 * Map the columns not listed by their names, below the star.
 */
static void
take_names(Resolution *resolution)
{
	for (int i = 0; i < resolution->target->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(resolution->target, i);
		const char *name = NameStr(attribute->attname);
		KiOrigin   *origin;

		if (attribute->attisdropped || resolution->listed[i] ||
			is_generated(attribute))
			continue;
		origin = ki_origin_of_metadata_column(name);
		if (origin == NULL)
			origin = ki_origin_of_field(resolution->star, name);
		resolution->origins[i] = origin;
	}
}

/*
 * Collect the mapped columns; raises when there are none.
 */
static KiMapping *
collect_items(const Resolution *resolution)
{
	KiMapping  *mapping = palloc0(sizeof(KiMapping));
	int			natts = resolution->target->natts;

	mapping->items = palloc(sizeof(KiMappingItem) * Max(natts, 1));
	for (int i = 0; i < natts; i++)
	{
		if (resolution->origins[i] == NULL)
			continue;
		mapping->items[mapping->nitems].attnum = i + 1;
		mapping->items[mapping->nitems].origin = resolution->origins[i];
		mapping->nitems++;
	}
	if (mapping->nitems == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no column of %s would take anything from a message",
						quote_qualified_identifier(resolution->pipeline->target_schema,
												   resolution->pipeline->target_name)),
				 errdetail("Every column is generated, or left to its DEFAULT."),
				 errhint("Map at least one column.")));
	return mapping;
}

KiMapping *
ki_mapping_resolve(const KiPipeline *pipeline, TupleDesc target)
{
	Resolution	resolution = {pipeline, target, NULL, NULL, NULL};

	resolution.origins = palloc0(sizeof(KiOrigin *) * Max(target->natts, 1));
	resolution.listed = palloc0(sizeof(bool) * Max(target->natts, 1));

	if (pipeline->columns == NULL)
		resolution.star = ki_origin_make(KI_ORIGIN_VALUE);
	else
		take_columns(&resolution, pipeline->columns);
	if (resolution.star)
		take_names(&resolution);
	return collect_items(&resolution);
}

char *
ki_mapping_complain(const KiMapping *mapping)
{
	StringInfoData buf;
	int			count = 0;

	initStringInfo(&buf);
	for (int i = 0; i < mapping->nitems; i++)
	{
		if (mapping->items[i].origin->steps == NIL)
			continue;
		if (++count > COMPLAINT_PATHS_MAX)
		{
			appendStringInfoString(&buf, ", ...");
			break;
		}
		appendStringInfoString(&buf, count == 1 ?
							   "no mapped field is present; mapped are " : ", ");
		ki_origin_append(&buf, mapping->items[i].origin);
	}
	return count > 0 ? buf.data : NULL;
}
