/*
 * taking_test.h
 *		What the parts of taking_test know of each other: the checks
 *		(taking_test.c, taking_stock.c), the messages (taking_message.c), who
 *		sends them (taking_broker.c), and what stands for the server
 *		(taking_server.c).
 */
#ifndef TAKING_TEST_H
#define TAKING_TEST_H

#include "postgres.h"

#include "source_kafka.h"

#define PARTITIONS 7

/* Ends the process with "not ok" and the seed. */
extern void require(bool condition, const char *what);

/* --- taking_server.c --- */

/* Among how many chances a failure is one; 0: none. */
extern int	error_rarity;
extern int	refusal_rarity;

extern int64 errors_raised;
extern int64 arrays_grown;
extern int64 chunks_refused;
extern int64 chunks_allocated;

extern void begin_server(uint64 seed);
extern uint32 draw(uint64 *state);
extern uint32 draw_main(void);
extern uint32 draw_taking(void);
extern bool is_main_thread(void);

/* False: an error was raised. */
extern bool attempt(void (*action) (void *arg), void *arg);
extern void reset_context(void);

/* --- taking_stock.c --- */
extern void check_stock(const KiStock *stock);
extern void check_chunks(const KiStock *stock, const KiHolding *holding);

/* --- taking_broker.c --- */

/* The library's place in a partition. */
typedef struct BrokerPartition
{
	int64		next;			/* number of the message it sends next */
	bool		is_assigned;
	bool		is_holed;		/* messages were left out behind an error */
} BrokerPartition;

extern BrokerPartition broker_partitions[PARTITIONS];
extern int64 messages_alive;
extern int64 messages_replayed;
extern int64 messages_taken_ahead;

/* --- taking_message.c --- */
extern const char *topic_of(int partition);
extern int32 number_in_topic(int partition);
extern int	partition_of(const char *topic, int32 number);

/* What the number-th message of a partition is. */
extern int64 offset_of(int64 number);
extern int64 number_from(int64 offset);
extern int64 time_of(int partition, int64 number);
extern int64 key_length(int partition, int64 number);
extern int64 value_length(int partition, int64 number);
extern char key_byte(int partition, int64 number, int64 i);
extern char value_byte(int partition, int64 number, int64 i);
extern int	header_count(int partition, int64 number);
extern void get_header(int64 number, int i, KiHeader *header);

#endif							/* TAKING_TEST_H */
