"""Answers that are kept: in this process, then in Redis for all of them. What many ask at once is computed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from cachetools import TTLCache
from circuitbreaker import CircuitBreaker, CircuitBreakerError
from redis.asyncio import Redis
from redis.exceptions import LockError, RedisError

TTL = 60  # seconds that an answer is kept
ANSWERS = 10_000  # that a process keeps: a kilobyte each
PATIENCE = 0.1  # seconds that Redis has for a command
WAIT = 0.25  # seconds that another process has for an answer that it was the first to compute: it may have died
GONE = (RedisError, OSError, TimeoutError, CircuitBreakerError)


class Full(Exception):
    """Too many answers are being computed: one more would only make all of them late."""


class Cache:
    """Two layers, and none of them is needed: without Redis an answer is computed.

    Args:
        address: Redis', as redis://host:port; "" where an answer costs less than to ask for it.
        deadline: seconds that computing an answer may take, after which nobody else is kept from it.
        most: answers that are computed at a time.
    """

    def __init__(self, address: str, deadline: float, most: int) -> None:
        self.most = most
        patience = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        self.shared = bool(address)
        self.redis, self.deadline = Redis.from_url(address or "redis://", **patience), deadline
        self.local: TTLCache[str, bytes] = TTLCache(ANSWERS, TTL)
        self.flying: dict[str, asyncio.Task] = {}
        # One that hangs costs its patience three times, and is asked again a second later.
        self.breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=1, expected_exception=GONE[:3])
        self.ask = self.breaker.decorate(self._ask)

    async def _ask(self, command: Callable[[], Awaitable]):
        """What Redis says; raises what says that it is gone."""
        return await command()

    async def answer(self, key: str, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
        """The answer to what has this key, and where it was found: local, joined, redis, or made.

        Raises:
            Full: it is not kept, and there are too many of its kind.
            Exception: what `make` raises, to all who wait for it; nothing is kept then.
        """
        if kept := self.local.get(key):
            return kept, "local"
        if running := self.flying.get(key):
            return (await asyncio.shield(running))[0], "joined"
        if not self.shared:
            self.local[key] = body = await make()
            return body, "made"
        if len(self.flying) >= self.most:
            raise Full
        self.flying[key] = task = asyncio.create_task(self._found(key, make))
        task.add_done_callback(lambda _: self.flying.pop(key))
        return await asyncio.shield(task)  # a client that goes takes nobody's answer with it

    async def _found(self, key: str, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, str]:
        body, where = await self._read(key), "redis"
        if not body:
            async with self._alone(key) as waited:
                body = await self._read(key) if waited else None
                if not body:
                    body, where = await make(), "made"
                    await self._write(key, body)
        self.local[key] = body
        return body, where

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[bool]:
        """Be the one process that computes this answer, as far as Redis can say. -> whether another was waited for."""
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
                with suppress(LockError, *GONE):  # it ran out, or Redis went
                    await lock.release()

    async def _read(self, key: str) -> bytes | None:
        try:
            return await self.ask(lambda: self.redis.get(key))
        except GONE:
            return None

    async def _write(self, key: str, body: bytes) -> None:
        with suppress(*GONE):
            await self.ask(lambda: self.redis.set(key, body, ex=TTL))
