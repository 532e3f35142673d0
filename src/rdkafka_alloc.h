/*
 * rdkafka_alloc.h
 *	  Which librdkafka this is (floor 0).
 */
#ifndef KI_RDKAFKA_ALLOC_H
#define KI_RDKAFKA_ALLOC_H

/* "private": linked into this library; or "shared". */
extern const char *ki_rdkafka_linkage(void);

#endif							/* KI_RDKAFKA_ALLOC_H */
