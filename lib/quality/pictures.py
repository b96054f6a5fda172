"""Pictures of failing rules."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.core.style import BASE, OTHER


def failures(results: list[dict]) -> Figure | None:
    """Draw the number of failing rows of each failed rule; None if every rule holds."""
    failed = pd.DataFrame([result for result in results if not result["passed"]]).iloc[::-1]
    if failed.empty:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(failed) + 1))
    bars = axes.barh(failed["rule"], failed["failures"], color=np.where(failed["severity"] == "error", OTHER, BASE))
    axes.bar_label(bars, fmt=" {:,.0f}", fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="failing rows (orange: errors, grey: warnings)", xlim=(0, failed["failures"].max() * 1.12))
    axes.set_title(f"{len(failed)} of {len(results)} rules fail")
    return figure


def failing_values(results: list[dict], failing: pd.DataFrame, tracks: pd.DataFrame) -> Figure | None:
    """Draw a panel for each failed rule: its failing rows beside all rows, or its failing things. None if all hold."""
    failed = [result for result in results if not result["passed"]]
    if not failed:
        return None
    height = -(-len(failed) // 3)
    figure, panels = plt.subplots(height, 3, figsize=(13, 3.2 * height), squeeze=False)
    for axes, result in zip(panels.flat, failed, strict=False):
        rows = tracks.loc[failing.loc[failing["rule"] == result["rule"], "row"].astype(int)]
        _panel(axes, result, rows, tracks)
        axes.set_title(fill(f"{result['rule']}: {result['failures']:,} fail", 38), fontsize=10)
    for axes in panels.flat[len(failed) :]:
        axes.axis("off")
    figure.tight_layout()
    return figure


def _panel(axes: Axes, result: dict, rows: pd.DataFrame, tracks: pd.DataFrame) -> None:
    column = result["column"]
    if rows.empty:  # a rule on the whole table: bars for its failing moods, columns, artists or requests
        *_, unit = result["rows"][0]
        sizes = {str(next(iter(row.values())))[:28]: row[unit] for row in result["rows"]}
        sizes = {name: size if isinstance(size, int | float) else 1 for name, size in sizes.items()}
    elif column and (column == "text" or pd.api.types.is_numeric_dtype(tracks[column])):
        values, failing = (
            table["text"].str.count(" ").add(1).clip(upper=150) if column == "text" else table[column].dropna()
            for table in (tracks, rows)
        )
        edges = np.histogram_bin_edges(values, 40)
        for part, color in ((values, BASE), (failing, OTHER)):
            axes.hist(part, edges, color=color, histtype="stepfilled", log=True)
        axes.set(xlabel=f"{'words in text' if column == 'text' else column} (orange: failing)", ylabel="tracks")
        return
    else:
        group = "genre" if column in (None, "mood") else column
        sizes, unit = rows[group].value_counts().head(8).to_dict(), f"failing rows by {group}"
    bars = axes.barh([name or "(none)" for name in sizes][::-1], list(sizes.values())[::-1], color=OTHER)
    axes.bar_label(bars, fmt=" {:,.3g}", fontsize=8)
    axes.set(xlabel=unit, xticks=[])
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(visible=False, axis="y")
