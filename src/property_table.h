/*
 * property_table.h
 *	  The table of all client properties behind property.c (floor 1).
 */
#ifndef KI_PROPERTY_TABLE_H
#define KI_PROPERTY_TABLE_H

#include "postgres.h"

typedef enum KiVerdict
{
	VERDICT_OPEN,				/* anyone who may alter the connection */
	VERDICT_SUPERUSER,
	VERDICT_SECRET,				/* in user mappings only */
	VERDICT_FIXED,				/* set by us */
	VERDICT_REFUSED,
	VERDICT_ALIAS,				/* text: its real name */
	VERDICT_ARGUMENT			/* an option of its own, no property */
} KiVerdict;

typedef enum KiValueKind
{
	VALUE_ANY,					/* secrets */
	VALUE_TEXT,					/* no control characters */
	VALUE_ASCII,				/* printable, high: its longest */
	VALUE_INTEGER,				/* low to high */
	VALUE_WORD,					/* one of text, in any case */
	VALUE_EXACT,				/* one of text */
	VALUE_KERBEROS,				/* ends up in a shell command */
	VALUE_PEM,
	VALUE_URL					/* https */
} KiValueKind;

typedef struct KiPropertyRule
{
	const char *name;
	KiVerdict	verdict;
	bool		per_pipeline;	/* else it is the connection's alone */
	bool		is_secret;		/* never show a value */
	KiValueKind kind;
	int			low;
	int			high;
	const char *text;			/* words, reason, or real name */
} KiPropertyRule;

/* The rule of a name; NULL: unknown.  The table is constant. */
extern const KiPropertyRule *ki_property_find(const char *name);

/*
 * The legal names nearest to an unknown one, quoted and joined by "or", in
 * the current memory context; NULL: nothing is near.
 */
extern char *ki_property_nearest(const char *name);

#endif							/* KI_PROPERTY_TABLE_H */
