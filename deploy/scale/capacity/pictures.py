"""The pictures of what many listeners take. Titles say the finding; colours as in plots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.core.style import BASE, FAINT, OTHER, PALETTE, TUNED

# What parts are called in pictures.
NAMES = {"envoy": "Envoy", "varnish": "Varnish", "api": "workers", "redis": "Redis", "triton": "Triton"}
SAID = {
    "users": "listeners",
    "per_day": "requests a listener a day",
    "peak_factor": "busiest second over the mean",
    "personal": "share of personal requests",
    "distinct": "distinct requests",
    "exponent": "Zipf exponent",
    "ttl": "seconds an answer is kept",
    "caches": "edge caches a region",
    "utilisation": "how busy a core may be",
    "search": "ms of a search",
    "core_hour": "price of a core",
    "gib_hour": "price of memory",
    "gpu_speedup": "GPU over a core",
    "gpu_hour": "price of a GPU",
}
AFTER, LIMIT = {"alpha": 0.9, "linewidth": 1.6}, {"color": "#333333", "linestyle": "--", "linewidth": 1}


def dollars(value: float) -> str:
    """Money as people say it."""
    return (
        f"${value / 1e6:.1f} M" if value >= 1e6 else f"${value / 1000:,.3g} k" if value >= 10_000 else f"${value:,.0f}"
    )


def percent(share: float) -> str:
    """A share, small ones too."""
    return f"{share:,.1%}" if share >= 0.01 else f"{100 * share:.2g}%" if share else "none"


def _bars(axes: Axes, values: pd.Series, colors: str | list[str], labels: list[str]) -> None:
    """Lying bars, the first one on top, each with what it says beside it: where no grid is needed, nor in the way."""
    axes.barh(values.index, values, color=colors)
    for at, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.text(value, at, f" {label}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False)


def need(table: pd.DataFrame, rate: float, users: float) -> Figure:
    """Cores and memory of each part, in all regions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    most = table["processes"].max()
    first = table.index[table["processes"] == most]
    colors = [OTHER if part == first[0] and len(first) == 1 else TUNED for part in table.index]
    for axes, column, unit in ((left, "processes", "processes, of a core each"), (right, "gib", "GiB of memory")):
        said = [f"{value:.1f}" if 0 < value < 10 and value % 1 else f"{value:,.0f}" for value in table[column]]
        _bars(axes, table[column].rename(NAMES), colors, said)
        axes.set(xlabel=f"{unit}, all regions together", xlim=(0, 1.18 * max(table[column].max(), 1)))
    largest = "workers take" if first[0] == "api" else f"{NAMES[first[0]]} takes"
    said = f"{largest} {most / table['processes'].sum():.0%} of the cores"
    said = said if len(first) == 1 else f"no part takes more than {most:.0f} cores"
    left.set_title(f"{rate:,.0f} requests a second: {said}")
    right.set_title(f"{table['gib'].sum():,.0f} GiB, {dollars(table['dollars'].sum())} a month for {users / 1e6:g} M")
    figure.tight_layout()
    return figure


def encoders(table: pd.DataFrame, users: float) -> Figure:
    """Cost a month by encoder."""
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(table) + 1.3))
    gpus = [f", {number:,.0f} GPUs" if number else "" for number in table["gpus"]]
    said = [f"{dollars(row.dollars)}: {row.cores:,.0f} cores" for row in table.itertuples()]
    _bars(axes, table["dollars"], TUNED, [cores + more for cores, more in zip(said, gpus, strict=True)])
    axes.xaxis.set_major_formatter(lambda value, _: dollars(value))
    axes.set(xlabel="dollars a month (prices are assumed)", xlim=(0, 1.5 * table["dollars"].max()))
    least, most = table.index[0], table.index[-1]
    times = table["dollars"].iloc[-1] / table["dollars"].iloc[0]
    axes.set_title(f"{users / 1e6:g} M listeners with {most} cost {times:.1f} times what they do with {least}")
    return figure


def tornado(table: pd.DataFrame) -> Figure:
    """What each assumption moves when it is halved or doubled."""
    given, ordered = table["given"].iloc[0], table.iloc[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(ordered) + 1.4))
    for at, row in enumerate(ordered.itertuples()):
        for value, color, label in ((row.halved, OTHER, "halved"), (row.doubled, TUNED, "doubled")):
            axes.barh(at, value - given, left=given, color=color, height=0.7, label=label if at == 0 else None)
    axes.set_yticks(range(len(ordered)), [SAID[name] for name in ordered.index])
    axes.axvline(given, color="#333333", linewidth=1)
    axes.set(xlabel="dollars a month")
    axes.xaxis.set_major_formatter(lambda value, _: dollars(value))
    axes.legend(loc="lower right")
    first = SAID[table.index[0]]
    most = table.iloc[0][["halved", "doubled"]]
    axes.set_title(
        f"{dollars(given)} a month; {first}, halved or doubled: {dollars(most.min())} to {dollars(most.max())}"
    )
    return figure


def hit_curve(curves: pd.DataFrame, seen: tuple[float, float], peak: float) -> Figure:
    """The share of shared requests that a cache has, by the rate, a line a column; what was measured is a star."""
    figure, axes = plt.subplots(figsize=(8, 3.8))
    for name, color in zip(curves, (TUNED, BASE), strict=True):
        axes.semilogx(curves.index, curves[name], color=color, linewidth=2, label=name)
    said = f"measured: {seen[1]:.0%} at {seen[0]:,.0f}/s"
    axes.plot(*seen, "*", color=OTHER, markersize=16, linestyle="none", label=said)
    axes.legend(loc="upper left")
    curve = curves.iloc[:, 0]
    axes.axvline(peak, **LIMIT)
    label = {"ha": "right", "fontsize": 9, "transform": axes.get_xaxis_transform()}
    axes.text(peak, 0.03, "one region at the peak ", **label)
    axes.set(xlabel="requests a second", ylabel="share found in the cache", ylim=(0, 1))
    at = float(np.interp(np.log(peak), np.log(curve.index), curve))
    axes.set_title(f"The more ask, the more is known already: {at:.0%} of shared requests at the peak")
    return figure


def checked(table: pd.DataFrame, fitted: list[float]) -> Figure:
    """Simulated beside measured latencies; what the simulation was fitted to is hollow."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    for axes, name in zip(panels, ("p50", "p99"), strict=True):
        ends = table[[f"{name} least", f"{name} most"]].sub(table[name], axis=0).abs().T
        dots = {"color": BASE, "marker": "o", "capsize": 4, "label": "measured: the median, least and most"}
        axes.errorbar(table.index, table[name], ends, **dots)
        others = table.drop(index=fitted)
        for rows, face, label in ((others, TUNED, "simulated"), (table.loc[fitted], "white", "simulated, fitted here")):
            diamonds = {"color": TUNED, "markerfacecolor": face, "markersize": 8, "label": label}
            axes.plot(rows.index, rows[f"{name} simulated"], "D", **diamonds)
        off = (others[f"{name} simulated"] / others[name] - 1).abs().max()
        axes.fill_between(table.index, 0.75 * table[name], 1.25 * table[name], color=FAINT, zorder=0, label="± 25 %")
        axes.set(xlabel="requests a second, none cached", ylabel=f"{name}, ms", ylim=(0, None))
        axes.set_title(f"{name}: off by {off:.0%} at most where it was not fitted")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=4)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure


def latencies(table: pd.DataFrame, rate: float) -> Figure:
    """How long what is answered takes, by where the answer is found: the share that takes longer."""
    failed, table = table["failed"].mean(), table[~table["failed"]]
    figure, axes = plt.subplots(figsize=(8.5, 4))
    for found, color in zip(("edge", "joined", "made"), (TUNED, PALETTE[2], OTHER), strict=True):
        took = np.sort(table.loc[table["found"] == found, "ms"])
        if len(took):
            over = 1 - np.arange(len(took)) / len(took)
            label = f"{found}: {len(took) / len(table):.0%}"
            axes.loglog(took, over, color=color, label=label, **AFTER)
    whole = np.sort(table["ms"])
    axes.loglog(whole, 1 - np.arange(len(whole)) / len(whole), color="#000000", label="all", linewidth=2)
    axes.axvline(250, **LIMIT)
    axes.text(250, 0.5, "250 ms ", ha="right", fontsize=9, transform=axes.get_xaxis_transform())
    axes.set(xlabel="milliseconds", ylabel="share of answers that take longer", ylim=(1e-4, 1))
    axes.legend(loc="lower left")
    p50, p99 = table["ms"].quantile([0.5, 0.99])
    said = f"; {percent(failed)} fail" if failed else ""
    axes.set_title(f"{rate:,.0f} requests a second, simulated: p50 {p50:.1f} ms, p99 {p99:.0f} ms{said}")
    return figure


def breaking(table: pd.DataFrame, planned: float) -> Figure:
    """Latency and failures as the rate grows beyond what was planned for."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
    times = table.index / planned
    left.semilogy(times, table["p99"], color=OTHER, marker="o", label="p99")
    left.semilogy(times, table["p50"], color=TUNED, marker="s", label="p50")
    left.axhline(250, **LIMIT)
    left.set(xlabel="rate over the planned one", ylabel="milliseconds")
    left.legend(loc="best")
    held = times[(table["p99"] <= 250).cummin()]
    left.set_title(
        f"p99 stays below 250 ms up to {held.max():.1f} times the plan" if len(held) else "p99 is over 250 ms"
    )
    for part, label, color in (("workers", "workers", TUNED), ("encoders", "Triton", OTHER)):
        if table[part].any():  # a static encoder has no Triton
            right.plot(times, table[part], color=color, marker="o", label=label)
    right.axhline(1, **LIMIT)
    right.set(xlabel="rate over the planned one", ylabel="busy, of what there is", ylim=(0, None))
    right.legend(loc="best")
    broken = table[(table["p99"] > 250) | (table["failed"] > 0.01)]
    if len(broken):
        first = "Triton is" if broken["encoders"].iloc[0] > broken["workers"].iloc[0] else "The workers are"
        right.set_title(f"{first} the busier where it breaks, at {broken.index[0] / planned:g} times")
    else:
        right.set_title("Nothing breaks")
    figure.tight_layout()
    return figure


def stories(told: dict[str, tuple[pd.DataFrame, list[tuple[float, str]]]]) -> Figure:
    """What happens over time in each scenario: p99, and the share of requests that fail."""
    figure, panels = plt.subplots(2, len(told), figsize=(4.6 * len(told), 5), sharex="col", squeeze=False)
    for column, (title, (table, marks)) in zip(panels.T, told.items(), strict=True):
        for axes, name, color, unit in zip(
            column, ("p99", "failed"), (TUNED, OTHER), ("p99, ms", "failed, %"), strict=True
        ):
            axes.plot(table.index, table[name] * (100 if name == "failed" else 1), color=color, **AFTER)
            axes.set(
                ylabel=unit,
                ylim=(0, 1.25 * table["p99"].max() if name == "p99" else max(1, 110 * table["failed"].max())),
            )
            for at, said in marks:
                axes.axvline(at, **LIMIT)
                if name == "p99":
                    axes.text(at, 0.97, f" {said}", fontsize=8, va="top", transform=axes.get_xaxis_transform())
        column[1].set(xlabel="seconds")
        column[0].set_title(
            f"{title}\nworst p99 {table['p99'].max():,.0f} ms, {table['failed'].mean():.2%} fail", fontsize=11
        )
    figure.tight_layout()
    return figure


def budget(table: pd.DataFrame, target: float) -> Figure:
    """What each kind of event takes of the requests that may fail in a month."""
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(table) + 1.4))
    ordered = table.sort_values("of_budget", ascending=False)
    colors = [TUNED if said == "measured" else OTHER for said in ordered["said"]]
    said = [f"{percent(row.of_budget)} ({row.said})" for row in ordered.itertuples()]
    _bars(axes, 100 * ordered["of_budget"], colors, said)
    axes.set(
        xlabel=f"% of the requests that may fail at {target:.2%}", xlim=(0, 135 * max(ordered["of_budget"].max(), 1e-4))
    )
    total = table["of_budget"].sum()
    axes.set_title(f"All of it takes {percent(total)} of a month's budget; {ordered.index[0]} most")
    return figure
