/*
 * functions_test_decode.c
 *	  An SQL function for tests, which create it themselves; only in builds
 *	  with KI_FAULTS.
 */
#include "postgres.h"

#ifdef KI_FAULTS

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/value.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"

#include "decode.h"
#include "origin.h"

PG_FUNCTION_INFO_V1(kafka_ingest_test_decode);

/*
 * The path that a source like $.a[0] stands for.
 */
static KiPath
read_path(const char *source)
{
	KiOrigin   *origin = ki_origin_parse(source, "test");
	KiPath		path = {palloc0(sizeof(KiPathStep) *
								Max(list_length(origin->steps), 1)), 0, false};
	ListCell   *cell;

	foreach(cell, origin->steps)
	{
		KiPathStep *step = &path.steps[path.nsteps++];

		if (IsA(lfirst(cell), String))
			step->name = strVal(lfirst(cell));
		else
			step->index = intVal(lfirst(cell));
	}
	return path;
}

/*
 * A decoder for an array of sources, and for the rest.
 */
static KiDecoder *
create_decoder(ArrayType *sources)
{
	Datum	   *elements;
	int			npaths;
	KiPath	   *paths;

	deconstruct_array(sources, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &npaths);
	paths = palloc(sizeof(KiPath) * Max(npaths, 1));
	for (int i = 0; i < npaths; i++)
		paths[i] = read_path(TextDatumGetCString(elements[i]));
	return ki_decode_json_create(paths, npaths, true);
}

static ArrayBuildState *
add_text(ArrayBuildState *state, const char *string, int len)
{
	return accumArrayResult(state, string == NULL ? (Datum) 0 :
							PointerGetDatum(cstring_to_text_with_len(string, len)),
							string == NULL, TEXTOID, CurrentMemoryContext);
}

/*
 * test_decode(document bytea, sources text[]) returns text[]: the SQLSTATE and
 * the fault's text; or 00000, the number of fields present, the rest, and each
 * field's json and data.  The decoder lives as long as the statement.
 */
Datum
kafka_ingest_test_decode(PG_FUNCTION_ARGS)
{
	bytea	   *document = PG_GETARG_BYTEA_PP(0);
	FmgrInfo   *function = fcinfo->flinfo;
	ArrayBuildState *state = NULL;
	KiRecord	record;
	KiFault		fault;
	char	   *count;

	if (function->fn_extra == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(function->fn_mcxt);

		function->fn_extra = create_decoder(PG_GETARG_ARRAYTYPE_P(1));
		MemoryContextSwitchTo(caller);
	}
	if (!ki_decode_json(function->fn_extra, VARDATA_ANY(document),
						VARSIZE_ANY_EXHDR(document), &record, &fault))
	{
		state = add_text(state, unpack_sql_state(fault.sqlerrcode), 5);
		state = add_text(state, fault.message, strlen(fault.message));
		PG_RETURN_DATUM(makeArrayResult(state, CurrentMemoryContext));
	}
	count = psprintf("%d", record.npresent);
	state = add_text(state, "00000", 5);
	state = add_text(state, count, strlen(count));
	state = add_text(state, record.rest.kind == KI_FIELD_ABSENT ? NULL :
					 record.rest.json, record.rest.json_len);
	for (int i = 0; i < record.nfields; i++)
	{
		const KiField *field = &record.fields[i];
		bool		is_absent = field->kind == KI_FIELD_ABSENT;

		state = add_text(state, is_absent ? NULL : field->json, field->json_len);
		state = add_text(state, is_absent ? NULL : field->data, field->len);
	}
	PG_RETURN_DATUM(makeArrayResult(state, CurrentMemoryContext));
}

#endif							/* KI_FAULTS */
