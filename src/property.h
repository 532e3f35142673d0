/*
 * property.h
 *	  The allow-list of client properties: what may be set, where, by whom,
 *	  and to which values (floor 1).
 *
 * ki_property_check (connection.h) is the whole question; what is here are
 * its parts, and the reading of properties from jsonb.  Everything allocates
 * in the current memory context.  No error ever shows the value of a secret,
 * nor of a name that is not known: it might be a secret mistyped.
 */
#ifndef KI_PROPERTY_H
#define KI_PROPERTY_H

#include "connection.h"
#include "nodes/pg_list.h"

/* Is its value never to be shown?  True for unknown names, too. */
extern bool ki_property_is_secret(const char *name);

/* Is it kafka_ingest's own (the registry's) and nothing for librdkafka? */
extern bool ki_property_is_ours(const char *name);

/*
 * As ki_property_check, but only whether the name is one for this place:
 * what a removal needs.
 */
extern void ki_property_check_name(const char *name, KiPropertyPlace place);

/* As ki_property_check, on behalf of a superuser or not. */
extern void ki_property_check_as(const char *name, const char *value,
								 KiPropertyPlace place, bool superuser);

/* Raise 22023 unless value is host[:port], ... */
extern void ki_property_check_brokers(const char *value);

/* Raise 22023 unless value is a URL without user and password in it. */
extern void ki_property_check_url(const char *name, const char *value,
								  bool https_only);

/*
 * The pairs of a JSON object, as a List of DefElem whose arg is a String:
 * JSON strings, numbers and booleans as their text, and null as an arg of
 * NULL where null_removes.  Raises 22023 naming the argument (and key) for
 * anything else.
 */
extern List *ki_property_list(Jsonb *object, const char *argument,
							  bool null_removes);

#endif							/* KI_PROPERTY_H */
