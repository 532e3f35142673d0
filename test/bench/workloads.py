"""The workloads: what the messages are, what the tables are, and how a loaded table is proven."""
import dataclasses
from decimal import Decimal

from topics import PARTITIONS

TINY = '{"category":"option%o","value":%d}'
TIMED = '{"category":"option%o","value":%d,"sent":%t}'
# 486 bytes, 24 values. A number must not begin with 0, so a 1 stands before digits of the running number.
ORDER = (
    '{"order_id":1%07d,"version":3,"status":"delivered","channel":"web",'
    '"created_at":"2026-03-14T09:26:53.%06dZ","total":1%03d.%02d,"paid":true,"priority":false,'
    '"session":"%08d-1c3e-4f5a-8b7d-%012d",'
    '"customer":{"id":1%07d,"name":"Ada","email":"c%07d@example.com","tier":"gold",'
    '"address":{"city":"Lisbon","zip":"1100-148","country":"PT"}},'
    '"items":[{"sku":"A-10%04d","quantity":2,"price":19.99},{"sku":"B-20%04d","quantity":1,"price":249.50}],'
    '"currency":"EUR","note":"ring"}')


@dataclasses.dataclass
class Workload:
    name: str
    title: str
    template: str
    columns: list           # (name, type) in the order of the table
    first: int              # the running number of the first message
    quick: int              # messages
    full: int
    checks: str             # select list whose one row must be what expect() says
    expect: object          # (first, count) -> tuple
    key: str = None         # the primary key
    mapping: str = None     # create_pipeline()'s columns; None: by name
    topic_partitions: int = PARTITIONS
    partition_by: str = None
    partitions: int = 0
    workers: tuple = (1,)   # numbers of workers to compare
    bad: tuple = ()         # names of BAD to compare: the same messages, but BAD_EVERY-th ones bad
    rivals: tuple = ("copy_text", "copy_binary", "python")
    python_floor: float = None  # of COPY text's rate; below it a round says nothing

    def topic(self):
        """Workloads of the same messages share a topic."""
        name = "bench_" + {TINY: "tiny", ORDER: "orders"}[self.template]
        return name if self.topic_partitions == PARTITIONS else f"{name}_{self.topic_partitions}"

    def json_columns(self):
        return [name for name, kind in self.columns if kind == "jsonb"]

    def definition(self, table, count):
        """The statements that make the table."""
        lines = [f"{name} {kind}" for name, kind in self.columns]
        if self.key:
            lines.append(f"PRIMARY KEY ({self.key})")
        statement = f"CREATE TABLE {table} ({', '.join(lines)})"
        if not self.partition_by:
            return [statement]
        return [f"{statement} PARTITION BY RANGE ({self.partition_by})"] + [
            f"CREATE TABLE {table}_{i} PARTITION OF {table} FOR VALUES FROM "
            f"({self.first + count * i // self.partitions}) TO ({self.first + count * (i + 1) // self.partitions})"
            for i in range(self.partitions)]


def sum_of_numbers(first, count):
    return count * (2 * first + count - 1) // 2


TINY_MADE = '{"category":"option%d","value":%s}'
# Ways to be bad by the columns and the key of tiny messages: what stands for message number %d. The
# unique violation repeats the value of an earlier message of its partition.
BAD = {
    "undecodable": lambda number: TINY_MADE % (number % 10 + 1, str(number) + ","),
    "wrong_type": lambda number: TINY_MADE % (number % 10 + 1, '"x"'),
    "unique": lambda number: TINY_MADE % (number % 10 + 1, number - 37),
}
BAD_EVERY = 100


def is_bad(number):
    return number % BAD_EVERY == 50


def bad_messages(kind, first, count):
    """All messages, as produced for this way to be bad."""
    for number in range(first, first + count):
        yield BAD[kind](number) if is_bad(number) else TINY_MADE % (number % 10 + 1, number)


TINY_COLUMNS = [("category", "text"), ("value", "bigint")]
TINY_CHECKS = "count(*), count(DISTINCT value), sum(value), sum(substr(category, 7)::int)"


def expect_tiny(first, count):
    options = sum(number % 10 + 1 for number in range(first, first + count))
    return (count, count, sum_of_numbers(first, count), options)


def expect_good(first, count):
    """Of tiny messages with bad ones among them."""
    good = [number for number in range(first, first + count) if not is_bad(number)]
    return (len(good), len(good), sum(good), sum(number % 10 + 1 for number in good))


ORDER_COLUMNS = [
    ("order_id", "bigint"), ("version", "int"), ("status", "text"), ("channel", "varchar(16)"),
    ("created_at", "timestamptz"), ("total", "numeric(12,2)"), ("paid", "bool"), ("session", "uuid"),
    ("customer", "jsonb"), ("items", "jsonb")]
ORDER_CHECKS = """count(*), count(DISTINCT order_id), sum(order_id), sum(total), count(*) FILTER (WHERE paid),
    sum(extract(microseconds FROM created_at))::bigint, count(DISTINCT session),
    sum((customer->>'id')::bigint), sum((items->1->>'price')::numeric)"""


def expect_orders(first, count):
    numbers = range(first, first + count)
    assert first + count <= 10 ** 6, "order numbers have six changing digits"
    ids = sum_of_numbers(10 ** 7 + first, count)
    totals = sum(Decimal(100000 + number % 1000 * 100 + number % 100) for number in numbers) / 100
    return (count, count, ids, totals, count, sum(53 * 10 ** 6 + number for number in numbers), count,
            ids, Decimal("249.50") * count)


def expect_payloads(first, count):
    return (count, count, sum_of_numbers(10 ** 7 + first, count))


def payload_checks(payload):
    number = f"substr({payload}, 13, 8)::bigint"
    return f"count(*), count(DISTINCT {number}), sum({number})"


def tiny(name, title, columns=None, **more):
    return Workload(name, title, TINY, columns or TINY_COLUMNS, 100000, 800000, 4000000, TINY_CHECKS, expect_tiny,
                    **more)


def orders(name, title, columns, checks, expect, **more):
    return Workload(name, title, ORDER, columns, 0, 120000, 600000, checks, expect, **more)


LOADING = [
    tiny("W1", "tiny messages, no index", python_floor=0.1),
    tiny("W1-key", "tiny messages, primary key on the value", key="value", python_floor=0.1),
    orders("W2", "orders, 10 typed columns, primary key", ORDER_COLUMNS, ORDER_CHECKS, expect_orders,
           key="order_id", python_floor=0.2),
    orders("W5-jsonb", "orders as they are into jsonb", [("payload", "jsonb")],
           "count(*), count(DISTINCT (payload->>'order_id')::bigint), sum((payload->>'order_id')::bigint)", expect_payloads,
           mapping='{"payload": "$"}', rivals=("copy_text", "copy_binary")),
    orders("W5-text", "orders as they are into text", [("payload", "text")], payload_checks("payload"),
           expect_payloads, mapping='{"payload": "$"}', rivals=("copy_text", "copy_binary")),
    orders("W5-raw", "the bytes of orders into bytea", [("payload", "bytea")],
           payload_checks("convert_from(payload, 'UTF8')"), expect_payloads,
           mapping='{"payload": "@raw"}', rivals=("copy_text", "copy_binary")),
    tiny("W8", "tiny messages of 16 partitions with their places, which are the key, 1 and 2 workers",
         columns=TINY_COLUMNS + [("_partition", "int"), ("_offset", "bigint"), ("_timestamp", "timestamptz")],
         key="_partition, _offset", topic_partitions=16, workers=(1, 2), rivals=()),
    tiny("W8-value", "as W1-key, 1 and 2 workers", key="value", workers=(1, 2), rivals=()),
    tiny("W9", "tiny messages, primary key, 1 % bad and none", key="value", rivals=(), bad=tuple(BAD)),
    tiny("W10", "tiny messages into 24 partitions by value", partition_by="value", partitions=24,
         rivals=("copy_text", "copy_binary")),
]
LATENCY_RATES = (1000, 10000, 100000)
IDLE_PIPELINES = 100
OTHERS = ("W6", "W7", "profile")
