/*
 * batch_shape.c
 *	  What a batch writes into: the target as it is now, with the mapping, the
 *	  writer and the statement made for it.
 *
 * They live as long as the relation is not invalidated.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "batch_private.h"
#include "target.h"

/*
 * The target of the shape made last, and how often it changed, or a function:
 * a trigger may call retry_dead_letters(), and then two batches are alive.
 */
static Oid	watched_target = InvalidOid;
static uint64 nchanges = 0;

static void
note_invalidation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == watched_target)
		nchanges++;
}

/* What a writer may do depends on the functions of defaults and checks. */
static void
note_function_change(Datum arg, int cacheid, uint32 hashvalue)
{
	nchanges++;
}

static void
watch(void)
{
	static bool is_registered = false;

	if (is_registered)
		return;
	CacheRegisterRelcacheCallback(note_invalidation, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, note_function_change, (Datum) 0);
	is_registered = true;
}

void
ki_batch_drop_shape(KiBatch *batch)
{
	batch->statement = NULL;
	batch->writer = NULL;
	batch->map = NULL;
	MemoryContextReset(batch->shape_context);
}

static void
make_writer(KiBatch *batch, Relation target)
{
	const AttrNumber *attnums;
	int			ncolumns;

	batch->key = ki_key_resolve(batch->pipeline, target);
	batch->map = ki_map_create(batch->pipeline, RelationGetDescr(target),
							   batch->key);
	ncolumns = ki_map_columns(batch->map, &attnums);
	batch->writer = ki_writer_create(target, attnums, ncolumns,
									 batch->pipeline, batch->key);
}

/* target NULL: none */
static void
make_shape(KiBatch *batch, Relation target)
{
	MemoryContext old;

	ki_batch_drop_shape(batch);
	watch();
	old = MemoryContextSwitchTo(batch->shape_context);
	watched_target = batch->target = target ? RelationGetRelid(target) : InvalidOid;
	batch->shape_changes = nchanges;
	if (batch->pipeline->statement)
		batch->statement = ki_statement_create(batch->pipeline);
	if (target)
		make_writer(batch, target);
	else
		batch->map = ki_map_create(batch->pipeline, NULL, NULL);
	MemoryContextSwitchTo(old);
}

static void
open_relation(KiBatch *batch)
{
	const AttrNumber *attnums;
	int			ncolumns;
	bool		was_found_by_name;
	Relation	target = ki_target_open(batch->pipeline, &was_found_by_name);

	if (batch->shape_changes != nchanges || !batch->writer || watched_target != batch->target ||
		!ki_writer_fits(batch->writer, target))
		make_shape(batch, target);
	ncolumns = ki_map_columns(batch->map, &attnums);
	ki_target_check_columns(target, attnums, ncolumns, batch->pipeline->owner);
	ki_target_check_key(target, attnums, ncolumns, batch->pipeline, batch->key);
	batch->relation = target;
}

void
ki_batch_open_target(KiBatch *batch)
{
	batch->is_on_target = true;
	if (batch->pipeline->target_name)
		open_relation(batch);
	else if (!batch->map)
		make_shape(batch, NULL);
	if (batch->statement)
		ki_statement_prepare(batch->statement);
	batch->is_on_target = false;
}

/* The lock stays until the transaction ends. */
void
ki_batch_close_target(KiBatch *batch)
{
	if (batch->relation)
		table_close(batch->relation, NoLock);
	batch->relation = NULL;
}

bool
ki_batch_wants_headers(const KiBatch *batch)
{
	return ki_map_wants_headers(batch->map) ||
		(batch->statement && ki_statement_wants_headers(batch->statement));
}

Oid
ki_batch_target(const KiBatch *batch)
{
	return batch->target;
}

bool
ki_batch_prepare(KiBatch *batch)
{
	KiSession	session;

	/* whatever of the owner's may run while the target is looked at */
	ki_session_begin(&session, batch->pipeline);
	ki_batch_open_target(batch);
	ki_batch_close_target(batch);
	ki_session_end(&session);
	ki_batch_load_letters(batch);
	batch->had_headers = ki_batch_wants_headers(batch);
	return batch->had_headers;
}
