"""What many listeners take: cache hits, cores, GPUs, memory and money, from what a tier was measured to cost.

`make scale-bench` measures it (benchmarks/tier.json). All else is assumed, and is a parameter of notebook 07.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import shown

DAY, MONTH = 86_400, 30 * 86_400  # seconds
PARTS = ("envoy", "varnish", "api", "redis", "triton")
ENOUGH = 200_000  # requests a second: each is played, so that more would take hours
# Of each parameter of notebook 07 the least and the most that makes sense.
LIMITS = {
    "users": (1, math.inf),
    "requests_per_day": (1e-6, math.inf),
    "peak_factor": (1, math.inf),
    "personal": (0, 1),
    "distinct": (1, 1e9),
    "zipf_exponent": (0, 10),
    "ttl": (0, math.inf),
    "regions": (1, 1000),
    "edge_caches": (1, 1000),
    "workers": (0, 1e6),
    "tritons": (0, 1e6),
    "utilisation": (0.01, 1),
    "search_ms": (0, 1000),
    "gpu_speedup": (0.01, math.inf),
    "core_hour": (1e-6, math.inf),
    "gib_hour": (0, math.inf),
    "gpu_hour": (0, math.inf),
    "target": (0, 1 - 1e-9),
    "seconds": (1, 3600),
}
WHOLE = {"distinct", "regions", "edge_caches", "workers", "tritons"}  # of these, what is counted
FEWEST = 100  # requests of a region that are simulated
MEASURED = {"machine", "cores", "loads", "made", "layers", "encoders", "batches", "restarts", "rollback"}


def read(measured: Path, parameters: dict) -> dict:
    """What was measured, if the parameters make sense with it.

    Args:
        measured: the file that `make scale-bench` wrote.
        parameters: of notebook 07, by name; what else is among them is not looked at.

    Raises:
        WorkbookError: names all that make none.
    """
    if not measured.is_file():
        raise WorkbookError(f"{shown(measured)} is not there: make scale-bench writes one.")
    try:
        given = read_json(measured)
    except ValueError as error:
        raise WorkbookError(f"{shown(measured)} is not JSON: {error}. make scale-bench writes one.") from None
    if not isinstance(given, dict) or not given.keys() >= MEASURED:
        raise WorkbookError(f"{shown(measured)} is not what make scale-bench writes.")
    wrong = [said for name in LIMITS if (said := _wrong(name, parameters[name]))]
    if parameters["encoder"] not in (known := [*given["encoders"], "GPU"]):
        wrong.append(f"encoder is {parameters['encoder']!r}, not one of {', '.join(known)}")
    if wrong:
        raise WorkbookError("; ".join(wrong) + ".")
    rate = Demand(*(parameters[name] for name in ("users", "requests_per_day", "peak_factor")), 0, 1, 1).peak
    if rate > ENOUGH:
        raise WorkbookError(
            f"{rate:,.0f} requests a second are too many to simulate: take fewer users, needs grow with them."
        )
    if rate / parameters["regions"] * parameters["seconds"] < FEWEST:
        raise WorkbookError(f"{rate:.3g} requests a second are too few to simulate: take more users, or more seconds.")
    return given


def _wrong(name: str, value) -> str:
    """What is wrong with a parameter of notebook 07, if anything is."""
    least, most = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int if name in WHOLE else (int, float)):
        return f"{name} is {value!r}, not a {'whole ' * (name in WHOLE)}number"
    return "" if least <= value <= most else f"{name} is {value}, not {least:g} to {most:.9g}"


class Demand(NamedTuple):
    """What listeners ask.

    Attributes:
        users: listeners.
        per_day: requests of one, a day.
        peak_factor: the busiest second over the mean one.
        personal: share of requests that name songs somebody likes: no two are alike, and no cache has them.
        distinct: other requests that there are.
        exponent: of Zipf's law, by which these are asked.
    """

    users: float
    per_day: float
    peak_factor: float
    personal: float
    distinct: int
    exponent: float

    @property
    def mean(self) -> float:
        """Requests a second."""
        return self.users * self.per_day / DAY

    @property
    def peak(self) -> float:
        """Requests in the busiest second."""
        return self.mean * self.peak_factor


class Supply(NamedTuple):
    """What answers them, and what it costs.

    Attributes:
        encoder: a form that was measured, or one on a "GPU".
        regions: places; each can carry the share of one that is lost.
        caches: edge caches in a region, among which its requests are dealt out.
        utilisation: share of a core that is planned to be busy in the busiest second.
        ttl: seconds that an answer is kept.
        search: milliseconds of a search in the catalogue.
        gpu_speedup: texts a second of a GPU over those of a core.
        core_hour, gib_hour, gpu_hour: prices in dollars.
    """

    encoder: str
    regions: int
    caches: int
    utilisation: float
    ttl: float
    search: float
    gpu_speedup: float
    core_hour: float
    gib_hour: float
    gpu_hour: float


def shares(distinct: int, exponent: float) -> np.ndarray:
    """Zipf's law: the share of each request, the commonest first. -> (distinct,), sum 1."""
    weight = np.arange(1, distinct + 1, dtype=float) ** -exponent
    return weight / weight.sum()


def hits(rate: float, share: np.ndarray, ttl: float) -> float:
    """The share of requests that find their answer in a cache that keeps each for `ttl` seconds from when it was made.

    One that comes `r` times a second is made once, and then found `r * ttl` times before it is forgotten (Jung, Berger
    and Balakrishnan 2003, "Modeling TTL-based Internet caches").

    Args:
        rate: requests a second that come to this cache.
        share: of each request, (distinct,).
    """
    expected = rate * share * ttl
    return float((share * expected / (1 + expected)).sum())


def layers(rate: float, demand: Demand, supply: Supply) -> dict[str, float]:
    """Where a region's requests are answered: the shares of the edge caches, of the workers' caches, of the encoder.

    Args:
        rate: requests a second of the region.
    """
    share, shared = shares(demand.distinct, demand.exponent), 1 - demand.personal
    edge = shared * hits(shared * rate / supply.caches, share, supply.ttl)
    kept = shared * hits(shared * rate, share, supply.ttl)
    return {"edge": edge, "kept": kept - edge, "made": 1 - kept}


def made_at(measured: dict, utilisation: float) -> dict:
    """Of the measured loads of requests that nobody had asked before, the one that kept the cores about so busy.

    A request costs less where more are under way: batches are larger, and what is done once a second weighs less.
    """
    loads = [*measured["loads"], measured["made"]]
    busy = [load["rate"] * sum(load["cpu"].values()) / 1000 / measured["cores"] for load in loads]
    return loads[int(np.abs(np.array(busy) - utilisation).argmin())]


def unit_costs(measured: dict, supply: Supply) -> pd.DataFrame:
    """Milliseconds of processor time that a request costs each part, by where its answer is found.

    Measured are a hit of the edge, one of Redis, and a request whose answer is made, on cores about as busy as is
    planned. What another encoder costs is the encoder's part times what that form took over what the form in Triton
    took, among 64 texts on one thread. A static encoder has no Triton: a worker computes it by itself. A larger
    catalogue costs the worker what its search takes.

    Returns:
        Index `PARTS`; columns edge, kept, made.
    """
    made = made_at(measured, supply.utilisation)
    found = {"edge": measured["hit_door"], "kept": measured["redis"], "made": made}
    table = pd.DataFrame({layer: load["cpu"] for layer, load in found.items()}).reindex(PARTS)
    table["edge"] *= [1, 1, 0, 0, 0]  # the rest slept, and looked around once a second
    table.loc[["envoy", "varnish"], "kept"] = table.loc[["envoy", "varnish"], "made"]
    table.loc["triton", "kept"] = 0
    table.loc["api", "made"] += supply.search - measured["search"]
    if supply.encoder == "static":
        table.loc["api", "made"] += measured["encoders"]["static"]["alone"]
        table.loc["triton", "made"] = 0
    elif supply.encoder != "GPU":
        forms = measured["encoders"]
        table.loc["triton", "made"] *= forms[supply.encoder]["among"] / forms["onnx"]["among"]
    return table


def plan(measured: dict, demand: Demand, supply: Supply, rate: float | None = None) -> pd.DataFrame:
    """What is needed in all regions together, so that any one can be lost in the busiest second.

    Args:
        rate: requests a second in all; the peak, unless it is given.

    Returns:
        Index `PARTS`; columns cores, processes, gib, gpus, dollars (a month).
    """
    rate = demand.peak if rate is None else rate
    region = rate / max(supply.regions - 1, 1)
    where = pd.Series(layers(region, demand, supply))
    busy = (unit_costs(measured, supply) * where).sum(axis=1) * region / 1000  # cores at work in a region
    gpus = 0.0
    if supply.encoder == "GPU":
        gpus = max(2, math.ceil(busy["triton"] / supply.gpu_speedup / supply.utilisation))
        busy["triton"] = gpus * supply.utilisation  # a core a GPU feeds it
    cores = busy / supply.utilisation
    # A worker is one thread; there are two of everything at least, or it could not be replaced.
    processes = np.where(cores > 0, np.maximum(np.ceil(cores), 2), 0)
    table = pd.DataFrame({"cores": cores, "processes": processes}, index=list(PARTS))
    table["gib"] = table["processes"] * pd.Series(measured["memory"])
    table["gpus"] = np.where(table.index == "triton", gpus, 0)
    table *= supply.regions
    hourly = supply.core_hour * table["processes"] + supply.gib_hour * table["gib"] + supply.gpu_hour * table["gpus"]
    return table.assign(dollars=hourly * MONTH / 3600)


def by_encoder(measured: dict, demand: Demand, supply: Supply) -> pd.DataFrame:
    """The plan's sums for each encoder. -> index encoder; columns cores, gib, gpus, dollars"""
    names = [*measured["encoders"], "GPU"]
    sums = {name: plan(measured, demand, supply._replace(encoder=name)).sum() for name in names}
    return pd.DataFrame(sums).T.drop(columns="processes").sort_values("dollars")


def sensitivity(measured: dict, demand: Demand, supply: Supply) -> pd.DataFrame:
    """Dollars a month with each assumption halved and doubled, all others as they are.

    Returns:
        Index assumption, the one that moves most first; columns halved, doubled, given (the plan as it is).
    """
    given = plan(measured, demand, supply)["dollars"].sum()
    rows = {}
    for of, name in [
        *((demand, name) for name in ("users", "per_day", "peak_factor", "personal", "distinct", "exponent")),
        *((supply, name) for name in ("ttl", "caches", "utilisation", "search", "core_hour", "gib_hour")),
        *((supply, name) for name in ("gpu_speedup", "gpu_hour") if supply.encoder == "GPU"),
    ]:
        rows[name] = {"halved": _other(measured, demand, supply, of, name, 0.5)}
        rows[name] |= {"doubled": _other(measured, demand, supply, of, name, 2), "given": given}
    table = pd.DataFrame(rows).T
    span = (table[["halved", "doubled"]].max(axis=1) - table[["halved", "doubled"]].min(axis=1)).sort_values()
    return table.loc[span.index[::-1]]


def _other(measured: dict, demand: Demand, supply: Supply, of: NamedTuple, name: str, times: float) -> float:
    """Dollars a month where one value is another; shares stay below one, counts are whole."""
    value = getattr(of, name)
    moved = min(value * times, 1.0) if name in ("personal", "utilisation") else type(value)(max(value * times, 1e-9))
    moved = max(moved, 1) if isinstance(value, int) else moved
    changed = of._replace(**{name: moved})
    return plan(measured, *((changed, supply) if of is demand else (demand, changed)))["dollars"].sum()


def budget(measured: dict, target: float, per_day: float, assumed: dict[str, dict]) -> pd.DataFrame:
    """What events cost of the requests that may fail.

    Args:
        target: share of requests that must be answered, such as 0.9999.
        per_day: requests a day.
        assumed: events that were not measured: of each, seconds, share (of all requests that fail meanwhile), and
            how often it comes in a month.

    Returns:
        Index event; columns failed (requests a month), of_budget (share of those that may), said (measured or assumed).
    """
    month, rate = 30 * per_day, per_day / DAY
    rows = {}
    for part, load in measured["restarts"].items():
        at = load["requests"] / load["load"]  # requests a second while it was replaced
        rows[f"every {part} replaced, daily"] = (30 * load["failed"] * rate / at, "measured")
    for event, about in assumed.items():
        rows[event] = (about["seconds"] * about["share"] * rate * about["a_month"], "assumed")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["failed", "said"])
    return table.assign(of_budget=table["failed"] / ((1 - target) * month))[["failed", "of_budget", "said"]]
