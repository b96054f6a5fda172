"""Scenarios: all regions at the peak, growth beyond the plan, bad days, and the error budget that they use."""

from typing import NamedTuple

import pandas as pd

from deploy.scale.capacity.plan import DAY
from deploy.scale.capacity.simulation import Event, Service, Site, Traffic, percentiles, simulate

NOTICED = 20  # seconds until a bad deploy is noticed: assumed


class Incident(NamedTuple):
    """An assumed event."""

    seconds: float  # of its duration
    share: float  # of all requests, which fails meanwhile
    per_month: float  # times that it happens


def region(
    service: Service, table: pd.DataFrame, regions: int, ttl: float, workers: int = 0, encoders: int = 0
) -> Site:
    """Return a region of the plan; each process has a core of its own.

    Args:
        table: the plan of all regions together.
        workers, encoders: processes of the region; 0 for the plan's.
    """
    processes = (table["processes"] / regions).astype(int)
    return Site(service, workers or processes["api"], encoders or max(processes["triton"], 1), None, ttl)


def all_regions(site: Site, regions: int, rate: float, seconds: float, traffic: Traffic) -> pd.DataFrame:
    """Simulate regions that share the listeners evenly. Return the rows of all of them."""
    tables = [simulate(site, rate / regions, seconds, traffic, seed=7 + nth) for nth in range(regions)]
    return pd.concat(tables, ignore_index=True)


def growth(site: Site, rate: float, factors: list[float], seconds: float, traffic: Traffic) -> pd.DataFrame:
    """Simulate a site at multiples of a rate.

    Returns:
        Index rate; columns p50, p99 (ms), failed (share), workers, encoders (busy shares).
    """
    rows = {}
    for factor in factors:
        table = simulate(site, factor * rate, seconds, traffic)
        rows[factor * rate] = percentiles(table) | {"failed": table["failed"].mean()} | table.attrs
    return pd.DataFrame(rows).T


def bad_days(peak: float, regions: int, rollback: float) -> dict[str, list[Event]]:
    """Return the events of one region on each bad day: a lost region, flushed caches, a bad deploy.

    Args:
        peak: requests a second of all regions. With one region there is no other to lose.
        rollback: seconds that a rollback takes.
    """
    lost = {"A region is lost": [Event(10, "lost", {"rate": peak / (regions - 1)})]} if regions > 1 else {}
    back = 10 + NOTICED + rollback
    deploy = [Event(10, "deployed", {"slowdown": 4.0}), Event(back, "rolled back", {"slowdown": 1.0})]
    flushed = [Event(10, "flushed", {"expiry": {}})]
    return lost | {"The caches are flushed": flushed, "A bad deploy, rolled back": deploy}


def timeline(table: pd.DataFrame, step: float = 1.0) -> pd.DataFrame:
    """Return a row for each `step` seconds: rate (requests a second), p50, p99 (ms), failed, encoder (shares).

    Latencies are those of answered requests.
    """
    second = (table["at"] // step) * step
    groups, answered = table.groupby(second), table[~table["failed"]].groupby(second)
    return pd.DataFrame(
        {
            "rate": groups.size() / step,
            "p50": answered["ms"].quantile(0.5),
            "p99": answered["ms"].quantile(0.99),
            "failed": groups["failed"].mean(),
            "encoder": groups["source"].apply(lambda source: (source == "encoder").mean()),
        }
    )


def budget(tier: dict, target: float, per_day: float, incidents: dict[str, Incident]) -> pd.DataFrame:
    """Return the requests that fail in a month by event, as shares of the error budget.

    Args:
        target: share of requests that must be answered, such as 0.9999.
        per_day: requests a day of all listeners.

    Returns:
        Index event; columns failed (requests a month), share (of the failures that the target allows), basis (measured
        or assumed).
    """
    rate = per_day / DAY
    rows = {}
    for part, load in tier["restarts"].items():
        measured_rate = load["requests"] / load["load"]
        rows[f"every {part} replaced, daily"] = (30 * load["failed"] * rate / measured_rate, "measured")
    for name, incident in incidents.items():
        rows[name] = (incident.seconds * incident.share * rate * incident.per_month, "assumed")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["failed", "basis"])
    return table.assign(share=table["failed"] / ((1 - target) * 30 * per_day))[["failed", "share", "basis"]]
