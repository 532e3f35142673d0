/*
 * fault.h
 *	  Whose fault an error is, and how it is told (floor 1).
 */
#ifndef KI_FAULT_H
#define KI_FAULT_H

#include "postgres.h"

typedef enum KiErrorClass
{
	KI_ERROR_MESSAGE,			/* the message's own fault */
	KI_ERROR_PASSING,			/* try the same batch again, with back-off */
	KI_ERROR_SUSPECT			/* blamed on a message only if it fails alone
								 * while another one succeeds */
} KiErrorClass;

/* The class of an error raised while rows are worked on. */
extern KiErrorClass ki_error_class(int sqlerrcode);

/*
 * The state's reason for an error of the database's side: target_missing,
 * permission_denied …; database_error when nothing says more.  is_target: it
 * was raised by our own check of the target.
 */
extern const char *ki_error_reason(int sqlerrcode, bool is_target);

/*
 * What an error of this SQLSTATE says without its text, which may hold values
 * of a message: "unique constraint violated".
 */
extern const char *ki_error_condition(int sqlerrcode);

/* An error's message and its detail, which may be NULL, in one text.  palloc'd. */
extern char *ki_error_whole(const char *message, const char *detail);

/*
 * Raise an error again that was raised while messages were worked on: the same
 * SQLSTATE, but neither text, detail nor context, all of which may hold values.
 */
extern void ki_error_rethrow(ErrorData *error);

/*
 * An error as last_error and details show it.  palloc'd.  Its own detail may
 * hold values, unless it was raised where no message is worked on.
 */
extern char *ki_error_text(const ErrorData *error, bool with_detail);

#endif							/* KI_FAULT_H */
