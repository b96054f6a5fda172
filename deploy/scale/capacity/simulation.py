"""A discrete-event simulation of the tier (SimPy): caches with a time to live, workers that queue, batching encoders.

The times of the parts are measured (calibration.py). Requests arrive at random; events change the world meanwhile.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd
import simpy

from deploy.scale.capacity.plan import shares

DEADLINE = 1.0  # seconds that a worker waits for the encoder, and Envoy for a worker
MOST = 256  # texts of a batch
WAITING = 48  # requests of a worker that may wait for the encoder; it refuses more (deploy/scale/api.py)
SLICE = 0.0015  # seconds of a core for a process while others wait: about Linux's base slice on two cores


class Service(NamedTuple):
    """Median times of the parts, in milliseconds."""

    edge: float  # Envoy and Varnish, for a request
    before: float  # a worker, for an uncached request before the encoder's part
    after: float  # and after it
    batch: float  # an encoder, for a batch
    text: float  # an encoder, for each text of the batch
    wait: float  # from an encoder's first text to its batch
    path: float  # of a request while no process works on it: sockets, wake-ups
    spread: float  # sigma of the logarithm of each time
    own: float = 0.0  # a worker, for the vector, if it computes the vector itself


@dataclass(frozen=True)
class Site:
    """A region, or one machine."""

    service: Service
    workers: int  # processes of one thread each
    encoders: int
    cores: int | None = None  # that all processes share; None if each process has its own
    ttl: float = 0.0  # seconds that caches keep an answer; needed where requests repeat


class Traffic(NamedTuple):
    """The mix of requests."""

    distinct: int = 0  # number of different requests; 0 if no two are alike
    exponent: float = 1.0  # of Zipf's law, which gives their shares
    personal: float = 0.0  # share of requests that no cache may keep


UNIQUE = Traffic()


@dataclass(frozen=True)
class World:
    """The state of a simulation that events may change."""

    rate: float  # requests a second
    slowdown: float = 1.0  # factor on the encoder's times
    expiry: dict[int, float] = field(default_factory=dict)  # second at which a request's cached answer expires


class Event(NamedTuple):
    """New values of the world's attributes at a second of the simulation."""

    at: float
    label: str
    changes: dict[str, object]


def simulate(
    site: Site, rate: float, seconds: float, traffic: Traffic = UNIQUE, events: tuple[Event, ...] = (), seed: int = 7
) -> pd.DataFrame:
    """Simulate a site for some seconds.

    Args:
        rate: requests a second; listeners are independent (a Poisson process).

    Returns:
        A row a request: at (second), source (edge; joined: another request's answer; encoder), ms, failed, batch (texts
        encoded together). `attrs` holds the busy shares of workers and encoders.
    """
    run = _Run(site, World(rate), seconds, traffic, seed)
    for event in events:
        run.env.process(run.happen(event))
    run.env.run(until=seconds + 2 * DEADLINE)
    run.rows += [(start, "encoder", 1000 * DEADLINE, True, 0) for _, start in run.open]  # past their deadline
    table = pd.DataFrame(run.rows, columns=["at", "source", "ms", "failed", "batch"])
    table.attrs = {part: work / seconds for part, work in run.busy.items()}
    return table.sort_values("at", ignore_index=True)


class _Run:
    """One simulation: its clock, its queues and its rows."""

    def __init__(self, site: Site, world: World, seconds: float, traffic: Traffic, seed: int) -> None:
        self.env, self.site, self.world, self.seconds, self.traffic = simpy.Environment(), site, world, seconds, traffic
        self.draw, self.rows, self.busy = np.random.default_rng(seed), [], {"workers": 0.0, "encoders": 0.0}
        self.open: dict[tuple[int, float], None] = {}  # requests without an answer yet
        self.flights: dict[int, simpy.Event] = {}  # answers that are being computed
        self.cumulative = self._fill() if traffic.distinct else None
        self.cores = simpy.Resource(self.env, site.cores) if site.cores else None
        self.workers, self.waiting = cycle([simpy.Resource(self.env) for _ in range(site.workers)]), Counter()
        queues = [simpy.Store(self.env) for _ in range(site.encoders)]
        self.queues = cycle(queues)
        for queue in queues:
            self.env.process(self._encoder(queue))
        self.noise = self._noise()
        self.env.process(self._listeners())

    def _fill(self) -> np.ndarray:
        """Fill the caches as after a long time. Return the cumulative shares of the requests."""
        share = shares(self.traffic.distinct, self.traffic.exponent)
        expected = self.world.rate * (1 - self.traffic.personal) * share * self.site.ttl
        cached = np.flatnonzero(self.draw.random(len(share)) < expected / (1 + expected))
        left = self.site.ttl * self.draw.random(len(cached))
        self.world.expiry.update(zip(cached.tolist(), left.tolist(), strict=True))
        return share.cumsum()

    def happen(self, event: Event) -> Iterator:
        """Change the world at the event's second."""
        yield self.env.timeout(event.at)
        self.world = replace(self.world, **deepcopy(event.changes))

    def _noise(self) -> Iterator[float]:
        while True:  # many at once: a single draw costs as much as an event
            yield from np.exp(self.site.service.spread * self.draw.standard_normal(10_000))

    def _seconds(self, ms: float) -> float:
        return ms * next(self.noise) / 1000

    def _listeners(self) -> Iterator:
        unique = 0
        while self.env.now < self.seconds:
            gaps, picks, owns = self.draw.exponential(size=1000), self.draw.random(1000), self.draw.random(1000)
            for gap, pick, own in zip(gaps, picks, owns, strict=True):
                yield self.env.timeout(gap / self.world.rate)
                if self.env.now >= self.seconds:
                    return
                if self.cumulative is None or own < self.traffic.personal:
                    unique -= 1  # negative keys: no cache keeps them
                    key = unique
                else:
                    key = int(self.cumulative.searchsorted(pick))
                self.env.process(self._request(key))

    def _request(self, key: int) -> Iterator:
        start = self.env.now
        self.open[key, start] = None
        yield from self._work(self.site.service.edge)
        yield self.env.timeout(self._seconds(self.site.service.path))
        source, failed, batch = yield from self._answer(key)
        del self.open[key, start]
        took = self.env.now - start
        self.rows.append((start, source, 1000 * min(took, DEADLINE), failed or took > DEADLINE, batch))

    def _answer(self, key: int) -> Iterator:
        """Return the answer's source, True if it failed, and the texts of its batch."""
        if self.world.expiry.get(key, -1.0) >= self.env.now:
            return "edge", False, 0
        if flight := self.flights.get(key):
            failed, batch = yield flight
            return "joined", failed, batch
        self.flights[key] = flight = self.env.event()
        failed, batch = yield from self._worker()
        if not failed and key >= 0:
            self.world.expiry[key] = self.env.now + self.site.ttl
        del self.flights[key]
        flight.succeed((failed, batch))
        return "encoder", failed, batch

    def _worker(self) -> Iterator:
        """Return True if the answer failed, and the texts of its batch."""
        service, worker = self.site.service, next(self.workers)
        if self.waiting[worker] >= WAITING:
            return True, 0
        self.waiting[worker] += 1
        yield from self._work(service.before, "workers", worker)
        start, vector = self.env.now, self.env.event()
        yield next(self.queues).put((start, vector))
        batch = yield vector
        if not (failed := self.env.now - start > DEADLINE):
            yield from self._work(service.after + self.world.slowdown * service.own, "workers", worker)
        self.waiting[worker] -= 1
        return failed, batch

    def _encoder(self, queue: simpy.Store) -> Iterator:
        service = self.site.service
        while True:
            texts = [(yield queue.get())]
            if service.wait:
                yield self.env.timeout(service.wait / 1000)
            while queue.items and len(texts) < MOST:
                texts.append((yield queue.get()))
            batch = sum(self.env.now - start < DEADLINE for start, _ in texts)  # Triton drops texts past their deadline
            if batch:
                yield from self._work(self.world.slowdown * (service.batch + service.text * batch), "encoders")
            for _, vector in texts:
                vector.succeed(batch)

    def _work(self, ms: float, part: str = "", process: simpy.Resource | None = None) -> Iterator:
        """Use processor time once the process and a core are free."""
        if not ms:
            return
        took = self._seconds(ms)
        with process.request() if process else nullcontext() as turn:
            if turn:
                yield turn
            yield from self._on_a_core(took)
            if part and self.env.now <= self.seconds:
                self.busy[part] += took / getattr(self.site, part)

    def _on_a_core(self, took: float) -> Iterator:
        """Use a core: shared cores go around in slices, as an operating system schedules them."""
        if not self.cores:
            yield self.env.timeout(took)
            return
        while took > 0:
            with self.cores.request() as core:
                yield core
                while took > 0:
                    yield self.env.timeout(min(took, SLICE))
                    took -= SLICE
                    if self.cores.queue:
                        break


def percentiles(table: pd.DataFrame) -> dict[str, float]:
    """Return p50 and p99 of the answered requests, in milliseconds."""
    answered = table.loc[~table["failed"], "ms"]
    return {"p50": float(answered.quantile(0.5)), "p99": float(answered.quantile(0.99))}
