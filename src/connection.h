/*
 * connection.h
 *	  How to reach a Kafka cluster: foreign servers of the wrapper
 *	  kafka_ingest, their user mappings, and the allow-list of client
 *	  properties (floor 1).
 */
#ifndef KI_CONNECTION_H
#define KI_CONNECTION_H

#include "pipeline.h"

typedef struct KiProperty
{
	char	   *name;			/* librdkafka's own name */
	char	   *value;
	bool		is_secret;		/* never to be shown */
} KiProperty;

typedef struct KiConnection
{
	char	   *name;
	Oid			server;
	char	   *brokers;
	KiProperty *properties;		/* server, then mapping, then pipeline ones;
								 * each name once, all on the allow-list */
	int			nproperties;
	bool		has_mapping;	/* the user's or PUBLIC's */
	bool		needs_secret;	/* SASL is on and no secret was found */
} KiConnection;

/* Where a property may be given. */
typedef enum KiPropertyPlace
{
	KI_PLACE_SERVER,
	KI_PLACE_MAPPING,
	KI_PLACE_PIPELINE
} KiPropertyPlace;

/*
 * Raise unless this property may be set to this value at this place by the
 * current user: 42704 unknown (HINT), 42501 superuser only, 22023 out of
 * range or refused, saying why.  Never shows the value of a secret.
 */
extern void ki_property_check(const char *name, const char *value,
							  KiPropertyPlace place);

/*
 * Load a connection for a user's pipeline, in the current memory context and
 * transaction: checks that the server exists, is one of this wrapper (42704),
 * and that the user has USAGE on it (42501).  extra: the pipeline's own
 * properties, or NULL.  With missing_ok, returns NULL for a missing server.
 */
extern KiConnection *ki_connection_load(const char *name, Oid user,
										Jsonb *extra, bool missing_ok);

/* Same brokers and properties? */
extern bool ki_connection_equal(const KiConnection *a, const KiConnection *b);

#endif							/* KI_CONNECTION_H */
