"""The pictures of the encoder: its training, its figures. Titles say the finding; colours as in plots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, PALETTE, TUNED, color_of
from lib.search.match import BANDS


def seed_histogram(tests: dict[str, dict]) -> Figure:
    """Similarities of the energetic tracks to the seed's request, with the seed's thresholds."""
    figure, axes = plt.subplots(figsize=(8, 4))
    colors = color_of(list(tests))
    for name, test in tests.items():
        label = f"{name}: mean {test['mean']:.2f}, spread {test['std']:.2f}"
        axes.hist(test["scores"], np.linspace(-0.2, 1, 49), alpha=0.6, color=colors[name], label=label)
    for label, edge in list(BANDS.items())[:-1]:
        axes.axvline(edge, color="#333333", linestyle="--", linewidth=1)
        axes.text(edge + 0.005, 0.98, label, rotation=90, va="top", fontsize=8, transform=axes.get_xaxis_transform())
    axes.set(xlabel="cosine similarity to the request", ylabel="tracks")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.3)
    axes.legend(loc="upper left", fontsize=9)
    total = max(test["tracks"] for test in tests.values())
    strong = ", ".join(f"{test['bands']['strong']} {name}" for name, test in tests.items())
    axes.set_title(f"Of {total} energetic tracks above 0.7: {strong}")
    return figure


def retrieval(encoders: dict[str, dict], said: str) -> Figure:
    """Each encoder's retrieval measures with 95 % intervals."""
    measures = list(next(iter(encoders.values()))["retrieval"])
    figure, axes = plt.subplots(figsize=(max(8, 1.9 * len(encoders) + 3), 4))
    colors, width = color_of(list(encoders)), 0.85 / len(encoders)
    for k, (name, encoder) in enumerate(encoders.items()):
        values = [encoder["retrieval"][m] for m in measures]
        at, mean = np.arange(len(measures)) + width * (k - (len(encoders) - 1) / 2), [v["mean"] for v in values]
        error = np.abs([[v["mean"] - v["low"] for v in values], [v["high"] - v["mean"] for v in values]])
        axes.bar(at, mean, 0.92 * width, yerr=error, color=colors[name], label=name, capsize=2)
        for x, v in zip(at, values, strict=True):
            axes.text(x, v["high"] + 0.01, f"{v['mean']:.2f}".lstrip("0"), ha="center", fontsize=8)
    axes.set(xticks=range(len(measures)), xticklabels=measures, ylabel="on held-out requests (bars: 95 % interval)")
    axes.margins(y=0.25)
    axes.legend(ncols=len(encoders), loc="upper right", fontsize=9)
    axes.set_title(said)
    return figure


def by_mood(table: pd.DataFrame) -> Figure:
    """Mean average precision of base and tuned for each mood, from `evaluation.by_mood`."""
    ordered = table.sort_values("tuned")
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(ordered) + 1.2))
    y = np.arange(len(ordered))
    axes.hlines(y, ordered["base"], ordered["tuned"], color="#cccccc", linewidth=2, zorder=1)
    axes.scatter(ordered["base"], y, color=BASE, label="base", marker="s", zorder=2)
    axes.scatter(ordered["tuned"], y, color=TUNED, label="tuned", zorder=2)
    axes.set(yticks=y, yticklabels=[f"{m} ({n})" for m, n in ordered["requests"].items()], xlim=(0, None))
    axes.set(xlabel="mean average precision of its requests (how many in brackets)")
    axes.legend(loc="lower right")
    gained = int((ordered["tuned"] > ordered["base"]).sum())
    axes.set_title(f"{gained} of {len(ordered)} moods are found better; {ordered.index[0]} is hardest")
    return figure


def bands(calibration: dict[str, dict]) -> Figure:
    """The precision that each of the seed's bands really has, an encoder a colour.

    Args:
        calibration: encoder -> band -> answers and precision (None where too few answers fall into the band).
    """
    figure, axes = plt.subplots(figsize=(8, 4))
    names = list(next(iter(calibration.values())))
    colors, width = color_of(list(calibration)), 0.8 / len(calibration)
    for k, (encoder, rows) in enumerate(calibration.items()):
        for i, name in enumerate(names):
            x, share = i + width * (k - (len(calibration) - 1) / 2), rows[name]["precision"]
            axes.bar(x, share or 0, 0.92 * width, color=colors[encoder], label=encoder if i == 0 else None)
            said = f"{share:.0%}" if share is not None else "too few"
            axes.text(x, (share or 0) + 0.01, f"{said}\n{rows[name]['answers']:,}", ha="center", fontsize=8)
    axes.set(xticks=range(len(names)), xticklabels=names, ylabel="share of answers that are relevant")
    axes.set(xlabel="the seed's band of the answer's similarity (below each share: answers in it)", ylim=(0, 1.15))
    axes.legend(loc="upper right")
    tuned = calibration["tuned"]["strong"]["precision"]
    axes.set_title(
        "Few answers are “strong”: its precision is unknown"
        if tuned is None
        else f"“Strong” is right {tuned:.0%} of the time once tuned"
    )
    return figure


def confusion(table: pd.DataFrame) -> Figure:
    """Which moods answer requests for which, from `evaluation.confusion`."""
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(table) + 2))
    percent = (100 * table).round()
    sns.heatmap(percent.where(percent >= 1), annot=True, fmt=".0f", cmap="cividis", cbar=False, linewidths=0.5, ax=axes,
                annot_kws={"fontsize": 8})  # fmt: skip
    axes.set(xlabel="mood of the ten tracks that answer (%)", ylabel="mood asked for")
    axes.set_facecolor("white")
    axes.grid(False)
    right = np.mean([table.loc[m, m] if m in table else 0 for m in table.index])
    wrong = table.stack()
    wrong = wrong[[a != b for a, b in wrong.index]]
    worst = f"; most confused: {wrong.idxmax()[0]} answered with {wrong.idxmax()[1]}" if len(wrong) else ""
    axes.set_title(f"{right:.0%} of answers have the mood asked for{worst}")
    figure.tight_layout()
    return figure


def forms(compared: pd.DataFrame, title: str) -> Figure:
    """Speed beside quality: the forms of an encoder, by the milliseconds of one request and nDCG@10."""
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for i, (form, row) in enumerate(compared.sort_values("ms for one").iterrows()):
        at = (row["ms for one"], row["nDCG@10"])
        axes.plot(*at, "^Dso"[i % 4], color=PALETTE[i], markersize=11)
        said = f"{form}: {at[0]:.2g} ms, {at[1]:.3f}"
        axes.annotate(said, at, xytext=(0, 11 if i % 2 else -20), textcoords="offset points", ha="center", fontsize=9)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
    axes.set(xscale="log", xlabel="milliseconds to encode one request on a kernel's CPU threads (log scale)")
    axes.set_ylabel("nDCG@10")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(compared["ms for one"].min() / 2, compared["ms for one"].max() * 2)
    axes.set_ylim(0, 1.25 * compared["nDCG@10"].max())
    axes.set_title(title)
    figure.tight_layout()
    return figure
