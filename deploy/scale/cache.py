"""A cache of answers: in each worker, then in Redis for all workers. Simultaneous equal requests share one answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from cachetools import TTLCache
from circuitbreaker import CircuitBreaker, CircuitBreakerError
from redis.asyncio import Redis
from redis.exceptions import LockError, RedisError

TTL = 60  # seconds that an answer is kept
ANSWERS = 10_000  # answers of a worker, a kilobyte each
PATIENCE = 0.1  # seconds for a command of Redis
WAIT = 0.25  # seconds to wait for another worker's answer; that worker may have died
LEAST = 16  # answers that may be computed at the same time, however late they are
LATE = 0.7  # share of the deadline after which an answer is late
GROW, SHRINK = 0.1, 0.97  # of `room`: added for each answer in time; its factor for each late answer
GONE = (RedisError, OSError, TimeoutError, CircuitBreakerError)


class Full(Exception):
    """Too many answers are being computed; one more would make all of them late."""


class Cache:
    """Two layers of a cache. Without Redis a worker computes the answer.

    Args:
        address: of Redis, as redis://host:port; "" if computing an answer costs less than asking Redis.
        deadline: seconds for computing an answer; then another worker may compute it.
        most: answers that are computed at the same time, on any machine.

    Attributes:
        room: answers that may be computed at the same time. It starts at `LEAST`, grows with answers in time up to
            `most`, and shrinks with late ones (additive increase, multiplicative decrease, Chiu & Jain 1989). So a
            slow or cold machine refuses what it would only answer too late.
    """

    def __init__(self, address: str, deadline: float, most: int) -> None:
        self.most, self.room = most, min(LEAST, most)
        patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        self.shared = bool(address)
        self.redis, self.deadline = Redis.from_url(address or "redis://", **patience), deadline
        self.local: TTLCache[str, bytes] = TTLCache(ANSWERS, TTL)
        self.flying: dict[str, asyncio.Task] = {}
        # A Redis that hangs costs its patience three times; then it is tried again once a second.
        self.breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=1, expected_exception=GONE[:3])
        self.ask = self.breaker.decorate(self._ask)

    async def _ask(self, command: Callable[[], Awaitable]):
        """Return the result of a command of Redis; raise one of `GONE` if Redis is away."""
        return await command()

    async def answer(self, key: str, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
        """Return the answer for a key and its source: local, joined, redis or made.

        Raises:
            Full: the answer is not cached, and too many others are being computed.
            Exception: an error of `make`, to all that wait for this answer; nothing is cached then.
        """
        if cached := self.local.get(key):
            return cached, "local"
        if running := self.flying.get(key):
            return (await asyncio.shield(running))[0], "joined"
        if not self.shared:
            self.local[key] = body = await make()
            return body, "made"
        if len(self.flying) >= self.room:
            raise Full
        self.flying[key] = task = asyncio.create_task(self._find(key, make))
        task.add_done_callback(partial(self._done, key, time.monotonic()))
        return await asyncio.shield(task)  # a client that disconnects does not cancel the others' answer

    def _done(self, key: str, started: float, _: asyncio.Task) -> None:
        """Forget a task, and adapt `room` to the time that it took."""
        self.flying.pop(key)
        late = time.monotonic() - started > LATE * self.deadline
        self.room = max(LEAST, self.room * SHRINK) if late else min(self.most, self.room + GROW)

    async def _find(self, key: str, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
        body, source = await self._read(key), "redis"
        if not body:
            async with self._alone(key) as waited:
                body = await self._read(key) if waited else None
                if not body:
                    body, source = await make(), "made"
                    await self._write(key, body)
        self.local[key] = body
        return body, source

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[bool]:
        """Hold the lock of an answer, so that one worker computes it. Yield True after waiting for another worker.

        Without Redis there is no lock, and each worker computes.
        """
        lock = self.redis.lock(f"lock:{key}", timeout=self.deadline, sleep=0.005, blocking_timeout=WAIT)
        waited = held = False
        with suppress(*GONE):
            held = await self.ask(lambda: lock.acquire(blocking=False))
            if not held:
                waited, held = True, await lock.acquire()
        try:
            yield waited
        finally:
            if held:
                with suppress(LockError, *GONE):  # the lock expired, or Redis is away
                    await lock.release()

    async def _read(self, key: str) -> bytes | None:
        try:
            return await self.ask(lambda: self.redis.get(key))
        except GONE:
            return None

    async def _write(self, key: str, body: bytes) -> None:
        with suppress(*GONE):
            await self.ask(lambda: self.redis.set(key, body, ex=TTL))
