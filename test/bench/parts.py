#!/usr/bin/env python3
"""Which part of the work the samples of a worker's threads belong to. Those of librdkafka's threads, which
fetch, count as taking messages.

    perf script -F comm,tid,ip,sym,dso | parts.py WORKLOAD [RESULTS]

Prints the shares and, given RESULTS, appends them there as one JSON object. Every sample counts for the
part of the outermost function on its stack that is in the table below: what a listed function calls,
down to the kernel, is its work. What no listed function called is "other".
"""
import collections
import json
import re
import sys

PARTS = (
    ("taking", "taking messages", r"ki_source_\w+|ki_stock_\w+|take_ahead|ki_messages?_\w+|ki_loader_collect|rd_?kafka\w*|rd_\w+|mi_\w+"),
    ("scanning", "scanning", r"ki_map_decode|ki_decode\w*|ki_scan\w*|ki_json_scan\w*|pg_parse_json"),
    ("converting", "converting and mapping", r"ki_map_\w+|ki_column_\w+|ki_convert\w*|InputFunctionCall\w*|\w+_in"),
    # pg_pwritev_with_retry makes a WAL file, with so large a buffer on the stack that perf sees no caller
    ("committing", "committing", r"ki_advances_\w+|ki_position_\w+|ki_transaction_commit|CommitTransactionCommand|XLogFlush"
                                 r"|ReleaseCurrentSubTransaction|pg_pwritev_with_retry"),
    ("inserting", "inserting", r"ki_writer_\w+|(multi|insert)_(begin|add|end)|ki_target_\w+|table_\w+|heap_\w+|simple_heap_\w+|ExecInsertIndexTuples"
                               r"|index_insert|_bt_\w+|btinsert|XLogInsert\w*|SPI_\w+|standard_Executor\w+"),
)
OTHER = ("other", "everything else")
# The limit of the project's table: these four are the work itself.
WORK = ("taking", "scanning", "inserting", "committing")

PATTERNS = [(part, re.compile(rf"(?:{pattern})$")) for part, _, pattern in PARTS]
FRAME = re.compile(r"^\s+[0-9a-f]+ (\S+)")
LIBRARY = re.compile(r"\s*rdk:")    # how librdkafka names its threads


def part_of(stack):
    """stack: symbols, innermost first."""
    for symbol in reversed(stack):
        for part, pattern in PATTERNS:
            if pattern.match(symbol):
                return part
    return OTHER[0]


def stacks(lines):
    """The stacks of perf script's output, each with whether it is of a thread of the library's: a line of
    its thread, one a frame, an empty one."""
    stack, is_library = [], False
    for line in lines:
        frame = FRAME.match(line)
        if frame:
            stack.append(frame.group(1))
        elif line.strip():
            is_library = bool(LIBRARY.match(line))
        elif stack:
            yield stack, is_library
            stack = []
    if stack:
        yield stack, is_library


def main():
    workload = sys.argv[1]
    samples = collections.Counter()
    strangers = collections.Counter()
    fetching = 0
    for stack, is_library in stacks(sys.stdin):
        part = "taking" if is_library else part_of(stack)
        samples[part] += 1
        fetching += is_library
        if part == OTHER[0]:
            strangers[stack[0]] += 1
    total = sum(samples.values())
    if total == 0:
        sys.exit("parts.py: perf has no samples")
    shares = {part: 100 * samples[part] / total for part, *_ in PARTS + (OTHER,)}
    outside = 100 - sum(shares[part] for part in WORK)
    own = outside * total / max(total - fetching, 1)
    print(f"{workload}: {total} samples of the worker's threads")
    for part, title, *_ in PARTS + (OTHER,):
        print(f"  {shares[part]:5.1f} %  {title}")
    print(f"  {outside:5.1f} %  outside of taking, scanning, inserting, committing; {own:.1f} % without librdkafka's threads")
    print("  most of everything else:", ", ".join(f"{symbol} {count}" for symbol, count in strangers.most_common(6)))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": "profile", "workload": workload, "contender": "kafka_ingest",
                                   "samples": total, "shares": shares, "outside": outside,
                                   "outside_without_library": own}) + "\n")


if __name__ == "__main__":
    main()
