/*
 * functions_looking.h
 *	  Arguments that peek and infer_table have in common (floor 6).
 */
#ifndef KI_FUNCTIONS_LOOKING_H
#define KI_FUNCTIONS_LOOKING_H

#include "compat.h"
#include "fmgr.h"

/* The name of one topic; 22023 for lists and patterns. */
extern char *ki_looking_topic(FunctionCallInfo fcinfo, int n);

/* How many messages; 22023 unless it is within reason. */
extern int	ki_looking_count(FunctionCallInfo fcinfo, int n, const char *name);

/* Raise for a format this function does not read: 0A000 if others do. */
KI_NORETURN extern void ki_looking_refuse_format(const char *function,
												 const char *format);

#endif							/* KI_FUNCTIONS_LOOKING_H */
