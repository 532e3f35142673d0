"""The PostgreSQL server under test: a connection, and what is done before and after every run."""
import time

import psycopg2


class BenchError(Exception):
    """The bench cannot go on, or a run has no rate: rows are missing, wrong or there twice."""


class Server:
    def __init__(self, dsn):
        self.dsn = dsn
        self.connection = psycopg2.connect(dsn)
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.pid = self.connection.info.backend_pid

    def execute(self, sql, *values):
        self.cursor.execute(sql, values or None)

    def rows(self, sql, *values):
        self.execute(sql, *values)
        return self.cursor.fetchall()

    def row(self, sql, *values):
        return self.rows(sql, *values)[0]

    def value(self, sql, *values):
        return self.row(sql, *values)[0]

    def fresh_table(self, workload, table, count):
        self.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in workload.definition(table, count):
            self.execute(statement)

    def wal_position(self):
        """In bytes since the beginning of the log."""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def commit_times(self, table):
        """When the first and the last transaction that wrote rows were committed, in seconds since 1970,
        and how many rows the first one wrote."""
        return self.row(f"""SELECT date_part('epoch', min(at)), date_part('epoch', max(at)),
                (array_agg(rows ORDER BY at))[1]
            FROM (SELECT pg_xact_commit_timestamp(xmin) AS at, count(*) AS rows FROM {table} GROUP BY xmin) commits""")

    def verify(self, workload, table, first, count, expect=None):
        """Compares counts and sums of the table with those of the messages that were produced."""
        found = self.row(f"SELECT {workload.checks} FROM {table}")
        expected = (expect or workload.expect)(first, count)
        if found != expected:
            raise BenchError(f"{workload.name}: the table has {found}, expected {expected}")

    def verify_positions(self, pipeline, ends):
        positions = dict(self.rows(
            "SELECT partition, next_offset FROM kafka_ingest.partition_status WHERE pipeline = %s", pipeline))
        if positions != ends:
            raise BenchError(f"{pipeline}: the positions are {positions}, the topic ends at {ends}")

    def status(self, pipeline):
        """The state and the processes of a pipeline; a state that no run may come into is an error."""
        state, reason, detail, pids = self.row(
            "SELECT state, reason, detail, pids FROM kafka_ingest.status WHERE pipeline = %s", pipeline)
        if state in ("stopped", "waiting", "retrying"):
            raise BenchError(f"{pipeline} is {state}: {reason}: {detail}")
        return state, pids or []

    def await_condition(self, what, condition, seconds=300, pause=0.1):
        """Until the condition holds; returns what it returned."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if time.monotonic() > deadline:
                raise BenchError(f"{what}: not within {seconds} seconds")
            time.sleep(pause)
        return result
