/*
 * offsets.c
 *	  Offsets per partition, given as jsonb.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "offsets.h"

static void
refuse(const char *argument, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s", argument),
			 errdetail_internal("%s", detail),
			 errhint("Give offsets by partition, as in {\"0\": 100, \"1\": -50}.")));
}

static int32
parse_partition(const char *argument, const JsonbValue *key)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);
	char	   *end;
	long		partition;

	errno = 0;
	partition = strtol(name, &end, 10);
	if (errno != 0 || end == name || *end != '\0' || partition < 0 ||
		partition > PG_INT32_MAX ||
		strcmp(psprintf("%ld", partition), name) != 0)
		refuse(argument, psprintf("\"%s\" is no partition number.", name));
	return (int32) partition;
}

static int64
parse_offset(const char *argument, int32 partition, const JsonbValue *value)
{
	char	   *digits;
	char	   *end;
	int64		offset;

	if (value->type != jbvNumeric)
		refuse(argument, psprintf("The offset of partition %d is no number.",
								  partition));
	digits = DatumGetCString(DirectFunctionCall1(numeric_out,
												 NumericGetDatum(value->val.numeric)));
	errno = 0;
	offset = strtoi64(digits, &end, 10);
	if (errno != 0 || *end != '\0')
		refuse(argument, psprintf("The offset of partition %d is no 64-bit integer: %s.",
								  partition, digits));
	return offset;
}

/* {"topic": {…}}: the part of this topic. */
static JsonbContainer *
part_of_topic(Jsonb *value, const char *topic, const char *argument)
{
	JsonbValue *found;

	if (!JB_ROOT_IS_OBJECT(value))
		refuse(argument, "It is no JSON object.");
	found = getKeyJsonValueFromContainer(&value->root, topic, strlen(topic),
										 NULL);
	if (!found || found->type != jbvBinary ||
		!JsonContainerIsObject(found->val.binary.data))
		return &value->root;
	if (JB_ROOT_COUNT(value) != 1)
		refuse(argument, psprintf("Beside topic \"%s\" it names what the pipeline does not read.",
								  topic));
	return found->val.binary.data;
}

KiOffset *
ki_offsets_parse(Jsonb *value, const char *topic, const char *argument,
				 int *noffsets)
{
	JsonbContainer *part = part_of_topic(value, topic, argument);
	KiOffset   *offsets = palloc0(sizeof(KiOffset) * (JsonContainerSize(part) + 1));
	JsonbIterator *iterator = JsonbIteratorInit(part);
	JsonbIteratorToken token;
	JsonbValue	item;
	int			n = 0;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			offsets[n].partition = parse_partition(argument, &item);
		else if (token == WJB_VALUE)
		{
			offsets[n].offset = parse_offset(argument, offsets[n].partition,
											 &item);
			n++;
		}
	}
	*noffsets = n;
	return offsets;
}

const KiOffset *
ki_offsets_find(const KiOffset *offsets, int noffsets, int32 partition)
{
	for (int i = 0; i < noffsets; i++)
		if (offsets[i].partition == partition)
			return &offsets[i];
	return NULL;
}
