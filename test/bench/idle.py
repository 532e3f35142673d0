"""W6: what many pipelines cost that have nothing to do."""
import time

from processes import cpu_seconds_exactly, is_alive, private_kb
from workloads import IDLE_PIPELINES

SETTLE_SECONDS = 5      # until connecting is over: it is not what is measured


def create(server, topics):
    names = [f"bench_idle_{number}" for number in range(IDLE_PIPELINES)]
    topics.create(names, 1)
    for name in names:
        server.execute(f"DROP TABLE IF EXISTS {name}")
        server.execute(f"CREATE TABLE {name} (category text, value bigint)")
        server.execute("SELECT kafka_ingest.create_pipeline(%s, topic => %s, target => %s)", name, name, name)
    return names


def all_run(server):
    """The processes, once every pipeline runs, reads, and has nothing left to read."""
    ready, pids = server.row("""SELECT count(*) FILTER (WHERE state = 'running' AND lag = 0),
        array_agg(pids[1]) FROM kafka_ingest.status WHERE pipeline LIKE 'bench_idle_%'""")
    return pids if ready == IDLE_PIPELINES else None


def drop(server, names, pids):
    for name in names:
        server.execute("SELECT kafka_ingest.drop_pipeline(%s)", name)
        server.execute(f"DROP TABLE {name}")
    server.await_condition("the workers' end", lambda: not any(map(is_alive, pids)))


def run(server, topics, seconds):
    names = create(server, topics)
    started = time.time()
    pids = server.await_condition("idle pipelines", lambda: all_run(server), pause=0.2)
    running_after = time.time() - started
    time.sleep(SETTLE_SECONDS)
    cpu, started = sum(map(cpu_seconds_exactly, pids)), time.time()
    time.sleep(seconds)
    cpu, seconds = sum(map(cpu_seconds_exactly, pids)) - cpu, time.time() - started
    memory = sorted(map(private_kb, pids))
    drop(server, names, pids)
    return {"pipelines": IDLE_PIPELINES, "seconds": seconds, "cpu_seconds": cpu,
            "cpu_percent_of_a_core": 100 * cpu / seconds, "running_after_seconds": running_after,
            "private_kb_median": memory[len(memory) // 2], "private_kb_max": memory[-1]}
