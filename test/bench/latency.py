"""W7: how long after it was produced a message is committed, at a steady rate.

The producer writes the time of sending into each message; the row's transaction says when it was
committed. Both are the machine's clock. The first half second is not counted.
"""
from contenders import TABLE, Pipeline, PythonLoader
from server import BenchError
from workloads import TIMED, Workload

WORKLOAD = Workload("W7", "produce to commit at a steady rate", TIMED,
                    [("category", "text"), ("value", "bigint"), ("sent", "bigint")], 0, 0, 0, "", None, key="value")
WARM_UP_US = 500000

MEASURE = f"""
WITH messages AS (
    SELECT sent, date_part('epoch', pg_xact_commit_timestamp(xmin)) * 1000 - sent / 1000.0::float8 AS ms
    FROM {TABLE}
), counted AS (
    SELECT * FROM messages WHERE sent >= (SELECT min(sent) + {WARM_UP_US} FROM messages)
)
SELECT count(*), (count(*) - 1) * 1e6 / (max(sent) - min(sent))::float8,
    percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY ms), max(ms) FROM counted"""


def measure(server, count):
    rows = server.value(f"SELECT count(DISTINCT value) FROM {TABLE}")
    if rows != count or server.value(f"SELECT count(*) FROM {TABLE}") != count:
        raise BenchError(f"W7: {rows} different rows of {count} messages")
    counted, rate, (p50, p90, p99), worst = server.row(MEASURE)
    return {"rows": count, "messages_counted": counted, "rate_sent": float(rate), "p50_ms": p50, "p90_ms": p90,
            "p99_ms": p99, "max_ms": worst}


def run_ingest(server, topics, topic, rate, count):
    pipeline = Pipeline(server)
    pipeline.create(topic)
    pipeline.resume()
    pipeline.await_workers()
    # positions are stored when the topic was found, the lag is known when it is read
    server.await_condition("reading", lambda: server.value(
        "SELECT lag = 0 FROM kafka_ingest.status WHERE pipeline = %s", pipeline.name))
    produce(topics, topic, rate, count)
    pipeline.await_loaded(count)
    server.verify_positions(pipeline.name, topics.ends(topic))
    pipeline.drop()


def run_python(server, topics, topic, rate, count):
    columns = [name for name, _ in WORKLOAD.columns]
    # with a wait of 5 ms it commits soonest: longer ones only add to the latency
    loader = PythonLoader(server, topics, topic, columns, [], count, wait=0.005)
    loader.begin()
    produce(topics, topic, rate, count)
    loader.finish(topics.ends(topic))


def produce(topics, topic, rate, count):
    producer = topics.start_producer(topic, TIMED, "--count", count, "--rate", rate, "--even", "yes")
    topics.await_producer(producer, topic)


CONTENDERS = {"kafka_ingest": run_ingest, "python": run_python}


def run(server, topics, contender, rate, seconds, round_number):
    """One contender at one rate; the topic has one partition, so that order and turns play no part."""
    topic = f"bench_latency_{contender}_{rate}_{round_number}"
    count = int(rate * (seconds + WARM_UP_US / 1e6))
    topics.create([topic], 1)
    server.fresh_table(WORKLOAD, TABLE, count)
    server.execute("CHECKPOINT")
    CONTENDERS[contender](server, topics, topic, rate, count)
    return {"rate": rate} | measure(server, count)
