"""One table of what everything costs, each beside its baseline in the same run, so that the ratios hold on any machine.

python benchmarks/bench.py [run] [--quick] [--only data encoders index service]        (make bench)
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from measure import Found, Growth, Row, figure
from tqdm import tqdm

from lib.runs import WorkbookError, need, resolve

SUITES = {"data": 10, "encoders": 5, "index": 25, "service": 25}  # minutes on 2 cores
PACKAGES = ("torch", "sentence-transformers", "onnxruntime", "faiss-cpu", "numpy", "pandas")


def table(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that a terminal shows well, too."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [names, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def machine() -> str:
    """What it was measured on, and with which versions."""
    info = Path("/proc/cpuinfo")  # of Linux; elsewhere platform knows
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    cpu = named[1] if named else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    today = time.strftime("%d %B %Y").lstrip("0")
    return f"{today}. {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}."


def line(row: Row) -> list[str]:
    """A row as cells."""
    ratio = "" if row.ratio is None else f"{figure(row.ratio)} ×"
    return [row.what, row.ours, row.baseline, ratio, row.limit, row.bar]


def growth(found: list[Growth], of: str) -> str:
    """A row a cost, a column a size, and the power of the size that it grows with."""
    found = [cost for cost in found if cost.of == of]
    sizes = sorted({size for cost in found for size in cost.values})
    rows = [
        [
            cost.what,
            *(figure(cost.values[n]) if n in cost.values else "" for n in sizes),
            "" if cost.slope is None else f"{cost.slope:.2f}",
        ]
        for cost in found
    ]
    return table([f"by {of}", *(f"{n:,}" for n in sizes), "power"], rows)


def report(found: Found) -> str:
    """The whole page."""
    names = ["", "ours", "baseline", "better", "of its limit", "bar"]
    said = [machine(), table(names, [line(row) for row in found.rows])]
    said += [growth(found.growth, of) for of in ("tracks", "clients") if any(cost.of == of for cost in found.growth)]
    return "\n\n".join(said)


def main() -> int:
    """Measure, and print the table; what is under way is told on stderr."""
    parser = argparse.ArgumentParser(prog="python benchmarks/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="too little to judge by: to see that all of it works")
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES), help="some of the suites")
    args = parser.parse_args()
    tqdm.monitor_interval = 0  # no thread of its bars while processes are forked
    run, found = resolve(args.run), Found([], [])
    try:
        need(run, "tracks.parquet", "requests.parquet", "model", "encoders", "index")
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "service" in args.only and not shutil.which("wrk"):
        print(
            "error: the client of the service's benchmarks is wrk, which is not here: apt-get install wrk",
            file=sys.stderr,
        )
        return 1
    try:
        for suite in args.only:
            if not args.quick:
                print(f"{suite}: about {SUITES[suite]} minutes on 2 cores", file=sys.stderr)
            for kept, more in zip(found, import_module(suite).measure(run, args.quick), strict=True):
                kept += more
    finally:  # what was measured is told, even where the rest fails or is stopped
        print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
