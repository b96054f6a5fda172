"""What the benchmarks share: ways timed in turn, processes of their own, what the machine can do, rows of the table."""

from __future__ import annotations

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
    """A line of the table.

    Attributes:
        what: what was measured.
        ours, baseline: its value, and what it is compared with, with their units.
        ratio: how many times better ours is, the median over pairs measured in turn.
        limit: how near it comes to what the machine can do.
        bar: what was asked of it.
    """

    what: str
    ours: str
    baseline: str = ""
    ratio: float | None = None
    limit: str = ""
    bar: str = ""


class Growth(NamedTuple):
    """A cost at several sizes, whose name `of` says: tracks or clients."""

    what: str
    of: str
    values: dict[int, float]

    @property
    def slope(self) -> float | None:
        """The power of the size that the cost grows with, between the two largest: smaller ones show fixed costs."""
        known = sorted((size, value) for size, value in self.values.items() if value > 0)
        if len(known) < 2:
            return None
        (size, value), (larger, more) = known[-2:]
        return math.log(more / value) / math.log(larger / size)


PACKAGES = ("torch", "sentence-transformers", "onnxruntime", "faiss-cpu", "numpy", "pandas")


def machine() -> str:
    """What it was measured on, and with which versions."""
    info = Path("/proc/cpuinfo")  # of Linux; elsewhere platform knows
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    cpu = named[1] if named else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    today = time.strftime("%d %B %Y").lstrip("0")
    return f"{today}. {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}."


def figure(value: float) -> str:
    """A number with three significant digits, and never as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def seconds(function: Callable, *args, **kwargs) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - started


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds that each way takes in each round, every round in another order."""
    took, chance = {name: [] for name in ways}, random.Random(7)
    for _ in range(rounds):
        for name in chance.sample(list(ways), len(ways)):
            took[name].append(seconds(ways[name]))
    return took


def times(ours: list[float], baseline: list[float]) -> float:
    """How many times as long the baseline takes, the median over pairs."""
    return statistics.median(b / a for a, b in zip(ours, baseline, strict=True))


def apart(function: Callable, *args, threads: int | None = None):
    """Call a function in a process of its own, whose memory and threads are its own.

    It is forked, which spares it a minute of imports: so the process that calls this must not compute anything itself.

    Args:
        threads: of PyTorch and OpenMP; those of numpy's BLAS are one then, as in a kernel of the service.
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
    """The most memory this process held, in GiB. Not ru_maxrss: that one remembers the process that started us."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def bandwidth() -> float:
    """Bytes a second that one pass over memory reads, on all threads of this process."""
    memory = torch.ones(2**27)  # half a gibibyte: far beyond the cache
    memory.sum()
    return 4 * len(memory) / statistics.median(seconds(memory.sum) for _ in range(7))


def multiply_adds() -> float:
    """Multiply–adds a second of a product of float32 matrices that fit the cache: what this processor can do."""
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    torch.mm(left, right)
    return 512**3 / statistics.median(seconds(torch.mm, left, right) for _ in range(50))
