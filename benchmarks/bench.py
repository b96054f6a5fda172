"""One table of what everything costs, each beside its baseline in the same run, so that the ratios hold on any machine.

python benchmarks/bench.py [run] [--quick] [--only data encoders index service]        (make bench)
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from measure import Growth, Row, figure, machine
from tqdm import tqdm

from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import resolve, shown
from lib.core.runs import need
from lib.workbook.runner import revision

SUITES = {"data": 15, "encoders": 6, "index": 17, "service": 23, "tier": 27}  # minutes on 2 cores
OF_A_RUN = {"encoders", "service", "tier"}  # the others make what they measure
ASKED_FOR = {"tier"}  # needs the engines that make scale installs
DISK = 25  # GiB that the index's suite needs: vectors, and lists beside them


def table(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that a terminal shows well, too."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [names, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


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


def report(about: str, found: list[Row | Growth]) -> str:
    """The whole page."""
    names = ["", "ours", "baseline", "better", "of its limit", "bar"]
    rows, grown = ([item for item in found if isinstance(item, kind)] for kind in (Row, Growth))
    said = [machine(), about, table(names, [line(row) for row in rows])]
    said += [growth(grown, of) for of in ("tracks", "clients") if any(cost.of == of for cost in grown)]
    return "\n\n".join(said)


def measured(run: Path, suites: list[str], quick: bool) -> str:
    """What was measured, and how much of it."""
    said = f"Suites {', '.join(suites)}; commit {revision()}"
    if set(suites) & OF_A_RUN:
        encoder = read_json(run / "index" / "index.json")["encoder"]
        said += f"; run {shown(run)}, whose requests are encoded by {encoder}"
    return f"{said}. {'Quick: too little to judge by.' * quick}".strip()


def main() -> int:
    """Measure, and print the table; what is under way is told on stderr."""
    parser = argparse.ArgumentParser(prog="python benchmarks/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="too little to judge by: to see that all of it works")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SUITES,
        default=[one for one in SUITES if one not in ASKED_FOR],
        help="some of the suites",
    )
    args = parser.parse_args()
    tqdm.monitor_interval = 0  # no thread of its bars while processes are forked
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by which servers and folders are cleared away
    run, found = resolve(args.run), []
    try:
        check(run, args.only, args.quick)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        for suite in args.only:
            if not args.quick:
                print(f"{suite}: about {SUITES[suite]} minutes on 2 cores", file=sys.stderr)
            for item in import_module(suite).measure(run, args.quick):
                found.append(item)
    except (WorkbookError, KeyboardInterrupt) as error:
        print(f"\nerror: {str(error) or 'stopped'}; what was measured before:", file=sys.stderr)
        return 1
    finally:  # what was measured is told, even where the rest fails or is stopped
        print(report(measured(run, args.only, args.quick), found))
    return 0


def check(run: Path, suites: list[str], quick: bool) -> None:
    """Refuse what could not be measured before an hour is spent on the rest.

    Raises:
        WorkbookError: the run is not complete, wrk is not installed, or there is too little space.
    """
    if set(suites) & OF_A_RUN:
        need(run, "tracks.parquet", "requests.parquet", "model", "encoders", "index")
    if {"service", "tier"} & set(suites) and not shutil.which("wrk"):
        advice = 'apt-get install wrk, or leave the service out: make bench BENCH="--only data encoders index"'
        raise WorkbookError(f"the client of the service's benchmarks is wrk, which is not here: {advice}")
    if "tier" in suites and not find_spec("tritonclient"):
        raise WorkbookError("the engines of the tier are not installed: make scale-bench does both")
    scratch = tempfile.gettempdir()
    free = shutil.disk_usage(scratch).free / 2**30
    if "index" in suites and not quick and free < DISK:
        raise WorkbookError(f"{scratch} has {free:.0f} GiB left of the {DISK} needed: set TMPDIR to another folder.")


if __name__ == "__main__":
    sys.exit(main())
