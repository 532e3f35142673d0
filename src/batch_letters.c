/*
 * batch_letters.c
 *	  What becomes of the messages at fault: dead letters, in the transaction
 *	  of the others, or the pipeline's stop.
 */
#include "postgres.h"

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

static bool
stop(KiBatch *batch, int index, const char *reason, const KiFault *fault)
{
	batch->result->stop_reason = reason;
	batch->result->applied = index;
	keep_fault(&batch->result->fault, fault);
	return false;
}

/* Would the letters take more than they may?  Others may have gone meanwhile. */
static bool
is_full(KiBatch *batch, int64 bytes)
{
	int64		limit = (int64) ki_setting_dead_letter_max_size_kb * 1024;
	int64		count;

	if (batch->letter_bytes + batch->new_bytes + bytes <= limit)
		return false;
	ki_letter_sum(batch->pipeline->id, &count, &batch->letter_bytes);
	return batch->letter_bytes + batch->new_bytes + bytes > limit;
}

/*
 * A message with its headers, which most sources are not asked for.  It is a
 * copy: what is loaded here is gone before the batch may be tried again.
 */
static KiMessage
whole_message(const KiBatch *batch, int index)
{
	KiMessage	message = batch->messages->items[index];

	ki_message_load_headers(&message);
	return message;
}

/* What keeps this message from becoming a letter; NULL: nothing. */
static const char *
obstacle(KiBatch *batch, int index, int64 bytes)
{
	if (batch->is_retry)
		return NULL;
	if (strcmp(batch->pipeline->on_error, "stop") == 0)
		return "bad_message";
	if (ki_breaker_trips(&batch->breaker, batch->letters, batch->nletters, index))
		return "error_ratio";
	return is_full(batch, bytes) ? "dead_letters_full" : NULL;
}

static void
add_letter(KiBatch *batch, int index, const KiFault *fault, const char *error)
{
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
	keep_fault(&letter->fault, fault);
	letter->error = error ? pstrdup(error) : letter->fault.message;
}

bool
ki_batch_bury(KiBatch *batch, int index, const KiFault *fault,
			  const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch_context);
	KiMessage	message = whole_message(batch, index);
	int64		bytes = ki_letter_bytes(&message);
	const char *reason = obstacle(batch, index, bytes);

	if (reason)
		(void) stop(batch, index, reason, fault);
	else
	{
		add_letter(batch, index, fault, error);
		batch->new_bytes += bytes;
		batch->fates[index] = KI_FATE_DEAD;
	}
	MemoryContextSwitchTo(old);
	return reason == NULL;
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
	*whole = error->detail ?
		psprintf("%s\nDETAIL:  %s", error->message, error->detail) :
		error->message;
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

/* A letter whose key comes again later must never be written any more. */
static void
supersede(KiBatch *batch)
{
	for (int i = 0; i < batch->result->applied; i++)
	{
		const KiMessage *message = &batch->messages->items[i];
		int32		hash;

		if (!message->key)
			continue;
		hash = ki_letter_key_hash(message);
		if (hash_search(batch->open_keys, &hash, HASH_FIND, NULL))
			ki_letter_supersede(batch->pipeline->id, message);
	}
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

static void
insert_letters(KiBatch *batch)
{
	KiMessage  *messages = palloc(sizeof(KiMessage) * batch->nletters);

	for (int i = 0; i < batch->nletters; i++)
	{
		messages[i] = whole_message(batch, batch->letters[i].index);
		watch_key(batch, &messages[i]);
	}
	ki_letter_insert(batch->pipeline->id, messages, batch->letters,
					 batch->nletters);
}

void
ki_batch_store_letters(KiBatch *batch)
{
	if (batch->nletters > 0)
		insert_letters(batch);
	if (batch->open_keys && hash_get_num_entries(batch->open_keys) > 0)
		supersede(batch);
}
