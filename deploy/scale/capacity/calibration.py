"""The simulation's times: taken from the measurements, and fitted to the measured latencies."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from deploy.scale.capacity.plan import Supply, load_at
from deploy.scale.capacity.simulation import Service, Site, percentiles, simulate

PLANNED = 0.6  # busy share of a core at which times are taken
SMALL = 32  # texts of a batch: larger batches are rare on a machine like the measured one


def service_of(
    tier: dict, path: float, spread: float, search_ms: float | None = None, cpu: dict[str, float] | None = None
) -> Service:
    """Return the times of the measured tier.

    Args:
        path, spread: the two fitted values of `Service`.
        search_ms: milliseconds of a search, for another catalogue than the measured one.
        cpu: milliseconds of processor time that a request costs each part; by default on cores as busy as planned.
    """
    cpu = cpu or load_at(tier, PLANNED)["cpu"]
    sizes, took = (np.array([*values], float) for values in (map(int, tier["batches"]), tier["batches"].values()))
    small = sizes <= SMALL
    text, batch = np.polyfit(sizes[small], took[small], 1, w=1 / took[small])
    worker = cpu["api"] + cpu["redis"] - tier["search"]
    return Service(
        edge=cpu["envoy"] + cpu["varnish"],
        before=worker / 2,
        after=worker / 2 + (tier["search"] if search_ms is None else search_ms),
        batch=max(batch, 0.0),
        text=text,
        wait=tier["wait"],
        path=path,
        spread=spread,
    )


def with_encoder(service: Service, tier: dict, supply: Supply) -> Service:
    """Return the times with another encoder than the measured ONNX form; a static one runs in the worker."""
    forms = tier["encoders"]
    if supply.encoder == "static":
        return service._replace(own=forms["static"]["alone"], batch=0.0, text=0.0, wait=0.0)
    gpu = supply.encoder == "GPU"
    factor = 1 / supply.gpu_speedup if gpu else forms[supply.encoder]["batched"] / forms["onnx"]["batched"]
    return service._replace(batch=factor * service.batch, text=factor * service.text)


def cpu_at(loads: list[dict], rate: float) -> dict[str, float]:
    """Return the milliseconds of processor time that a request costs each part at a rate (requests a second).

    The cost falls with the load: work on an idle core must wake the core and finds its caches cold. If a request costs
    a + b (1 - busy), and `busy` is the share of the cores that requests use at that rate, then 1 / cost is linear in
    the rate. This line is fitted to the loads.
    """
    rates, parts = [load["rate"] for load in loads], loads[0]["cpu"]
    lines = {part: np.polyfit(rates, [1 / load["cpu"][part] for load in loads], 1) for part in parts}
    return {part: 1 / float(np.polyval(line, rate)) for part, line in lines.items()}


def calibrate(tier: dict, loads: list[dict], requests: int) -> Service:
    """Return the times with path and spread fitted: simulated p50 and p99 match those of some measured loads.

    Args:
        loads: the loads to fit, of tier["loads"]: two at least.
        requests: simulated requests a load.
    """

    def error(logs: np.ndarray) -> float:
        table = check(tier | {"loads": loads}, service_of(tier, *np.exp(logs)), loads, requests)
        return sum(float((np.log(table[f"{name} simulated"] / table[name]) ** 2).sum()) for name in ("p50", "p99"))

    start = np.log([[1.0, 0.4], [10.0, 0.4], [3.0, 0.9]])  # path (ms) and spread
    settings = {"maxfev": 40, "xatol": 0.02, "fatol": 1e-4, "initial_simplex": start}
    best = minimize(error, start[0], method="Nelder-Mead", options=settings)
    return service_of(tier, *np.exp(best.x))


def check(tier: dict, service: Service, loads: list[dict], requests: int) -> pd.DataFrame:
    """Return simulated beside measured latencies of every measured load.

    Args:
        service: with the path and the spread to check.
        loads: the loads that give the cost of a request at each rate (`cpu_at`).

    Returns:
        Index rate; columns p50, p50 least, p50 most, p50 simulated, and the same of p99.
    """
    rows = {}
    for load in tier["loads"]:
        rate = load["rate"]
        times = service_of(tier, service.path, service.spread, cpu=cpu_at(loads, rate))
        site = Site(times, workers=2, encoders=2, cores=tier["cores"])
        rows[rate] = {}
        for name, value in percentiles(simulate(site, rate, requests / rate)).items():
            least, most = load["span"][name]
            rows[rate] |= {name: load[name], f"{name} least": least, f"{name} most": most, f"{name} simulated": value}
    return pd.DataFrame(rows).T
