/*
 * json_tokens.c
 *	  The values of a JSON document as a list, where the decoder made none.
 *
 * Buffers are made large enough before they are filled.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "json_scan.h"

/*
 * Buffers are not smaller, and a larger one is given back after its document.
 * The fuzz target makes and frees one for each.
 */
#ifdef KI_FUZZ
#define BUFFER_LEAST_BYTES 1
#define BUFFER_KEEP_BYTES 0
#else
#define BUFFER_LEAST_BYTES (4 * 1024)
#define BUFFER_KEEP_BYTES (64 * 1024)
#endif

struct KiJsonLister
{
	MemoryContext context;
	KiScan		scan;
	KiScanNode	root;
	KiScanFrame frame;
	KiField		field;			/* the document */
	int			next_field;
	KiJsonTokens tokens;
	KiJsonBuffer buffer;		/* of the tokens */
};

KiJsonLister *
ki_json_lister_create(void)
{
	KiJsonLister *lister = palloc0(sizeof(KiJsonLister));

	lister->context = CurrentMemoryContext;
	lister->root.nfields = 1;
	lister->root.wants_tokens = true;
	lister->next_field = -1;
	lister->scan.root = &lister->root;
	lister->scan.fields = &lister->field;
	lister->scan.nfields = 1;
	lister->scan.next_field = &lister->next_field;
	lister->scan.frames = &lister->frame;
	lister->scan.tokens = &lister->tokens;
	return lister;
}

const KiJsonToken *
ki_json_list(KiJsonLister *lister, KiJsonShapes *shapes, const char *json,
			 int len)
{
	KiJsonTokens *tokens = &lister->tokens;

	/*
	 * Between any two values stands a character that belongs to neither, or
	 * one of them encloses the other and has an end.
	 */
	tokens->max_count = len / 2 + 1;
	if (tokens->max_count > MaxAllocSize / sizeof(KiJsonToken))
		return NULL;
	tokens->list = ki_json_buffer_reserve(&lister->buffer, lister->context,
										  sizeof(KiJsonToken) *
										  tokens->max_count);
	lister->root.shapes = shapes;
	if (ki_json_scan(&lister->scan, json, len) != KI_SCAN_OK)
		return NULL;
	return lister->field.tokens;
}

void
ki_json_lister_release(KiJsonLister *lister)
{
	ki_json_buffer_release(&lister->buffer);
}

void *
ki_json_buffer_reserve(KiJsonBuffer *buffer, MemoryContext context, Size size)
{
	if (buffer->size >= size)
		return buffer->data;
	if (buffer->data != NULL)
		pfree(buffer->data);
	buffer->data = NULL;
	buffer->size = 0;
	size = Max(size, BUFFER_LEAST_BYTES);
	buffer->data = MemoryContextAlloc(context, size);
	buffer->size = size;
	return buffer->data;
}

void
ki_json_buffer_release(KiJsonBuffer *buffer)
{
	if (buffer->size <= BUFFER_KEEP_BYTES)
		return;
	pfree(buffer->data);
	buffer->data = NULL;
	buffer->size = 0;
}
