"""Pictures of failing rules."""

from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from lib.core.style import BASE, OTHER


def failures(results: list[dict], where: str = "") -> Figure | None:
    """Draw the number of failing rows of each failed rule; None if every rule holds. `where` begins the title."""
    failed = pd.DataFrame([result for result in results if not result["passed"]]).iloc[::-1]
    if failed.empty:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(failed) + 1))
    bars = axes.barh(failed["rule"], failed["failures"], color=np.where(failed["severity"] == "error", OTHER, BASE))
    axes.bar_label(bars, fmt=" {:,.0f}", fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="failing rows (orange: errors, grey: warnings)", xlim=(0, failed["failures"].max() * 1.12))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"{where}{len(failed)} of {len(results)} rules fail")
    return figure


def failing_values(results: list[dict], failing: pd.DataFrame, tracks: pd.DataFrame) -> Figure | None:
    """Draw a panel for each failed rule: its failing rows beside all rows, or bars for its failing groups.

    A rule whose bars would all be equal, as one bar is, has no panel. None without panels.
    """
    panels = {}
    for result in results:
        if result["passed"]:
            continue
        title, column = fill(f"{result['rule']}: {result['failures']:,} fail", 38), result["column"]
        rows = tracks.loc[failing.loc[failing["rule"] == result["rule"], "row"].astype(int)]
        if len(rows) and column and (column == "text" or pd.api.types.is_numeric_dtype(tracks[column])):
            panels[title] = partial(_histogram, column=column, rows=rows, tracks=tracks)
        elif len(set((bars := _sizes(result, rows))[1].values())) > 1:
            panels[title] = partial(_bars, *bars)
    if not panels:
        return None
    height, width = -(-len(panels) // 3), min(3, len(panels))
    figure, grid = plt.subplots(height, width, figsize=(4.33 * width, 3.2 * height), squeeze=False)
    for axes, (title, draw) in zip(grid.flat, panels.items(), strict=False):
        draw(axes=axes)
        axes.set_title(title, fontsize=10)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    figure.tight_layout()
    return figure


def _sizes(result: dict, rows: pd.DataFrame) -> tuple[str, dict[str, float]]:
    """Return a unit, and the size of each failing mood, column, artist or request, or of each group of failing rows."""
    if rows.empty:  # a rule on the whole table
        *_, unit = result["rows"][0]
        sizes = {str(next(iter(row.values())))[:28]: row[unit] for row in result["rows"]}
        return unit, {name: size if isinstance(size, int | float) else 1 for name, size in sizes.items()}
    group = "genre" if result["column"] in (None, "mood") else result["column"]
    return f"failing rows by {group}", rows[group].value_counts().head(8).to_dict()


def _histogram(axes: Axes, column: str, rows: pd.DataFrame, tracks: pd.DataFrame) -> None:
    values, failing = (
        table["text"].str.count(" ").add(1).clip(upper=150) if column == "text" else table[column].dropna()
        for table in (tracks, rows)
    )
    edges = np.histogram_bin_edges(values, 40)
    for part, color in ((values, BASE), (failing, OTHER)):
        axes.hist(part, edges, color=color, histtype="stepfilled", log=True)
    if edges[-1] > 1e5:  # else a factor such as 1e6 stands on the label
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set(xlabel=f"{'words in text' if column == 'text' else column} (orange: failing)", ylabel="tracks")


def _bars(unit: str, sizes: dict[str, float], axes: Axes) -> None:
    bars = axes.barh([name or "(none)" for name in sizes][::-1], list(sizes.values())[::-1], color=OTHER)
    axes.bar_label(bars, fmt=" {:,.3g}", fontsize=8)
    axes.set(xlabel=unit, xticks=[])
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(visible=False, axis="y")
