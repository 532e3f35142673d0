/*
 * map_document.c
 *	  A value or key that columns take fields of, and conditions look at.
 */
#include "postgres.h"

#include "nodes/value.h"

#include "map_document.h"

void
ki_document_init(KiDocument *document, int max_paths)
{
	document->paths = palloc0(sizeof(KiPath) * max_paths);
}

int
ki_document_add(KiDocument *document, const KiOrigin *origin,
				bool wants_tokens)
{
	KiPath	   *path = &document->paths[document->npaths];
	ListCell   *cell;

	path->nsteps = 0;
	path->wants_tokens = wants_tokens;
	path->steps = palloc0(sizeof(KiPathStep) *
						  Max(list_length(origin->steps), 1));
	foreach(cell, origin->steps)
	{
		KiPathStep *step = &path->steps[path->nsteps++];

		if (IsA(lfirst(cell), String))
			step->name = strVal(lfirst(cell));
		else
			step->index = intVal(lfirst(cell));
	}
	return document->npaths++;
}

void
ki_document_compile(KiDocument *document, bool want_rest)
{
	if (document->npaths > 0 || want_rest)
		document->decoder = ki_decode_json_create(document->paths,
												  document->npaths, want_rest);
}

bool
ki_document_has_field(const KiDocument *document, const KiRecord *record)
{
	if (record->npresent == 0 || document->npaths == document->ncolumns)
		return record->npresent > 0;
	for (int i = 0; i < document->ncolumns; i++)
		if (document->paths[i].nsteps > 0 &&
			record->fields[i].kind != KI_FIELD_ABSENT)
			return true;
	return false;
}
