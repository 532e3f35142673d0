/*
 * message.h
 *	  What Kafka delivers, and the places in a topic: plain structs of floor 0.
 *
 * What a KiMessage points to is a copy, valid until the KiMessages it stands in
 * is released (ki_messages_release, source.h); but its topic lives with the
 * source.
 */
#ifndef KI_MESSAGE_H
#define KI_MESSAGE_H

#include "postgres.h"

typedef struct KiHeader
{
	const char *name;			/* NUL-terminated, bytes as received */
	const char *value;			/* NULL: a header without a value */
	size_t		value_len;		/* bytes */
} KiHeader;

typedef struct KiMessage
{
	const char *topic;			/* lives as long as the source */
	int32		partition;
	int			nheaders;		/* -1: they cannot be read */
	int64		offset;
	int64		timestamp_ms;	/* since 1970-01-01 UTC; -1: none */
	const char *key;			/* NULL: no key */
	size_t		key_len;		/* bytes */
	const char *value;			/* NULL: a tombstone */
	size_t		value_len;		/* bytes */
	const KiHeader *headers;	/* NULL: none */
} KiMessage;

/* Messages of one partition that came one after the other. */
typedef struct KiRun
{
	const char *topic;			/* as of its messages */
	int32		partition;
	int			first;			/* index of the first message */
	int			count;
	int64		first_offset;
	int64		last_offset;
	int64		bytes;			/* of keys and values */
} KiRun;

/*
 * The collected messages of one batch, in the order they are to be applied in,
 * which is offset order within each partition.  Allocated by
 * ki_messages_create.
 */
typedef struct KiMessages
{
	KiMessage  *items;
	int			count;
	int			max_messages;	/* allocated length of items */
	KiRun	   *runs;			/* the same messages, in the same order */
	int			nruns;
	int			max_runs;		/* allocated length of runs */
	int64		bytes;			/* they take in memory, roughly */
} KiMessages;

/* The stored place in one partition, and what was last applied there. */
typedef struct KiPosition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;	/* the next offset to read */
	int64		last_offset;	/* of the last message applied; -1: none */
	int64		last_timestamp_ms;	/* its timestamp; -1: none */
	uint32		last_crc;		/* CRC32C of its key and value */
} KiPosition;

#endif							/* KI_MESSAGE_H */
