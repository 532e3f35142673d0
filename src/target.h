/*
 * target.h
 *	  The relation a pipeline writes into: found, checked, refused (floor 2).
 */
#ifndef KI_TARGET_H
#define KI_TARGET_H

#include "access/attnum.h"
#include "key.h"
#include "pipeline.h"
#include "utils/relcache.h"

/*
 * Raise unless this relation may be loaded by this role: 42809 for kinds of
 * relations whose rows are not in our transaction or not durable, 42501 for
 * missing INSERT, for row security that applies, and for a superuser's
 * pipeline into somebody else's table.
 */
extern void ki_target_check(Relation target, Oid owner);

/* Raise 42501 unless this role may insert into all of these columns. */
extern void ki_target_check_columns(Relation target, const AttrNumber *attnums,
									int ncolumns, Oid owner);

/*
 * Raise 42501 unless the pipeline's owner may do what its mode does to rows
 * that are there: SELECT of the key; for upsert also SELECT (of the values that
 * an INSERT's ON CONFLICT reads) and UPDATE of the other columns, and DELETE.
 * key NULL: nothing.
 */
extern void ki_target_check_key(Relation target, const AttrNumber *attnums,
								int ncolumns, const KiPipeline *pipeline,
								const KiKey *key);

/*
 * Open a pipeline's target for writing: by OID, else by its remembered name
 * (*was_found_by_name; the caller stores the OID then).  Raises 42P01 when
 * there is none, and what ki_target_check raises.  The caller closes it.
 */
extern Relation ki_target_open(const KiPipeline *pipeline,
							   bool *was_found_by_name);

#endif							/* KI_TARGET_H */
