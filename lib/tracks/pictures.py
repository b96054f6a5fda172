"""Pictures of a catalogue: moods and tracks on the plane, audio features, long tails, synthetic beside real."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, OTHER, PALETTE, TUNED
from lib.tracks.moods import MOODS

PAIRED = ["energy", "valence", "acousticness", "danceability"]


def plane(tracks: pd.DataFrame) -> Figure:
    """Draw the tracks by their audio features, and the points of their moods with names."""
    figure, axes = plt.subplots(figsize=(7.5, 6))
    measured = tracks.dropna(subset=["valence", "energy"])
    axes.scatter(measured["valence"] * 2 - 1, measured["energy"] * 2 - 1, s=6, alpha=0.35, color=BASE, linewidths=0)
    moods = [mood for mood in MOODS.values() if mood.name in set(tracks["mood"])]
    axes.scatter([mood.valence for mood in moods], [mood.arousal for mood in moods], color=TUNED, s=30, zorder=3)
    label = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 9, "weight": "bold"}
    for mood in moods:
        axes.annotate(mood.name, (mood.valence, mood.arousal), **label)
    axes.set(xlabel="valence (unpleasant to pleasant)", ylabel="arousal, from energy (quiet to excited)")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    arousal = measured["mood"].map({mood.name: mood.arousal for mood in moods})
    follows = f"Energy follows the mood's arousal: correlation {arousal.corr(measured['energy']):.2f}"
    axes.set_title(follows if arousal.nunique() > 1 else f"{len(measured):,} tracks by their audio features")
    return figure


def pairs(tracks: pd.DataFrame, moods: list[str]) -> Figure | None:
    """Draw four audio features against each other, a colour for each of up to four moods; None without features."""
    sample = tracks[tracks["mood"].isin(moods[:4])].dropna(subset=PAIRED)
    if sample.empty:
        return None
    sample = sample.sample(min(600, len(sample)), random_state=0)
    moods = [mood for mood in moods[:4] if mood in set(sample["mood"])]
    style = {"palette": list(PALETTE[: len(moods)]), "markers": list("osD^")[: len(moods)], "height": 1.7}
    dots = {"s": 12, "alpha": 0.6, "linewidth": 0}
    grid = sns.pairplot(sample, vars=PAIRED, hue="mood", hue_order=moods, corner=True, plot_kws=dots, **style)
    correlation = tracks["energy"].corr(tracks["acousticness"])
    finding = f"Acoustic tracks have {'less' if correlation < 0 else 'more'} energy: correlation {correlation:.2f}"
    grid.figure.suptitle(finding, y=1.02)
    return grid.figure


def tails(catalogues: dict[str, pd.DataFrame]) -> Figure:
    """Draw the long tails of one or two catalogues: durations, popularity, artists. Titles are of the first."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6))
    for (name, tracks), color in reversed([*zip(catalogues.items(), (TUNED, OTHER), strict=False)]):
        minutes, popularity = tracks["duration_ms"].dropna() / 60_000, tracks["popularity"].dropna()
        counts = tracks.loc[tracks["artist"] != "", "artist"].value_counts().to_numpy()
        for axes, values, bins in ((left, minutes.clip(upper=15), 45), (middle, popularity, 25)):
            if len(values):
                axes.hist(values, bins, density=True, histtype="step", color=color)
        right.loglog(range(1, len(counts) + 1), counts, color=color, marker=".", label=name)
    tenth = counts[: max(1, len(counts) // 10)].sum() / max(1, counts.sum())
    longest = f"Median {minutes.median():.1f} min, 1 % over {minutes.quantile(0.99):.0f} min"
    left.set_title(longest if len(minutes) else "No durations")
    middle.set_title(f"Half are below popularity {popularity.median():.0f}" if len(popularity) else "No popularity")
    right.set_title(f"A tenth of the artists have {tenth:.0%} of the tracks")
    left.set(xlabel="minutes (15 and more together)", ylabel="density")
    middle.set(xlabel="popularity (0 to 100)", ylabel="density")
    right.set(xlabel="artist's rank", ylabel="tracks of the artist")
    right.legend(reverse=True)
    figure.tight_layout()
    return figure


def distances(table: pd.DataFrame) -> Figure:
    """Draw the distance of each feature between two catalogues, from `synthetic.distances_to`."""
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(table) + 1))
    table = table.sort_values("distance")
    bars = axes.barh(table["feature"], table["distance"], color=TUNED)
    axes.bar_label(bars, fmt=" %.2f", fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="Wasserstein distance, in standard deviations of the real feature")
    axes.set(xlim=(0, 1.15 * table["distance"].max()))
    nearest, farthest = table["feature"].iloc[[0, -1]]
    axes.set_title(f"Synthetic {nearest} matches best, {farthest} worst")
    return figure
