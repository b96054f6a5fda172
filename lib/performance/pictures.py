"""Pictures of encoders: retrieval, moods, match bands, speed. Titles state the finding."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lib.core.style import BASE, PALETTE, TUNED, color_of
from lib.search.match import BANDS


def retrieval(encoders: dict[str, dict], title: str) -> Figure:
    """Draw each encoder's retrieval measures with 95 % intervals."""
    values = {name: pd.DataFrame(encoder["retrieval"]) for name, encoder in encoders.items()}
    means = pd.DataFrame({name: v.loc["mean"] for name, v in values.items()})
    errors = [[v.loc["mean"] - v.loc["low"], v.loc["high"] - v.loc["mean"]] for v in values.values()]
    axes = _bars(means, (max(8, 1.9 * len(encoders) + 3), 4), yerr=errors, capsize=2)
    for bars in axes.containers[1::2]:  # each encoder has error bars, then bars
        axes.bar_label(bars, [f"{v:.2f}".lstrip("0") for v in bars.datavalues], fontsize=8, padding=1)
    axes.set_ylabel("mean (with 95 % interval)")
    axes.margins(y=0.25)
    axes.legend(ncols=len(encoders), loc="upper right", fontsize=9)
    axes.set_title(title)
    return axes.figure


def _bars(table: pd.DataFrame, size: tuple[float, float], **options):
    """Draw a group of bars for each row, with a bar for each encoder."""
    axes = table.plot.bar(figsize=size, rot=0, width=0.85, color=color_of(list(table)), edgecolor="white", **options)
    axes.grid(axis="x", visible=False)
    return axes


def by_mood(table: pd.DataFrame) -> Figure | None:
    """Draw base and tuned mean average precision of each mood, from `evaluation.by_mood`. None without moods."""
    if table.empty:
        return None
    ordered = table.sort_values("tuned")
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(ordered) + 1.2))
    y = np.arange(len(ordered))
    axes.hlines(y, ordered["base"], ordered["tuned"], color="#cccccc", linewidth=2, zorder=1)
    axes.scatter(ordered["base"], y, color=BASE, label="base", marker="s", zorder=2)
    axes.scatter(ordered["tuned"], y, color=TUNED, label="tuned", zorder=2)
    axes.set(yticks=y, yticklabels=[f"{m} ({n})" for m, n in ordered["requests"].items()], xlim=(0, None))
    axes.set(xlabel="mean average precision", ylabel="mood (number of requests)")
    axes.legend(loc="lower right")
    gained = int((ordered["tuned"] > ordered["base"]).sum())
    hardest, requests = next(ordered["requests"].items())
    axes.set_title(f"Tuning raises {gained} of {len(ordered)} moods; {hardest} is hardest ({requests} requests)")
    return figure


def served(table: pd.DataFrame) -> Figure:
    """Draw the share of right answers of each system for each kind of request, from `served.compare`."""
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(table) + 1.4))
    y, systems = np.arange(len(table))[::-1], [name for name in ("bm25", "base", "tuned", "served") if name in table]
    axes.hlines(y, table["low"], table["high"], color="black", linewidth=1, zorder=1)
    axes.scatter(table["chance"], y, color="black", marker="|", s=80, label="chance")
    colors = color_of(systems)
    for name, marker in zip(systems, ("^", "s", "o", "D")[-len(systems) :], strict=True):
        axes.scatter(table[name], y, color=colors[name], marker=marker, label=name, zorder=2 + (name == "served"))
    labels = [f"{kind} ({n:.0f})" for kind, n in table["requests"].items()]
    axes.set(yticks=y, yticklabels=labels, xlim=(-0.02, 1.02))
    axes.set(xlabel="share of the shown tracks that fit; for names, of right first tracks", ylabel="kind of request")
    axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    worst = table["served"].drop("all", errors="ignore").idxmin()
    first = table["served"].iloc[0] if "all" not in table.index else table.loc["all", "served"]
    title = f"Served answers fit in {first:.0%} of cases; hardest: {worst} ({table.loc[worst, 'served']:.0%})"
    axes.set_title(title, pad=30)
    return figure


def confusion(table: pd.DataFrame) -> Figure | None:
    """Draw the retrieved moods of each requested mood, from `evaluation.confusion`. None without moods.

    The title names the commonest wrong mood. A track without a mood is not wrong.
    """
    if table.empty:
        return None
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(table) + 2.2), layout="constrained")
    percent = (100 * table).round()
    sns.heatmap(percent.where(percent >= 1), annot=True, fmt=".0f", cmap="cividis", cbar=False, linewidths=0.5, ax=axes,
                annot_kws={"fontsize": 8})  # fmt: skip
    axes.set(xlabel="mood of the first ten tracks (%)", ylabel="requested mood")
    axes.tick_params(axis="y", rotation=0)
    axes.set_facecolor("white")
    axes.grid(False)
    wrong = table.drop(columns="unknown", errors="ignore").stack()
    wrong = wrong[[requested != retrieved for requested, retrieved in wrong.index]]
    worst = "Requests for {} most often get {} instead".format(*wrong.idxmax()) if len(wrong) else "No mood is confused"
    axes.set_title(worst)
    return figure


def single_query(checks: dict[str, dict | None]) -> Figure | None:
    """Draw the similarities of the energetic tracks to the request, with the match bands. None without such tracks."""
    if not all(checks.values()):
        return None
    figure, axes = plt.subplots(figsize=(8, 4))
    colors = color_of(list(checks))
    for name, check in checks.items():
        label = f"{name}: mean {check['mean']:.2f}, std {check['std']:.2f}"
        axes.hist(check["scores"], np.linspace(-0.2, 1, 49), alpha=0.6, color=colors[name], label=label)
    for label, edge in list(BANDS.items())[:-1]:
        axes.axvline(edge, color="#333333", linestyle="--", linewidth=1)
        axes.text(edge + 0.005, 0.98, label, rotation=90, va="top", fontsize=8, transform=axes.get_xaxis_transform())
    axes.set(xlabel="cosine similarity to the request", ylabel="tracks")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.3)
    axes.legend(loc="upper left", fontsize=9)
    total = max(check["tracks"] for check in checks.values())
    strong = ", ".join(f"{check['bands']['strong']} ({name})" for name, check in checks.items())
    axes.set_title(f"Strong matches (over {BANDS['strong']}) among {total} energetic tracks: {strong}")
    return figure


def bands(encoders: dict[str, dict]) -> Figure:
    """Draw the measured precision of each match band, from `calibration.precision_by_band` of each encoder."""
    precision = pd.DataFrame({name: pd.DataFrame(rows).loc["precision"] for name, rows in encoders.items()})
    axes = _bars(precision.astype(float).fillna(0), (8, 4))
    for bars, rows in zip(axes.containers, encoders.values(), strict=True):
        shares = ["too few" if row["precision"] is None else f"{row['precision']:.0%}" for row in rows.values()]
        labels = [f"{share}\n{row['answers']:,}" for share, row in zip(shares, rows.values(), strict=True)]
        axes.bar_label(bars, labels, fontsize=8, padding=1)
    axes.set_xlabel("match band of the similarity (below each share: tracks in the band)")
    axes.set(ylabel="share of tracks that are relevant", ylim=(0, 1.15))
    axes.legend(loc="upper right")
    strong = encoders["tuned"]["strong"]["precision"]
    axes.set_title(
        "Too few “strong” tracks to measure the precision of the band"
        if strong is None
        else f"{strong:.0%} of the tuned encoder's “strong” tracks are relevant"
    )
    return axes.figure


def forms(compared: pd.DataFrame, title: str) -> Figure:
    """Draw the forms of an encoder by milliseconds of one request and nDCG@10, from `tradeoff.compare`."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    ordered = compared.sort_values("ms for one")
    for i, (form, ms, ndcg) in enumerate(ordered[["ms for one", "nDCG@10"]].itertuples()):
        axes.plot(ms, ndcg, "^Dso"[i % 4], color=PALETTE[i], markersize=11)
        offset = {"xytext": (0, 11 if i % 2 else -20), "textcoords": "offset points", "ha": "center", "fontsize": 9}
        axes.annotate(f"{form}: {ms:.2g} ms, {ndcg:.3f}", (ms, ndcg), **offset)
    axes.set(xscale="log", xlabel="milliseconds to encode one request on a kernel's CPU threads (log scale)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set(xlim=(ordered["ms for one"].iloc[0] / 2, ordered["ms for one"].iloc[-1] * 2), ylabel="nDCG@10")
    axes.set(ylim=(0, 1.25 * ordered["nDCG@10"].max()), title=title)
    return figure
