/*
 * taking_message.c
 *		The messages of the model broker: what the number-th one of a partition
 *		is, for who sends it and for who checks it.
 *
 * Partitions are numbered through; those of two topics take turns.
 */
#include "taking_test.h"

static const char *const topic_names[2] = {"first", "second"};

const char *
topic_of(int partition)
{
	return topic_names[partition % 2];
}

int32
number_in_topic(int partition)
{
	return partition / 2;
}

int
partition_of(const char *topic, int32 number)
{
	return number * 2 + (strcmp(topic, topic_names[1]) == 0);
}

/* Some follow one another, some do not. */
int64
offset_of(int64 number)
{
	return number * 2 + (number % 3 == 0);
}

/* The first message at an offset or behind it. */
int64
number_from(int64 offset)
{
	int64		number = Max(offset / 2 - 1, 0);

	while (offset_of(number) < offset)
		number++;
	return number;
}

static uint32
hash(int partition, int64 number, int what)
{
	uint64		bits = (uint64) partition * 1000003 + what * 7777777 +
	(uint64) number * UINT64CONST(2654435761) + 12345;

	bits ^= bits >> 29;
	bits *= UINT64CONST(0xbf58476d1ce4e5b9);
	return (uint32) (bits ^ bits >> 32);
}

/* None, always the same, growing, falling, and not to be relied on. */
int64
time_of(int partition, int64 number)
{
	uint32		bits = hash(partition, number, 1);

	switch (partition)
	{
		case 1:
			return -1;
		case 2:
			return 5;
		case 3:
			return bits % 100 == 0 ? INT64CONST(1) << 60 : number * 2;
		case 4:
			return number;
		case 5:
			return bits % 3 ? PG_INT64_MAX : (int64) (bits % 7) - 3;
		case 6:
			return 2000000 - number;
		default:
			return 1000000 + number;
	}
}

/* -1: there is none. */
int64
key_length(int partition, int64 number)
{
	uint32		bits = hash(partition, number, 2);

	if (bits % 4 < 2)
		return (int64) (bits % 4) - 1;
	return (bits >> 8) % 20;
}

/* Likewise; some of them need chunks of their own. */
int64
value_length(int partition, int64 number)
{
	uint32		bits = hash(partition, number, 3);

	if (bits % 150 == 0)
		return 5000 + (bits >> 8) % 100000;
	if (bits % 7 < 2)
		return (int64) (bits % 7) - 1;
	return (bits >> 8) % 150;
}

char
key_byte(int partition, int64 number, int64 i)
{
	return (char) (partition * 31 + number * 7 + 13 + i);
}

char
value_byte(int partition, int64 number, int64 i)
{
	return (char) (partition * 31 + number * 7 + 26 + i);
}

int
header_count(int partition, int64 number)
{
	uint32		bits = hash(partition, number, 4);

	return bits % 5 == 0 ? (bits >> 8) % 6 : 0;
}

/* A third of them have no value. */
void
get_header(int64 number, int i, KiHeader *header)
{
	static const char *const names[] = {"", "a", "header", "another one"};

	header->name = names[(number + i) % lengthof(names)];
	header->value = i % 3 == 0 ? NULL : "0123456789";
	header->value_len = i % 3 == 0 ? 0 : (number + i) % 11;
}
