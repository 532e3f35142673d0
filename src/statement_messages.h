/*
 * statement_messages.h
 *	  The relation "messages"; for statement*.c alone (floor 2).
 */
#ifndef KI_STATEMENT_MESSAGES_H
#define KI_STATEMENT_MESSAGES_H

#include "access/tupdesc.h"
#include "map.h"
#include "nodes/bitmapset.h"
#include "utils/tuplestore.h"

#define KI_MESSAGES_NAME "messages"

/* Attribute numbers. */
enum
{
	KI_MESSAGES_TOPIC = 1,
	KI_MESSAGES_PARTITION,
	KI_MESSAGES_OFFSET,
	KI_MESSAGES_TIMESTAMP,
	KI_MESSAGES_KEY,
	KI_MESSAGES_VALUE,
	KI_MESSAGES_HEADERS,
	KI_MESSAGES_RAW,
	KI_MESSAGES_LAST_OF_KEY,
	KI_MESSAGES_COLUMNS = KI_MESSAGES_LAST_OF_KEY
};

/* Its row type for a pipeline, in the current memory context. */
extern TupleDesc ki_messages_desc(const KiPipeline *pipeline);

/* What makes the given columns of its rows, in the current memory context. */
extern KiMap *ki_messages_map(const KiPipeline *pipeline, TupleDesc desc,
							  const Bitmapset *columns);

/*
 * Put messages into a tuplestore as rows in the order of topic, partition and
 * offset; columns that are not asked for are NULL.  Sorts the messages.
 */
extern void ki_messages_store(const KiMessage **messages, int nmessages,
							  KiMap *map, TupleDesc desc,
							  const Bitmapset *columns, Tuplestorestate *rows);

#endif							/* KI_STATEMENT_MESSAGES_H */
