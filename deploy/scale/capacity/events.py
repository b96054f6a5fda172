"""The events of many listeners: their number, their bytes in the log, the broker, the lake and Redis, and their cost.

Bytes are counted here, on records like real ones. Rates are in benchmarks/events.json: for each engine, the events a
second that one process takes, such as {"value": 5700, "unit": "events a second", "basis": "trial"}. The basis is
"measured" if a script in benchmarks/ measured it on the committed code, "trial" if it is of a first try on toy data.
"""

import io
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.scale.capacity.plan import DAY, MONTH, Demand, Supply, shares
from deploy.scale.events.schema import Record
from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import shown
from lib.core.ranges import check_ranges
from lib.feedback.lake import SCHEMA

ENGINES = {  # and what one process of each is
    **{"door": "POST /events of a worker", "shipper": "one shipper", "broker": "one broker partition"},
    **{"lake": "one Spark process", "aggregator": "one aggregator", "features": "one Redis: commands"},
}
OPTIONAL = {"door", "aggregator"}  # they have a row once they are measured
FIGURES = {*ENGINES, "series", "sample", "session"} - OPTIONAL
PARTS = ("meaning", "words", "names", "conditions")  # of a fused score
SERIES = ("played", "liked", "skipped")  # the counts that features keep of a track, a minute each
START = datetime(2026, 11, 30, 9, tzinfo=UTC)
GIB, MINUTES = 2**30, DAY // 60  # bytes; of a day
MOST = 1e12  # listeners: the search for a bottleneck ends there
RANGES = {
    **{"shown": (1, 10), "played": (0, 1), "skipped": (0, 1), "rated": (0, 1), "catalogue": (1, 10**9)},
    **{"session_requests": (1, math.inf), "copies": (1, 10), "redis_gib": (0.01, math.inf)},
    **dict.fromkeys(("session_hours", "log_days", "broker_days", "lake_days"), (0, 36_500)),
    **dict.fromkeys(("disk_gib_month", "s3_gib_month", "s3_thousand_puts", "files_an_hour"), (0, math.inf)),
}


class Habits(NamedTuple):
    """The events that listeners cause."""

    shown: float  # tracks of an answer; each is an event
    played: float  # share of them that is played
    skipped: float  # share of them that is skipped
    rated: float  # share of them that is liked or disliked, equally often
    session_requests: float  # requests of a session
    catalogue: int  # tracks; plays follow Zipf's law

    @property
    def kinds(self) -> dict[str, float]:
        """The events of each kind that follow an answer."""
        shares = {"shown": 1.0, "played": self.played, "skipped": self.skipped}
        shares |= {"liked": self.rated / 2, "disliked": self.rated / 2}
        return {kind: self.shown * share for kind, share in shares.items()}

    @property
    def per_answer(self) -> float:
        """The events that follow an answer."""
        return sum(self.kinds.values())


class Store(NamedTuple):
    """What is kept, for how long, and its prices in dollars."""

    log_days: float  # days of the log on the disks of the workers
    broker_days: float  # days of the topic
    copies: int  # of each event among the brokers
    lake_days: float  # days of the lake
    session_hours: float  # hours that Redis keeps a session
    redis_gib: float  # GiB of one Redis, at most
    files_an_hour: float  # files of the lake
    disk_gib_month: float
    s3_gib_month: float
    s3_thousand_puts: float


class Bytes(NamedTuple):
    """Mean bytes of an event."""

    line: float  # of the log, and of the broker
    row: float  # of the lake


def read(file: Path) -> dict:
    """Return the engines' measured rates and sizes.

    Raises:
        WorkbookError: the file cannot be read, or lacks a figure.
    """
    try:
        measured = read_json(file)
        lacking = FIGURES - measured["figures"].keys()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkbookError(f"{shown(file)} cannot be read ({error!r}): take the file of the repository.") from None
    if lacking:
        raise WorkbookError(
            f"{shown(file)} lacks {', '.join(sorted(lacking))}: enter what the scripts in benchmarks/ measure."
        )
    return measured


def check(habits: Habits, store: Store) -> None:
    """Raise a WorkbookError that names all parameters that are wrong."""
    if wrong := check_ranges(habits._asdict() | store._asdict(), RANGES, {"catalogue", "copies"}):
        raise WorkbookError("; ".join(wrong) + ".")


def records(habits: Habits, answers: int, seed: int = 7) -> Iterator[Record]:
    """Yield the events of answers within an hour, in their order, with ids and values like real ones."""
    rng = np.random.default_rng(seed)
    model, places = rng.bytes(32).hex(), np.cumsum(shares(habits.catalogue, 1.0))

    def name() -> str:
        return str(uuid.UUID(bytes=rng.bytes(16)))

    session = name()
    for n in range(answers):
        session = name() if rng.random() < 1 / habits.session_requests else session
        request, serving, at = name(), name(), START + timedelta(hours=n / answers)
        for kind, count in habits.kinds.items():
            for place in range(1, 1 + (round(count) if kind == "shown" else rng.poisson(count))):
                own, seconds = {"id": name()}, float(rng.exponential(120))
                if kind == "shown":
                    parts = {part: round(float(rng.normal(0, 0.1)), 4) for part in PARTS}
                    own = {"id": f"{serving}-{place}", "position": place, "parts": parts, "model": model}
                    own["score"], seconds = round(float(rng.random()), 4), 0.0
                track = int(places.searchsorted(rng.random()))
                own |= {"kind": kind, "track": f"t{track:07d}", "request": request, "session": session}
                then = at + timedelta(seconds=seconds)
                yield Record(at=then, received=then + timedelta(seconds=float(rng.exponential(0.1))), **own)


def measure(habits: Habits, answers: int = 2000) -> Bytes:
    """Return the mean bytes of an event as a line of the log and as a row of a Parquet file of the lake."""
    events = [*records(habits, answers)]
    lines = sum(len(event.model_dump_json(exclude_none=True)) + 1 for event in events)
    rows = [event.model_dump() | {"parts": event.parts and [*event.parts.items()]} for event in events]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file := io.BytesIO(), compression="zstd")
    return Bytes(lines / len(events), file.tell() / len(events))


def redis_gib(figures: dict, demand: Demand, habits: Habits, store: Store) -> float:
    """Return the GiB of features: series of a day's minutes, and sessions.

    A series of a kind and track stays when its samples are gone. So a month's tracks have one each. A sample is a
    minute with events of that kind and track.
    """
    answers = demand.users * demand.requests_per_day
    daily = [answers * habits.kinds[kind] for kind in SERIES]
    amounts = {
        "series": sum(reached(MONTH / DAY * events, habits.catalogue) for events in daily),
        "sample": sum(MINUTES * reached(events / MINUTES, habits.catalogue) for events in daily),
        "session": answers / habits.session_requests * store.session_hours / 24,
    }
    return sum(figures[name]["value"] * amount for name, amount in amounts.items()) / GIB


def reached(events: float, catalogue: int) -> float:
    """Return the expected number of tracks that have one of so many events, by Zipf's law.

    Tracks of a similar rank are counted together: a hundredth of the work, and an error below 0.1 %.
    """
    edges = np.unique(np.geomspace(1, catalogue + 1, 5000).round())
    count, rank = np.diff(edges), (edges[:-1] + edges[1:] - 1) / 2
    share = 1 / rank / (count / rank).sum()
    return float(-(count * np.expm1(-events * share)).sum())


def rates(demand: Demand, habits: Habits) -> dict[str, float]:
    """Return the events a second that each engine must take.

    Listeners send all but `shown`. Spark reads an hour's events later, so it needs the mean rate only. Redis counts
    plays, likes and skips.
    """
    peak, mean = demand.peak * habits.per_answer, demand.mean * habits.per_answer
    sent = peak - demand.peak * habits.shown
    counted = demand.peak * sum(habits.kinds[kind] for kind in SERIES)
    return dict(zip(ENGINES, (sent, peak, peak, mean, peak, counted), strict=True))


def bottlenecks(measured: dict, demand: Demand, habits: Habits, supply: Supply, store: Store) -> pd.DataFrame:
    """Return the listeners that one process of each engine carries, the fewest first.

    Returns:
        Index: the process; columns listeners, basis.
    """
    figures, rows = measured["figures"], {}
    for engine, rate in rates(demand, habits).items():
        if engine not in figures:
            continue
        factor = supply.utilisation * figures[engine]["value"] / rate if rate else math.inf
        rows[ENGINES[engine]] = (min(factor * demand.users, MOST), figures[engine]["basis"])
    least, most = 1.0, MOST
    while most / least > 1.001:  # Redis' memory is not proportional to the listeners
        middle = math.sqrt(least * most)
        fits = redis_gib(figures, demand._replace(users=middle), habits, store) <= store.redis_gib
        least, most = (middle, most) if fits else (least, middle)
    rows["one Redis: memory"] = (least, figures["series"]["basis"])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["listeners", "basis"])
    return table.sort_values("listeners")


def plan(measured: dict, demand: Demand, habits: Habits, supply: Supply, store: Store, size: Bytes) -> pd.DataFrame:
    """Return the needs of the events of all regions together; any region can be lost in the busiest second.

    Returns:
        Index: the measured `ENGINES`; columns events (a second), processes, gb_a_day (new), gib (kept), dollars (a
        month), basis.
    """
    figures, regions = measured["figures"], supply.regions
    need = {engine: rate for engine, rate in rates(demand, habits).items() if engine in figures}
    daily = demand.mean * habits.per_answer * DAY  # events
    memory = redis_gib(figures, demand._replace(users=demand.users / regions), habits, store)  # of a region
    least = {"broker": store.copies, "features": 2 * math.ceil(memory / store.redis_gib)}  # processes of a region
    kept = {  # bytes a day, days, and the price of a GiB in a month
        "shipper": (daily * size.line, store.log_days, store.disk_gib_month),
        "broker": (daily * size.line * store.copies, store.broker_days, store.disk_gib_month),
        "lake": (daily * size.row, store.lake_days, store.s3_gib_month),
    }
    kept = {engine: (day, day * days / GIB, price) for engine, (day, days, price) in kept.items()}
    # Each Redis has a replica.
    kept["features"] = (0.0, 2 * regions * memory, supply.gib_hour * MONTH / 3600)
    rows = {}
    for engine, rate in need.items():
        day, gib, price = kept.get(engine, (0.0, 0.0, 0.0))
        copies = store.copies if engine == "broker" else 1
        busy = copies * rate / max(regions - 1, 1) / supply.utilisation / figures[engine]["value"]
        processes = regions * max(least.get(engine, 2), math.ceil(busy))
        puts = store.files_an_hour * MONTH / 3600 / 1000 * store.s3_thousand_puts if engine == "lake" else 0.0
        dollars = processes * supply.core_hour * MONTH / 3600 + gib * price + puts
        rows[engine] = (rate, processes, day / 1e9, gib, dollars, figures[engine]["basis"])
    columns = ["events", "processes", "gb_a_day", "gib", "dollars", "basis"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
