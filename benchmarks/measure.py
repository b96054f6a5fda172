"""Shared by the benchmarks: rows of the table, timing in turn, separate processes, the limits of the machine."""

import math
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: the task.
        ours, baseline: the two values, with their units.
        ratio: times that ours is better, the median over pairs measured in turn.
        limit: our share of the machine's limit.
        bar: the target.
    """

    name: str
    ours: str
    baseline: str = ""
    ratio: float | None = None
    limit: str = ""
    bar: str = ""


class Growth(NamedTuple):
    """A cost at several sizes."""

    name: str
    of: str  # the unit of the sizes: tracks or clients
    values: dict[int, float]

    @property
    def slope(self) -> float | None:
        """The exponent of the cost's growth, between the two largest sizes: smaller ones show fixed costs."""
        points = sorted((size, value) for size, value in self.values.items() if value > 0)
        if len(points) < 2:
            return None
        (size, value), (larger, more) = points[-2:]
        return math.log(more / value) / math.log(larger / size)


PACKAGES = ("torch", "sentence-transformers", "onnxruntime", "faiss-cpu", "numpy", "pandas")


def machine() -> str:
    """Return a line on the machine and the versions."""
    info = Path("/proc/cpuinfo")  # Linux only
    name = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    cpu = name[1] if name else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    today = time.strftime("%d %B %Y").lstrip("0")
    return f"{today}. {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}."


def figure(value: float) -> str:
    """Return a number with three significant digits, never as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(function: Callable, *args, **kwargs) -> float:
    """Return the time that a call takes."""
    started = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - started


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round; the order changes from round to round."""
    spent, chance = {name: [] for name in ways}, random.Random(7)
    for _ in range(rounds):
        for name in chance.sample(list(ways), len(ways)):
            spent[name].append(seconds(ways[name]))
    return spent


def times(ours: list[float], baseline: list[float]) -> float:
    """Return the baseline's time divided by ours, the median over pairs."""
    return statistics.median(b / a for a, b in zip(ours, baseline, strict=True))


def apart(function: Callable, *args, threads: int | None = None):
    """Call a function in a separate process, with memory and threads of its own.

    The process is forked, which saves a minute of imports; so the caller's process must not compute anything itself.

    Args:
        threads: for PyTorch and OpenMP; numpy's BLAS then has one, as in a kernel of the service.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(_bounded, function, args, threads).result()


def _bounded(function: Callable, args: tuple, threads: int | None):
    if threads:
        torch.set_num_threads(threads)
        threadpool_limits(threads, "openmp")
        threadpool_limits(1, "blas")
    return function(*args)


def peak() -> float:
    """Return this process's peak of memory, in GiB. (ru_maxrss would include the process that forked it.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def bandwidth() -> float:
    """Return the bytes a second that one pass over memory reads, on all threads of this process."""
    memory = torch.ones(2**27)  # half a GiB, far larger than the cache
    memory.sum()
    return 4 * len(memory) / statistics.median(seconds(memory.sum) for _ in range(7))


def multiply_adds() -> float:
    """Return the multiply–adds a second of a product of float32 matrices that fit the cache: the processor's limit."""
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    torch.mm(left, right)
    return 512**3 / statistics.median(seconds(torch.mm, left, right) for _ in range(50))
