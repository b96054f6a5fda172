"""A pool of notebook kernels. They share one queue; each takes a batch at a time. A kernel that is lost is replaced."""

import asyncio
import itertools
import json
import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from lib.core.paths import shown
from lib.serve import contract, notebook
from lib.serve.cells import Reply
from lib.serve.kernels import Broken, Kernel, Lost, prepare
from lib.serve.limits import Limits

CANARY = "POST /recommend", [json.dumps({"body": json.dumps({"text": contract.CANARY})})]  # address, requests
log = logging.getLogger(__name__)
READY = Gauge("recommend_kernels_ready", "Kernels that can answer.")
WAITING = Gauge("recommend_waiting", "Requests that wait for a kernel.")
TOGETHER = Histogram("recommend_batch_size", "Requests that a kernel took together.", buckets=(1, 2, 4, 8, 16, 32, 64))
REPLACED = Counter("recommend_kernels_replaced", "Kernels that died or hung and were replaced.")


class Target(NamedTuple):
    """A run's folder, and the time at which its index was written."""

    run: Path
    written: int


class Job(NamedTuple):
    """A request in the queue."""

    address: str
    request: str
    answer: asyncio.Future


@dataclass(eq=False)
class Slot:
    """A place for a kernel. Its user holds the lock."""

    kernel: Kernel = field(default_factory=Kernel)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pool:
    """Kernels that share one queue. A kernel must answer the canary with songs before it serves."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.slots = [Slot() for _ in range(limits.kernels)]
        self.waiting: deque[Job] = deque()
        self.idle: list[asyncio.Future] = []
        self.target: Target | None = None
        self.tasks: list[asyncio.Task] = []
        READY.set_function(self._alive)
        WAITING.set_function(lambda: len(self.waiting))

    async def start(self, target: Target) -> None:
        """Start all kernels with a run. Raise Broken or Lost if one cannot start; all are stopped then."""
        self.target = target
        prepare(self.limits.kernels, target.run)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self.slots:
                    group.create_task(self._renew(slot, target))
        except ExceptionGroup as several:
            await self.stop()
            raise several.exceptions[0] from None
        self.tasks = [asyncio.create_task(self._work(slot)) for slot in self.slots]

    async def stop(self) -> None:
        """End all kernels."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(slot.kernel.stop() for slot in self.slots), return_exceptions=True)

    async def ask(self, address: str, request: str) -> Reply:
        """Queue a request and return its answer. Raise QueueFull, TimeoutError, or Lost if its kernel is lost."""
        if len(self.waiting) >= self.limits.queue:
            raise asyncio.QueueFull
        job = Job(address, request, asyncio.get_running_loop().create_future())
        self.waiting.append(job)
        self._wake()
        try:
            reply = await asyncio.wait_for(job.answer, self.limits.time)
        finally:
            if job in self.waiting:
                self.waiting.remove(job)
        if reply is None:
            raise Lost("The kernel that was answering was lost.")
        return reply

    async def ask_all(self, address: str, request: str) -> list[Reply]:
        """Send a request to every kernel, as soon as it is free. Return the answers of those that give one."""
        asks = (self._ask(slot, address, request) for slot in self.slots)
        replies = await asyncio.gather(*asks, return_exceptions=True)
        return [reply for reply in replies if isinstance(reply, Reply)]

    async def switch(self, target: Target) -> None:
        """Serve another run: replace the kernels one by one. Each works until the new one can serve.

        Raise Broken or Lost if the first new kernel cannot serve the run. Then all kernels serve the old run.
        """
        first, *others = self.slots
        await self._renew(first, target)
        self.target = target
        for slot in others:
            try:
                await self._renew(slot, target)
            except (Broken, Lost):  # the first kernel can serve the run, so this one's replacement can, too
                slot.kernel.kill()

    async def _ask(self, slot: Slot, address: str, request: str) -> Reply:
        async with asyncio.timeout(self.limits.time):
            await slot.lock.acquire()
        try:
            if not slot.kernel.alive():
                raise Lost("it is being replaced")
            return (await slot.kernel.answer(address, [request], self.limits.time))[0]
        finally:
            slot.lock.release()

    async def _work(self, slot: Slot) -> None:
        """Answer the queue's requests forever. Replace the kernel when it is gone."""
        while True:
            try:
                if not slot.kernel.alive():
                    self._wake()  # this kernel may have been woken for a request that it can no longer take
                    await self._replace(slot)
                if not self.waiting:
                    woken = asyncio.get_running_loop().create_future()
                    self.idle.append(woken)
                    await asyncio.wait({woken, slot.kernel.gone}, return_when=asyncio.FIRST_COMPLETED)
                    woken.cancel()
                async with slot.lock:
                    if slot.kernel.alive() and (jobs := self._take()):
                        await self._answer(slot.kernel, jobs)
            except Exception:  # the slot must stay in use after any error
                log.exception("the pool failed")
                slot.kernel.kill()

    def _alive(self) -> int:
        return sum(slot.kernel.alive() for slot in self.slots)

    def _wake(self) -> None:
        """Wake the kernel that became idle last: its caches are warm."""
        while self.waiting and self.idle:
            woken = self.idle.pop()
            if not woken.done():
                woken.set_result(None)
                return

    def _take(self) -> list[Job]:
        """Take the oldest requests of one address: at most a batch, and at most this kernel's share of the queue.

        Taking the whole queue would starve the other kernels: clients answered together ask again together.
        """
        same = itertools.takewhile(lambda job: job.address == self.waiting[0].address, self.waiting)
        most = min(self.limits.batch, -(-len(self.waiting) // self._alive()))
        jobs = list(itertools.islice(same, most))
        for _ in jobs:
            self.waiting.popleft()
        return [job for job in jobs if not job.answer.done()]  # a client may have gone, or got a 503

    async def _answer(self, kernel: Kernel, jobs: list[Job]) -> None:
        TOGETHER.observe(len(jobs))
        address = jobs[0].address
        replies = [None] * len(jobs)
        try:
            replies = await kernel.answer(address, [job.request for job in jobs], self.limits.time)
        except Lost as error:
            log.error("a kernel was lost", extra={"why": str(error), "address": address, "requests": len(jobs)})
        finally:
            for job, reply in zip(jobs, replies, strict=True):
                if not job.answer.done():
                    job.answer.set_result(reply)

    async def _replace(self, slot: Slot) -> None:
        """Replace a kernel that is gone. Try again, with growing pauses, until the new one can serve."""
        REPLACED.inc()
        run = {"run": shown(self.target.run)}
        log.warning("replacing a kernel", extra=run)
        for attempt in itertools.count():
            try:
                loaded = None
                while loaded != self.target:  # the target may change in the meantime
                    loaded = self.target
                    await self._renew(slot, loaded)
                log.warning("a new kernel serves", extra=run)
                return
            except Exception as error:
                pause = min(2**attempt, 30)
                log.error("a new kernel cannot serve", extra={"why": str(error), "again_in_seconds": pause})
                await asyncio.sleep(pause)

    async def _renew(self, slot: Slot, target: Target) -> None:
        """Start a kernel on a run and try it. Then put it into the slot, and end the kernel that it replaces."""
        kernel = Kernel()
        try:
            await kernel.start(*notebook.read(target.run), self.limits.start)
            [reply] = await kernel.answer(*CANARY, self.limits.start)
            if reply.status != 200:
                raise Broken(reply.error or f"the canary request was answered {reply.status}: {reply.body}")
            tracks = json.loads(reply.body)["tracks"]
            if not tracks or not (tracks[0]["score"] or 0) > 0:  # NaN is neither
                raise Broken(f"the canary request was answered without songs: {reply.body[:200]}")
            async with slot.lock:
                old, slot.kernel = slot.kernel, kernel
        except BaseException:
            await kernel.stop()
            raise
        await old.stop()
