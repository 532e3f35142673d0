"""Topics of the broker: made, filled, measured."""
import subprocess

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from server import BenchError

PARTITIONS = 4
SET = 500               # messages in a partition by turns


class Topics:
    def __init__(self, brokers, tool):
        self.brokers = brokers
        self.tool = tool
        self.admin = AdminClient({"bootstrap.servers": brokers})

    def create(self, names, partitions):
        topics = [NewTopic(name, partitions, 1) for name in names]
        for future in self.admin.create_topics(topics, operation_timeout=60).values():
            future.result()

    def ends(self, name):
        """The high watermarks by partition; {} if there is no such topic."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "bench"})
        try:
            topic = consumer.list_topics(timeout=30).topics.get(name)
            partitions = topic.partitions if topic else []
            return {partition: consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=30)[1]
                    for partition in partitions}
        finally:
            consumer.close()

    def start_producer(self, name, template, *options):
        command = [self.tool, "produce", self.brokers, name, "--template", template, *map(str, options)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def fill(self, name, template, first, count, partitions=PARTITIONS):
        """Makes and fills a topic unless it is there; returns its ends."""
        return self._filled(name, count, lambda: self.await_producer(
            self.start_producer(name, template, "--from", first, "--count", count), name), partitions)

    def fill_given(self, name, messages, count):
        """The same with messages that were made already, by the same turns."""
        def produce():
            producer = subprocess.Popen([self.tool, "produce-stdin", self.brokers, name], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, text=True)
            for i, message in enumerate(messages):
                producer.stdin.write(f"{i // SET % PARTITIONS}\t\\N\t{message}\n")
            producer.stdin.close()
            self.await_producer(producer, name)
        return self._filled(name, count, produce)

    def _filled(self, name, count, produce, partitions=PARTITIONS):
        ends = self.ends(name)
        if not ends:
            self.create([name], partitions)
            produce()
            ends = self.ends(name)
        if sum(ends.values()) != count:
            raise BenchError(f"topic {name} has {sum(ends.values())} messages, not {count}")
        return ends

    @staticmethod
    def await_producer(producer, name):
        if producer.wait() != 0:
            raise BenchError(f"not every message of {name} was delivered")
