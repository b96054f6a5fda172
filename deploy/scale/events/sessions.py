"""A session's recent plays, likes and skips in the features' Redis, and a worker's copy of the trends."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from circuitbreaker import CircuitBreaker
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Broken

from deploy.scale.cache import GONE, PATIENCE
from deploy.scale.events.schema import Event

KEPT = 6 * 3600  # seconds after a session's last event
MOST = 100  # events of a session
HALF = 20 * 60  # seconds in which a like or a skip loses half of its weight
LIKED, DISLIKED = ("liked",), ("disliked", "skipped")
log = logging.getLogger("uvicorn.error")


class Heard(NamedTuple):
    """An event of a session."""

    kind: str
    track: str
    at: float  # seconds since 1970


class Memory(NamedTuple):
    """The recent events of a session, newest first."""

    events: list[Heard]

    @property
    def tracks(self) -> list[str]:
        """The tracks of the events, each once, newest first."""
        return list(dict.fromkeys(event.track for event in self.events))

    def weights(self, now: float) -> tuple[dict[str, float], dict[str, float]]:
        """Return the tracks that count as liked and as disliked, each with its weight: 1 now, and half after `HALF`.

        The newest like, dislike or skip of a track counts.
        """
        liked, disliked = {}, {}
        for kind, track, at in self.events:
            if track not in liked and track not in disliked and kind in LIKED + DISLIKED:
                side = liked if kind in LIKED else disliked
                side[track] = 0.5 ** (max(0.0, now - at) / HALF)
        return liked, disliked


class Sessions:
    """The sessions. Without Redis they are empty, and an answer waits `PATIENCE` at most.

    Args:
        address: of the features' Redis, as redis://host:port; "" without features.
    """

    def __init__(self, address: str) -> None:
        options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "decode_responses": True}
        # The connections of a Redis that was started again are broken: the second attempt opens a new one.
        retry = Retry(NoBackoff(), 1, supported_errors=(Broken,))
        self.redis = Redis.from_url(address, retry=retry, **options) if address else None
        breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=1, expected_exception=GONE[:3])
        self.ask = breaker.decorate(self._ask)

    async def close(self) -> None:
        """Close the connections."""
        if self.redis:
            await self.redis.aclose()

    async def _ask(self, command: Callable):
        """Return the result of a command of Redis; raise one of `GONE` if Redis is away."""
        return await command()

    async def remember(self, events: Iterable[Event]) -> None:
        """Write the events of sessions. Without Redis they are in the log only."""
        events, now = [event for event in events if event.session and event.kind != "shown"], time.time()
        if not events or not self.redis:
            return
        pipe = self.redis.pipeline(transaction=False)
        for event in sorted(events, key=lambda event: event.at):
            at = min(event.at.timestamp(), now)  # a client's clock may be ahead
            pipe.lpush(f"session:{event.session}", json.dumps(Heard(event.kind, event.track, at)))
        for session in {event.session for event in events}:
            pipe.ltrim(f"session:{session}", 0, MOST - 1)
            pipe.expire(f"session:{session}", KEPT)
        with suppress(*GONE):
            await self.ask(pipe.execute)

    async def recall(self, session: str | None) -> Memory:
        """Return the recent events of a session; none if it is unknown, or without Redis."""
        if not session or not self.redis:
            return Memory([])
        with suppress(*GONE):
            lines = await self.ask(lambda: self.redis.lrange(f"session:{session}", 0, -1))
            return Memory([Heard(*json.loads(line)) for line in lines])
        return Memory([])


class Trending(NamedTuple):
    """A track that is played now."""

    id: str
    strength: float  # 0 to 1
    plays: int  # of the last hour, as the others
    likes: int
    skips: int


class Trends:
    """A copy of the aggregator's result. Requests read it; a task of the worker renews it each second."""

    LOOK, STALE = 1.0, 120.0  # seconds between two looks; until a result that stays the same counts no longer

    def __init__(self, sessions: Sessions) -> None:
        self.sessions, self.number, self.renewed = sessions, None, 0.0
        self.at, self.frequency, self.tracks, self.strength = None, None, [], {}

    async def follow(self) -> None:
        """Copy the newest result, for ever."""
        while self.sessions.redis:
            try:
                await self.look()
            except GONE:
                pass  # the last result stays for a while
            except Exception:
                log.exception("the trends were not taken")
            if self.tracks and time.monotonic() - self.renewed > self.STALE:  # the aggregator is away
                self._take({"at": self.at, "sessions": None, "tracks": []})
            await asyncio.sleep(self.LOOK)

    async def look(self) -> None:
        """Copy the result if it is a new one."""
        redis = self.sessions.redis
        number = await self.sessions.ask(lambda: redis.hget("trends", "number"))
        if number and number != self.number:
            self._take(json.loads(await self.sessions.ask(lambda: redis.hget("trends", "body"))))
            self.number, self.renewed = number, time.monotonic()

    def _take(self, body: dict) -> None:
        self.at, self.frequency = body["at"], body["sessions"]
        self.tracks = [Trending(*row) for row in body["tracks"]]
        self.strength = {track.id: track.strength for track in self.tracks}
