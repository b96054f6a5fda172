"""Runs side by side, as a page and as text for the terminal. The first run is the reference."""

import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.core import pages, style
from lib.core.errors import WorkbookError
from lib.core.files import fingerprint, read_json
from lib.core.measures import MAIN, MEASURES
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import need
from lib.performance import evaluation, findings, pictures

FILES = ("tracks.parquet", "metrics.json", "answers.parquet", "quality.json", "embedding.json")
SHOWN = 8  # requests that improved most, and as many that worsened most


class Run(NamedTuple):
    """A finished run: its name and folder, the contents of its files, and the fingerprint of its catalogue."""

    name: str
    folder: Path
    record: dict
    metrics: dict
    quality: dict
    embedding: dict
    answers: pd.DataFrame
    catalogue: str


def write(folders: list[str], path: Path) -> str:
    """Compare finished runs with the first, write the page `path`, and return the comparison as text.

    Raises:
        WorkbookError: fewer than two different runs; a run is missing, unfinished or damaged.
    """
    if len(set(map(resolve, folders))) < max(2, len(folders)):
        raise WorkbookError('name at least two different runs: make compare RUNS="outputs/a outputs/b".')
    runs = [_read(folder) for folder in folders]
    different, figures = _different(runs), pd.DataFrame({run.name: _figures(run) for run in runs}).fillna("")
    parts = [_part(runs[0], other) for other in runs[1:]]
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.page(
        path,
        "performance/compare",
        title="Runs side by side",
        parts=parts,
        parameters=pages.table(different) if len(different) else "",
        figures=pages.table(figures),
        picture=_picture(runs),
        links=[(run.name, os.path.relpath(run.folder / "report.html", path.parent)) for run in runs],
    )
    parameters = different.to_string() if len(different) else "none: the same parameters, code and packages"
    verdicts = "\n".join(part["verdict"] for part in parts)
    return f"Differences\n{parameters}\n\nFigures\n{figures.to_string()}\n\n{verdicts}\n\nAs a page: {shown(path)}"


def _read(folder: str) -> Run:
    """Read a run. WorkbookError: there is no such run, or it is unfinished or damaged."""
    path = resolve(folder)
    if not (path / "run.json").is_file():
        runs = ", ".join(shown(p.parent) for p in sorted((ROOT / "outputs").glob("*/run.json")))
        raise WorkbookError(f"{folder} is no run: it has no run.json. Existing runs: {runs or 'none; make run'}.")
    need(path, *FILES)
    try:
        contents = [read_json(path / f"{name}.json") for name in ("run", "metrics", "quality", "embedding")]
        answers, status = pd.read_parquet(path / "answers.parquet"), contents[0]["status"]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkbookError(f"{shown(path)} is damaged: {error}. Run it again: make run FRESH=1.") from error
    if status != "done":
        raise WorkbookError(f"{shown(path)} is not finished: its run.json has the status {status!r}. Run it again.")
    return Run(shown(path), path, *contents, answers, fingerprint(path / FILES[0]))


def _different(runs: list[Run]) -> pd.DataFrame:
    """Return the parameters, code and packages that differ: a row for each, a column for each run."""
    columns = {}
    for run in runs:
        packages = {f"package {name}": version for name, version in run.record["packages"].items()}
        values = {**run.record["parameters"], "code": run.record["code"][:10], **packages}
        columns[run.name] = pd.Series({key: "" if v is None else str(v) for key, v in values.items()})
    table = pd.DataFrame(columns).fillna("")
    return table[table.nunique(axis=1) > 1].drop(index="run_dir", errors="ignore")


def _figures(run: Run) -> dict[str, str]:
    """Return the figures of a run's tuned encoder, with 95 % intervals, as text."""
    tuned, retrieval, rules = run.metrics["encoders"]["tuned"], findings.summary(run.metrics), run.quality["rules"]
    checks = run.embedding["scorecard"]
    wrong = [check["check"] for check in checks if check["verdict"] in ("look", "broken")]
    return {
        **retrieval.loc["tuned"],
        f"{MAIN}, base": retrieval.loc["base", MAIN],
        **{f"MusicCaps {task}": f"{value:.3f}" for task, value in tuned.get("musiccaps", {}).items()},
        "uniformity": f"{tuned['space']['uniformity']:.2f}",
        "ms for one request": ", ".join(f"{s['ms_for_one']:.1f} ({where})" for where, s in tuned["speed"].items()),
        "quality rules that pass": f"{sum(rule['passed'] for rule in rules)} of {len(rules)}",
        "embedding checks to look at": "; ".join(wrong) or f"none of {len(checks)}",
        "held-out requests, tracks": f"{run.metrics['requests']:,}, {run.metrics['tracks']:,}",
        "tracks in the catalogue": f"{run.quality['tracks']:,}",
        "minutes to train and index": f"{run.record['stages']['03_finetune']['seconds'] / 60:.1f}",
    }


def _part(first: Run, other: Run) -> dict:
    """Compare a run with the first, request by request: the verdict, and the requests that changed most."""
    both = _paired(first, other)
    return {
        "verdict": _verdict(first, other, both),
        "names": (first.name, other.name),
        "better": _rows(both[both["gain"] > 0].nlargest(SHOWN, "gain")),
        "worse": _rows(both[both["gain"] < 0].nsmallest(SHOWN, "gain")),
    }


def _paired(first: Run, other: Run) -> pd.DataFrame:
    """Return the requests that both runs answered, with both answers; empty if their catalogues differ.

    Returns:
        Columns of answers.parquet, with _x for the first run and _y for the other, and the gain in nDCG@10.
    """
    before, after = (run.answers.assign(nth=run.answers.groupby("text").cumcount()) for run in (first, other))
    both = before.merge(after, on=["text", "mood", "nth"])  # two requests may have the same text
    both["gain"] = both[f"{MAIN}_y"] - both[f"{MAIN}_x"]
    return both if first.catalogue == other.catalogue else both.head(0)


def _rows(both: pd.DataFrame) -> list[dict]:
    """Return requests for the page: text, and for each run nDCG@10 and songs."""
    return [
        {"text": r["text"], "answers": [(r[f"{MAIN}_{side}"], r[f"songs_{side}"].split("\n")) for side in "xy"]}
        for r in both.to_dict("records")
    ]


def _verdict(first: Run, other: Run, both: pd.DataFrame) -> str:
    """Return one sentence on which run answers better, from their paired requests."""
    if len(both) < 2:
        why = "different catalogues" if first.catalogue != other.catalogue else "no request in common"
        return (
            f"{other.name} and {first.name} have {why}: compare their figures only, request by request is impossible."
        )
    before, after = (both[[f"{m}_{side}" for m in MEASURES]].set_axis(list(MEASURES), axis=1) for side in "xy")
    change = evaluation.compare(before, after)[MAIN]
    better, worse = change["low"] > 0, change["high"] < 0
    words = "answers better than" if better else "answers worse than" if worse else "makes no clear difference to"
    return (
        f"{other.name} {words} {first.name}: {MAIN} {change['mean']:+.3f} "
        f"(95 % interval {change['low']:+.3f} to {change['high']:+.3f}) over {len(both):,} requests; "
        f"{(both['gain'] > 0).sum():,} improved, {(both['gain'] < 0).sum():,} worsened."
    )


def _picture(runs: list[Run]) -> dict[str, str]:
    encoders = {run.name: run.metrics["encoders"]["tuned"] for run in runs}
    means = [f"{name} {encoder['retrieval'][MAIN]['mean']:.3f}" for name, encoder in encoders.items()]
    png, about = style.described(pictures.retrieval(encoders, f"{MAIN}: {', '.join(means)}"))
    return {"png": png["image/png"], "alt": about["image/png"]["alt"]}
