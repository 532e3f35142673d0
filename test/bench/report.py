#!/usr/bin/env python3
"""Makes results.md and the plots from results.jsonl, all in one directory: report.py DIRECTORY"""
import dataclasses
import os
import sys

import plot
from summary import Results, Spread
from workloads import BAD, LATENCY_RATES, LOADING


@dataclasses.dataclass
class Goal:
    """One figure of the table of goals: what must be, what is aimed at, what was measured (a Spread)."""
    must: float
    aim: float
    measured: Spread
    at_most: bool = False   # smaller is better

    def verdict(self):
        if self.measured is None:
            return "not measured"
        value = -self.measured.median if self.at_most else self.measured.median
        sign = -1 if self.at_most else 1
        return "aim" if value >= sign * self.aim else "must" if value >= sign * self.must else "**missed**"


def worst(spreads):
    """The one with the largest median; None if any is missing."""
    spreads = list(spreads)
    return None if None in spreads or not spreads else max(spreads, key=lambda spread: spread.median)


def scaled(spread, factor):
    return spread and Spread(*(value * factor for value in spread))


def speed_goals(results):
    def ratio(workload, rival, must, aim):
        return Goal(must, aim, results.ratios(workload, "kafka_ingest", rival))
    return [
        ("W1 (tiny, two columns, no metadata) without index / COPY text", [ratio("W1", "copy_text", 0.6, 1.0)], ""),
        ("W1 primary key / COPY text", [ratio("W1-key", "copy_text", 0.85, 1.05)], ""),
        ("W2 (orders, typed columns, two jsonb) primary key / COPY text of its columns",
         [ratio("W2", "copy_text", 0.9, 1.3)], ""),
        ("W1 without index, with key, W2 / the Python loader",
         [ratio("W1", "python", 4, 6), ratio("W1-key", "python", 2.2, 2.6), ratio("W2", "python", 3.5, 5)], ""),
    ]


def cost_goals(results):
    workloads = ("W1", "W1-key", "W2")
    profiles = results.profiles()
    outside = worst(Spread(*[profiles[name]["outside"]] * 3) if name in profiles else None for name in workloads)
    wal = worst(results.ratios(name, "kafka_ingest", "copy_text", "wal_bytes_per_row") for name in workloads)
    memory = worst(results.values(name, "kafka_ingest", "peak_private_kb") for name in workloads)

    def latency(rate, name, must, aim):
        return Goal(must, aim, results.latency("kafka_ingest", rate, name), at_most=True)
    return [
        ("≤ the share of a worker's time spent outside taking messages, scanning, inserting and committing "
         "(profile; the largest of W1, with key, W2)", [Goal(15, 5, outside, at_most=True)], " %"),
        ("≤ WAL per row / COPY (the largest of the same)", [Goal(1.05, 1.01, wal, at_most=True)], ""),
        ("≤ W7: produce to commit p50, p99 at 1,000 msg/s; p50, p99 at 10,000 msg/s",
         [latency(1000, "p50_ms", 8, 4), latency(1000, "p99_ms", 20, 10),
          latency(10000, "p50_ms", 20, 8), latency(10000, "p99_ms", 50, 20)], " ms"),
        ("≤ peak memory of a worker at full speed (the largest of W1, with key, W2)",
         [Goal(128, 64, scaled(memory, 1 / 1024), at_most=True)], " MB"),
        ("W8: 2 workers / 1 on two cores (broker on the same two)",
         [Goal(1.3, 1.7, results.ratios("W8", "kafka_ingest_2", "kafka_ingest"))], ""),
        ("≤ 100 idle pipelines: CPU of one core",
         [Goal(5, 0.5, results.idle("cpu_percent_of_a_core"), at_most=True)], " %"),
        *(("W9: 1 % dead letters / clean: " + BAD_NAMES[kind],
           [Goal(0.8, 0.95, results.ratios("W9", f"kafka_ingest_{kind}", "kafka_ingest"))], "") for kind in BAD),
    ]


def figure(value):
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(heads, rows):
    """The first column is text, the others are figures."""
    return "\n".join([row(heads), row(["---"] + ["--:"] * (len(heads) - 1))] + [row(cells) for cells in rows])


def goal_row(title, goals, unit):
    def each(text):
        return ", ".join(text(goal) for goal in goals)

    def median(goal):
        return figure(goal.measured.median) + unit if goal.measured else "-"

    def bounds(goal):
        return f"{figure(goal.measured.low)}..{figure(goal.measured.high)}" if goal.measured else "-"
    return [title, each(lambda goal: f"{goal.must:g}{unit}"), each(lambda goal: f"{goal.aim:g}{unit}"),
            each(median), each(bounds), each(Goal.verdict)]


def goals_section(results):
    rows = [goal_row(*goals) for goals in speed_goals(results) + cost_goals(results)]
    return table(["ratios within a round (≥ unless marked ≤)", "must", "aim", "median", "min..max", "verdict"], rows)


BAD_NAMES = {"undecodable": "no JSON", "wrong_type": "the wrong type", "unique": "a key that is there"}
NAMES = {"copy_text": "COPY text", "copy_binary": "COPY BINARY", "kafka_ingest": "kafka_ingest",
         "kafka_ingest_2": "kafka_ingest, 2 workers", "python": "Python loader",
         **{f"kafka_ingest_{kind}": f"kafka_ingest, 1 % bad: {name}" for kind, name in BAD_NAMES.items()}}


def loading_rows(results, workload):
    for contender in results.contenders(workload):
        def median(name):
            spread = results.values(workload, contender, name)
            return spread and spread.median
        ratio = results.ratios(workload, contender, "copy_text")
        yield [workload, NAMES[contender], figure(median("rows_per_second")),
               f"{ratio.median:.3f} ({ratio.low:.3f}..{ratio.high:.3f})" if ratio else "-",
               figure(median("steady_rows_per_second")),
               figure((median("first_commit_seconds") or 0) * 1000 or None),
               figure(median("rows_per_cpu_second")), figure(median("wal_bytes_per_row")),
               figure((median("peak_private_kb") or 0) / 1024 or None),
               figure((median("vm_hwm_kb") or 0) / 1024 or None)]


def loading_section(results):
    rows = [cells for workload in results.loaded_workloads() for cells in loading_rows(results, workload)]
    return table(["workload", "contender", "rows/s", "/ COPY text", "rows/s without start-up", "first commit, ms",
                  "rows per CPU second", "WAL bytes a row", "peak private memory, MB", "VmHWM, MB"], rows)


PARTS = ("collect", "decode", "map", "write", "apply", "commit")


def batch_section(results):
    rows = []
    for workload in results.loaded_workloads():
        times = results.microseconds_of_batches(workload)
        if times:
            rows.append([workload] + [f"{times[part]:.3f}" if part in times else "-" for part in PARTS])
    return table(["workload"] + [f"{part}, µs" for part in PARTS], rows)


def profile_section(results):
    parts = ("taking", "scanning", "converting", "inserting", "committing", "other")
    rows = [[workload] + [f"{profile['shares'][part]:.1f} %" for part in parts]
            + [f"{profile['outside']:.1f} %", f"{profile['outside_without_library']:.1f} %", f"{profile['samples']:,}"]
            for workload, profile in results.profiles().items()]
    return table(["workload"] + list(parts) + ["outside", "outside, without librdkafka's threads", "samples"], rows)


def latency_section(results):
    rows = []
    for rate in LATENCY_RATES:
        for contender in ("kafka_ingest", "python"):
            spreads = [results.latency(contender, rate, name)
                       for name in ("rate_sent", "p50_ms", "p90_ms", "p99_ms", "max_ms")]
            if all(spreads):
                rows.append([f"{rate:,}/s", NAMES[contender]] + [figure(spread.median) for spread in spreads])
    return table(["rate", "contender", "sent/s", "p50, ms", "p90, ms", "p99, ms", "max, ms"], rows)


def idle_section(results):
    rows = [[str(run["pipelines"]), f"{run['cpu_percent_of_a_core']:.2f} %", figure(run["private_kb_median"] / 1024),
             figure(run["private_kb_max"] / 1024), figure(run["running_after_seconds"])]
            for run in results.by_kind["idle"]]
    return table(["pipelines", "CPU of one core", "private memory of a worker, MB (median)", "(largest)",
                  "all run after, s"], rows)


def environment_section(results):
    environment = results.environment
    settings = ", ".join(f"{name} = {value}" for name, value in environment["settings"].items())
    python = ", ".join(f"{name} {version}" for name, version in environment["python"].items())
    return "\n".join([
        f"- a {environment['size']} run at {environment['at']} of {environment['git']}"
        f" (kafka_ingest {environment['kafka_ingest']})",
        f"- {environment['cores']} × {environment['processor']}, load before {environment['load_before']:.2f},"
        f" fdatasync {environment['fdatasync_microseconds']:.0f} µs",
        f"- PostgreSQL {environment['postgresql']}, librdkafka {environment['librdkafka']},"
        f" Apache Kafka {environment['kafka']} on the same cores; {python}",
        f"- {settings}",
        f"- {environment['batch_max_messages']:,} messages a batch, compression {environment['compression']}, 4 partitions",
    ])


def workloads_section(results):
    rows = []
    for workload in LOADING:
        counts = [run["rows"] for run in results.by_kind["run"] if run["workload"] == workload.name]
        if counts:
            rounds = len(results.runs(workload.name, "kafka_ingest"))
            rows.append([workload.name, workload.title, f"{counts[0]:,}", str(rounds)])
    return table(["workload", "", "messages", "rounds"], rows)


SECTIONS = (
    ("Goals", goals_section, ""),
    ("Loading", loading_section, "![rates](loading.svg)\n"),
    ("Where the time of a batch goes", batch_section,
     "Microseconds a message, of the last 100 batches of each run; decode, map and write are parts of apply.\n\n"
     "![batches](batches.svg)\n"),
    ("Where the time of the worker's threads goes", profile_section,
     "Samples of perf. Outside: what is neither taking, scanning, inserting nor committing.\n"),
    ("Latency", latency_section, "From the producer's call to the commit.\n\n![latency](latency.svg)\n"),
    ("Idle pipelines", idle_section, ""),
    ("Workloads", workloads_section, ""),
    ("Environment", environment_section, ""),
)


def main():
    directory = sys.argv[1]
    results = Results(os.path.join(directory, "results.jsonl"))
    plot.write_all(results, directory, NAMES)
    with open(os.path.join(directory, "results.md"), "w", encoding="utf-8") as file:
        file.write("# Results\n\nGenerated by `test/bench/run.sh`; see [how to read it](../README.md).\n")
        for title, section, text in SECTIONS:
            file.write(f"\n## {title}\n\n{text}{chr(10) if text else ''}{section(results)}\n")


if __name__ == "__main__":
    main()
