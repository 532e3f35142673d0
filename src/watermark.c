/*
 * watermark.c
 *	  The log's offsets of partitions, in shared memory.
 *
 * A hash table of fixed size with a lock of its own; without
 * shared_preload_libraries there is none, and nothing is known.  A topic is
 * kept as a hash of its name: should two topics of one pipeline ever meet, some
 * offsets shown are the other one's.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "watermark.h"

#define MAX_WATERMARKS 8192

typedef struct Key
{
	Oid			database;
	int32		pipeline;
	uint32		topic;			/* a hash of its name */
	int32		partition;
} Key;

typedef struct Entry
{
	Key			key;
	KiWatermark mark;
} Entry;

static uint32
hash_topic(const char *topic)
{
	return hash_bytes((const unsigned char *) topic, strlen(topic));
}

static HTAB *marks_seen = NULL;
static LWLock *lock = NULL;

void
ki_watermark_request_shmem(void)
{
	RequestAddinShmemSpace(hash_estimate_size(MAX_WATERMARKS, sizeof(Entry)));
	RequestNamedLWLockTranche("kafka_ingest watermarks", 1);
}

void
ki_watermark_init_shmem(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(Key);
	info.entrysize = sizeof(Entry);
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	marks_seen = ShmemInitHash("kafka_ingest watermarks", 64, MAX_WATERMARKS,
							   &info, HASH_ELEM | HASH_BLOBS);
	lock = &(GetNamedLWLockTranche("kafka_ingest watermarks"))->lock;
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Since when an open transaction keeps the end that may be read where it is.
 */
static TimestampTz
held_since(const KiWatermark *before, const KiWatermark *now)
{
	if (now->stable_offset < 0 || now->stable_offset >= now->high_offset)
		return 0;
	if (before->held_since != 0 && before->stable_offset == now->stable_offset)
		return before->held_since;
	return now->at;
}

void
ki_watermark_set(Oid database, int32 pipeline, const KiWatermark *marks,
				 int nmarks)
{
	if (!marks_seen)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < nmarks; i++)
	{
		Key			key = {database, pipeline, hash_topic(marks[i].topic),
		marks[i].partition};
		bool		is_full = hash_get_num_entries(marks_seen) >= MAX_WATERMARKS;
		bool		is_known;
		TimestampTz since;
		Entry	   *entry = hash_search(marks_seen, &key,
										is_full ? HASH_FIND : HASH_ENTER_NULL,
										&is_known);

		if (!entry)
			continue;
		if (!is_known)
			entry->mark.held_since = 0;
		since = held_since(&entry->mark, &marks[i]);
		entry->mark = marks[i];
		entry->mark.topic = NULL;
		entry->mark.held_since = since;
	}
	LWLockRelease(lock);
}

bool
ki_watermark_get(Oid database, int32 pipeline, const char *topic,
				 int32 partition, KiWatermark *mark)
{
	Key			key = {database, pipeline, hash_topic(topic), partition};
	Entry	   *entry;

	if (!marks_seen)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	entry = hash_search(marks_seen, &key, HASH_FIND, NULL);
	if (entry)
		*mark = entry->mark;
	LWLockRelease(lock);
	return entry != NULL;
}

void
ki_watermark_keep_only(Oid database, const int32 *pipelines, int npipelines)
{
	HASH_SEQ_STATUS scan;
	Entry	   *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, marks_seen);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		bool		is_kept = entry->key.database != database;

		for (int i = 0; i < npipelines && !is_kept; i++)
			is_kept = pipelines[i] == entry->key.pipeline;
		if (!is_kept)
			hash_search(marks_seen, &entry->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(lock);
}
