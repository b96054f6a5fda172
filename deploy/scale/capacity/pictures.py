"""The pictures of the capacity plan. Each title states the finding."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.scale.capacity.simulation import Event
from lib.core.style import BASE, FAINT, OTHER, PALETTE, TUNED

LIMIT = 250  # milliseconds: the target for p99
PARTS = {"envoy": "Envoy", "varnish": "Varnish", "api": "workers", "redis": "Redis", "triton": "Triton"}
SOURCES = {"edge": ("edge cache", TUNED), "joined": ("equal request", PALETTE[2]), "encoder": ("encoder", OTHER)}
MARK = {"color": "#333333", "linestyle": "--", "linewidth": 1}


def dollars(value: float) -> str:
    """Return an amount of money, rounded."""
    if value >= 1e6:
        return f"${value / 1e6:.1f} M"
    return f"${value / 1000:,.3g} k" if value >= 10_000 else f"${value:,.0f}"


def percent(share: float) -> str:
    """Return a share in percent; a small one with two digits."""
    return f"{share:,.1%}" if share >= 0.01 else f"{100 * share:.2g}%"


def _bars(axes: Axes, values: pd.Series, colors: str | list[str], labels: list[str]) -> None:
    """Draw horizontal bars, the first on top, each with its label, so that no grid is needed."""
    axes.barh(values.index, values, color=colors)
    for row, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.text(value, row, f" {label}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False)


def need(table: pd.DataFrame, rate: float, users: float) -> Figure:
    """Draw the processes and the memory of each part, all regions together."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    most = table["processes"].max()
    largest = table.index[table["processes"] == most]
    colors = [OTHER if part in largest else TUNED for part in table.index]
    for axes, column, unit in ((left, "processes", "processes (one core each)"), (right, "gib", "GiB of memory")):
        labels = [f"{value:.1f}" if 0 < value < 10 and value % 1 else f"{value:,.0f}" for value in table[column]]
        _bars(axes, table[column].rename(PARTS), colors, labels)
        axes.set(xlabel=f"{unit}, all regions", xlim=(0, 1.18 * max(table[column].max(), 1)))
    share, names = most / table["processes"].sum(), ", ".join(largest.map(PARTS))
    left.set_title(f"{rate:,.0f} requests/s: most cores ({share:.0%}) for {names}")
    cost = dollars(table["dollars"].sum())
    right.set_title(f"{table['gib'].sum():,.0f} GiB; {users / 1e6:g} M listeners cost {cost} a month")
    return figure


def encoders(table: pd.DataFrame, users: float) -> Figure:
    """Draw the monthly cost of each encoder."""
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(table) + 1.3), layout="constrained")
    labels = [
        f"{dollars(row.dollars)}: {row.cores:,.0f} cores" + (f", {row.gpus:,.0f} GPUs" if row.gpus else "")
        for row in table.itertuples()
    ]
    _bars(axes, table["dollars"], TUNED, labels)
    axes.xaxis.set_major_formatter(lambda value, _: dollars(value))
    axes.set(xlabel="dollars a month (prices are assumed)", xlim=(0, 1.5 * table["dollars"].max()))
    least, most = table.index[0], table.index[-1]
    factor = table["dollars"].iloc[-1] / table["dollars"].iloc[0]
    axes.set_title(f"{users / 1e6:g} M listeners cost {factor:.1f} times as much with {most} as with {least}")
    return figure


def tornado(table: pd.DataFrame) -> Figure:
    """Draw the effect of each assumption, halved and doubled, on the monthly cost."""
    planned, ordered = table["planned"].iloc[0], table.iloc[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(ordered) + 1.4), layout="constrained")
    for column, color in (("halved", OTHER), ("doubled", TUNED)):
        axes.barh(ordered.index, ordered[column] - planned, left=planned, color=color, height=0.7, label=column)
    axes.axvline(planned, color="#333333", linewidth=1)
    axes.set(xlabel="dollars a month")
    axes.xaxis.set_major_formatter(lambda value, _: dollars(value))
    axes.legend(loc="lower right")
    ends = table.iloc[0][["halved", "doubled"]]
    axes.set_title(
        f"{dollars(planned)} a month; {table.index[0]}, halved or doubled: "
        f"{dollars(ends.min())} to {dollars(ends.max())}"
    )
    return figure


def hit_rates(curves: pd.DataFrame, measured: tuple[float, float], peak: float) -> Figure:
    """Draw the hit rate of a cache by the request rate.

    Args:
        curves: index requests a second; a column for each line.
        measured: the request rate and the hit rate of the measured tier.
        peak: requests a second of one region at the peak.
    """
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for name, color in zip(curves, (TUNED, BASE), strict=True):
        axes.semilogx(curves.index, curves[name], color=color, linewidth=2, label=name)
    label = f"measured: {measured[1]:.0%} at {measured[0]:,.0f}/s"
    axes.plot(*measured, "*", color=OTHER, markersize=16, linestyle="none", label=label)
    axes.legend(loc="upper left")
    axes.axvline(peak, **MARK)
    at_the_line = {"ha": "right", "fontsize": 9, "transform": axes.get_xaxis_transform()}
    axes.text(peak, 0.03, "one region at the peak ", **at_the_line)
    axes.set(xlabel="requests a second", ylabel="hit rate", ylim=(0, 1))
    curve = curves.iloc[:, 0]
    rate = float(np.interp(np.log(peak), np.log(curve.index), curve))
    axes.set_title(f"More requests, more cache hits: {rate:.0%} of shared requests at the peak")
    return figure


def calibration(table: pd.DataFrame, fitted: list[float]) -> Figure:
    """Draw simulated beside measured latencies; hollow where the simulation was fitted."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axes, name in zip(panels, ("p50", "p99"), strict=True):
        ends = table[[f"{name} least", f"{name} most"]].sub(table[name], axis=0).abs().T
        dots = {"color": BASE, "marker": "o", "capsize": 4, "label": "measured: median, least and most"}
        axes.errorbar(table.index, table[name], ends, **dots)
        held_out = table.drop(index=fitted)
        for rows, face, label in (
            (held_out, TUNED, "simulated"),
            (table.loc[fitted], "white", "simulated, fitted"),
        ):
            diamonds = {"color": TUNED, "markerfacecolor": face, "markersize": 8, "label": label}
            axes.plot(rows.index, rows[f"{name} simulated"], "D", **diamonds)
        error = (held_out[f"{name} simulated"] / held_out[name] - 1).abs().max()
        axes.fill_between(table.index, 0.75 * table[name], 1.25 * table[name], color=FAINT, zorder=0, label="± 25 %")
        axes.set(xlabel="requests a second, all uncached", ylabel=f"{name}, ms", ylim=(0, None))
        axes.set_title(f"{name}: error at most {error:.0%} where not fitted")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def latencies(table: pd.DataFrame, rate: float) -> Figure:
    """Draw the share of answers that take longer than each latency, by the source of the answer."""
    failed, table = table["failed"].mean(), table[~table["failed"]]
    figure, axes = plt.subplots(figsize=(8.5, 4), layout="constrained")
    for source, (label, color) in SOURCES.items():
        rows = table.loc[table["source"] == source, "ms"]
        if len(rows):
            _tail(axes, rows, color=color, label=f"{label}: {percent(len(rows) / len(table))}", linewidth=1.6)
    _tail(axes, table["ms"], color="#000000", label="all", linewidth=2)
    axes.axvline(LIMIT, **MARK)
    axes.text(LIMIT, 0.5, f"{LIMIT} ms ", ha="right", fontsize=9, transform=axes.get_xaxis_transform())
    axes.set(xlabel="milliseconds", ylabel="share of answers that take longer", ylim=(1e-4, 1))
    axes.legend(loc="lower left")
    p50, p99 = table["ms"].quantile([0.5, 0.99])
    failures = f"; {percent(failed)} fail" if failed else ""
    axes.set_title(f"{rate:,.0f} requests/s, simulated: p50 {p50:.1f} ms, p99 {p99:.0f} ms{failures}")
    return figure


def _tail(axes: Axes, values: pd.Series, **line) -> None:
    axes.loglog(np.sort(values), 1 - np.arange(len(values)) / len(values), **line)


def growth(table: pd.DataFrame, planned: float) -> Figure:
    """Draw latencies and busy shares as the rate grows beyond the planned one."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    factors = table.index / planned
    left.semilogy(factors, table["p99"], color=OTHER, marker="o", label="p99")
    left.semilogy(factors, table["p50"], color=TUNED, marker="s", label="p50")
    left.axhline(LIMIT, **MARK)
    left.set(xlabel="rate over the planned rate", ylabel="milliseconds")
    left.legend(loc="best")
    held = factors[(table["p99"] <= LIMIT).cummin()]
    left.set_title(
        f"p99 is below {LIMIT} ms up to {held.max():.1f} times the plan" if len(held) else f"p99 exceeds {LIMIT} ms"
    )
    for part, label, color in (("workers", "workers", TUNED), ("encoders", "Triton", OTHER)):
        if table[part].any():  # a static encoder needs no Triton
            right.plot(factors, table[part], color=color, marker="o", label=label)
    right.axhline(1, **MARK)
    right.set(xlabel="rate over the planned rate", ylabel="busy share", ylim=(0, None))
    right.legend(loc="lower right")
    broken = table[(table["p99"] > LIMIT) | (table["failed"] > 0.01)]
    if len(broken):
        bottleneck = "Triton is" if broken["encoders"].iloc[0] > broken["workers"].iloc[0] else "workers are"
        right.set_title(f"At {broken.index[0] / planned:g} times the plan, {bottleneck} the bottleneck")
    else:
        right.set_title("Nothing breaks")
    return figure


def bad_days(timelines: dict[str, pd.DataFrame], days: dict[str, list[Event]]) -> Figure:
    """Draw p99 and the share of failed requests over the seconds of each bad day."""
    size = (4.6 * len(days), 5)
    figure, panels = plt.subplots(2, len(days), figsize=size, sharex="col", squeeze=False, layout="constrained")
    for (top, bottom), (name, table) in zip(panels.T, timelines.items(), strict=True):
        top.plot(table.index, table["p99"], color=TUNED, linewidth=1.6)
        top.set(ylabel="p99, ms", ylim=(0, 1.25 * table["p99"].max()))
        bottom.plot(table.index, 100 * table["failed"], color=OTHER, linewidth=1.6)
        bottom.set(ylabel="failed, %", ylim=(0, max(1, 110 * table["failed"].max())), xlabel="seconds")
        for event in days[name]:
            top.axvline(event.at, **MARK)
            bottom.axvline(event.at, **MARK)
            top.text(event.at, 0.97, f" {event.label}", fontsize=8, va="top", transform=top.get_xaxis_transform())
        worst, failed = table["p99"].max(), table["failed"].mean()
        top.set_title(f"{name}\nworst p99 {worst:,.0f} ms, {failed:.2%} fail", fontsize=11)
    return figure


def bottlenecks(table: pd.DataFrame, users: float) -> Figure:
    """Draw the listeners whose events one process of each engine carries; orange if they are too few."""
    figure, axes = plt.subplots(figsize=(6.4, 0.45 * len(table) + 1.6), layout="constrained")
    millions, all_of_them = table["listeners"] / 1e6, users / 1e6
    labels = [f"{value:,.3g} M" if value < all_of_them else f"more than {all_of_them:g} M" for value in millions]
    _bars(axes, millions.clip(upper=all_of_them), [OTHER if m < all_of_them else TUNED for m in millions], labels)
    axes.axvline(all_of_them, **MARK)
    for label in axes.texts:  # the line passes behind them
        label.set(bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=3)
    axes.set(xlabel="million listeners", xlim=(0, 1.3 * all_of_them))
    axes.set_title(f"Events break {table.index[0]} first:\nit carries {millions.iloc[0]:,.2g} M listeners")
    return figure


def budget(table: pd.DataFrame, target: float) -> Figure:
    """Draw the share of the month's error budget that each kind of event uses."""
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(table) + 1.4), layout="constrained")
    ordered = table.sort_values("share", ascending=False)
    colors = [TUNED if basis == "measured" else OTHER for basis in ordered["basis"]]
    _bars(axes, 100 * ordered["share"], colors, [f"{percent(row.share)} ({row.basis})" for row in ordered.itertuples()])
    axes.set(xlabel=f"% of the failures that {target:.2%} allows", xlim=(0, 135 * max(ordered["share"].max(), 1e-4)))
    axes.set_title(f"All events together use {percent(table['share'].sum())} of the month's error budget")
    return figure
