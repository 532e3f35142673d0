/*
 * rdkafka_alloc.h
 *	  Which librdkafka this is, and what allocates for it (floor 0).
 */
#ifndef KI_RDKAFKA_ALLOC_H
#define KI_RDKAFKA_ALLOC_H

/* "private": linked into this library; or "shared". */
extern const char *ki_rdkafka_linkage(void);

/* The private copy's allocator and its version; NULL: the process's. */
extern const char *ki_rdkafka_allocator(void);

#endif							/* KI_RDKAFKA_ALLOC_H */
