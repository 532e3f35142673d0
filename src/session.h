/*
 * session.h
 *	  The settings and the role under which rows are worked on (floor 1).
 */
#ifndef KI_SESSION_H
#define KI_SESSION_H

#include "pipeline.h"

typedef struct KiSession
{
	int			guc_level;
	bool		is_switched;	/* the role was changed to the owner */
	Oid			user;
	int			security_context;
} KiSession;

/*
 * Pin the settings that decide how text becomes values, and become the
 * pipeline's owner: for anyone but the owner in a security-restricted
 * operation.  Undone by ki_session_end, and by an abort of the transaction.
 */
extern void ki_session_begin(KiSession *session, const KiPipeline *pipeline);
extern void ki_session_end(KiSession *session);

/* Pin them again, within it: user code may have set them. */
extern void ki_session_pin(const KiPipeline *pipeline);

/*
 * SET CONSTRAINTS ALL IMMEDIATE: deferred triggers and constraints run now and
 * not at commit, so that what a message violates is found while the message
 * is known.  Lasts until the transaction ends.
 */
extern void ki_session_check_constraints(void);

#endif							/* KI_SESSION_H */
