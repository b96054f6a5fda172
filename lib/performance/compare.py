"""Runs side by side, as a page and as text for the terminal. The first run is the reference."""

import os
from pathlib import Path

import pandas as pd

from lib.core import pages, style
from lib.core.errors import WorkbookError
from lib.core.measures import MAIN
from lib.core.paths import resolve, shown
from lib.performance import differences, pictures

SHOWN = 8  # requests that improved most, and as many that worsened most


def write(folders: list[str], path: Path) -> str:
    """Compare finished runs with the first, write the page `path`, and return the comparison as text.

    Raises:
        WorkbookError: fewer than two different runs; a run is missing, unfinished or damaged.
    """
    if len(set(map(resolve, folders))) < max(2, len(folders)):
        raise WorkbookError('name at least two different runs: make compare RUNS="outputs/a outputs/b".')
    runs = [differences.read(folder) for folder in folders]
    parameters, figures = differences.parameters(runs), differences.figures(runs)
    parts = [_part(runs[0], other) for other in runs[1:]]
    path.parent.mkdir(parents=True, exist_ok=True)
    pages.page(
        path,
        "performance/compare",
        title="Runs side by side",
        parts=parts,
        parameters=pages.table(parameters) if len(parameters) else "",
        figures=pages.table(figures),
        picture=_picture(runs),
        links=[(run.name, os.path.relpath(run.folder / "report.html", path.parent)) for run in runs],
    )
    different = parameters.to_string() if len(parameters) else "none: the same parameters, code and packages"
    verdicts = "\n".join(part["verdict"] for part in parts)
    return f"Differences\n{different}\n\nFigures\n{figures.to_string()}\n\n{verdicts}\n\nAs a page: {shown(path)}"


def _part(first: differences.Run, other: differences.Run) -> dict:
    both = differences.paired(first, other)
    return {
        "verdict": differences.verdict(first, other, both),
        "names": (first.name, other.name),
        "better": _most_changed(both, "gain > 0", ascending=False),
        "worse": _most_changed(both, "gain < 0", ascending=True),
    }


def _most_changed(both: pd.DataFrame, condition: str, ascending: bool) -> list[dict]:
    if both.empty:
        return []
    rows = both.query(condition).sort_values("gain", ascending=ascending, kind="stable").head(SHOWN)
    return [
        {"text": r["text"], "answers": [(r[f"{MAIN}_{side}"], r[f"songs_{side}"].split("\n")) for side in "xy"]}
        for r in rows.to_dict("records")
    ]


def _picture(runs: list[differences.Run]) -> dict[str, str]:
    encoders = {run.name: run.metrics["encoders"]["tuned"] for run in runs}
    means = [f"{name} {encoder['retrieval'][MAIN]['mean']:.3f}" for name, encoder in encoders.items()]
    png, about = style.described(pictures.retrieval(encoders, f"{MAIN}: {', '.join(means)}"))
    return {"png": png["image/png"], "alt": about["image/png"]["alt"]}
