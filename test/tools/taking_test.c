/*
 * taking_test.c
 *		Fuzz of how messages are taken and delivered: src/source_kafka_stock.c,
 *		_take.c, _read.c, _messages.c, _ahead.c and _chunk.c as they are, with a
 *		model of the broker.  Prints TAP.
 *
 *		taking_test SEED ROUNDS
 *
 * Whatever is sent, refused and raised: each message of a partition is delivered
 * once and in order, with its bytes, which stay until the batch is released;
 * nothing is delivered from behind a hole or of another log; an end is told only
 * when everything before it was delivered; the counts of lanes, bundles and
 * chunks are right after each collect; the thread that takes ahead calls nothing
 * of PostgreSQL; and nothing is left in the end.
 *
 * A seed repeats what is asked for and what the broker has.  How far the thread
 * comes each time depends on the processors.
 */
#include "taking_test.h"

#include <stdlib.h>

#include "utils/memutils.h"

#define MOST_MESSAGES 3000		/* in a batch */
#define MOST_BYTES 2000000
#define MOST_BYTES_AHEAD 600000

#define ERROR_RARITY 50
#define REFUSAL_RARITY 10

/* What was delivered of a partition. */
typedef struct Delivery
{
	int64		next;			/* number of the message that is next */
	bool		is_other;		/* it was assigned as if of another log */
} Delivery;

static const char *seed;
static KiSource *source;
static KiMessages *batch;
static Delivery deliveries[PARTITIONS];

/* The partitions assigned, in the order of the positions. */
static int	assigned[PARTITIONS];
static int	nassigned;

static int64 delivered = 0;
static int64 ends = 0;
static int64 barriers[KI_BARRIER_OTHER + 1];

void
require(bool condition, const char *what)
{
	if (condition)
		return;
	printf("not ok 1 - %s\n1..1\n", what);
	printf("# TAKING_SEED=%s, after " INT64_FORMAT " messages\n", seed, delivered);
	fflush(stdout);
	_exit(1);
}

/* --- a message --- */

static void
check_bytes(int partition, int64 number, const KiMessage *message)
{
	int64		key_len = key_length(partition, number);
	int64		value_len = value_length(partition, number);

	require((message->key == NULL) == (key_len < 0) &&
			(int64) message->key_len == Max(key_len, 0), "a key is there, or not");
	require((message->value == NULL) == (value_len < 0) &&
			(int64) message->value_len == Max(value_len, 0), "a value is there, or not");
	for (int64 i = 0; i < key_len; i++)
		if (message->key[i] != key_byte(partition, number, i))
			require(false, "a key has its bytes");
	for (int64 i = 0; i < value_len; i++)
		if (message->value[i] != value_byte(partition, number, i))
			require(false, "a value has its bytes");
}

static void
check_headers(int partition, int64 number, const KiMessage *message)
{
	require(message->nheaders == header_count(partition, number),
			"a message has as many headers as it was sent with");
	for (int i = 0; i < message->nheaders; i++)
	{
		const KiHeader *header = &message->headers[i];
		KiHeader	sent;

		get_header(number, i, &sent);
		require(strcmp(header->name, sent.name) == 0, "a header has its name");
		require((header->value == NULL) == (sent.value == NULL) &&
				header->value_len == sent.value_len &&
				(sent.value == NULL ||
				 memcmp(header->value, sent.value, sent.value_len) == 0),
				"a header has its value");
	}
}

static void
check_message(const KiMessage *message)
{
	int			partition = partition_of(message->topic, message->partition);
	int64		number = number_from(message->offset);

	require(message->timestamp_ms == time_of(partition, number),
			"a message has its time");
	check_bytes(partition, number, message);
	check_headers(partition, number, message);
}

/* --- a batch --- */

/* What was appended is next in its partitions. */
static void
check_delivered(int from)
{
	for (int i = from; i < batch->count; i++)
	{
		const KiMessage *message = &batch->items[i];
		int			partition = partition_of(message->topic, message->partition);
		Delivery   *delivery = &deliveries[partition];

		require(broker_partitions[partition].is_assigned,
				"only messages of assigned partitions are delivered");
		require(!delivery->is_other, "nothing of another log is delivered");
		require(message->offset == offset_of(delivery->next),
				"no message is lost, doubled or out of order");
		check_message(message);
		delivery->next++;
		delivered++;
	}
}

static void
check_run(const KiRun *run)
{
	int64		bytes = 0;

	for (int i = run->first; i < run->first + run->count; i++)
	{
		const KiMessage *message = &batch->items[i];

		require(message->topic == run->topic &&
				message->partition == run->partition, "a run is of one partition");
		bytes += message->key_len + message->value_len;
	}
	require(run->bytes == bytes &&
			run->first_offset == batch->items[run->first].offset &&
			run->last_offset == batch->items[run->first + run->count - 1].offset,
			"a run says what it has");
}

/* It is still what it was, whatever is taken meanwhile. */
static void
check_batch(void)
{
	int			count = 0;

	for (int i = 0; i < batch->count; i++)
		check_message(&batch->items[i]);
	for (int i = 0; i < batch->nruns; i++)
	{
		require(batch->runs[i].first == count && batch->runs[i].count > 0,
				"runs follow one another");
		check_run(&batch->runs[i]);
		count += batch->runs[i].count;
	}
	require(count == batch->count, "runs have all messages");
}

/* What the broker has sent was delivered, when nothing stands in the way. */
static void
check_nothing_left(void)
{
	const KiStock *stock = &source->stock;

	if (stock->count > 0 || stock->next_raw < stock->nraw ||
		source->barrier.kind != KI_BARRIER_NONE)
		return;
	for (int i = 0; i < PARTITIONS; i++)
	{
		if (!broker_partitions[i].is_assigned)
			continue;
		require(!broker_partitions[i].is_holed, "a hole is a barrier");
		require(deliveries[i].is_other ||
				deliveries[i].next >= broker_partitions[i].next,
				"everything taken is delivered");
	}
}

/* --- what a loader does --- */

/* Some of the partitions, in any order. */
static void
choose_partitions(void)
{
	for (int i = 0; i < PARTITIONS; i++)
	{
		int			j = draw_main() % (i + 1);

		assigned[i] = assigned[j];
		assigned[j] = i;
	}
	nassigned = draw_main() % 3 == 0 ? 1 + draw_main() % PARTITIONS : PARTITIONS;
}

/* What stands in the table once the last message was applied. */
static void
remember_last(int partition, KiPosition *position)
{
	int64		number = deliveries[partition].next - 1;
	int64		key_len = key_length(partition, number);
	int64		value_len = value_length(partition, number);
	char	   *key = malloc(Max(key_len, 1));
	char	   *value = malloc(Max(value_len, 1));
	KiMessage	message = {.key = key_len < 0 ? NULL : key,.key_len = Max(key_len, 0),
	.value = value_len < 0 ? NULL : value,.value_len = Max(value_len, 0)};

	for (int64 i = 0; i < key_len; i++)
		key[i] = key_byte(partition, number, i);
	for (int64 i = 0; i < value_len; i++)
		value[i] = value_byte(partition, number, i);
	position->last_offset = offset_of(number);
	position->next_offset = position->last_offset + 1;
	position->last_timestamp_ms = time_of(partition, number);
	position->last_crc = ki_message_crc(&message);
	free(key);
	free(value);
}

static void
fill_position(int partition, bool check_last, KiPosition *position)
{
	Delivery   *delivery = &deliveries[partition];

	position->topic = (char *) topic_of(partition);
	position->partition = number_in_topic(partition);
	position->next_offset = 0;
	position->last_offset = -1;
	delivery->is_other = false;
	if (delivery->next == 0)
		return;
	remember_last(partition, position);
	if (!check_last || draw_main() % 10 > 0)
		return;
	delivery->is_other = true;
	if (position->last_timestamp_ms > 0 && draw_main() % 2)
		position->last_timestamp_ms--;
	else
		position->last_crc ^= 1;
}

static void
assign_some(void *arg)
{
	KiPosition	positions[PARTITIONS];
	bool		check_last[PARTITIONS];

	choose_partitions();
	for (int i = 0; i < nassigned; i++)
	{
		check_last[i] = draw_main() % 2;
		fill_position(assigned[i], check_last[i], &positions[i]);
	}
	ki_source_assign(source, positions, check_last, nassigned);
}

static void
assign(void)
{
	while (!attempt(assign_some, NULL))
		;
}

static void
collect_some(void *arg)
{
	int			max_messages = 1 + draw_main() % MOST_MESSAGES;
	int64		max_bytes = 1 + draw_main() % MOST_BYTES;

	ki_source_collect(source, batch, max_messages, max_bytes);
}

static void
collect(void)
{
	do
	{
		int			from = batch->count;
		bool		is_done = attempt(collect_some, NULL);

		check_delivered(from);
		check_stock(&source->stock);
		check_chunks(&source->stock, (const KiHolding *) batch);
		/* what an error interrupted is not dealt with yet */
		if (is_done)
			check_nothing_left();
	}
	while (draw_main() % 2);
}

static void
look_at_ends(void)
{
	for (int i = 0; i < nassigned; i++)
	{
		int64		end = ki_source_end(source, i);
		int64		next = deliveries[assigned[i]].next;

		if (end < 0)
			continue;
		require(offset_of(next) >= end,
				"an end is told when everything before it was delivered");
		require(next == 0 || offset_of(next - 1) < end,
				"there is no end any more once more is delivered");
		ends++;
	}
}

/* The loader would open the log anew; sometimes it does so by itself. */
static void
look_at_barrier(void)
{
	KiBarrierKind kind = ki_source_barrier(source)->kind;

	if (kind == KI_BARRIER_NONE && draw_main() % 50 > 0)
		return;
	if (kind != KI_BARRIER_NONE)
		require(source->stock.count == 0 && source->stock.turn == NULL,
				"nothing is kept behind a barrier");
	barriers[kind]++;
	source->barrier.kind = KI_BARRIER_NONE;
	assign();
}

static void
create_batch(void *arg)
{
	batch = ki_messages_create(MOST_MESSAGES);
}

/* Its context goes: arrays that have grown are small again. */
static void
end_batch(void)
{
	KiHolding  *holding = (KiHolding *) batch;

	reset_context();
	free(holding->chunks);
	free(batch->runs);
	free(batch->items);
	free(holding);
}

static void
take_ahead(void *arg)
{
	ki_source_take_ahead(source, 1 + draw_main() % MOST_BYTES_AHEAD);
}

static void
run_round(void)
{
	collect();
	look_at_ends();
	look_at_barrier();
	if (draw_main() % 2)
		attempt(take_ahead, NULL);
	check_batch();
	if (draw_main() % 2 || batch->count >= MOST_MESSAGES)
		ki_messages_release(batch);
	if (draw_main() % 10 == 0)
	{
		end_batch();
		while (!attempt(create_batch, NULL))
			;
	}
	if (draw_main() % 50 == 0)
		source->is_doubtful = true;
}

/* --- all of it --- */

static void
begin(void)
{
	source = calloc(1, sizeof(KiSource));
	source->want_headers = true;
	source->last_topic = -1;
	source->queue_messages = 1000;
	source->queue_bytes = 100000;
	source->ntopics = 2;
	source->topics = calloc(source->ntopics, sizeof(KiSourceTopic));
	for (int i = 0; i < source->ntopics; i++)
		source->topics[i].name = topic_of(i);
	ki_stock_make_lanes(source);
	create_batch(NULL);
	error_rarity = ERROR_RARITY;
	refusal_rarity = REFUSAL_RARITY;
	assign();
}

/* As when the source is closed and its batch's memory goes. */
static void
end(void)
{
	error_rarity = 0;
	ki_source_end_thread(source);
	ki_source_drop_taken(source);
	end_batch();
}

static int	ntests = 0;
static int	nfailed = 0;

static void
ok(bool good, int64 count, const char *what)
{
	ntests++;
	nfailed += !good;
	printf("%s %d - " INT64_FORMAT " %s\n", good ? "ok" : "not ok", ntests, count, what);
}

/* What did not happen was not tested. */
static void
ok_some(int64 count, const char *what)
{
	ok(count > 0, count, what);
}

int
main(int argc, char **argv)
{
	int			rounds = argc == 3 ? atoi(argv[2]) : 0;

	if (rounds <= 0)
	{
		fprintf(stderr, "usage: taking_test SEED ROUNDS\n");
		return 2;
	}
	seed = argv[1];
	begin_server(strtoull(seed, NULL, 10));
	begin();
	for (int i = 0; i < rounds; i++)
		run_round();
	end();
	ok_some(delivered, "messages delivered, each once, in order, with its bytes");
	ok_some(messages_taken_ahead, "taken by the thread, which called nothing of PostgreSQL");
	ok_some(messages_replayed, "sent once more");
	ok_some(ends, "ends seen, with everything before them delivered");
	ok_some(barriers[KI_BARRIER_CORRUPT], "barriers: record sets and headers that cannot be read");
	ok_some(barriers[KI_BARRIER_OFFSET_LOST], "barriers: positions out of range");
	ok_some(barriers[KI_BARRIER_RECREATED], "barriers: the log is another one");
	ok_some(barriers[KI_BARRIER_OTHER], "barriers: other errors and doubts");
	ok_some(errors_raised, "errors raised on the way");
	ok_some(arrays_grown, "times an array grew");
	ok_some(chunks_refused, "allocations refused");
	ok(messages_alive == 0, messages_alive, "messages of the library's left");
	ok(chunks_allocated == 0 && ki_chunk_bytes() == 0, chunks_allocated, "chunks left");
	printf("1..%d\n", ntests);
	if (nfailed > 0)
		printf("# TAKING_SEED=%s\n", seed);
	return nfailed > 0;
}
