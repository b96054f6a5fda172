"""pictures."""

from __future__ import annotations

from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.style import BASE, OTHER


def failures(results: list[dict]) -> Figure | None:
    """Failing rows of each rule that fails; None if none does."""
    failed = pd.DataFrame([result for result in results if not result["passed"]]).iloc[::-1]
    if failed.empty:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(failed) + 1))
    axes.barh(failed["rule"], failed["failures"], color=np.where(failed["severity"] == "error", OTHER, BASE))
    for i, count in enumerate(failed["failures"]):
        axes.text(count, i, f" {count:,}", va="center", fontsize=9)
    axes.set(xlabel="failing rows (orange: errors, grey: warnings)", xlim=(0, failed["failures"].max() * 1.12))
    axes.set_title(f"{len(results) - len(failed)} of {len(results)} rules hold, {len(failed)} do not")
    return figure


def broken(results: list[dict], failing: pd.DataFrame, tracks: pd.DataFrame) -> Figure | None:
    """A picture for each rule that failed: where its rows lie in their column, or what failed. None if none did."""
    failed = [result for result in results if not result["passed"]]
    if not failed:
        return None
    rows = -(-len(failed) // 3)
    figure, panels = plt.subplots(rows, 3, figsize=(13, 3.2 * rows), squeeze=False)
    for axes, result in zip(panels.flat, failed, strict=False):
        bad = tracks.loc[failing.loc[failing["rule"] == result["rule"], "row"].astype(int)]
        _broken(axes, result, bad, tracks)
        axes.set_title("\n".join(wrap(f"{result['rule']}: {result['failures']:,} do not", 38)), fontsize=10)
    for axes in panels.flat[len(failed) :]:
        axes.axis("off")
    figure.tight_layout()
    return figure


def _broken(axes, result: dict, bad: pd.DataFrame, tracks: pd.DataFrame) -> None:
    column = result["column"]
    if len(bad) and column in tracks and pd.api.types.is_numeric_dtype(tracks[column]):
        edges = np.histogram_bin_edges(tracks[column].dropna(), 40)
        axes.hist(
            [tracks[column].dropna(), bad[column].dropna()], edges, color=[BASE, OTHER], histtype="stepfilled", log=True
        )
        axes.set(xlabel=f"{column} (orange: failing)", ylabel="tracks")
    elif len(bad) and column in tracks and column not in ("mood", "genre"):
        words = [table[column].str.count(" ").add(1).clip(upper=150) for table in (tracks, bad)]
        axes.hist(
            words, np.histogram_bin_edges(words[0].dropna(), 40), color=[BASE, OTHER], histtype="stepfilled", log=True
        )
        axes.set(xlabel=f"words in {column} (orange: failing)", ylabel="tracks")
    else:
        things = (
            result["rows"] if result["rows"] and "row" not in result["rows"][0] else bad["genre"].value_counts().head(8)
        )
        if isinstance(things, pd.Series):
            labels, sizes = list(things.index), things.to_numpy()
        else:
            labels = [str(next(iter(thing.values())))[:28] for thing in things]
            sizes = [next((v for v in reversed(thing.values()) if isinstance(v, int | float)), 1) for thing in things]
        axes.barh([label or "(none)" for label in labels][::-1], list(sizes)[::-1], color=OTHER)
        axes.tick_params(axis="y", labelsize=8)
