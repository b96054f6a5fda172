"""The aggregator: reads the topic of events, counts them in the features, and says every 10 s what is played now.

    FEATURES=redis://127.0.0.1:6379 BROKERS=127.0.0.1:9092 python -m deploy.scale.events.trends

The place in the topic is kept in the same Redis, and written in one transaction with the counts. So a kill of this
process, or of Redis, counts no event twice and loses none: Redis may lose its last second, and the place with it.
"""

import json
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from mlflow.exceptions import MlflowException
from pyarrow.feather import read_table
from redis.exceptions import RedisError, ResponseError, WatchError

from deploy.scale import registry
from deploy.scale.events.features import KEPT, KINDS, MINUTE, Count, Series, Sets, open_features
from deploy.scale.events.schema import KINDS as EVENTS
from lib.search.index import TRACKS

TOPIC = "events"
PERIOD = 10.0  # seconds between two results
WEIGHTS = {"played": 1.0, "liked": 3.0, "skipped": -1.0}  # of an event in a trend
HALF = 30  # minutes in which an event loses half of its weight
LASTING = 6 * HALF  # minutes that are read again after a start
COUNTED = 60  # minutes whose plays, likes and skips a result states
ACTIVE = 10  # minutes in which a session with an event is active
EARLY = 5  # minutes that an event's time may be ahead of this machine's clock
COLD = 0.01  # the weight of a track that is forgotten: a play after six half-lives has more
IDS = 100_000  # messages whose ids are remembered: an event that comes twice within them counts once
MOST, WAIT = 1_000, 1.0  # events of a transaction, which stops Redis for some 50 ms; seconds to wait for them
LISTED = 2_000  # tracks of a result
EACH = 10  # of them, of each mood and genre
QUIET = 20.0  # plays of now that make a track fully trending, if no other track has more
OFFSETS, RESULT = "offsets", "trends"  # keys in Redis
log = logging.getLogger("trends")


class Message(NamedTuple):
    """A line of the log, and its place in the topic."""

    partition: int
    offset: int
    value: bytes


class Source(Protocol):
    """A topic that is read from given places."""

    def seek(self, offsets: dict[int, int], back: int) -> None:
        """Go to the places after the last message, and `back` messages further in all."""

    def read(self) -> list[Message]:
        """Return the next messages, none after a second without any."""


class Topic:
    """A topic of a broker that speaks Kafka's protocol."""

    def __init__(self, brokers: str) -> None:
        options = {"bootstrap.servers": brokers, "group.id": "trends", "enable.auto.commit": False}
        self.consumer = Consumer(options | {"auto.offset.reset": "earliest", "fetch.wait.max.ms": 2000}, logger=log)

    def seek(self, offsets: dict[int, int], back: int) -> None:
        """Go to the places after the last message, and `back` messages further in all.

        Raises:
            KafkaException: the broker is away, or has no such topic yet.
        """
        topic = self.consumer.list_topics(TOPIC, timeout=5).topics[TOPIC]
        if topic.error:
            raise KafkaException(topic.error)
        places = {p: max(0, offsets.get(p, 0) - back // len(topic.partitions)) for p in topic.partitions}
        self.consumer.assign([TopicPartition(TOPIC, p, offset) for p, offset in places.items()])

    def read(self) -> list[Message]:
        """Return the next messages, none after a second without any. While the broker is away, there are none."""
        messages = self.consumer.consume(MOST, WAIT)
        for error in filter(None, (message.error() for message in messages)):
            if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                log.warning("%s", error)
        return [Message(m.partition(), m.offset(), m.value() or b"") for m in messages if not m.error()]


def catalogue() -> pd.DataFrame | None:
    """Return mood and genre of the served run's tracks by id; None before the first version."""
    version = registry.serving()
    return _moods(version) if version else None


@lru_cache(1)
def _moods(version: registry.Version) -> pd.DataFrame:
    tracks = read_table(registry.pull(version) / "index" / TRACKS, columns=["id", "mood", "genre"])
    return tracks.to_pandas().set_index("id")


class Aggregator:
    """Counts events once each, and weighs them by their age.

    Args:
        features: the counts.
        source: the topic.
        find: returns mood and genre of the catalogue's tracks by id; None if there is none yet.
        clock: returns the seconds since 1970.
    """

    def __init__(
        self,
        features: Series | Sets,
        source: Source,
        find: Callable[[], pd.DataFrame | None] = catalogue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.features, self.source, self.find, self.clock = features, source, find, clock
        self.redis, self.tracks, self.due = features.redis, None, 0.0

    @property
    def minute(self) -> int:
        """The clock's minute since 1970."""
        return int(self.clock() // MINUTE)

    def load(self) -> None:
        """Read the places and the weights from Redis, and the ids of the last events from the topic."""
        self.offsets = {int(p): int(offset) for p, offset in self.redis.hgetall(OFFSETS).items()}
        self.order, self.ids = deque(), set()
        self.since, self.heat = self.minute, Counter()  # weights as of the minute `since`
        for (kind, track, minute), n in self.features.history(self.minute - LASTING, self.minute + EARLY):
            self._warm(kind, track, minute, n)
        self.source.seek(self.offsets, IDS)

    def step(self) -> None:
        """Read, count, and publish a result if it is due.

        Raises:
            RedisError: Redis is away, or is not as this process left it: `load` again.
        """
        counts, sessions, offsets = self._count(self.source.read())
        if offsets:
            self._commit(counts, sessions, offsets)
        if time.monotonic() >= self.due:
            with suppress(MlflowException):  # it keeps the catalogue
                self.tracks = self.find()
            self.publish()
            self.due = time.monotonic() + PERIOD

    def _count(self, messages: Iterable[Message]) -> tuple[Counter, dict[int, set], dict[int, int]]:
        """Return the messages' counts, their sessions by minute, and the places after them.

        Messages before the kept places were counted by an earlier process; their ids are remembered only.
        """
        counts, sessions, offsets = Counter(), {}, {}
        for partition, offset, value in messages:
            event = self._read(value)
            new = event and self._remember(event["id"])
            if offset < self.offsets.get(partition, 0):
                continue
            offsets[partition] = offset + 1
            if not new:
                continue
            minute, session = event["minute"], event.get("session")
            if event["kind"] in KINDS:
                counts[Count(event["kind"], event["track"], minute)] += 1
            if session:
                counts[Count("events", "all", minute)] += 1
                sessions.setdefault(minute, set()).add(session)
        return counts, sessions, offsets

    def _read(self, line: bytes) -> dict | None:
        """Return an event with its minute; None if it is not to be counted."""
        try:
            event = json.loads(line)
            event["minute"] = minute = int(datetime.fromisoformat(event["at"]).timestamp() // MINUTE)
            texts = isinstance(event["id"], str) and isinstance(event.get("session"), str | None)
            counted = texts and event["kind"] in EVENTS[1:]  # not `shown`
            known = event["track"] in self.tracks.index
        except (ValueError, KeyError, TypeError, OverflowError):  # half a line, or not an event
            return None
        return event if counted and known and self.minute - KEPT < minute <= self.minute + EARLY else None

    def _remember(self, name: str) -> bool:
        """Remember an event's id. Return False if it is known."""
        if name in self.ids:
            return False
        self.ids.add(name)
        self.order.append(name)
        if len(self.order) > IDS:
            self.ids.discard(self.order.popleft())
        return True

    def _commit(self, counts: Counter, sessions: dict[int, set], offsets: dict[int, int]) -> None:
        with self.redis.pipeline() as pipe:
            pipe.watch(OFFSETS)
            if {int(p): int(offset) for p, offset in pipe.hgetall(OFFSETS).items()} != self.offsets:
                raise WatchError("Redis has lost its last second, or another aggregator runs")
            pipe.multi()
            self.features.add(pipe, counts)
            for minute, names in sessions.items():
                pipe.pfadd(f"sessions:{minute}", *names)
                pipe.expireat(f"sessions:{minute}", (minute + COUNTED) * MINUTE)
            pipe.hset(OFFSETS, mapping=offsets)
            for answer in pipe.execute(raise_on_error=False):
                if isinstance(answer, ResponseError) and "retention" not in str(answer):
                    raise answer
        self.offsets |= offsets
        for (kind, track, minute), n in counts.items():
            self._warm(kind, track, minute, n)

    def _warm(self, kind: str, track: str, minute: int, n: int) -> None:
        """Add events to a track's weight (forward decay: Cormode, Shkapenyuk, Srivastava and Xu 2009)."""
        if kind in WEIGHTS:
            self.heat[track] += WEIGHTS[kind] * n * 2.0 ** ((minute - self.since) / HALF)

    def _cool(self) -> int:
        """Have the weights decay up to the present minute; return it. What is almost cold is forgotten.

        Raises:
            WatchError: the clock went back, and Redis still has what was forgotten before.
        """
        now, factor = self.minute, 2.0 ** ((self.since - self.minute) / HALF)
        if now < self.since:
            raise WatchError("the clock went back")
        if now > self.since:
            cooled = {track: weight * factor for track, weight in self.heat.items()}
            self.heat = Counter({track: weight for track, weight in cooled.items() if abs(weight) > COLD})
            self.since = now
        return now

    def publish(self) -> None:
        """Write a result to Redis: the trending tracks, hottest first, and the sessions."""
        now = self._cool()
        heat = pd.Series(self.heat, dtype=float, name="heat")
        hot = self.tracks.join(heat[heat > 0], how="inner").sort_values("heat", ascending=False)
        hot = hot.groupby(["mood", "genre"], observed=True, dropna=False).head(EACH).head(LISTED)
        scale = np.log1p(max(QUIET, hot["heat"].max())) if len(hot) else 1.0
        strength = np.minimum(1, np.log1p(hot["heat"]) / scale).round(4)
        sums = [self.features.sums(kind, hot.index, now - COUNTED + 1, now + EARLY) for kind in KINDS]
        rows = zip(hot.index, strength.tolist(), *sums, strict=True)
        body = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sessions": self._sessions(now)}
        with self.redis.pipeline() as pipe:
            pipe.hincrby(RESULT, "number", 1)
            pipe.hset(RESULT, "body", json.dumps(body | {"tracks": list(rows)}))
            pipe.execute()

    def _sessions(self, now: int) -> dict:
        """Return how many sessions are active, how many were so in the last minute, and their events."""
        minutes = range(now - ACTIVE + 1, now + 1)
        active = self.redis.pfcount(*(f"sessions:{minute}" for minute in minutes))
        events = self.features.sums("events", ["all"], minutes[0], now)[0]
        last = self.redis.pfcount(f"sessions:{now - 1}")
        return {"active": active, "a_minute": last, "events_a_session": round(events / active, 2) if active else 0.0}


def run(address: str, source: Source) -> None:
    """Aggregate for ever. While a part is away, try again each second."""
    aggregator = None
    while True:
        try:
            aggregator = aggregator or Aggregator(open_features(address), source)
            aggregator.tracks = aggregator.find()
            if aggregator.tracks is not None:
                aggregator.load()
                log.info("reads from %s on", aggregator.offsets)
                while True:
                    aggregator.step()
        except (RedisError, OSError, KafkaException, MlflowException) as error:
            log.warning("starts again: %s", error)
        time.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run(os.environ["FEATURES"], Topic(os.environ["BROKERS"]))
