/*
 * stage.h
 *	  How the stages report a fault they found (floor 0).
 */
#ifndef KI_STAGE_H
#define KI_STAGE_H

#include "record.h"

#define KI_STAGE_DECODE "decode"
#define KI_STAGE_MAP "map"
#define KI_STAGE_WRITE "write"

/*
 * Fill in a fault and return false, so that finding one is one statement.
 * message must live as long as the batch and never contain a value.
 */
static inline bool
ki_fault_set(KiFault *fault, int sqlerrcode, const char *stage,
			 const char *message)
{
	fault->sqlerrcode = sqlerrcode;
	fault->stage = stage;
	fault->message = message;
	fault->column_name = NULL;
	fault->constraint_name = NULL;
	fault->is_unsure = false;
	return false;
}

#endif							/* KI_STAGE_H */
