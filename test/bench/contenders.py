"""The contenders: each loads a workload once into a fresh table and returns what was measured.

The clock of kafka_ingest runs from resume() to the commit of the last row, that of the Python loader
from the moment it is told to begin, with everything imported; connecting is inside both. COPY has its
file at hand. Commit times are PostgreSQL's own, of the transactions that wrote the table's rows.
"""
import functools
import json
import os
import subprocess
import sys
import time

from processes import MemoryWatch, cpu_seconds, is_alive, memory_kb
from server import BenchError
from workloads import BAD_EVERY, bad_messages, expect_good

TABLE = "target"


class Load:
    """What the contenders of one workload have in common."""

    def __init__(self, server, topics, workload, count, directory):
        self.server = server
        self.topics = topics
        self.workload = workload
        self.count = count
        self.directory = directory
        self.topic = workload.topic()
        self.ends = topics.fill(self.topic, workload.template, workload.first, count, workload.topic_partitions)
        self.bad_ends = {kind: topics.fill_given(self.bad_topic(kind), bad_messages(kind, workload.first, count), count)
                         for kind in workload.bad}

    def bad_topic(self, kind):
        return f"{self.topic}_{kind}"

    def file(self, form):
        return os.path.join(self.directory, f"{self.workload.name}.{form}")

    def prepare(self):
        self.server.fresh_table(self.workload, TABLE, self.count)
        self.server.execute("CHECKPOINT")

    def verify(self):
        self.server.verify(self.workload, TABLE, self.workload.first, self.count)

    def verify_bad(self, pipeline):
        """Of messages with bad ones among them: the others are rows, and these are dead letters."""
        self.server.verify(self.workload, TABLE, self.workload.first, self.count, expect_good)
        letters = self.server.value("SELECT dead_letters FROM kafka_ingest.status WHERE pipeline = %s", pipeline)
        if letters != self.count // BAD_EVERY:
            raise BenchError(f"{pipeline}: {letters} dead letters of {self.count} messages")

    def make_files(self):
        """From a table that was loaded and verified: the rows for COPY, in the order they have there."""
        for form in ("text", "binary"):
            self.server.execute(f"COPY (SELECT * FROM {TABLE}) TO '{self.file(form)}' (FORMAT {form})")

    def remove_files(self):
        for form in ("text", "binary"):
            if os.path.exists(self.file(form)):
                os.unlink(self.file(form))

    def result(self, seconds, cpu, wal, **more):
        """wal: in bytes"""
        return {"rows": self.count, "seconds": seconds, "rows_per_second": self.count / seconds,
                "cpu_seconds": cpu, "rows_per_cpu_second": self.count / max(cpu, 0.01),
                "wal_bytes_per_row": wal / self.count, **more}


def commits(load, started):
    """Of a contender with many transactions: when the last one was committed, and what tells start-up
    from loading."""
    first, last, in_first = load.server.commit_times(TABLE)
    return last - started, {
        "first_commit_seconds": first - started,
        "steady_rows_per_second": (load.count - in_first) / (last - first) if last > first else None}


def copy(load, form):
    server = load.server
    load.prepare()
    cpu, wal, started = cpu_seconds(server.pid), server.wal_position(), time.time()
    server.execute(f"COPY {TABLE} FROM '{load.file(form)}' (FORMAT {form})")
    seconds = time.time() - started
    cpu = cpu_seconds(server.pid) - cpu
    wal = server.wal_position() - wal
    load.verify()
    return load.result(seconds, cpu, wal)


class Pipeline:
    """The pipeline that is made for one run."""

    def __init__(self, server, workers=1):
        self.server = server
        self.name = "bench"
        self.workers = workers
        self.pids = []

    def create(self, topic, mapping=None):
        self.server.execute("""SELECT kafka_ingest.create_pipeline(%s, topic => %s, target => %s, columns => %s,
            workers => %s, paused => true)""", self.name, topic, TABLE, mapping, self.workers)

    def resume(self):
        self.server.execute("SELECT kafka_ingest.resume(%s)", self.name)

    def await_workers(self):
        def all_run():
            self.pids = self.server.status(self.name)[1]
            return len(self.pids) == self.workers
        self.server.await_condition("the workers", all_run, pause=0.01)

    def loaded(self):
        return self.server.value("""SELECT coalesce(sum(next_offset), 0) FROM kafka_ingest.partition_status
            WHERE pipeline = %s""", self.name)

    def await_loaded(self, count):
        looks = 0

        def is_loaded():
            nonlocal looks
            looks += 1
            if looks % 20 == 0:
                self.server.status(self.name)
            return self.loaded() >= count
        self.server.await_condition("loading", is_loaded)

    def batch_times(self):
        """Sums over the last batches (100 a worker); decode, map and write are estimated from samples."""
        values = self.server.row("""SELECT count(*), sum(messages)::bigint, sum(collect_ms), sum(apply_ms),
            sum(commit_ms) FROM kafka_ingest.recent_batches WHERE pipeline = %s""", self.name)
        stages = self.server.row("""SELECT sum(decode_ms), sum(map_ms), sum(write_ms)
            FROM kafka_ingest.recent_stages_rows() WHERE pipeline = %s""", self.name)
        return dict(zip(["batches", "messages", "collect_ms", "apply_ms", "commit_ms",
                         "decode_ms", "map_ms", "write_ms"], values + stages))

    def drop(self):
        self.server.execute("SELECT kafka_ingest.drop_pipeline(%s, discard => true)", self.name)
        self.server.await_condition("the workers' end", lambda: not any(map(is_alive, self.pids)))


def kafka_ingest(load, workers=1, bad=None):
    """bad: the way in which some of the messages are bad; None: none is."""
    server = load.server
    load.prepare()
    pipeline = Pipeline(server, workers)
    pipeline.create(load.bad_topic(bad) if bad else load.topic, load.workload.mapping)
    wal, started = server.wal_position(), time.time()
    with MemoryWatch() as watch:
        pipeline.resume()
        pipeline.await_workers()
        watch.pids = pipeline.pids
        pipeline.await_loaded(load.count)
    wal = server.wal_position() - wal
    cpu = sum(map(cpu_seconds, pipeline.pids))
    high_water = max(memory_kb(pid, "VmHWM") for pid in pipeline.pids)
    batches = pipeline.batch_times()
    if bad:
        load.verify_bad(pipeline.name)
    else:
        load.verify()
    server.verify_positions(pipeline.name, load.bad_ends[bad] if bad else load.ends)
    pipeline.drop()
    seconds, more = commits(load, started)
    return load.result(seconds, cpu, wal, **more, peak_private_kb=watch.peak_kb, vm_hwm_kb=high_water,
                       batch_times=batches)


class PythonLoader:
    """The process of python_loader.py, ready to begin."""

    def __init__(self, server, topics, topic, columns, json_columns, count, wait):
        self.server = server
        server.execute("DROP TABLE IF EXISTS python_loader_offsets")
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_loader.py")
        self.process = subprocess.Popen(
            [sys.executable, program, "--dsn", server.dsn, "--brokers", topics.brokers, "--topic", topic,
             "--table", TABLE, "--columns", ",".join(columns), "--json", ",".join(json_columns),
             "--count", str(count), "--wait", str(wait)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def line(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise BenchError("the Python loader ended early")
        return line

    def expect(self, word):
        if self.line() != word:
            raise BenchError(f"the Python loader did not say {word}")

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.expect("assigned")

    def finish(self, ends):
        """Its report; its own positions must be the ends of the topic."""
        report = json.loads(self.line())
        positions = dict(self.server.rows("SELECT partition, next_offset FROM python_loader_offsets"))
        if self.process.wait() != 0 or positions != ends:
            raise BenchError(f"the Python loader is at {positions}, the topic ends at {ends}")
        return report


def python(load):
    server = load.server
    load.prepare()
    columns = [name for name, _ in load.workload.columns]
    loader = PythonLoader(server, load.topics, load.topic, columns, load.workload.json_columns(),
                          load.count, wait=0.1)
    wal, started = server.wal_position(), time.time()
    loader.begin()
    report = loader.finish(load.ends)
    wal = server.wal_position() - wal
    load.verify()
    seconds, more = commits(load, started)
    cpu = report["backend_cpu_seconds"] + report["client_cpu_seconds"]
    return load.result(seconds, cpu, wal, **more,
                       backend_cpu_seconds=report["backend_cpu_seconds"],
                       peak_private_kb=report["peak_private_kb"])


RIVALS = {"copy_text": functools.partial(copy, form="text"),
          "copy_binary": functools.partial(copy, form="binary"),
          "python": python}


def contenders_of(workload):
    """Functions by name, kafka_ingest first: in the first round its rows become COPY's files."""
    ingest = {"kafka_ingest" if workers == 1 else f"kafka_ingest_{workers}":
              functools.partial(kafka_ingest, workers=workers) for workers in workload.workers}
    ingest |= {f"kafka_ingest_{kind}": functools.partial(kafka_ingest, bad=kind) for kind in workload.bad}
    return ingest | {name: RIVALS[name] for name in workload.rivals}
