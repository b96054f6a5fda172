"""Runs side by side: what differs in their parameters, in their figures and in their answers, as a table and a page.

    python -m lib.performance.compare outputs/a outputs/b

The first run is the reference; every other one is compared with it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.core import measures, pages, style
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import need
from lib.performance import evaluation, findings
from lib.performance import pictures as plots_model

FILES = ("tracks.parquet", "metrics.json", "answers.parquet", "quality.json", "embedding.json")
SHOWN = 8  # requests that got better, and as many that got worse


class Run(NamedTuple):
    """A finished run: its name, folder, what its files hold, and a fingerprint of its catalogue."""

    name: str
    where: Path
    record: dict
    metrics: dict
    quality: dict
    embedding: dict
    answers: pd.DataFrame
    catalogue: str


def read(folder: str) -> Run:
    """Read what there is to compare of a run.

    Raises:
        WorkbookError: there is no such run, or it is not finished.
    """
    where = resolve(folder)
    if not (where / "run.json").is_file():
        there = ", ".join(shown(p.parent) for p in sorted((ROOT / "outputs").glob("*/run.json")))
        raise WorkbookError(
            f"{folder}: no run.json there, so it is no run. There are: {there or 'none yet; make run'}."
        )
    need(where, *FILES)
    try:
        held = [read_json(where / f"{name}.json") for name in ("run", "metrics", "quality", "embedding")]
        answers = pd.read_parquet(where / "answers.parquet")
    except ValueError as error:
        raise WorkbookError(f"{shown(where)} is damaged: {error}. Run it again: make run FRESH=1.") from error
    if (status := held[0]["status"]) != "done":
        raise WorkbookError(f"{shown(where)} is not finished: its run.json says {status!r}.")
    return Run(shown(where), where, *held, answers, fingerprint(where / FILES[0]))


def differences(runs: list[Run]) -> pd.DataFrame:
    """Parameters, code and packages that are not the same in all runs: a row each, a column a run."""
    told = {
        run.name: {**run.record["parameters"], "code": run.record["code"][:10]}
        | {f"package {name}": version for name, version in run.record["packages"].items()}
        for run in runs
    }
    table = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in told.items()}).map(_plain)
    return table[table.nunique(axis=1) > 1].drop(index="run_dir", errors="ignore")


def figures(runs: list[Run]) -> pd.DataFrame:
    """The tuned encoders' figures, with 95 % intervals where they are measured: a row each, a column a run."""
    return pd.DataFrame({run.name: _figures(run) for run in runs}).fillna("")


def paired(first: Run, other: Run) -> pd.DataFrame:
    """The requests that both runs answered over the same catalogue, with both answers; empty over different ones.

    Returns:
        Columns of answers.parquet, with _x for the first run's and _y for the other's, and gain in nDCG@10.
    """
    if first.catalogue != other.catalogue:
        return pd.DataFrame()
    before, after = (run.answers.assign(nth=run.answers.groupby("text").cumcount()) for run in (first, other))
    both = before.merge(after, on=["text", "mood", "nth"])  # a text may be asked twice
    return both.assign(gain=both[f"{measures.MAIN}_y"] - both[f"{measures.MAIN}_x"])


def verdict(first: Run, other: Run, both: pd.DataFrame) -> str:
    """One sentence: which of two runs answers better, as far as that can be said."""
    if len(both) < 2:
        why = "other catalogues" if first.catalogue != other.catalogue else "no request in common"
        return f"{other.name} and {first.name} have {why}: their figures stand side by side, but nothing is paired."
    before, after = (
        both[[f"{m}_{side}" for m in measures.MEASURES]].set_axis(list(measures.MEASURES), axis=1) for side in "xy"
    )
    change = evaluation.compare(before, after)[measures.MAIN]
    better, worse = change["low"] > 0, change["high"] < 0
    word = "answers better than" if better else "answers worse than" if worse else "makes no clear difference to"
    return (
        f"{other.name} {word} {first.name}: {measures.MAIN} {change['mean']:+.3f} "
        f"(95 % interval {change['low']:+.3f} to {change['high']:+.3f}) over {len(both):,} requests; "
        f"{(both['gain'] > 0).sum():,} got better, {(both['gain'] < 0).sum():,} worse."
    )


def write(runs: list[Run], path: Path) -> str:
    """Write the comparison as a page, and return it as text for the terminal."""
    numbers, unlike, parts = figures(runs), differences(runs), []
    for other in runs[1:]:
        both = paired(runs[0], other)
        parts.append(
            {
                "verdict": verdict(runs[0], other, both),
                "names": (runs[0].name, other.name),
                "better": _rows(both, "gain > 0", ascending=False),
                "worse": _rows(both, "gain < 0", ascending=True),
            }
        )
    encoders = {run.name: run.metrics["encoders"]["tuned"] for run in runs}
    means = [f"{name} {e['retrieval'][measures.MAIN]['mean']:.3f}" for name, e in encoders.items()]
    picture = plots_model.retrieval(encoders, f"{measures.MAIN}: {', '.join(means)}")
    png, about = style.described(picture)
    pages.page(
        path,
        "performance/compare",
        title="Runs side by side",
        parts=parts,
        differences=pages.table(unlike) if len(unlike) else "",
        figures=pages.table(numbers),
        picture={"png": png["image/png"], "alt": about["image/png"]["alt"]},
        links=[(run.name, os.path.relpath(run.where / "report.html", path.parent)) for run in runs],
    )
    unlike = unlike.to_string() if len(unlike) else "none: the same parameters, code and packages"
    said = "\n".join(part["verdict"] for part in parts)
    return f"What differs\n{unlike}\n\nFigures\n{numbers.to_string()}\n\n{said}\n\nAs a page: {shown(path)}"


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the page is written, 1 with one line on what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.performance.compare", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[2]
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of two or more finished runs")
    parser.add_argument("--out", default="outputs/compare.html", help="the page (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        if len(set(map(resolve, args.runs))) < max(2, len(args.runs)):
            raise WorkbookError('name two different runs or more: make compare RUNS="outputs/a outputs/b".')
        page = resolve(args.out)
        page.parent.mkdir(parents=True, exist_ok=True)
        print(write([read(run) for run in args.runs], page))
        return 0
    except (WorkbookError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _figures(run: Run) -> dict[str, str]:
    tuned, retrieval = run.metrics["encoders"]["tuned"], findings.summary(run.metrics)
    told = dict(retrieval.loc["tuned"])
    told[f"{measures.MAIN}, base"] = retrieval.loc["base", measures.MAIN]
    told |= {f"MusicCaps {task}": f"{value:.3f}" for task, value in tuned.get("musiccaps", {}).items()}
    told["uniformity"] = f"{tuned['space']['uniformity']:.2f}"
    told["ms for one request"] = ", ".join(f"{s['ms_for_one']:.1f} ({d})" for d, s in tuned["speed"].items())
    rules = run.quality["rules"]
    told["quality rules that hold"] = f"{sum(rule['passed'] for rule in rules)} of {len(rules)}"
    checks = run.embedding["scorecard"]
    told["embedding checks to look at"] = "; ".join(c["check"] for c in checks if c["verdict"] in ("look", "broken"))
    told["held-out requests, tracks"] = f"{run.metrics['requests']:,}, {run.metrics['tracks']:,}"
    told["tracks in all"] = f"{run.quality['tracks']:,}"
    told["minutes to train and index"] = f"{run.record['stages']['03_finetune']['seconds'] / 60:.1f}"
    return told


def _rows(both: pd.DataFrame, which: str, ascending: bool) -> list[dict]:
    """The `SHOWN` requests that changed most, for the page."""
    if both.empty:
        return []
    rows = both.query(which).sort_values("gain", ascending=ascending, kind="stable").head(SHOWN)
    return [
        {"text": r["text"], "scores": (r[f"{measures.MAIN}_x"], r[f"{measures.MAIN}_y"]),
         "songs": (r["songs_x"].split("\n"), r["songs_y"].split("\n"))}
        for r in rows.to_dict("records")
    ]  # fmt: skip


def _plain(value) -> str:
    return "" if value is None or value != value else str(value)


if __name__ == "__main__":
    sys.exit(main())
