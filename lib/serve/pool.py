"""A pool of notebook kernels: each answers what waits, a batch at a time; one that dies or hangs is replaced."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from lib.core.paths import shown
from lib.core.processes import KERNELS, threads
from lib.serve.kernels import Broken, Endpoint, Kernel, Lost, Reply, Target, bound, read

log = logging.getLogger(__name__)
READY = Gauge("recommend_kernels_ready", "Kernels that can answer.")
WAITING = Gauge("recommend_waiting", "Requests that wait for a kernel.")
TOGETHER = Histogram("recommend_batch_size", "Requests that a kernel took together.", buckets=(1, 2, 4, 8, 16, 32, 64))
REPLACED = Counter("recommend_kernels_replaced", "Kernels that died or hung and were replaced.")


class Limits(NamedTuple):
    """How many kernels, what may wait for them, and how long anything may take.

    Attributes:
        kernels: processes, each with a model of its own.
        queue: requests that may wait; more are refused.
        batch: requests that a kernel takes together.
        time: seconds from a request to its answer.
        start: seconds from a new process to its first answer.
    """

    kernels: int = KERNELS
    queue: int = 64
    batch: int = 16
    time: float = 5.0
    start: float = 60.0


class Full(Exception):
    """As many requests wait as may wait."""


@dataclass
class Job:
    """A request on its way."""

    address: str
    request: str
    answer: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class Slot:
    """A place in the pool: a kernel, one that is gone while it is replaced; the lock is held by whoever uses it."""

    kernel: Kernel | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool:
    """Kernels that share one queue.

    Args:
        endpoints: address, such as "POST /recommend" -> its cells.
        seeds: gives the cells that make a kernel ready to serve a run.
        canary: an address and a request that a kernel must answer with 200 before it serves anybody.
    """

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        seeds: Callable[[Path], list[str]],
        canary: tuple[str, str],
        limits: Limits,
    ) -> None:
        self.endpoints, self.seeds, self.canary, self.limits = endpoints, seeds, canary, limits
        self.slots = [Slot() for _ in range(limits.kernels)]
        self.waiting: deque[Job] = deque()
        self.idle: list[asyncio.Future] = []
        self.target: Target | None = None
        self.tasks: list[asyncio.Task] = []

    async def start(self, target: Target) -> None:
        """Make all kernels ready.

        Raises:
            Broken, Lost: one could not be; all are stopped.
        """
        self.target = target
        bound(threads(self.limits.kernels))
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self.slots:
                    group.create_task(self._fill(slot))
        except ExceptionGroup as several:
            await self.stop()
            raise several.exceptions[0] from None
        self.tasks = [asyncio.create_task(self._work(slot)) for slot in self.slots]

    async def stop(self) -> None:
        """End all kernels."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(slot.kernel.stop() for slot in self.slots if slot.kernel), return_exceptions=True)

    async def ask(self, address: str, request: str) -> Reply:
        """Wait for a kernel and for its answer, `limits.time` seconds at the most.

        Raises:
            Full: too many wait already.
            Lost: the kernel died or hung.
            Broken: a cell raised an exception; or its answer is none.
            TimeoutError: no kernel was free in time.
        """
        if len(self.waiting) >= self.limits.queue:
            raise Full
        job = Job(address, request)
        self.waiting.append(job)
        WAITING.set(len(self.waiting))
        self._wake()
        try:
            return await asyncio.wait_for(job.answer, self.limits.time)
        finally:
            if job in self.waiting:
                self.waiting.remove(job)
                WAITING.set(len(self.waiting))

    async def ask_all(self, address: str, request: str) -> list[Reply]:
        """The answers of all kernels that give one, each asked as soon as it is free."""
        asked = (self._ask_one(slot, address, request) for slot in self.slots)
        replies = await asyncio.gather(*asked, return_exceptions=True)
        return [reply for reply in replies if isinstance(reply, Reply)]

    async def switch(self, target: Target) -> None:
        """Serve another run, kernel by kernel: each loads it beside the old one, between two requests.

        Raises:
            Broken: the run cannot be served; all kernels serve the old one.
            Lost: the kernel that tried it was lost, or none is there to try it; all serve the old one.
        """
        old, proven = self.target, False
        for slot in self.slots:
            async with slot.lock:
                if not slot.kernel.alive():
                    continue  # the one that takes its place loads the new target
                try:
                    await self._seed(slot.kernel, target)
                    self.target, proven = target, True
                except (Broken, Lost):
                    if not proven:
                        await self._go_back(slot.kernel, old, target)
                        raise
                    slot.kernel.kill()  # others could, so it is this kernel that is at fault
        if not proven:
            raise Lost("there was no kernel to try it")

    async def _go_back(self, kernel: Kernel, old: Target, tried: Target) -> None:
        try:
            if kernel.alive() and old.run == tried.run:  # of the folder as it was only what is loaded is left
                await self._try(kernel)
            elif kernel.alive():
                await self._seed(kernel, old)
        except (Broken, Lost):
            kernel.kill()

    async def _ask_one(self, slot: Slot, address: str, request: str) -> Reply:
        await asyncio.wait_for(slot.lock.acquire(), self.limits.time)
        try:
            if not slot.kernel.alive():
                raise Lost("it is being replaced")
            return read((await slot.kernel.answer(self.endpoints[address], [request], self.limits.time))[0])
        finally:
            slot.lock.release()

    async def _work(self, slot: Slot) -> None:
        """Answer what waits, for ever; replace the kernel when it is gone."""
        while True:
            try:
                if not slot.kernel.alive():
                    self._wake()  # it may have been this kernel that was woken for what waits
                    await self._replace(slot)
                if not self.waiting:
                    woken = asyncio.get_running_loop().create_future()
                    self.idle.append(woken)
                    await asyncio.wait({woken, slot.kernel.gone}, return_when=asyncio.FIRST_COMPLETED)
                    woken.cancel()
                async with slot.lock:
                    if slot.kernel.alive():
                        await self._answer(slot.kernel, self._take())
            except Exception:  # whatever it is, the place in the pool must not be lost for it
                log.exception("the pool failed")
                slot.kernel.kill()

    def _wake(self) -> None:
        """Have the kernel that was idle last, whose caches are warm, take what waits."""
        while self.waiting and self.idle:
            woken = self.idle.pop()
            if not woken.done():
                woken.set_result(None)
                return

    def _take(self) -> list[Job]:
        """The oldest that waits, and what waits for the same address: up to a batch, and no more than a fair share.

        Who took all that waits would soon have all clients, since those that are answered together ask again together,
        and the other kernels none.
        """
        jobs: list[Job] = []
        alive = sum(slot.kernel.alive() for slot in self.slots)
        most = min(self.limits.batch, -(-len(self.waiting) // alive))
        while self.waiting and len(jobs) < most:
            if self.waiting[0].answer.done():  # its listener has gone, or was told that it took too long
                self.waiting.popleft()
            elif jobs and self.waiting[0].address != jobs[0].address:
                break
            else:
                jobs.append(self.waiting.popleft())
        WAITING.set(len(self.waiting))
        return jobs

    async def _answer(self, kernel: Kernel, jobs: list[Job]) -> None:
        if not jobs:
            return
        TOGETHER.observe(len(jobs))
        try:
            requests = [job.request for job in jobs]
            answers = await kernel.answer(self.endpoints[jobs[0].address], requests, self.limits.time)
        except Exception as error:
            log.error("a kernel was lost", extra={"why": str(error), "address": jobs[0].address, "requests": len(jobs)})
            _settle(jobs, [Lost("The kernel that was answering was lost.")] * len(jobs))
            if not isinstance(error, Lost):
                raise
            return
        results = []
        for answer in answers:
            try:
                results.append(read(answer))
            except Broken as error:
                results.append(error)
        _settle(jobs, results)

    async def _replace(self, slot: Slot) -> None:
        """A fresh kernel for one that is gone; tried again, less and less often, until it can serve."""
        READY.dec()
        REPLACED.inc()
        async with slot.lock:
            await slot.kernel.stop()
        log.warning("replacing a kernel", extra={"run": shown(self.target.run)})
        for nth in itertools.count():
            try:
                await self._fill(slot)
                log.warning("a fresh kernel serves", extra={"run": shown(self.target.run)})
                return
            except Exception as error:
                pause = min(2**nth, 30)
                log.error("a fresh kernel cannot serve", extra={"why": str(error), "again_in_seconds": pause})
                await asyncio.sleep(pause)

    async def _fill(self, slot: Slot) -> None:
        """Start and seed a kernel, then put it into the slot."""
        kernel = Kernel()
        try:
            await kernel.start(self.limits.start)
            while kernel.target != self.target:  # which may change while this one loads
                await self._seed(kernel, self.target)
        except BaseException:
            await kernel.stop()
            raise
        slot.kernel = kernel
        READY.inc()

    async def _seed(self, kernel: Kernel, target: Target) -> None:
        """Load a run into a kernel, and ask it once before it serves anybody."""
        await kernel.seed(self.seeds(target.run), self.limits.start)
        await self._try(kernel)
        kernel.target = target

    async def _try(self, kernel: Kernel) -> None:
        address, request = self.canary
        reply = read((await kernel.answer(self.endpoints[address], [request], self.limits.start))[0])
        if reply.status != 200:
            raise Broken(f"the canary request was answered {reply.status}: {reply.body}")


def _settle(jobs: list[Job], results: list[Reply | Exception]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if job.answer.done():
            continue
        if isinstance(result, Exception):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)
