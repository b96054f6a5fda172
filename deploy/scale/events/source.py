"""A Kafka source for Spark in Python: the options and columns of Spark's own `format("kafka")`, which PyPI has not.

Where Spark has its own (the package spark-sql-kafka), the setting SOURCE=kafka takes that one instead.
"""

import json
import sys
import time
from collections.abc import Iterator

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

WAIT = 60.0  # seconds for the broker's messages
ROWS = 5_000  # messages of a record batch
SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("timestampType", pa.int32()),
    ]
)


class Kafka(DataSource):
    """A topic, as spark.readStream.format("pykafka") reads it.

    Options, as Spark documents them: kafka.* (for librdkafka), subscribe (one topic), startingOffsets (earliest or
    latest), maxOffsetsPerTrigger, failOnDataLoss.
    """

    @classmethod
    def name(cls) -> str:
        return "pykafka"

    def schema(self) -> str:
        return (
            "key binary, value binary, topic string, partition int, offset long, timestamp timestamp, timestampType int"
        )

    def streamReader(self, schema) -> DataSourceStreamReader:
        return Reader(dict(self.options))


class Range(InputPartition):
    """A part of a topic's partition: from the offset `start` to before `end`."""

    def __init__(self, partition: int, start: int, end: int):
        self.partition, self.start, self.end = partition, start, end


class Reader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Offsets are {"events": {"0": 123}}: topic, partition, the next message."""

    def __init__(self, options: dict[str, str]):
        options = {name.lower(): value for name, value in options.items()}
        self.topic, self.first = options["subscribe"], options.get("startingoffsets", "earliest")
        self.most = int(options.get("maxoffsetspertrigger", 0))
        self.strict = options.get("failondataloss", "true") == "true"
        self.target: dict[str, int] | None = None  # where a run of availableNow ends
        own = {name.removeprefix("kafka."): value for name, value in options.items() if name.startswith("kafka.")}
        self.kafka = {"group.id": "lake", "enable.auto.commit": False, "enable.partition.eof": True} | own
        # The broker's answer may take longer than librdkafka's half second, which Tansu would answer with nothing.
        self.kafka |= {"auto.offset.reset": "error", "fetch.wait.max.ms": 2000}

    def initialOffset(self) -> dict:
        with _consumer(self.kafka) as consumer:
            low = {
                p: consumer.get_watermark_offsets(TopicPartition(self.topic, p), WAIT)[0] for p in self._all(consumer)
            }
            return {self.topic: _texts(low if self.first == "earliest" else self._high(consumer, low))}

    def getDefaultReadLimit(self) -> ReadLimit:
        return ReadMaxRows(self.most) if self.most else ReadAllAvailable()

    def prepareForTriggerAvailableNow(self) -> None:
        with _consumer(self.kafka) as consumer:
            low = {
                p: consumer.get_watermark_offsets(TopicPartition(self.topic, p), WAIT)[0] for p in self._all(consumer)
            }
            self.target = self._high(consumer, low)

    def latestOffset(self, start: dict, limit: ReadLimit) -> dict:
        """Return where the next batch ends: `start` while the broker is away, because the log keeps all meanwhile."""
        at = {int(p): offset for p, offset in start[self.topic].items()}
        try:
            end = self.target or self._latest(at)
        except KafkaException as error:
            print(f"the broker is away: {error}", file=sys.stderr, flush=True)
            return start
        if isinstance(limit, ReadMaxRows):
            most = -(-limit.max_rows // max(1, len(end)))
            end = {p: min(offset, at.get(p, 0) + most) for p, offset in end.items()}
        return {self.topic: _texts({p: max(offset, at.get(p, 0)) for p, offset in end.items()})}

    def partitions(self, start: dict, end: dict) -> list[Range]:
        ends = {int(p): offset for p, offset in end[self.topic].items()}
        starts = {p: start[self.topic].get(str(p), 0) for p in ends}
        return [Range(p, starts[p], ends[p]) for p in ends if starts[p] < ends[p]]

    def read(self, part: Range) -> Iterator[pa.RecordBatch]:
        """Yield a range's messages. A broker leaves out some offsets, such as those of markers.

        Raises:
            KafkaException: the broker has removed the range's first messages, or does not answer.
        """
        with _consumer(self.kafka) as consumer:
            place = TopicPartition(self.topic, part.partition, part.start)
            low, _ = consumer.get_watermark_offsets(place, WAIT)
            if self.strict and low > part.start:
                raise KafkaException(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE, f"{place} is gone: {low} is the first"))
            place.offset = max(low, part.start)
            consumer.assign([place])
            done = place.offset >= part.end
            deadline = time.monotonic() + WAIT
            while not done:
                messages = consumer.consume(ROWS, 0.5)
                done = any(_ends(message, part.end) for message in messages)
                if batch := [m for m in messages if not m.error() and m.offset() < part.end]:
                    deadline = time.monotonic() + WAIT
                    yield _batch(batch)
                if time.monotonic() > deadline:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no message of {place}"))

    def _latest(self, at: dict[int, int]) -> dict[int, int]:
        with _consumer(self.kafka) as consumer:
            new = {p: 0 for p in self._all(consumer) if p not in at}
            return self._high(consumer, at | new)

    def _low(self, consumer: Consumer) -> dict[int, int]:
        places = {p: TopicPartition(self.topic, p) for p in self._all(consumer)}
        return {p: consumer.get_watermark_offsets(place, WAIT)[0] for p, place in places.items()}

    def _all(self, consumer: Consumer) -> list[int]:
        topic = consumer.list_topics(self.topic, timeout=WAIT).topics[self.topic]
        if topic.error:
            raise KafkaException(topic.error)
        return sorted(topic.partitions)

    def _high(self, consumer: Consumer, at: dict[int, int]) -> dict[int, int]:
        """Return the end of each partition, which an answer to a fetch states.

        An answer of Tansu to ListOffsets is lower: it has the first offset of the last batch.
        """
        high, deadline = {}, time.monotonic() + WAIT
        consumer.assign([TopicPartition(self.topic, p, offset) for p, offset in at.items()])
        while len(high) < len(at):
            if (message := consumer.poll(1)) is not None and _answer(message):
                place = TopicPartition(self.topic, message.partition())
                high[message.partition()] = consumer.get_watermark_offsets(place, cached=True)[1]
                consumer.pause([place])
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer to a fetch"))
        return high


class _consumer:
    """A consumer that is closed at the end of the block."""

    def __init__(self, options: dict):
        self.options = options

    def __enter__(self) -> Consumer:
        self.consumer = Consumer(self.options, logger=None)
        return self.consumer

    def __exit__(self, *_):
        self.consumer.close()


def _answer(message: Message) -> bool:
    """Return True for a message or the end of a partition; False while the broker is away.

    Raises:
        KafkaException: another error.
    """
    if not message.error() or message.error().code() == KafkaError._PARTITION_EOF:
        return True
    if message.error().retriable() or message.error().code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
        return False
    raise KafkaException(message.error())


def _ends(message: Message, end: int) -> bool:
    """Return True if a message, or the end of the partition, shows that all before the offset `end` has come."""
    return _answer(message) and message.offset() >= (end if message.error() else end - 1)


def _texts(offsets: dict[int, int]) -> dict[str, int]:
    return {str(p): offset for p, offset in sorted(offsets.items())}


def _batch(messages: list[Message]) -> pa.RecordBatch:
    stamps = [message.timestamp() for message in messages]
    columns = (
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.topic() for message in messages],
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [milliseconds * 1000 for _, milliseconds in stamps],
        [0 if kind <= 1 else 1 for kind, _ in stamps],
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def offsets(text: str) -> dict[int, int]:
    """Return the next message of each partition from an offset as Spark's progress states it."""
    ((_, places),) = json.loads(text).items()
    return {int(partition): offset for partition, offset in places.items()}
