"""pictures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, OTHER, PALETTE, TUNED
from lib.tracks.moods import MOODS

PAIRED = ("energy", "valence", "acousticness", "danceability")


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


def pairs(tracks: pd.DataFrame, moods: list[str]) -> Figure:
    """Pair plot of four audio features, with up to four moods told apart."""
    shown = tracks[tracks["mood"].isin(moods[:4])].dropna(subset=PAIRED)
    shown = shown.sample(min(600, len(shown)), random_state=0)
    hues = [mood for mood in moods[:4] if mood in set(shown["mood"])]
    look = {"palette": list(PALETTE[: len(hues)]), "markers": list("osD^")[: len(hues)], "height": 1.7, "corner": True}
    dots = {"s": 12, "alpha": 0.6, "linewidth": 0}
    grid = sns.pairplot(shown, vars=list(PAIRED), hue="mood", hue_order=hues, plot_kws=dots, **look)
    correlation = tracks[["energy", "acousticness"]].corr().iloc[0, 1]
    together = f"Features move together: energy against acousticness {correlation:+.2f}"
    grid.figure.suptitle(together if pd.notna(correlation) else "Too few audio features to compare", y=1.02)
    return grid.figure


def tails(tables: dict[str, pd.DataFrame]) -> Figure:
    """Long tails, a catalogue a line: durations, popularity, and how many tracks each artist has."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    for (name, table), color in reversed(list(zip(tables.items(), (TUNED, OTHER), strict=False))):
        minutes = table["duration_ms"].dropna() / 60_000
        popularity = table["popularity"].dropna()
        counts = np.sort(table.loc[table["artist"] != "", "artist"].value_counts().to_numpy())[::-1]
        if len(minutes):
            panels[0].hist(minutes.clip(upper=15), bins=45, density=True, histtype="step", color=color, label=name)
        if len(popularity):
            panels[1].hist(popularity, bins=25, density=True, histtype="step", color=color, label=name)
        if len(counts):
            panels[2].loglog(np.arange(1, len(counts) + 1), counts, color=color, marker=".", label=name)
    panels[0].set(xlabel="minutes (15 and more together)", ylabel="density")
    panels[1].set(xlabel="popularity (0 to 100)", ylabel="density")
    panels[2].set(xlabel="artist's rank", ylabel="tracks of the artist")
    first = next(iter(tables.values()))
    longest, typical = first["duration_ms"].quantile([0.99, 0.5]) / 60_000
    half, few = first["popularity"].median(), 100 * counts[: max(1, len(counts) // 10)].sum() / max(1, counts.sum())
    panels[0].set_title(
        f"Half last {typical:.1f} min, 1 % over {longest:.0f}" if longest == longest else "No durations"
    )
    panels[1].set_title(f"Half are below popularity {half:.0f}" if half == half else "No popularity")
    panels[2].set_title(f"A tenth of the artists have {few:.0f} % of the tracks")
    panels[2].legend()
    figure.tight_layout()
    return figure


def distances(table: pd.DataFrame) -> Figure:
    """Distance of each feature between two catalogues, from `tracks.distances_to`."""
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(table) + 1))
    ordered = table.sort_values("distance", ascending=False).iloc[::-1]
    axes.barh(ordered["feature"], ordered["distance"], color=TUNED)
    for i, value in enumerate(ordered["distance"]):
        axes.text(value, i, f" {value:.2f}", va="center", fontsize=9)
    axes.set(
        xlabel="Wasserstein distance, in standard deviations of the real feature",
        xlim=(0, 1.15 * table["distance"].max()),
    )
    axes.set_title(
        f"Synthetic against real: {ordered['feature'].iloc[-1]} is farthest off, {ordered['feature'].iloc[0]} nearest"
    )
    return figure
