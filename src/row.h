/*
 * row.h
 *	  A row under construction: plain struct of floor 0.
 *
 * The arrays have one element per attribute of the target, dropped and
 * unmapped ones included, so that a mapping can fill in what a writer's slot
 * holds.  The writer owns them; Datums by reference live in its row context.
 */
#ifndef KI_ROW_H
#define KI_ROW_H

#include "postgres.h"

typedef struct KiRow
{
	Datum	   *values;
	bool	   *nulls;
	bool	   *absent;			/* takes its DEFAULT; unmapped ones always do */
	bool		has_absent;		/* any mapped one */
} KiRow;

#endif							/* KI_ROW_H */
