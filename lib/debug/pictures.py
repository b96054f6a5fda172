"""Pictures of the embedding space: token lengths, similarities, pairs of moods, maps. Titles state the finding."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, FAINT, OTHER, TUNED, groups
from lib.debug.similarity import CENTRES, Pairs, figures

MARKERS = "osD^vPX*"  # one for each colour: no group depends on colour alone


def tokens(lengths: np.ndarray, limit: float) -> Figure:
    """Draw the lengths of texts in tokens, and the encoder's limit, which may be infinite."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    axes.hist(lengths, np.arange(0, lengths.max() + 2, max(1, lengths.max() // 60)), color=TUNED)
    if limit < 10 * lengths.max():
        axes.axvline(limit, color=OTHER, linewidth=2)
        side = "right" if limit > lengths.max() / 2 else "left"
        axes.annotate(f" limit: {limit} tokens ", (limit, 0.9), xycoords=("data", "axes fraction"), ha=side)
    axes.set(xlabel="tokens of a track's text", ylabel="tracks", xlim=(0, None))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.2)
    cut, half = int((lengths > limit).sum()), int(np.median(lengths))
    axes.set_title(f"The encoder cuts {cut:,} of {len(lengths):,} texts; half have at most {half} tokens")
    return figure


def similarity(pairs: dict[str, Pairs]) -> Figure:
    """Draw the cosine of two tracks, within a mood and between moods: a panel for each encoder, then all together."""
    figure, panels = plt.subplots(1, len(pairs) + 1, figsize=(4.6 * (len(pairs) + 1), 3.8), sharex=True)
    means = []
    for axes, color, (name, p) in zip(panels, (BASE, TUNED), pairs.items(), strict=False):
        _histogram(axes, p.within, TUNED, "same mood", fill=True)
        _histogram(axes, p.between, OTHER, "other mood", fill=True)
        _histogram(panels[-1], p.within, color, f"{name}, same mood")
        _histogram(panels[-1], p.between, color, f"{name}, other mood", "--")
        mean, *_, share, closer = figures(p).values()
        finding = "under two moods" if share is None else f"overlap {share:.2f}, same mood closer {closer:.0%}"
        axes.set_title(f"{name}: {finding}", fontsize=11)
        means += [] if mean is None else [f"{mean:.2f} ({name})"]
    panels[-1].set_title(f"Mean of all pairs: {', '.join(means) or 'no pairs'}", fontsize=11)
    _zoom(panels[0], sum(p.within + p.between for p in pairs.values()))
    panels[0].set_ylabel("density of pairs")
    for axes in panels:
        axes.set_xlabel("cosine similarity of two tracks")
        if axes.patches:
            axes.legend(loc="upper right", fontsize=9)
    figure.tight_layout()
    return figure


def _histogram(axes, counts: np.ndarray, color: str, label: str, style: str = "-", fill: bool = False) -> None:
    if not counts.sum():
        return
    wide = counts.reshape(-1, 2).sum(axis=1)  # bins of 0.02
    density, edges = wide / wide.sum() / 0.02, np.linspace(-1, 1, len(wide) + 1)
    axes.stairs(density, edges, color=color, label=label, linestyle=style, linewidth=1.5)
    if fill:
        axes.stairs(density, edges, color=color, alpha=0.3, fill=True)


def _zoom(axes, counts: np.ndarray) -> None:
    """Limit the axis to the similarities that occur."""
    occupied = CENTRES[counts > 0]
    if len(occupied):
        axes.set_xlim(occupied[0] - 0.05, occupied[-1] + 0.05)


def mood_pairs(tables: dict[str, pd.DataFrame], order: list[str]) -> Figure | None:
    """Draw the overlap of every two moods, from `similarity.by_moods` of two encoders. None without pairs.

    The first encoder is below the diagonal, the second above; moods are in the given order.
    """
    (first, below), (second, above) = tables.items()
    if below.empty or above.empty:
        return None
    moods = [mood for mood in order if mood in set(above["mood"]) | set(above["other"])]
    lower, upper = (_square(table, moods) for table in (below, above))
    figure, axes = plt.subplots(figsize=(0.46 * len(moods) + 3.5, 0.42 * len(moods) + 1.6))
    grid = 100 * lower.where(np.tri(len(moods), dtype=bool), upper)
    sns.heatmap(grid, annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100, annot_kws={"fontsize": 8},
                cbar_kws={"label": "overlap, %"}, ax=axes)  # fmt: skip
    axes.set_facecolor("white")
    axes.grid(False)
    axes.set(xlabel=f"above the diagonal: {second}", ylabel=f"below the diagonal: {first}")
    plt.setp(axes.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    better, worst = int(np.triu(upper < lower).sum()), above.iloc[0]
    axes.set_title(
        f"{better} of {len(above)} pairs of moods overlap less in {second};\n"
        f"{worst['mood']} and {worst['other']} overlap most ({worst['overlap']:.0%})"
    )
    return figure


def _square(table: pd.DataFrame, moods: list[str]) -> pd.DataFrame:
    """Return the overlaps as a symmetric table with an empty diagonal."""
    mirrored = table.rename(columns={"mood": "other", "other": "mood"})
    return pd.concat([table, mirrored]).pivot(index="mood", columns="other", values="overlap").loc[moods, moods]


def most_overlapping(pairs: Pairs, table: pd.DataFrame, most: int = 6) -> Figure | None:
    """Draw the similarities within and between the moods of the first rows of `similarity.by_moods`. None without."""
    if table.empty:
        return None
    rows = -(-min(most, len(table)) // 3)
    size = (12, 2.7 * rows + 0.5)
    figure, panels = plt.subplots(rows, 3, figsize=size, sharex=True, squeeze=False, layout="constrained")
    for axes in panels.flat[len(table) :]:
        axes.axis("off")
    for axes, pair in zip(panels.flat, table.head(most).itertuples(), strict=False):
        a, b = (pairs.moods.index(mood) for mood in (pair.mood, pair.other))
        _histogram(axes, pairs.counts[a, a], TUNED, f"within {pair.mood}")
        _histogram(axes, pairs.counts[b, b], TUNED, f"within {pair.other}", "--")
        _histogram(axes, pairs.counts[a, b], OTHER, "between them", fill=True)
        axes.set_title(f"{pair.mood} and {pair.other}: overlap {pair.overlap:.2f}", fontsize=10)
        axes.tick_params(labelbottom=True)
        axes.legend(fontsize=8)
    _zoom(panels[0][0], pairs.within + pairs.between)
    first = table.iloc[0]
    figure.suptitle(f"Most overlap: {first['mood']} and {first['other']} ({first['overlap']:.0%})", x=0.02, ha="left")
    figure.supxlabel("cosine similarity of two tracks", fontsize=10)
    figure.supylabel("density of pairs", fontsize=10)
    return figure


def umap(points: dict[str, np.ndarray], tracks: pd.DataFrame, judged: dict[str, dict[str, float]]) -> Figure | None:
    """Draw maps, encoder name -> (n, 2): a column for each encoder, a row each for mood, genre and energy.

    Below each map stand the figures of `maps.judge`. None without maps.
    """
    if not points:
        return None
    ways = [way for way in ("mood", "genre", "energy") if not tracks[way].isin(["", np.nan]).all()] or ["mood"]
    size = (5.4 * len(points) + 1.6, 4.6 * len(ways))
    figure, panels = plt.subplots(len(ways), len(points), figsize=size, squeeze=False, layout="constrained")
    for row, way in zip(panels, ways, strict=True):
        for axes, (name, xy) in zip(row, points.items(), strict=True):
            _scatter(axes, xy, tracks[way])
            trust, kept = judged[name].values()
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"trustworthiness {trust:.2f}; {kept:.0%} of neighbours are kept", fontsize=9)
            axes.set_title(f"{name}, by {way}", fontsize=11)
        if way == "energy":
            figure.colorbar(axes.collections[0], cax=axes.inset_axes([1.04, 0.1, 0.03, 0.8]), label="energy")
        else:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.8, fontsize=9)
    trust = {name: judgement["trustworthiness"] for name, judgement in judged.items()}
    words = [f"{name} {t:.2f}{' (too low to interpret the map)' if t < 0.9 else ''}" for name, t in trust.items()]
    figure.suptitle(f"{len(tracks):,} tracks; trustworthiness: {', '.join(words)}", x=0.02, ha="left")
    return figure


def _scatter(axes, xy: np.ndarray, values: pd.Series) -> None:
    """Draw the tracks of a map, coloured by energy or by the commonest moods or genres."""
    style = {"s": float(np.clip(12_000 / len(xy), 1, 16)), "linewidths": 0, "alpha": 0.8}
    if values.name == "energy":
        axes.scatter(*xy.T, c=values.astype(float), cmap="cividis", vmin=0, vmax=1, **style)
        return
    colors = groups(values)
    rest = xy[~values.isin(colors).to_numpy()]
    axes.scatter(*rest.T, color=FAINT, label="others" if len(rest) else None, **style)
    for (value, color), marker in zip(colors.items(), MARKERS, strict=False):
        axes.scatter(*xy[(values == value).to_numpy()].T, color=color, marker=marker, label=value, **style)
