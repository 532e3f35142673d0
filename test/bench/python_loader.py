#!/usr/bin/env python3
"""The loader that most teams write, written well: the contender "python".

confluent-kafka takes messages in batches, orjson decodes them, psycopg2 copies the rows, and the
offsets are stored in the transaction of their rows, in a table of the loader's own: exactly once.
What a good team would have found out is in here: explicit offsets and no consumer group's, batches of
10,000, a deep prefetch queue (librdkafka's default stalls for a second at this speed), itemgetter and
csv for the rows, both of which run in C (lines made by formatting were no faster), no search for garbage
that cannot be there.

It speaks with the bench by lines: prints "ready" when everything is imported, begins at a line on
standard input, prints "assigned" when it reads, and one JSON object when --count messages are loaded.
"""
import argparse
import csv
import gc
import io
import json
import operator
import resource
import sys

import confluent_kafka
import orjson
import psycopg2

from processes import cpu_seconds, memory_kb


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--columns", required=True, help="top-level fields, separated by commas")
    parser.add_argument("--json", default="", help="those of them that go into jsonb columns")
    parser.add_argument("--count", type=int, required=True, help="end when so many are loaded")
    parser.add_argument("--batch", type=int, default=10000)
    parser.add_argument("--wait", type=float, default=0.1, help="seconds to wait for a full batch")
    return parser.parse_args()


OFFSETS_TABLE = """CREATE TABLE IF NOT EXISTS python_loader_offsets (
    topic text, partition int, next_offset bigint, PRIMARY KEY (topic, partition))"""


def load_offsets(cursor, topic, partitions):
    """The stored positions; a partition's first one is 0."""
    cursor.execute(OFFSETS_TABLE)
    for partition in partitions:
        cursor.execute("INSERT INTO python_loader_offsets VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
                       (topic, partition))
    cursor.execute("SELECT partition, next_offset FROM python_loader_offsets WHERE topic = %s", (topic,))
    return dict(cursor.fetchall())


def open_consumer(brokers):
    return confluent_kafka.Consumer({
        "bootstrap.servers": brokers,
        "group.id": "python_loader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "queued.min.messages": 1000000,
        "fetch.queue.backoff.ms": 10,
    })


def assign(consumer, cursor, topic):
    partitions = list(consumer.list_topics(topic, 30).topics[topic].partitions)
    positions = load_offsets(cursor, topic, partitions)
    cursor.connection.commit()
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, positions[partition])
                     for partition in partitions])


def row_function(columns, json_columns):
    """Turns a decoded message into a row: a tuple of fields, jsonb ones as JSON text."""
    fields = operator.itemgetter(*columns)
    at = [columns.index(column) for column in json_columns]
    if not at:
        return fields

    def row(message):
        values = list(fields(message))
        for i in at:
            values[i] = orjson.dumps(values[i]).decode()
        return values
    return row


def decode(messages, row, offsets):
    """The rows of a batch; notes in offsets where each partition stands behind it."""
    rows = []
    loads = orjson.loads
    for message in messages:
        if message.error():
            raise confluent_kafka.KafkaException(message.error())
        rows.append(row(loads(message.value())))
        offsets[message.partition()] = message.offset() + 1
    return rows


def write(cursor, copy_command, rows, topic, offsets):
    """Rows and offsets in one transaction."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    buffer.seek(0)
    cursor.copy_expert(copy_command, buffer, size=1 << 20)
    for partition, next_offset in offsets.items():
        cursor.execute("UPDATE python_loader_offsets SET next_offset = %s WHERE topic = %s AND partition = %s",
                       (next_offset, topic, partition))
    cursor.connection.commit()


def load(options, consumer, cursor):
    columns = options.columns.split(",")
    row = row_function(columns, options.json.split(",") if options.json else [])
    copy_command = f"COPY {options.table} ({options.columns}) FROM STDIN WITH (FORMAT csv)"
    loaded = 0
    while loaded < options.count:
        messages = consumer.consume(options.batch, options.wait)
        if messages:
            offsets = {}
            rows = decode(messages, row, offsets)
            write(cursor, copy_command, rows, options.topic, offsets)
            loaded += len(rows)
    return loaded


def own_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    options = arguments()
    gc.disable()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu_before = own_cpu_seconds()
    connection = psycopg2.connect(options.dsn)
    backend = connection.info.backend_pid
    consumer = open_consumer(options.brokers)
    with connection.cursor() as cursor:
        assign(consumer, cursor, options.topic)
        print("assigned", flush=True)
        loaded = load(options, consumer, cursor)
    print(json.dumps({
        "rows": loaded,
        "client_cpu_seconds": own_cpu_seconds() - cpu_before,
        "backend_cpu_seconds": cpu_seconds(backend),
        "peak_private_kb": memory_kb("self", "VmHWM"),
    }), flush=True)
    connection.close()
    consumer.close()


if __name__ == "__main__":
    main()
