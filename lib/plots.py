"""The pictures: each takes a table, says its finding in the title, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.moods import MOODS

BASE, TUNED, OTHER = "#999999", "#0072B2", "#E69F00"  # Okabe and Ito (2008)
sns.set_theme(style="whitegrid", rc={"figure.dpi": 110, "axes.titlesize": 12, "axes.titlelocation": "left"})


def plane(tracks: pd.DataFrame) -> Figure:
    """Where tracks lie by their audio features, with the moods' own points named."""
    figure, axes = plt.subplots(figsize=(7.5, 6))
    known = tracks.dropna(subset=["valence", "energy"])
    axes.scatter(known["valence"] * 2 - 1, known["energy"] * 2 - 1, s=6, alpha=0.35, color=BASE, linewidths=0)
    present = [m for m in MOODS.values() if m.name in set(tracks["mood"])]
    axes.scatter([m.valence for m in present], [m.arousal for m in present], color=TUNED, s=30, zorder=3)
    for mood in present:
        axes.annotate(
            mood.name,
            (mood.valence, mood.arousal),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=9,
            weight="bold",
        )
    axes.set(
        xlabel="valence (unpleasant to pleasant)",
        ylabel="arousal, from energy (quiet to excited)",
        xlim=(-1.1, 1.1),
        ylim=(-1.1, 1.1),
    )
    axes.set_title(f"{len(known):,} tracks and {len(present)} moods on the valence–arousal plane")
    return figure


def failures(results: list[dict]) -> Figure:
    """Failing rows of each rule."""
    table = pd.DataFrame(results).iloc[::-1]
    colors = np.where(table["severity"] == "error", OTHER, BASE)
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(table) + 1))
    axes.barh(table["rule"], table["failures"], color=colors)
    for i, count in enumerate(table["failures"]):
        axes.text(count, i, f" {count:,}", va="center", fontsize=9)
    axes.set(xlabel="failing rows (orange: errors, grey: warnings)", xlim=(0, max(1, table["failures"].max()) * 1.12))
    failed = int((table["failures"] > 0).sum())
    axes.set_title(f"{len(table) - failed} of {len(table)} rules hold" + (f", {failed} do not" if failed else ""))
    return figure


def loss(history: pd.DataFrame) -> Figure:
    """Training loss by step."""
    figure, axes = plt.subplots(figsize=(7, 3.5))
    axes.plot(history["step"], history["loss"], color=TUNED)
    first, last = history["loss"].iloc[0], history["loss"].iloc[-1]
    axes.set(xlabel="optimiser step", ylabel="contrastive loss (lower is better)", ylim=(0, None))
    axes.set_title(f"The loss goes from {first:.2f} to {last:.2f} in {int(history['step'].iloc[-1])} steps")
    return figure


def similarity(table: pd.DataFrame, gap: dict[str, float | None]) -> Figure:
    """Cosine similarities within a mood and between moods, an encoder a panel.

    Args:
        table: columns encoder, pair ("same mood", "other mood"), similarity.
        gap: for each encoder the area under the ROC curve: how often a same-mood pair is the closer one.
    """
    figure, panels = plt.subplots(1, len(gap), figsize=(5.2 * len(gap), 3.8), sharex=True, squeeze=False)
    for axes, (name, area) in zip(panels[0], gap.items(), strict=True):
        part = table[table["encoder"] == name]
        if len(part):  # seaborn cannot colour the hues of nothing
            sns.histplot(part, x="similarity", hue="pair", hue_order=["same mood", "other mood"],
                         palette=[TUNED, OTHER], stat="density", common_norm=False, bins=50, element="step",
                         alpha=0.35, ax=axes)  # fmt: skip
        axes.set(xlabel="cosine similarity of two tracks", ylabel="density")
        said = "under two moods to compare" if area is None else f"the same-mood pair is closer {area:.0%} of the time"
        axes.set_title(f"{name}: {said}")
    figure.tight_layout()
    return figure


def umap(
    points: dict[str, np.ndarray], moods: pd.Series, kept: dict[str, float], gap: dict[str, float | None]
) -> Figure:
    """UMAP of each encoder's vectors, coloured by the eight commonest moods.

    Args:
        points: encoder -> (n, 2).
        kept: encoder -> trustworthiness of the picture, 0 to 1.
        gap: encoder -> how often a same-mood pair is the closer one, 0 to 1.
    """
    shown = moods[moods != ""].value_counts().index[:8]
    palette = sns.color_palette("colorblind", 10)
    colors = dict(zip(shown, [*palette[:7], palette[9]], strict=False))  # without the grey: the other moods have it
    markers = dict(zip(shown, "osD^vPX*", strict=False))
    figure, panels = plt.subplots(1, len(points), figsize=(6 * len(points), 5.4), squeeze=False)
    for axes, (name, xy) in zip(panels[0], points.items(), strict=True):
        axes.scatter(*xy[~moods.isin(shown)].T, s=4, color="#dddddd", linewidths=0)
        for mood in shown:
            axes.scatter(
                *xy[moods == mood].T,
                s=14,
                color=colors[mood],
                marker=markers[mood],
                label=mood,
                linewidths=0,
                alpha=0.8,
            )
        axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
        said = "under two moods" if gap[name] is None else f"same mood is nearer {gap[name]:.0%} of the time"
        axes.set_title(f"{name}: {said} (trustworthiness {kept[name]:.2f})", fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=8, frameon=False, markerscale=1.6)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def seed_histogram(tests: dict[str, dict]) -> Figure:
    """Similarities of the energetic tracks to the seed's request, with the seed's thresholds."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for (name, test), color in zip(tests.items(), (BASE, TUNED), strict=False):
        axes.hist(
            test["scores"],
            bins=np.linspace(-0.2, 1, 49),
            alpha=0.65,
            color=color,
            label=f"{name}: mean {test['mean']:.2f}",
        )
    for edge, label in ((0.4, "borderline"), (0.5, "moderate"), (0.7, "strong")):
        axes.axvline(edge, color="#333333", linestyle="--", linewidth=1)
        axes.text(edge + 0.005, 0.98, label, rotation=90, va="top", fontsize=8, transform=axes.get_xaxis_transform())
    axes.set(xlabel="cosine similarity to the request", ylabel="tracks")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper left")
    strong = {name: test["bands"]["strong"] for name, test in tests.items()}
    axes.set_title("Tracks above 0.7: " + ", ".join(f"{count} {name}" for name, count in strong.items()))
    return figure


def retrieval(encoders: dict[str, dict], said: str) -> Figure:
    """Each encoder's retrieval measures with 95 % intervals."""
    measures = list(next(iter(encoders.values()))["retrieval"])
    figure, axes = plt.subplots(figsize=(8, 4))
    for k, ((name, encoder), color) in enumerate(zip(encoders.items(), (OTHER, BASE, TUNED), strict=False)):
        values = [encoder["retrieval"][m] for m in measures]
        at, mean = np.arange(len(measures)) + 0.27 * (k - 1), [v["mean"] for v in values]
        error = np.abs([[v["mean"] - v["low"] for v in values], [v["high"] - v["mean"] for v in values]])
        axes.bar(at, mean, 0.25, yerr=error, color=color, label=name, capsize=3)
        for x, v in zip(at, values, strict=True):
            axes.text(x, v["high"] + 0.01, f"{v['mean']:.3f}", ha="center", fontsize=9)
    axes.set(xticks=range(len(measures)), xticklabels=measures, ylabel="on held-out requests (bars: 95 % interval)")
    axes.margins(y=0.25)
    axes.legend(ncols=3, loc="upper right")
    axes.set_title(said)
    return figure
