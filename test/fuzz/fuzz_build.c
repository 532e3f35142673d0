/*
 * fuzz_build.c
 *		jsonb, built with what was remembered of other documents and without.
 */
#include "postgres.h"

#include <stdlib.h>

#include "fuzz_build.h"
#include "fuzz_oracle.h"
#include "jsonb_build.h"

/* Is it the same as without? */
static void
require_same_jsonb(bool is_built, Datum jsonb, bool is_expected, Datum expected,
				   const char *what)
{
	require(is_built == is_expected, what);
	if (!is_built)
		return;
	require(VARSIZE(DatumGetPointer(jsonb)) == VARSIZE(DatumGetPointer(expected)) &&
			memcmp(DatumGetPointer(jsonb), DatumGetPointer(expected),
				   VARSIZE(DatumGetPointer(expected))) == 0, what);
	free(DatumGetPointer(jsonb));
}

void
require_jsonb(const char *json, int len)
{
	static KiJsonbBuilder *builder = NULL;
	static KiJsonShapes *shapes = NULL;
	Datum		expected = 0;
	Datum		jsonb = 0;
	bool		is_expected;
	bool		is_built;

	if (builder == NULL)
	{
		builder = ki_jsonb_builder_create();
		shapes = ki_json_shapes_create();
	}
	is_expected = ki_jsonb_build(builder, NULL, NULL, json, len, &expected);
	for (int i = 0; i < 2; i++)
	{
		is_built = ki_jsonb_build(builder, NULL, shapes, json, len, &jsonb);
		require_same_jsonb(is_built, jsonb, is_expected, expected,
						   i == 0 ? "jsonb by the shapes of other documents" :
						   "jsonb by its own shapes");
	}
	if (is_expected)
		free(DatumGetPointer(expected));
}
