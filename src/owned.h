/*
 * owned.h
 *	  Pipelines as SQL functions address them: by name, by who owns them
 *	  (floor 5).
 */
#ifndef KI_OWNED_H
#define KI_OWNED_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "pipeline.h"

/* A required text argument as a C string; 22004 naming it when NULL. */
extern char *ki_argument_text(FunctionCallInfo fcinfo, int n, const char *name);

/* An interval argument in milliseconds; 22023 when negative. */
extern int64 ki_argument_ms(FunctionCallInfo fcinfo, int n, const char *name);

/* Is the current user this role or a member of it? */
extern bool ki_is_mine(const KiPipeline *pipeline);

/* The pipeline of this name: 42704 if there is none, 42501 if not mine. */
extern KiPipeline *ki_owned_find(const char *name);

/*
 * The same, locked EXCLUSIVE until the transaction ends and read after that;
 * waits for the batch in flight.
 */
extern KiPipeline *ki_owned_lock(const char *name);

/* Does a pipeline stop for this reason since too much became dead letters? */
extern bool ki_stop_is_of_letters(const char *reason);

/* What to do about a stop. */
extern const char *ki_stop_hint(const char *reason);

/* Tell who changed a pipeline that this did not let it go on, if it stopped. */
extern void ki_note_stopped(const KiPipeline *pipeline);

/* So many dead letters, in words; palloc'd. */
extern char *ki_count_letters(int64 count);

/* All pipelines of mine, by name. */
extern List *ki_owned_all(void);

/*
 * Raise unless everything that can be known of a pipeline without asking the
 * broker is right: options, connection, target, mapping, owner.
 */
extern void ki_pipeline_check(const KiPipeline *pipeline);

#endif							/* KI_OWNED_H */
