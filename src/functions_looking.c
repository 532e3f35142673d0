/*
 * functions_looking.c
 *	  Arguments that peek and infer_table have in common.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "functions_looking.h"
#include "owned.h"

/* Above this it is loading and not looking. */
#define MAX_MESSAGES 100000

static const char *const later_formats[] = {"text", "csv", "raw", "avro"};

char *
ki_looking_topic(FunctionCallInfo fcinfo, int n)
{
	char	   *topic = ki_argument_text(fcinfo, n, "topic");

	if (topic[0] == '\0' || strpbrk(topic, ",*") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of one topic", topic),
				 errhint("Lists and patterns are for pipelines.")));
	return topic;
}

int
ki_looking_count(FunctionCallInfo fcinfo, int n, const char *name)
{
	int32		count;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	count = PG_GETARG_INT32(n);
	if (count < 1 || count > MAX_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is out of range: %d", name, count),
				 errdetail("It must be between 1 and %d.", MAX_MESSAGES)));
	return count;
}

void
ki_looking_refuse_format(const char *function, const char *format)
{
	for (int i = 0; i < (int) lengthof(later_formats); i++)
		if (strcmp(format, later_formats[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s() does not read the format \"%s\" yet", function,
							format)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid format \"%s\"", format),
			 errhint("It is json, text, csv, raw or avro.")));
}
