"""The tier as a discrete-event simulation: caches that forget, workers that queue, an encoder that batches.

What it is given are times that were measured; how listeners come and what breaks is played out, with SimPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd
import simpy
from scipy.optimize import minimize

from deploy.scale.capacity.plan import Supply, made_at, shares

DEADLINE = 1.0  # seconds that a worker waits for the encoder, and the door for a worker
MOST = 256  # texts of a batch
WAITING = 48  # requests of a worker that wait for the encoder: one more is refused (deploy/scale/api.py)
SLICE = 0.0015  # seconds of a core that a process has while others wait: about Linux's base slice with two cores
PLANNED = 0.6  # share of a core that is busy where times are taken from


class Service(NamedTuple):
    """Times, in milliseconds.

    Attributes:
        door: of processor time for a request until a cache is asked, and back.
        before, after: of a worker's for what is not kept: until it asks the encoder; and from the vector to the answer.
        batch, text: of the encoder's for a batch, and more for each text of it.
        wait: that an encoder keeps a text waiting for company.
        path: that a request spends where nobody works: sockets, wake-ups.
        spread: sigma of the logarithm of each of these; their medians are those above, and `own`.
        own: of a worker's for the vector, where it computes that by itself.
    """

    door: float
    before: float
    after: float
    batch: float
    text: float
    wait: float
    path: float
    spread: float
    own: float = 0.0


@dataclass(frozen=True)
class Site:
    """A region, or one machine.

    Attributes:
        workers, encoders: processes, each of one thread.
        cores: that all of them share; None where each has its own.
        ttl: seconds that caches keep an answer; 0 for none.
    """

    service: Service
    workers: int
    encoders: int
    cores: int | None = None
    ttl: float = 60.0


@dataclass
class World:
    """A simulation while it runs: what happens to it is written here by events.

    Attributes:
        rate: requests a second that come now.
        slower: how many times as long the encoder takes now.
        kept: until when the answer to each request is kept, in seconds.
    """

    rate: float
    slower: float = 1.0
    kept: dict[int, float] = field(default_factory=dict)


Event = tuple[float, Callable[[World], None]]


def simulate(
    site: Site, rate: float, seconds: float, distinct: int = 0, exponent: float = 1.0, events: tuple[Event, ...] = (),
    personal: float = 0.0, seed: int = 7,
) -> pd.DataFrame:  # fmt: skip
    """Play a site for some seconds.

    Args:
        rate: requests a second, of listeners that know nothing of each other (a Poisson process).
        distinct: different requests, asked by Zipf's law with this exponent; 0: no two are alike.
        events: when (seconds) what is done to the world.
        personal: share of requests that no cache may keep.

    Returns:
        A row a request: at (seconds), found (edge, joined, made), ms, failed, batch (texts encoded together). Its attrs
        say how busy workers and encoders were, as shares of their time.
    """
    run = _Run(site, World(rate), seconds, distinct, exponent, personal, seed)
    for at, what in events:
        run.env.process(run.happen(at, what))
    run.env.run(until=seconds + 2 * DEADLINE)
    run.rows += [(began, "made", 1000 * DEADLINE, True, 0) for _, began in run.open]  # who still waits was told no
    table = pd.DataFrame(run.rows, columns=["at", "found", "ms", "failed", "batch"])
    table.attrs = {part: work / seconds for part, work in run.busy.items()}
    return table.sort_values("at", ignore_index=True)


class _Run:
    """One simulation: its clock, its queues, what it wrote down."""

    def __init__(
        self, site: Site, world: World, seconds: float, distinct: int, exponent: float, personal, seed
    ) -> None:
        self.env, self.site, self.world, self.seconds = simpy.Environment(), site, world, seconds
        self.draw, self.rows, self.flying, self.open = np.random.default_rng(seed), [], {}, {}
        self.upto, self.busy = None, {"workers": 0.0, "encoders": 0.0}
        if distinct:
            self._fill(shares(distinct, exponent), world.rate * (1 - personal))
        self.personal, self.fresh = personal, -1
        self.cores = simpy.Resource(self.env, site.cores) if site.cores else None
        self.workers, self.waiting = cycle([simpy.Resource(self.env) for _ in range(site.workers)]), Counter()
        queues = [simpy.Store(self.env) for _ in range(site.encoders)]
        self.queues = cycle(queues)
        for queue in queues:
            self.env.process(self._encoder(queue))
        self.noise = self._noise()
        self.env.process(self._listeners())

    def _fill(self, share: np.ndarray, rate: float) -> None:
        """The caches as they are when listeners have asked for long."""
        expected, n = rate * share * self.site.ttl, len(share)
        known = np.flatnonzero(self.draw.random(n) < expected / (1 + expected))
        self.world.kept = dict(
            zip(known.tolist(), (self.site.ttl * self.draw.random(len(known))).tolist(), strict=True)
        )
        self.upto = share.cumsum()

    def happen(self, at: float, what: Callable[[World], None]) -> Iterator:
        """An event, when its time has come."""
        yield self.env.timeout(at)
        what(self.world)

    def _noise(self) -> Iterator[float]:
        while True:  # many at once: a draw alone costs as much as an event
            yield from np.exp(self.site.service.spread * self.draw.standard_normal(10_000))

    def _seconds(self, ms: float) -> float:
        return ms * next(self.noise) / 1000

    def _listeners(self) -> Iterator:
        while self.env.now < self.seconds:
            gaps, picks, owns = self.draw.exponential(size=1000), self.draw.random(1000), self.draw.random(1000)
            for gap, pick, own in zip(gaps, picks, owns, strict=True):
                yield self.env.timeout(gap / self.world.rate)
                if self.env.now >= self.seconds:
                    return
                if self.upto is None or own < self.personal:
                    self.fresh, asked = self.fresh - 1, self.fresh
                else:
                    asked = int(self.upto.searchsorted(pick))
                self.env.process(self._request(asked))

    def _request(self, asked: int) -> Iterator:
        began, service = self.env.now, self.site.service
        self.open[asked, began] = None
        yield from self._work(service.door)
        yield self.env.timeout(self._seconds(service.path))
        found, failed, size = "edge", False, 0
        if self.world.kept.get(asked, -1.0) < self.env.now:
            if (flight := self.flying.get(asked)) is not None:
                found = "joined"
                failed, size = yield flight
            else:
                self.flying[asked] = flight = self.env.event()
                failed, size = yield from self._make()
                if not failed and asked >= 0:
                    self.world.kept[asked] = self.env.now + self.site.ttl
                del self.flying[asked]
                flight.succeed((failed, size))
                found = "made"
        del self.open[asked, began]
        took = self.env.now - began
        self.rows.append((began, found, 1000 * min(took, DEADLINE), failed or took > DEADLINE, size))

    def _make(self) -> Iterator:
        """-> whether it failed, and the texts of its batch."""
        worker = next(self.workers)
        if self.waiting[worker] >= WAITING:
            return True, 0
        self.waiting[worker] += 1
        failed, size = yield from self._asked(worker)
        self.waiting[worker] -= 1
        return failed, size

    def _asked(self, worker: simpy.Resource) -> Iterator:
        service = self.site.service
        yield from self._work(service.before, "workers", worker)
        asked, vector = self.env.now, self.env.event()
        yield next(self.queues).put((asked, vector))
        size = yield vector
        if self.env.now - asked > DEADLINE:
            return True, size
        yield from self._work(service.after + self.world.slower * service.own, "workers", worker)
        return False, size

    def _encoder(self, queue: simpy.Store) -> Iterator:
        service = self.site.service
        while True:
            batch = [(yield queue.get())]
            if service.wait:
                yield self.env.timeout(service.wait / 1000)
            while queue.items and len(batch) < MOST:
                batch.append((yield queue.get()))
            # Who asked has given up on what came too long ago: Triton drops it.
            size = sum(self.env.now - asked < DEADLINE for asked, _ in batch)
            if size:
                yield from self._work(self.world.slower * (service.batch + service.text * size), "encoders")
            for _, vector in batch:
                vector.succeed(size)

    def _work(self, ms: float, part: str = "", process: simpy.Resource | None = None) -> Iterator:
        """Processor time: when the process is free, and a core is."""
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
        """Those who share cores have them in turns, a slice each, as an operating system deals them out."""
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
    """p50 and p99 of what was answered, in milliseconds."""
    answered = table.loc[~table["failed"], "ms"]
    return {"p50": float(answered.quantile(0.5)), "p99": float(answered.quantile(0.99))}


def timeline(table: pd.DataFrame, step: float = 1.0) -> pd.DataFrame:
    """A row for each `step` seconds: rate (requests a second), p50, p99 (ms), failed and made (shares).

    Latencies are those of what is answered.
    """
    when = (table["at"] // step) * step
    groups, answered = table.groupby(when), table[~table["failed"]].groupby(when)
    return pd.DataFrame(
        {
            "rate": groups.size() / step,
            "p50": answered["ms"].quantile(0.5),
            "p99": answered["ms"].quantile(0.99),
            "failed": groups["failed"].mean(),
            "made": groups["found"].apply(lambda found: (found == "made").mean()),
        }
    )


def everywhere(site: Site, regions: int, rate: float, seconds: float, seed: int = 7, **how) -> pd.DataFrame:
    """Regions that share the listeners evenly: `simulate` of each, put together."""
    tables = [simulate(site, rate / regions, seconds, seed=seed + nth, **how) for nth in range(regions)]
    return pd.concat(tables, ignore_index=True)


def ramp(site: Site, rate: float, times: list[float], seconds: float, **how) -> pd.DataFrame:
    """A site at multiples of a rate. -> index rate; columns p50, p99, failed, workers, encoders (how busy they are)"""
    rows = {}
    for one in times:
        table = simulate(site, one * rate, seconds, **how)
        rows[one * rate] = percentiles(table) | {"failed": table["failed"].mean()} | table.attrs
    return pd.DataFrame(rows).T


def story(
    site: Site, rate: float, events: list[tuple[float, str, Callable[[World], None]]], seconds: float, **how
) -> tuple[pd.DataFrame, list[tuple[float, str]]]:
    """A site to which things happen: when, what they are called, what they do. -> `timeline`, and when what happened"""
    table = simulate(site, rate, seconds, events=tuple((at, what) for at, _, what in events), **how)
    return timeline(table), [(at, said) for at, said, _ in events]


def service_of(
    measured: dict, path: float, spread: float, search: float | None = None, cpu: dict[str, float] | None = None
) -> Service:
    """The times of a tier that was measured; what no part of it was busy with is `path`.

    Args:
        search: milliseconds of a search, where it is another catalogue.
        cpu: milliseconds of processor time that a request costs each part; without it, on cores as busy as is planned.
    """
    made, search = cpu or made_at(measured, PLANNED)["cpu"], measured["search"] if search is None else search
    sizes = np.array([int(size) for size in measured["batches"]])
    took = np.array(list(measured["batches"].values()))
    few = sizes <= 32  # what comes together on a machine like this
    text, batch = np.polyfit(sizes[few], took[few], 1, w=1 / took[few])
    worker = made["api"] + made["redis"] - measured["search"]
    return Service(
        door=made["envoy"] + made["varnish"],
        before=worker / 2,
        after=worker / 2 + search,
        batch=max(batch, 0.0),
        text=text,
        wait=measured["wait"],
        path=path,
        spread=spread,
    )


def with_encoder(service: Service, measured: dict, supply: Supply) -> Service:
    """The times with another encoder in place of the ONNX one that was measured; a static one is the worker's own."""
    forms = measured["encoders"]
    if supply.encoder == "static":
        return service._replace(own=forms["static"]["alone"], batch=0.0, text=0.0, wait=0.0)
    gpu = supply.encoder == "GPU"
    times = 1 / supply.gpu_speedup if gpu else forms[supply.encoder]["among"] / forms["onnx"]["among"]
    return service._replace(batch=times * service.batch, text=times * service.text)


def cpu_at(loads: list[dict], rate: float) -> dict[str, float]:
    """Milliseconds of processor time that a request costs each part at a rate (requests a second).

    It falls with the load: work that begins on an idle core must wake it and finds its caches cold. If a request costs
    a + b (1 - busy), and the busy share of the cores is what requests cost at that rate, then 1 / cost is linear in the
    rate, which is what is fitted to the loads.
    """
    rates, parts = [load["rate"] for load in loads], loads[0]["cpu"]
    lines = {part: np.polyfit(rates, [1 / load["cpu"][part] for load in loads], 1) for part in parts}
    return {part: 1 / float(np.polyval(line, rate)) for part, line in lines.items()}


def calibrate(measured: dict, cores: int, loads: list[dict], requests: int) -> Service:
    """The two values that nobody can measure, path and spread, such that simulated p50 and p99 are those of some loads.

    Args:
        loads: of measured["loads"], those that may be looked at, by their rates: two at least.
        requests: that are simulated of each.
    """

    def error(tried: np.ndarray) -> float:
        found = check(measured | {"loads": loads}, service_of(measured, *np.exp(tried)), cores, loads, requests)
        return sum(float((np.log(found[f"{name} simulated"] / found[name]) ** 2).sum()) for name in ("p50", "p99"))

    wide = np.log([[1.0, 0.4], [10.0, 0.4], [3.0, 0.9]])  # where to look first
    settings = {"maxfev": 40, "xatol": 0.02, "fatol": 1e-4, "initial_simplex": wide}
    best = minimize(error, wide[0], method="Nelder-Mead", options=settings)
    return service_of(measured, *np.exp(best.x))


def check(measured: dict, service: Service, cores: int, loads: list[dict], requests: int) -> pd.DataFrame:
    """Simulated beside measured, for every load. -> index rate; columns p50, p50 least, p50 most, p50 simulated, p99 …

    Args:
        service: with the path and the spread that are checked.
        loads: those that may be looked at, for what a request costs.
    """
    rows = {}
    for load in measured["loads"]:
        cpu = cpu_at(loads, load["rate"])
        times = service_of(measured, service.path, service.spread, cpu=cpu)
        site = Site(times, workers=2, encoders=2, cores=cores)
        found = percentiles(simulate(site, load["rate"], requests / load["rate"]))
        rows[load["rate"]] = {}
        for name, value in found.items():
            least, most = load["span"][name]
            values = {name: load[name], f"{name} least": least, f"{name} most": most, f"{name} simulated": value}
            rows[load["rate"]] |= values
    return pd.DataFrame(rows).T


def region(
    service: Service, table: pd.DataFrame, regions: int, ttl: float, workers: int = 0, encoders: int = 0
) -> Site:
    """A region of a plan, where each process has a core of its own.

    Args:
        table: from `scale.plan`, for all regions together.
        workers, encoders: how many instead of those that are planned, if any.
    """
    planned = (table["processes"] / regions).astype(int)
    return Site(service, workers or planned["api"], encoders or max(planned["triton"], 1), None, ttl)
