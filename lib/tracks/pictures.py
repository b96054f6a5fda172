"""Pictures of a catalogue: moods and tracks on the plane, audio features, long tails, synthetic beside real."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from lib.core.style import BASE, OTHER, PALETTE, TUNED
from lib.tracks.moods import MOODS

MINUTES, POPULARITY, ARTISTS = "minutes (15 and more together)", "popularity (0 to 100)", "artist's rank"
# Offsets of a name from its dot, in points, and its alignment: the first free one is taken.
SIDES = [
    *((7, 0, "left"), (-7, 0, "right"), (0, 7, "center"), (0, -7, "center")),
    *((6, 6, "left"), (-6, 6, "right"), (6, -6, "left"), (-6, -6, "right")),
]
PAIRED = ["energy", "valence", "acousticness", "danceability"]


def plane(tracks: pd.DataFrame) -> Figure | None:
    """Draw the tracks by their audio features, and the points of their moods with names.

    Without features the names have the numbers of tracks. None without features and without moods of moods.yaml.
    """
    measured = tracks.dropna(subset=["valence", "energy"])
    counts = tracks.loc[tracks["mood"].isin(MOODS), "mood"].value_counts()
    if measured.empty and counts.empty:
        return None
    figure, axes = plt.subplots(figsize=(7.5, 6))
    axes.scatter(measured["valence"] * 2 - 1, measured["energy"] * 2 - 1, s=6, alpha=0.35, color=BASE, linewidths=0)
    moods = [mood for mood in MOODS.values() if mood.name in counts]
    at = np.array([(mood.valence, mood.arousal) for mood in moods]).reshape(-1, 2)
    axes.scatter(*at.T, color=TUNED, s=30, zorder=3)
    label = {"fontsize": 8} if measured.empty else {"fontsize": 9, "weight": "bold"}
    label["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85}  # tracks stay behind a name
    axes.set(xlabel="valence (unpleasant to pleasant)", ylabel="arousal, from energy (quiet to excited)")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform(at)]
    for mood in moods:
        name = f"{mood.name} ({counts[mood.name]:,})" if measured.empty else mood.name
        _place(axes.annotate(name, (mood.valence, mood.arousal), (7, 0), textcoords="offset points", **label), taken)
    arousal = measured["mood"].map({mood.name: mood.arousal for mood in moods})
    follows = f"Energy follows the mood's arousal: correlation {arousal.corr(measured['energy']):.2f}"
    placed = f"{len(measured):,} tracks by their audio features"
    bare = f"{counts.sum():,} of {len(tracks):,} tracks have a mood, and none has audio features"
    axes.set_title(follows if arousal.nunique() > 1 else bare if measured.empty else placed)
    return figure


def _place(name: Annotation, taken: list[Bbox]) -> None:
    """Move a name to the first side of its dot where it covers no other dot and no other name."""
    for x, y, ha in SIDES:
        name.set(position=(x, y), ha=ha, va="center" if not y else "bottom" if y > 0 else "top")
        if not name.get_window_extent().count_overlaps(taken):
            break
    taken.append(name.get_window_extent())


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


def tails(catalogues: dict[str, pd.DataFrame]) -> Figure | None:
    """Draw the long tails of one or two catalogues: durations, popularity, artists.

    Titles are of the first catalogue. A tail that it lacks has no panel; None if it lacks all three.
    """
    all_tails = {name: _tails(tracks) for name, tracks in catalogues.items()}
    minutes, popularity, artists = (first := next(iter(all_tails.values()))).values()
    drawn = [label for label, values in first.items() if len(values)]
    if not drawn:
        return None
    tenth = artists.head(max(1, len(artists) // 10)).sum() / max(1, artists.sum())
    titles = [
        f"Median {minutes.median():.1f} min, 1 % over {minutes.quantile(0.99):.0f} min",
        f"Half are below popularity {popularity.median():.0f}",
        f"A tenth of the artists have {tenth:.0%} of the tracks",
    ]
    titles = dict(zip(first, titles, strict=True))
    figure, panels = plt.subplots(1, len(drawn), figsize=(4 * len(drawn), 3.6), squeeze=False)
    for axes, label in zip(panels.flat, drawn, strict=True):
        for (name, of), color in reversed([*zip(all_tails.items(), (TUNED, OTHER), strict=False)]):
            if label == ARTISTS:
                axes.loglog(range(1, len(of[label]) + 1), of[label], color=color, marker=".", label=name)
                axes.set_ylabel("tracks of the artist")
            elif len(of[label]):
                values, bins = (of[label].clip(upper=15), 45) if label == MINUTES else (of[label], 25)
                axes.hist(values, bins, density=True, histtype="step", color=color, label=name)
                axes.set_ylabel("density")
        axes.set(xlabel=label, title=titles[label])
    panels[0, -1].legend(reverse=True)
    figure.tight_layout()
    return figure


def _tails(tracks: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the durations in minutes, the popularities, and the artists' numbers of tracks, without unknown ones."""
    artists = tracks.loc[tracks["artist"] != "", "artist"].value_counts()
    return {
        MINUTES: tracks["duration_ms"].dropna() / 60_000,
        POPULARITY: tracks["popularity"].dropna(),
        ARTISTS: artists,
    }


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
