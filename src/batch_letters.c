/*
 * batch_letters.c
 *	  What becomes of the messages at fault: dead letters, in the transaction
 *	  of the others, or the pipeline's stop.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "advance.h"
#include "batch_private.h"
#include "catalog.h"
#include "fault.h"
#include "settings.h"
#include "source.h"
#include "stage.h"

/* ------------------------------------------------------------------------
 * Bury
 * ------------------------------------------------------------------------
 */
static char *
copy_text(const char *string)
{
	return string ? pstrdup(string) : NULL;
}

/* Texts may live in what an error or the next row takes away. */
static void
keep_fault(KiFault *kept, const KiFault *fault)
{
	*kept = *fault;
	kept->message = pstrdup(fault->message);
	kept->column_name = copy_text(fault->column_name);
	kept->constraint_name = copy_text(fault->constraint_name);
}

static void
stop(KiBatch *batch, int index, const char *reason, const KiFault *fault)
{
	batch->result->stop_reason = reason;
	batch->result->applied = index;
	keep_fault(&batch->result->fault, fault);
}

/*
 * Would the letters take more than they may?  What other workers added, or
 * others took away, is looked up once per batch when our own share is used up.
 */
static bool
is_full(KiBatch *batch, int64 bytes)
{
	int64		limit = (int64) ki_setting_dead_letter_max_size_kb * 1024;
	int64		count;

	if (batch->letter_bytes + batch->new_bytes + bytes <=
		limit / batch->pipeline->workers)
		return false;
	if (!batch->was_summed)
		ki_letter_sum(batch->pipeline->id, &count, &batch->letter_bytes);
	batch->was_summed = true;
	return batch->letter_bytes + batch->new_bytes + bytes > limit;
}

/*
 * What keeps this message from becoming a letter; NULL: nothing.  The breaker
 * can tell only of letters that come in order.
 */
static const char *
obstacle(KiBatch *batch, int index, int64 bytes, bool in_order)
{
	if (batch->is_retry)
		return NULL;
	if (strcmp(batch->pipeline->on_error, "stop") == 0)
		return "bad_message";
	if (in_order &&
		ki_breaker_trips(&batch->breaker, batch->letters, batch->nletters, index))
		return "error_ratio";
	return is_full(batch, bytes) ? "dead_letters_full" : NULL;
}

static void
add_letter(KiBatch *batch, int index, const KiMessage *message,
		   const KiFault *fault, const char *error, int64 bytes)
{
	MemoryContext old;
	KiLetter   *letter;

	if (batch->nletters == batch->max_letters)
	{
		batch->max_letters = Max(batch->max_letters * 2, 64);
		batch->letters = batch->letters ?
			repalloc(batch->letters, batch->max_letters * sizeof(KiLetter)) :
			palloc(batch->max_letters * sizeof(KiLetter));
	}
	letter = &batch->letters[batch->nletters++];
	letter->index = index;
	letter->message = *message;
	old = MemoryContextSwitchTo(batch->letter_context);
	keep_fault(&letter->fault, fault);
	letter->error = error ? pstrdup(error) : letter->fault.message;
	MemoryContextSwitchTo(old);
	batch->new_bytes += bytes;
	batch->fates[index] = KI_FATE_DEAD;
}

/* Returns the obstacle, if there is one, and has done nothing then. */
static const char *
try_bury(KiBatch *batch, int index, const KiFault *fault, const char *error,
		 bool in_order)
{
	MemoryContext old = MemoryContextSwitchTo(batch->letter_context);
	const KiMessage *message = &batch->messages->items[index];
	int64		bytes;
	const char *reason;

	ki_message_check_headers(message);
	bytes = ki_letter_bytes(message) + strlen(error ? error : fault->message);
	reason = obstacle(batch, index, bytes, in_order);
	MemoryContextSwitchTo(batch->batch_context);
	if (!reason)
		add_letter(batch, index, message, fault, error, bytes);
	MemoryContextSwitchTo(old);
	return reason;
}

bool
ki_batch_bury(KiBatch *batch, int index, const KiFault *fault,
			  const char *error)
{
	const char *reason = try_bury(batch, index, fault, error, true);
	MemoryContext old = MemoryContextSwitchTo(batch->batch_context);

	if (reason)
		stop(batch, index, reason, fault);
	MemoryContextSwitchTo(old);
	return reason == NULL;
}

/* Was there, at any of these letters, one too many? */
static bool
one_trips(const KiBatch *batch, int first)
{
	for (int i = first; i < batch->nletters; i++)
		if (ki_breaker_trips(&batch->breaker, batch->letters, i,
							 batch->letters[i].index))
			return true;
	return false;
}

static int
compare_letters(const void *a, const void *b)
{
	return ((const KiLetter *) a)->index - ((const KiLetter *) b)->index;
}

bool
ki_batch_bury_refused(KiBatch *batch, int first, const List *refused)
{
	ListCell   *cell;

	foreach(cell, refused)
	{
		const KiRefusal *refusal = lfirst(cell);

		if (try_bury(batch, ki_batch_message_of_row(batch, refusal->row),
					 &refusal->fault, refusal->error, false))
			return false;
	}
	qsort(batch->letters + first, batch->nletters - first, sizeof(KiLetter),
		  compare_letters);
	return batch->is_retry || !one_trips(batch, first);
}

void
ki_batch_fault_of_error(const KiBatch *batch, const ErrorData *error,
						KiFault *fault, const char **whole)
{
	memset(fault, 0, sizeof(KiFault));
	fault->sqlerrcode = error->sqlerrcode;
	fault->stage = batch->is_mapping ? KI_STAGE_MAP : KI_STAGE_WRITE;
	fault->message = ki_error_condition(error->sqlerrcode);
	fault->column_name = error->column_name;
	fault->constraint_name = error->constraint_name;
	if (batch->is_mapping && !fault->column_name)
		fault->column_name = ki_map_current_column(batch->map);
	*whole = ki_error_whole(error->message, error->detail);
}

/* ------------------------------------------------------------------------
 * Store
 * ------------------------------------------------------------------------
 */
static HTAB *
make_key_table(MemoryContext context)
{
	HASHCTL		control = {0};

	control.keysize = control.entrysize = sizeof(int32);
	control.hcxt = context;
	return hash_create("kafka_ingest keys of dead letters", 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
ki_batch_load_letters(KiBatch *batch)
{
	int64		count;
	ListCell   *cell;

	ki_letter_sum(batch->pipeline->id, &count, &batch->letter_bytes);
	if (!ki_pipeline_is_upsert(batch->pipeline))
		return;
	batch->open_keys = make_key_table(GetMemoryChunkContext(batch));
	foreach(cell, count > 0 ? ki_letter_key_hashes(batch->pipeline->id) : NIL)
	{
		int32		hash = lfirst_int(cell);

		(void) hash_search(batch->open_keys, &hash, HASH_ENTER, NULL);
	}
}

/* Where a key was met; the topic's text is the same for all its messages. */
typedef struct Place
{
	const char *topic;
	int32		partition;
	int32		hash;
} Place;

typedef struct Met
{
	Place		place;			/* the table's key */
	const KiMessage *last;
} Met;

static HTAB *
make_met_table(MemoryContext context)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(Place);
	control.entrysize = sizeof(Met);
	control.hcxt = context;
	return hash_create("kafka_ingest keys of a batch", 256, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Is a message the last of its key, as seen from the end of the batch? */
static bool
is_last_of_key(HTAB *met, const KiMessage *message, int32 hash)
{
	Place		place;
	Met		   *entry;
	bool		found;

	memset(&place, 0, sizeof(place));
	place.topic = message->topic;
	place.partition = message->partition;
	place.hash = hash;
	entry = hash_search(met, &place, HASH_ENTER, &found);
	if (found && entry->last->key_len == message->key_len &&
		memcmp(entry->last->key, message->key, message->key_len) == 0)
		return false;
	entry->last = message;
	return true;
}

/*
 * A letter whose key comes again later must never be written any more.  The
 * last message of a key marks all letters before it.
 */
static void
supersede(KiBatch *batch)
{
	HTAB	   *met = make_met_table(batch->batch_context);

	for (int i = batch->result->applied - 1; i >= 0; i--)
	{
		const KiMessage *message = &batch->messages->items[i];
		int32		hash;

		CHECK_FOR_INTERRUPTS();
		if (!message->key)
			continue;
		hash = ki_letter_key_hash(message);
		if (!hash_search(batch->open_keys, &hash, HASH_FIND, NULL) ||
			!is_last_of_key(met, message, hash))
			continue;
		if (!ki_letter_supersede(batch->pipeline->id, message))
			batch->closed_keys = lappend_int(batch->closed_keys, hash);
	}
}

void
ki_batch_forget_closed_keys(KiBatch *batch)
{
	ListCell   *cell;

	foreach(cell, batch->closed_keys)
	{
		int32		hash = lfirst_int(cell);

		(void) hash_search(batch->open_keys, &hash, HASH_REMOVE, NULL);
	}
	batch->closed_keys = NIL;
}

/* An upsert watches for what follows it under its key. */
static void
watch_key(KiBatch *batch, const KiMessage *message)
{
	int32		hash;

	if (!batch->open_keys || !message->key)
		return;
	hash = ki_letter_key_hash(message);
	(void) hash_search(batch->open_keys, &hash, HASH_ENTER, NULL);
}

void
ki_batch_store_letters(KiBatch *batch)
{
	for (int i = 0; i < batch->nletters; i++)
		watch_key(batch, &batch->letters[i].message);
	if (batch->nletters > 0)
		ki_letter_insert(batch->pipeline->id, batch->letters, batch->nletters);
	if (batch->open_keys && hash_get_num_entries(batch->open_keys) > 0)
		supersede(batch);
}
