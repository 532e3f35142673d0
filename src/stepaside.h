/*
 * stepaside.h
 *	  Workers leave a database for commands that need it empty (floor 5).
 */
#ifndef KI_STEPASIDE_H
#define KI_STEPASIDE_H

#include "postgres.h"

/* Install the utility hook, while the library is preloaded. */
extern void ki_stepaside_install(void);

#endif							/* KI_STEPASIDE_H */
