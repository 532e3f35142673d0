"""Reads results.jsonl and answers with medians, smallest and largest values over the rounds."""
import collections
import json
import statistics

Spread = collections.namedtuple("Spread", "median low high")


def spread(values):
    """None without values."""
    values = [value for value in values if value is not None]
    return Spread(statistics.median(values), min(values), max(values)) if values else None


class Results:
    def __init__(self, path):
        self.environment = {}
        self.by_kind = collections.defaultdict(list)
        with open(path, encoding="utf-8") as file:
            for line in file:
                self._add(json.loads(line))

    def _add(self, result):
        kind = result.pop("kind")
        if kind == "environment":
            self.environment = result
        elif not result.get("void"):
            self.by_kind[kind].append(result)

    def runs(self, workload, contender):
        """By round."""
        return {run["round"]: run for run in self.by_kind["run"]
                if run["workload"] == workload and run["contender"] == contender}

    def loaded_workloads(self):
        return list(dict.fromkeys(run["workload"] for run in self.by_kind["run"]))

    def contenders(self, workload):
        return sorted({run["contender"] for run in self.by_kind["run"] if run["workload"] == workload})

    def values(self, workload, contender, name):
        return spread(run.get(name) for run in self.runs(workload, contender).values())

    def ratios(self, workload, contender, rival, name="rows_per_second"):
        """Of a value, within each round."""
        ours, theirs = self.runs(workload, contender), self.runs(workload, rival)
        return spread(ours[number][name] / theirs[number][name] for number in ours if number in theirs)

    def latency(self, contender, rate, name):
        return spread(run[name] for run in self.by_kind["latency"]
                      if run["contender"] == contender and run["rate"] == rate)

    def idle(self, name):
        return spread(run[name] for run in self.by_kind["idle"])

    def profiles(self):
        return {run["workload"]: run for run in self.by_kind["profile"]}

    def microseconds_of_batches(self, workload):
        """Of the last batches of all rounds: microseconds a message by part; None without any."""
        times = [run["batch_times"] for run in self.runs(workload, "kafka_ingest").values() if "batch_times" in run]
        messages = sum(time["messages"] for time in times)
        if not messages:
            return None
        parts = [name for name in times[0] if name.endswith("_ms")]
        return {part.removesuffix("_ms"): sum(time[part] for time in times) * 1000 / messages for part in parts}
