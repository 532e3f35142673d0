/*
 * letter.h
 *	  A message that could not be written for its own fault, on its way to
 *	  becoming a dead letter: plain struct of floor 0.
 */
#ifndef KI_LETTER_H
#define KI_LETTER_H

#include "message.h"
#include "record.h"

typedef struct KiLetter
{
	int			index;			/* of the message in its batch */
	KiMessage	message;		/* as in its batch */
	KiFault		fault;
	const char *error;			/* the whole text, which may hold values; for
								 * the owner's eyes only */
} KiLetter;

#endif							/* KI_LETTER_H */
