"""Print one table of costs, each beside its baseline in the same run, so that the ratios hold on any machine.

python benchmarks/bench.py [run] [--quick] [--only data encoders index service]        (make bench)
"""

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
OF_A_RUN = {"encoders", "service", "tier"}  # the other suites generate their data
OPTIONAL = {"tier"}  # needs the engines that make scale installs
DISK = 25  # GiB for the suite index: its vectors and lists


def table(names: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, aligned for a terminal."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [names, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def line(row: Row) -> list[str]:
    """Return the cells of a row."""
    ratio = "" if row.ratio is None else f"{figure(row.ratio)} ×"
    return [row.name, row.ours, row.baseline, ratio, row.limit, row.bar]


def growth(costs: list[Growth], of: str) -> str:
    """Return a table: a row a cost, a column a size, and the exponent of the growth."""
    costs = [cost for cost in costs if cost.of == of]
    sizes = sorted({size for cost in costs for size in cost.values})
    rows = [
        [
            cost.name,
            *(figure(cost.values[n]) if n in cost.values else "" for n in sizes),
            "" if cost.slope is None else f"{cost.slope:.2f}",
        ]
        for cost in costs
    ]
    return table([f"by {of}", *(f"{n:,}" for n in sizes), "power"], rows)


def report(about: str, results: list[Row | Growth]) -> str:
    """Return the page."""
    names = ["", "ours", "baseline", "better", "of its limit", "bar"]
    rows, costs = ([item for item in results if isinstance(item, kind)] for kind in (Row, Growth))
    paragraphs = [machine(), about, table(names, [line(row) for row in rows])]
    paragraphs += [growth(costs, of) for of in ("tracks", "clients") if any(cost.of == of for cost in costs)]
    return "\n\n".join(paragraphs)


def title(run: Path, suites: list[str], quick: bool) -> str:
    """Return a line on the suites, the commit and the run."""
    text = f"Suites {', '.join(suites)}; commit {revision()}"
    if set(suites) & OF_A_RUN:
        encoder = read_json(run / "index" / "index.json")["encoder"]
        text += f"; run {shown(run)}, whose requests are encoded by {encoder}"
    return f"{text}. {'Quick: too little to judge by.' * quick}".strip()


def main() -> int:
    """Measure, and print the table; stderr shows the progress."""
    parser = argparse.ArgumentParser(prog="python benchmarks/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few minutes: shows that all works, no more")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SUITES,
        default=[one for one in SUITES if one not in OPTIONAL],
        help="some of the suites",
    )
    args = parser.parse_args()
    tqdm.monitor_interval = 0  # tqdm must have no thread while processes are forked
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops servers and removes folders
    run, results = resolve(args.run), []
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
                results.append(item)
    except (WorkbookError, KeyboardInterrupt) as error:
        print(f"\nerror: {str(error) or 'stopped'}; the results so far:", file=sys.stderr)
        return 1
    finally:  # the results so far are printed after an error, too
        print(report(title(run, args.only, args.quick), results))
    return 0


def check(run: Path, suites: list[str], quick: bool) -> None:
    """Check the needs of all suites before an hour is spent on the first.

    Raises:
        WorkbookError: the run is not complete, wrk or an engine is not installed, or the disk is too full.
    """
    if set(suites) & OF_A_RUN:
        need(run, "tracks.parquet", "requests.parquet", "model", "encoders", "index")
    if {"service", "tier"} & set(suites) and not shutil.which("wrk"):
        advice = 'apt-get install wrk, or leave the service out: make bench BENCH="--only data encoders index"'
        raise WorkbookError(f"the service's benchmarks need the client wrk, which is not installed: {advice}")
    if "tier" in suites and not find_spec("tritonclient"):
        raise WorkbookError("the engines of the tier are not installed: make scale-bench does both")
    scratch = tempfile.gettempdir()
    free = shutil.disk_usage(scratch).free / 2**30
    if "index" in suites and not quick and free < DISK:
        raise WorkbookError(f"{scratch} has {free:.0f} GiB left of the {DISK} needed: set TMPDIR to another folder.")


if __name__ == "__main__":
    sys.exit(main())
