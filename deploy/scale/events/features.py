"""Plays, likes and skips of each track in each minute, in Redis: as RedisTimeSeries, or as sorted sets without it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ResponseError
from redis.retry import Retry

KINDS = ("played", "liked", "skipped")  # the kinds of events that are counted
MINUTE = 60  # seconds
KEPT = 24 * 60  # minutes
# Bytes of a chunk of a series. A small chunk wastes little on a track that is seldom played: benchmarks/events.py.
CHUNK = 128
BUCKET = 5  # minutes
TOGETHER = 500  # commands that are sent at once; each is short, so Redis answers others between them


class Count(NamedTuple):
    """A kind of event, a track, and a minute since 1970."""

    kind: str
    track: str
    minute: int


class Series:
    """Counts as RedisTimeSeries: a series a kind and track, a sample a minute. Redis drops samples after a day.

    A time is a number of minutes. The usual milliseconds compress worse, and take twice the memory.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def add(self, pipe: Pipeline, counts: Mapping[Count, int]) -> None:
        """Queue counts, which are added to those of the same minute."""
        rules = ("RETENTION", KEPT, "CHUNK_SIZE", CHUNK, "ON_DUPLICATE", "SUM")
        for (kind, track, minute), n in counts.items():
            key, time = f"{kind}:{track}", minute
            pipe.execute_command("TS.ADD", key, time, n, *rules)

    def history(self, first: int, last: int) -> Iterator[tuple[Count, int]]:
        """Return all counts from the first minute to the last; those of a few minutes in the middle one of them."""
        rules = ("AGGREGATION", "sum", BUCKET)
        for kind in KINDS:
            keys = self.redis.scan_iter(f"{kind}:*", count=TOGETHER)  # labels would take a third of the memory
            for key, samples in self._ranges(keys, first, last, *rules):
                track = key.partition(":")[2]
                for time, n in samples:
                    yield Count(kind, track, int(time) + BUCKET // 2), int(float(n))

    def sums(self, kind: str, tracks: Iterable[str], first: int, last: int) -> list[int]:
        """Return each track's count from the first minute to the last."""
        keys = [f"{kind}:{track}" for track in tracks]
        return [sum(int(float(n)) for _, n in samples) for _, samples in self._ranges(keys, first, last)]

    def _ranges(self, keys: Iterable[str], first: int, last: int, *rules) -> Iterator[tuple[str, list]]:
        """Return the samples of series; those of an unknown one are none."""
        keys = list(keys)
        for some in (keys[i : i + TOGETHER] for i in range(0, len(keys), TOGETHER)):
            pipe = self.redis.pipeline(transaction=False)
            for key in some:
                pipe.execute_command("TS.RANGE", key, first, last, *rules)
            answers = pipe.execute(raise_on_error=False)
            yield from zip(
                some, ([] if isinstance(answer, ResponseError) else answer for answer in answers), strict=True
            )


class Sets:
    """Counts as sorted sets: one a kind and minute, which expires. They take more memory, so they are kept for less."""

    KEPT = 3 * 60  # minutes: six half-lives of a trend

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def add(self, pipe: Pipeline, counts: Mapping[Count, int]) -> None:
        """Queue counts, which are added to those of the same minute."""
        for (kind, track, minute), n in counts.items():
            pipe.zincrby(f"{kind}:{minute}", n, track)
        for kind, minute in {(count.kind, count.minute) for count in counts}:
            pipe.expireat(f"{kind}:{minute}", (minute + self.KEPT) * MINUTE)

    def history(self, first: int, last: int) -> Iterator[tuple[Count, int]]:
        """Return all counts from the first minute to the last."""
        for kind in KINDS:
            for minute in range(max(first, last - self.KEPT), last + 1):
                for track, n in self.redis.zscan_iter(f"{kind}:{minute}", count=TOGETHER):
                    yield Count(kind, track, minute), int(n)

    def sums(self, kind: str, tracks: Iterable[str], first: int, last: int) -> list[int]:
        """Return each track's count from the first minute to the last."""
        tracks, pipe = list(tracks), self.redis.pipeline(transaction=False)
        if not tracks:
            return []
        for minute in range(first, last + 1):
            pipe.zmscore(f"{kind}:{minute}", tracks)
        return [int(sum(n or 0 for n in row)) for row in zip(*pipe.execute(), strict=True)]


def open_features(address: str) -> Series | Sets:
    """Connect to the features' Redis, redis://host:port, and choose by the modules it has.

    A command is sent once: one that may have been executed must not be repeated, or it would count twice.
    """
    options = {"decode_responses": True, "socket_timeout": 5, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    redis = Redis.from_url(address, **options)
    modules = {module["name"].lower() for module in redis.module_list()}
    return (Series if "timeseries" in modules else Sets)(redis)
