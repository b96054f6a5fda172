"""The capacity plan: cache hits, cores, GPUs, memory and dollars a month for many listeners.

`make scale-bench` measures the tier (benchmarks/tier.json). Everything else is assumed: a parameter of notebook 07.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import shown
from lib.core.ranges import check_ranges

DAY, MONTH = 86_400, 30 * 86_400  # seconds
PARTS = ("envoy", "varnish", "api", "redis", "triton")
MOST_RATE = 200_000  # requests a second: the simulation plays each request, and more would take hours
FEWEST = 100  # simulated requests of a region
RANGES = {
    **dict.fromkeys(("users", "peak_factor"), (1, math.inf)),
    **dict.fromkeys(("requests_per_day", "core_hour"), (1e-6, math.inf)),
    **dict.fromkeys(("ttl", "gib_hour", "gpu_hour"), (0, math.inf)),
    **dict.fromkeys(("regions", "edge_caches"), (1, 1000)),
    **dict.fromkeys(("workers", "tritons"), (0, 10**6)),
    **{"personal": (0, 1), "distinct": (1, 10**9), "zipf_exponent": (0, 10), "utilisation": (0.01, 1)},
    **{"search_ms": (0, 1000), "gpu_speedup": (0.01, math.inf), "target": (0, 1 - 1e-9), "seconds": (1, 3600)},
}
COUNTS = {"distinct", "regions", "edge_caches", "workers", "tritons"}
KEYS = {"machine", "cores", "loads", "uncached", "layers", "encoders", "batches", "restarts", "rollback"}


class Demand(NamedTuple):
    """The listeners' requests."""

    users: float  # listeners
    requests_per_day: float  # of one listener
    peak_factor: float  # the busiest second over the mean second
    personal: float  # share of requests with liked or disliked songs; no cache may keep their answers
    distinct: int  # number of different requests among the others
    zipf_exponent: float  # exponent of Zipf's law, which gives their shares

    @property
    def mean(self) -> float:
        """The mean rate, in requests a second."""
        return self.users * self.requests_per_day / DAY

    @property
    def peak(self) -> float:
        """The rate in the busiest second, in requests a second."""
        return self.mean * self.peak_factor


class Supply(NamedTuple):
    """The tier that answers, and its prices in dollars."""

    encoder: str  # a measured form, or "GPU"
    regions: int  # any region may be lost: the others can carry its share
    edge_caches: int  # of a region, which share its requests
    utilisation: float  # planned busy share of a core in the busiest second
    ttl: float  # seconds that a cache keeps an answer
    search_ms: float  # milliseconds of a search in the catalogue
    gpu_speedup: float  # texts a second of a GPU over those of a core
    core_hour: float
    gib_hour: float
    gpu_hour: float


def read(file: Path) -> dict:
    """Return the measurements of the tier.

    Raises:
        WorkbookError: the file cannot be read, or `make scale-bench` did not write it.
    """
    try:
        tier = read_json(file)
    except (OSError, ValueError) as error:
        raise WorkbookError(f"{shown(file)} cannot be read ({error}): make scale-bench writes it.") from None
    if not isinstance(tier, dict) or not tier.keys() >= KEYS:
        raise WorkbookError(f"{shown(file)} lacks measurements: make scale-bench writes a complete file.")
    return tier


def check(tier: dict, demand: Demand, supply: Supply, **others: float) -> None:
    """Check the parameters of notebook 07.

    Args:
        others: workers, tritons, target, seconds.

    Raises:
        WorkbookError: names all parameters that are wrong.
    """
    wrong = check_ranges(demand._asdict() | supply._asdict() | others, RANGES, COUNTS)
    if supply.encoder not in (encoders := [*tier["encoders"], "GPU"]):
        wrong.append(f"encoder is {supply.encoder!r}, but must be one of {', '.join(encoders)}")
    if wrong:
        raise WorkbookError("; ".join(wrong) + ".")
    if demand.peak > MOST_RATE:
        raise WorkbookError(
            f"{demand.peak:,.0f} requests a second are too many to simulate: take fewer users, costs are proportional."
        )
    if demand.peak / supply.regions * others["seconds"] < FEWEST:
        raise WorkbookError(
            f"{demand.peak:.3g} requests a second are too few to simulate: take more users, or more seconds."
        )


def shares(distinct: int, exponent: float) -> np.ndarray:
    """Return each request's share by Zipf's law, the most frequent first: (distinct,), sum 1."""
    weight = np.arange(1, distinct + 1, dtype=float) ** -exponent
    return weight / weight.sum()


def hits(rate: float, share: np.ndarray, ttl: float) -> float:
    """Return the hit rate of a cache that drops each answer `ttl` seconds after it was computed.

    A request that comes `r` times a second misses once, then hits `r * ttl` times until its answer is dropped (Jung,
    Berger and Balakrishnan 2003, "Modeling TTL-based Internet caches").

    Args:
        rate: requests a second to this cache.
        share: of each request, (distinct,).
    """
    expected = rate * share * ttl
    return float((share * expected / (1 + expected)).sum())


def layers(rate: float, demand: Demand, supply: Supply) -> dict[str, float]:
    """Return the shares of a region's requests that the edge caches, the workers' caches and the encoder answer.

    Args:
        rate: requests a second of the region.
    """
    share, shared = shares(demand.distinct, demand.zipf_exponent), 1 - demand.personal
    edge = shared * hits(shared * rate / supply.edge_caches, share, supply.ttl)
    cached = shared * hits(shared * rate, share, supply.ttl)
    return {"edge": edge, "workers": cached - edge, "encoder": 1 - cached}


def load_at(tier: dict, utilisation: float) -> dict:
    """Return the measured load of uncached requests that kept the cores about this busy.

    A request costs less under a higher load: batches are larger, and periodic work is spread over more requests.
    """
    loads = [*tier["loads"], tier["uncached"]]
    busy = [load["rate"] * sum(load["cpu"].values()) / 1000 / tier["cores"] for load in loads]
    return loads[int(np.abs(np.array(busy) - utilisation).argmin())]


def unit_costs(tier: dict, supply: Supply) -> pd.DataFrame:
    """Return the milliseconds of processor time that a request costs each part, by the layer that answers it.

    Measured: a hit at the edge, a hit in Redis, and an uncached request on cores that are about as busy as planned.
    Another encoder's cost is the measured one times the ratio of the forms' times, among 64 texts on one thread. A
    static encoder needs no Triton: it runs in the worker. A larger catalogue adds the time of its search to the worker.

    Returns:
        Index `PARTS`; columns edge, workers, encoder.
    """
    loads = {"edge": tier["hit_envoy"], "workers": tier["redis"], "encoder": load_at(tier, supply.utilisation)}
    table = pd.DataFrame({layer: load["cpu"] for layer, load in loads.items()}).reindex(PARTS)
    table["edge"] *= [1, 1, 0, 0, 0]  # the other parts were idle, except for a poll each second
    table.loc[["envoy", "varnish"], "workers"] = table.loc[["envoy", "varnish"], "encoder"]
    table.loc["triton", "workers"] = 0
    table.loc["api", "encoder"] += supply.search_ms - tier["search"]
    forms = tier["encoders"]
    if supply.encoder == "static":
        table.loc["api", "encoder"] += forms["static"]["alone"]
        table.loc["triton", "encoder"] = 0
    elif supply.encoder != "GPU":
        table.loc["triton", "encoder"] *= forms[supply.encoder]["batched"] / forms["onnx"]["batched"]
    return table


def plan(tier: dict, demand: Demand, supply: Supply) -> pd.DataFrame:
    """Return the needs of all regions together, such that any region can be lost in the busiest second.

    Returns:
        Index `PARTS`; columns cores, processes, gib, gpus, dollars (a month).
    """
    region = demand.peak / max(supply.regions - 1, 1)
    busy = (unit_costs(tier, supply) * pd.Series(layers(region, demand, supply))).sum(axis=1) * region / 1000  # cores
    gpus = 0.0
    if supply.encoder == "GPU":
        gpus = max(2, math.ceil(busy["triton"] / supply.gpu_speedup / supply.utilisation))
        busy["triton"] = gpus * supply.utilisation  # one core feeds each GPU
    cores = busy / supply.utilisation
    # A process is one thread. Each part has two processes at least, so that one can be replaced.
    processes = np.where(cores > 0, np.maximum(np.ceil(cores), 2), 0)
    table = pd.DataFrame({"cores": cores, "processes": processes}, index=list(PARTS))
    table["gib"] = table["processes"] * pd.Series(tier["memory"])
    table["gpus"] = np.where(table.index == "triton", gpus, 0)
    table *= supply.regions
    hourly = supply.core_hour * table["processes"] + supply.gib_hour * table["gib"] + supply.gpu_hour * table["gpus"]
    return table.assign(dollars=hourly * MONTH / 3600)


def by_encoder(tier: dict, demand: Demand, supply: Supply) -> pd.DataFrame:
    """Return the totals of the plan for each encoder, the cheapest first: columns cores, gib, gpus, dollars."""
    totals = {name: plan(tier, demand, supply._replace(encoder=name)).sum() for name in (*tier["encoders"], "GPU")}
    return pd.DataFrame(totals).T.drop(columns="processes").sort_values("dollars")


def sensitivity(tier: dict, demand: Demand, supply: Supply) -> pd.DataFrame:
    """Return the dollars a month with each assumption halved and doubled, the others unchanged.

    Returns:
        Index assumption, the most influential first; columns halved, doubled, planned.
    """
    names = [*Demand._fields, "ttl", "edge_caches", "utilisation", "search_ms", "core_hour", "gib_hour"]
    names += ["gpu_speedup", "gpu_hour"] if supply.encoder == "GPU" else []
    factors = {"halved": 0.5, "doubled": 2}
    rows = {n: {column: _cost(tier, demand, supply, n, factor) for column, factor in factors.items()} for n in names}
    table = pd.DataFrame(rows).T.assign(planned=plan(tier, demand, supply)["dollars"].sum())
    span = (table["doubled"] - table["halved"]).abs().sort_values()
    return table.loc[span.index[::-1]]


def _cost(tier: dict, demand: Demand, supply: Supply, name: str, factor: float) -> float:
    """Return the dollars a month with one assumption multiplied; shares stay at most 1, counts at least 1."""
    owner = demand if name in Demand._fields else supply
    value = getattr(owner, name)
    if name in ("personal", "utilisation"):
        moved = min(value * factor, 1.0)
    elif name in COUNTS:
        moved = max(int(value * factor), 1)
    else:
        moved = max(value * factor, 1e-9)
    changed = owner._replace(**{name: moved})
    return plan(tier, *((changed, supply) if owner is demand else (demand, changed)))["dollars"].sum()
