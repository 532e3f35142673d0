/*
 * map.h
 *	  From message and record to the columns of a row (floor 2).
 */
#ifndef KI_MAP_H
#define KI_MAP_H

#include "access/tupdesc.h"
#include "decode.h"
#include "key.h"
#include "mapping.h"
#include "message.h"
#include "pipeline.h"
#include "row.h"

typedef struct KiMap KiMap;

/*
 * Compile the mapping of a pipeline onto its target's row type, in the
 * current memory context (everything the map ever allocates that outlives a
 * row lives there).  Needs a transaction.  Raises 42703 for columns that do
 * not exist, 42601/22023 for sources that do not parse or fit, 428C9 for
 * generated columns, each naming the culprit.  With a key, its columns must
 * not be NULL or absent (23502), and where tombstones delete, each of them
 * must have a way to its value in a message's key (22023).  Without a target
 * (NULL) there are no columns: messages are only validated and judged.
 */
extern KiMap *ki_map_create(const KiPipeline *pipeline, TupleDesc target,
							const KiKey *key);

/*
 * The same for a row of our own making, without conditions, by a mapping that
 * need not map anything; of tombstones, too.
 */
extern KiMap *ki_map_create_of(const KiPipeline *pipeline, TupleDesc row,
							   const KiMapping *mapping);

/* The mapped columns, in attribute order: attribute numbers from 1. */
extern int	ki_map_columns(const KiMap *map, const AttrNumber **attnums);

/* Does any column or condition need the messages' headers? */
extern bool ki_map_wants_headers(const KiMap *map);

/*
 * Decode the value and the key of a message as far as columns need them.
 * Returns false with *fault filled (stage "decode") for a bad message.
 * The result is kept inside the map until the next call.
 */
typedef struct KiDecoded KiDecoded;
extern KiDecoded *ki_map_decode(KiMap *map, const KiMessage *message,
								KiFault *fault);

/*
 * What is to be done with a decoded message.  Of a tombstone, which has no
 * value, only conditions that look elsewhere count, and delete_when says
 * nothing: on_tombstone does.
 */
typedef enum KiVerdict
{
	KI_VERDICT_WRITE,
	KI_VERDICT_DELETE,			/* delete_when says so */
	KI_VERDICT_FILTERED			/* filter does not let it in */
} KiVerdict;

extern KiVerdict ki_map_judge(KiMap *map, const KiMessage *message,
							  const KiDecoded *decoded);

/*
 * Fill in what a delete needs: the key columns, from a tombstone's key or from
 * the value, and newer_by of the latter.  All other columns are absent.
 */
extern bool ki_map_key(KiMap *map, const KiMessage *message,
					   const KiDecoded *decoded, KiRow *row, KiFault *fault);

/*
 * Turn a decoded message into a row: a Datum for each mapped column, or the
 * mark that it is absent and takes its DEFAULT.
 * Datums live in the current memory context.  Returns false with *fault
 * filled (stage "map") for what can be found without raising; input functions
 * may raise, in which case ki_map_current_column tells the culprit.
 */
extern bool ki_map_row(KiMap *map, const KiMessage *message,
					   const KiDecoded *decoded, KiRow *row, KiFault *fault);

/*
 * The conversion of the current column raised an error.  From now on ki_map_row
 * and ki_map_key return false with fault->is_unsure where its input function
 * would have to be called, unless they are let raise.
 */
extern void ki_map_note_error(KiMap *map);
extern void ki_map_let_raise(KiMap *map, bool may_raise);

/* Name of the column whose conversion is under way; NULL: none. */
extern const char *ki_map_current_column(const KiMap *map);

#endif							/* KI_MAP_H */
