#!/usr/bin/env python3
"""Runs workloads and writes one JSON object per run; run.sh starts it when broker and server are up.

    bench.py run quick|full [WORKLOAD ...]          measures
    bench.py profile-start quick|full WORKLOAD      starts to load it; prints the worker's process id
    bench.py profile-finish quick|full WORKLOAD     waits until it is loaded

Environment: BENCH_RESULTS (the file to append to), BENCH_DIR (room for files of rows), BENCH_DSN,
BENCH_GIT, KAFKA_BROKERS, KAFKA_TOOL, KAFKA_VERSION.
"""
import argparse
import json
import os
import statistics
import sys
import time

import confluent_kafka
import orjson
import psycopg2

import idle
import latency
from contenders import Load, Pipeline, contenders_of
from server import BenchError, Server
from topics import Topics
from workloads import LATENCY_RATES, LOADING, OTHERS

SIZES = {  # rounds, seconds of latency per rate, seconds of idleness
    "quick": {"rounds": 3, "latency_seconds": 1.5, "idle_seconds": 20},
    "full": {"rounds": 5, "latency_seconds": 10, "idle_seconds": 30},
}
MAX_VOID_ROUNDS = 5     # in a row
SETTINGS = ("shared_buffers", "max_wal_size", "fsync", "synchronous_commit", "wal_level", "autovacuum",
            "track_commit_timestamp", "lc_collate", "wal_compression", "kafka_ingest.worker_memory")


class Bench:
    def __init__(self, size):
        self.size = size
        self.server = Server(os.environ["BENCH_DSN"])
        self.topics = Topics(os.environ["KAFKA_BROKERS"], os.environ["KAFKA_TOOL"])
        self.directory = os.environ["BENCH_DIR"]

    def count(self, workload):
        return getattr(workload, self.size)

    def record(self, kind, **values):
        with open(os.environ["BENCH_RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")

    def load(self, workload):
        return Load(self.server, self.topics, workload, self.count(workload), self.directory)


def fdatasync_microseconds(directory):
    """The median of 200 writes of 8 kB: what a commit waits for at least."""
    path = os.path.join(directory, "fdatasync")
    times = []
    with open(path, "wb") as file:
        for _ in range(200):
            file.write(b"x" * 8192)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    os.unlink(path)
    return statistics.median(times) * 1e6


def processor():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))


def record_environment(bench):
    server = bench.server
    names, values = zip(*server.rows("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)",
                                     list(SETTINGS)))
    version = server.row("SELECT library, librdkafka FROM kafka_ingest.version()")
    bench.record(
        "environment", size=bench.size, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git=os.environ["BENCH_GIT"], kafka_ingest=version[0], librdkafka=version[1],
        postgresql=server.value("SHOW server_version"), kafka=os.environ["KAFKA_VERSION"],
        python={"python": sys.version.split()[0], "confluent-kafka": confluent_kafka.version(),
                "librdkafka": confluent_kafka.libversion()[0], "orjson": orjson.__version__,
                "psycopg2": psycopg2.__version__.split()[0]},
        processor=processor(), cores=os.cpu_count(), load_before=os.getloadavg()[0],
        fdatasync_microseconds=fdatasync_microseconds(bench.directory),
        batch_max_messages=10000, compression="none", settings=dict(zip(names, values)))


def say(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def run_round(load, contenders, start):
    """Every contender once, in an order that another one begins each time; results by name."""
    names = list(contenders)
    names = names[start % len(names):] + names[:start % len(names)]
    results = {}
    for name in names:
        results[name] = contenders[name](load)
        say(f"{load.workload.name:9} {name:15} {results[name]['rows_per_second']:12,.0f} rows/s")
    return results


def is_void(workload, results):
    """A loader in Python that is beaten this badly was disturbed, and its round says nothing."""
    if workload.python_floor is None:
        return False
    ratio = results["python"]["rows_per_second"] / results["copy_text"]["rows_per_second"]
    if ratio < workload.python_floor:
        say(f"{workload.name}: void, the Python loader reached {ratio:.3f} of COPY text")
    return ratio < workload.python_floor


def warm_up(load, contenders):
    """A round that is not counted; what kafka_ingest loaded in it becomes COPY's files."""
    say(f"{load.workload.name}: {load.workload.title}; {load.count:,} messages; warm-up:")
    contenders["kafka_ingest"](load)
    load.make_files()
    for name, contender in contenders.items():
        if name != "kafka_ingest":
            contender(load)


def run_loading(bench, workload):
    load = bench.load(workload)
    contenders = contenders_of(workload)
    warm_up(load, contenders)
    round_number = voids = 0
    while round_number < SIZES[bench.size]["rounds"]:
        results = run_round(load, contenders, round_number + voids)
        void = is_void(workload, results)
        for name, result in results.items():
            bench.record("run", workload=workload.name, contender=name, round=round_number + 1, void=void, **result)
        voids = voids + 1 if void else 0
        if voids > MAX_VOID_ROUNDS:
            raise BenchError(f"{workload.name}: {voids} void rounds in a row")
        round_number += not void
    load.remove_files()


def run_latency(bench):
    size = SIZES[bench.size]
    for round_number in range(1, size["rounds"] + 1):
        for rate in LATENCY_RATES:
            for contender in latency.CONTENDERS:
                result = latency.run(bench.server, bench.topics, contender, rate, size["latency_seconds"],
                                     round_number)
                say(f"W7        {contender:15} {rate:7,}/s: p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms")
                bench.record("latency", workload="W7", contender=contender, round=round_number, **result)


def run_idle(bench):
    result = idle.run(bench.server, bench.topics, SIZES[bench.size]["idle_seconds"])
    say(f"W6        {result['pipelines']} idle pipelines: {result['cpu_percent_of_a_core']:.2f} % of a core, "
        f"{result['private_kb_median']:,} kB each")
    bench.record("idle", workload="W6", **result)


def selected(names):
    """The workloads of these names; W1 stands for W1 and W1-key, W5 for all of W5."""
    for name in names:
        if name not in OTHERS and not any(matches(workload, name) for workload in LOADING):
            raise BenchError(f"there is no workload {name}")
    return [workload for workload in LOADING if not names or any(matches(workload, name) for name in names)]


def matches(workload, name):
    return workload.name == name or workload.name.startswith(name + "-")


def run(bench, names):
    workloads = selected(names)
    record_environment(bench)
    for workload in workloads:
        run_loading(bench, workload)
    if not names or "W7" in names:
        run_latency(bench)
    if not names or "W6" in names:
        run_idle(bench)


def one(name):
    """The one workload of exactly this name."""
    for workload in LOADING:
        if workload.name == name:
            return workload
    raise BenchError(f"there is no workload {name} to profile")


def profile_start(bench, names):
    load = bench.load(one(names[0]))
    load.prepare()
    pipeline = Pipeline(bench.server)
    pipeline.create(load.topic, load.workload.mapping)
    pipeline.resume()
    pipeline.await_workers()
    # by then it has all its threads, and perf sees only those that are there when it begins
    bench.server.await_condition("the first batch", lambda: pipeline.loaded() > 0, pause=0.005)
    print(pipeline.pids[0])


def profile_finish(bench, names):
    load = bench.load(one(names[0]))
    pipeline = Pipeline(bench.server)
    pipeline.await_workers()
    pipeline.await_loaded(load.count)
    load.verify()
    pipeline.drop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("run", "profile-start", "profile-finish"))
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("workloads", nargs="*")
    options = parser.parse_args()
    try:
        bench = Bench(options.size)
        {"run": run, "profile-start": profile_start, "profile-finish": profile_finish}[options.command](
            bench, options.workloads)
    except BenchError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
