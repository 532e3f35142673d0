/*
 * offsets.c
 *	  Offsets per topic and partition, given as jsonb.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "offsets.h"
#include "topics.h"

/* The array under construction. */
typedef struct Offsets
{
	KiOffset   *items;
	int			count;
	const char *topics;			/* that may be named */
	const char *argument;		/* for errors */
} Offsets;

static void
refuse(const Offsets *offsets, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s", offsets->argument),
			 errdetail_internal("%s", detail),
			 ki_topics_is_one(offsets->topics) ?
			 errhint("Give offsets by partition, as in {\"0\": 100, \"1\": -50}.") :
			 errhint("Give offsets by topic and partition, as in {\"topic\": {\"0\": 100, \"1\": -50}}.")));
}

static int32
parse_partition(const Offsets *offsets, const JsonbValue *key)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);
	char	   *end;
	long		partition;

	errno = 0;
	partition = strtol(name, &end, 10);
	if (errno != 0 || end == name || *end != '\0' || partition < 0 ||
		partition > PG_INT32_MAX ||
		strcmp(psprintf("%ld", partition), name) != 0)
		refuse(offsets, psprintf("\"%s\" is no partition number.", name));
	return (int32) partition;
}

static int64
parse_offset(const Offsets *offsets, int32 partition, const JsonbValue *value)
{
	char	   *digits;
	char	   *end;
	int64		offset;

	if (value->type != jbvNumeric)
		refuse(offsets, psprintf("The offset of partition %d is no number.",
								 partition));
	digits = DatumGetCString(DirectFunctionCall1(numeric_out,
												 NumericGetDatum(value->val.numeric)));
	errno = 0;
	offset = strtoi64(digits, &end, 10);
	if (errno != 0 || *end != '\0')
		refuse(offsets, psprintf("The offset of partition %d is no 64-bit integer: %s.",
								 partition, digits));
	return offset;
}

/* {"0": 100, …} */
static void
add_partitions(Offsets *offsets, JsonbContainer *part, char *topic)
{
	JsonbIterator *iterator = JsonbIteratorInit(part);
	JsonbIteratorToken token;
	JsonbValue	item;
	Size		size = sizeof(KiOffset) *
	(offsets->count + JsonContainerSize(part) + 1);

	offsets->items = offsets->items ? repalloc(offsets->items, size) : palloc(size);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		KiOffset   *offset = &offsets->items[offsets->count];

		offset->topic = topic;
		if (token == WJB_KEY)
			offset->partition = parse_partition(offsets, &item);
		else if (token == WJB_VALUE)
		{
			offset->offset = parse_offset(offsets, offset->partition, &item);
			offsets->count++;
		}
	}
}

/* {"topic": {"0": 100, …}, …} */
static void
add_topics(Offsets *offsets, JsonbContainer *root)
{
	JsonbIterator *iterator = JsonbIteratorInit(root);
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *topic = NULL;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			topic = pnstrdup(item.val.string.val, item.val.string.len);
			if (!ki_topics_match(offsets->topics, topic))
				refuse(offsets, psprintf("\"%s\" is no topic that the pipeline reads.", topic));
		}
		else if (token == WJB_VALUE && (item.type != jbvBinary ||
										!JsonContainerIsObject(item.val.binary.data)))
			refuse(offsets, psprintf("What it says of topic \"%s\" is no JSON object.", topic));
		else if (token == WJB_VALUE)
			add_partitions(offsets, item.val.binary.data, topic);
	}
}

/* Does it name topics?  Then the first value, whichever it is, is an object. */
static bool
has_topics(JsonbContainer *root)
{
	JsonbIterator *iterator = JsonbIteratorInit(root);
	JsonbIteratorToken token;
	JsonbValue	item;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
		if (token == WJB_VALUE)
			return item.type == jbvBinary &&
				JsonContainerIsObject(item.val.binary.data);
	return false;
}

KiOffset *
ki_offsets_parse(Jsonb *value, const char *topics, const char *argument,
				 int *noffsets)
{
	Offsets		offsets = {NULL, 0, topics, argument};

	if (!JB_ROOT_IS_OBJECT(value))
		refuse(&offsets, "It is no JSON object.");
	if (!ki_topics_is_one(topics) || has_topics(&value->root))
		add_topics(&offsets, &value->root);
	else
		add_partitions(&offsets, &value->root, pstrdup(topics));
	*noffsets = offsets.count;
	return offsets.items;
}

const KiOffset *
ki_offsets_find(const KiOffset *offsets, int noffsets, const char *topic,
				int32 partition)
{
	for (int i = 0; i < noffsets; i++)
		if (offsets[i].partition == partition &&
			strcmp(offsets[i].topic, topic) == 0)
			return &offsets[i];
	return NULL;
}
