"""Pictures of the embedding space: token lengths, similarities, pairs of moods, maps. Titles state the finding."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, FAINT, OTHER, TUNED, groups
from lib.debug.maps import coloured, sharing
from lib.debug.scorecard import CHECKS
from lib.debug.similarity import BINS, CENTRES, Pairs, figures

MARKERS = "osD^vPX*"  # one for each colour: no group depends on colour alone
MOST = 20  # groups that a map tells apart: all moods, all families of genres
SEEN = 3  # tracks that a group needs for a colour of its own
TRUSTED = CHECKS["low"]["trustworthiness of the map"]


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
    """Draw the cosine of two tracks, within a mood and between moods: a panel for each encoder, then all together.

    If the tracks are one group (`similarity.grouped`), there is one panel: any two tracks.
    """
    panels, together, means = {}, [], []
    for color, (name, p) in zip((BASE, TUNED), pairs.items(), strict=True):
        mean, *_, share, closer = figures(p).values()
        means += [] if mean is None else [f"{mean:.2f} ({name})"]
        if share is None:
            together.append(_curve(p.within, color, f"{name}, any two tracks", fill=0))
            continue
        curves = [_curve(p.within, TUNED, "same mood"), _curve(p.between, OTHER, "other mood")]
        panels[f"{name}: overlap {share:.2f}, same mood closer {closer:.0%}"] = curves
        together.append(_curve(p.within, color, f"{name}, same mood", fill=0))
        together.append(_curve(p.between, color, f"{name}, other mood", fill=0, linestyle="--"))
    return _histograms(panels | {f"Mean of all pairs: {', '.join(means) or 'no pairs'}": together}, height=3.8)


def most_overlapping(pairs: Pairs, table: pd.DataFrame, most: int = 6) -> Figure | None:
    """Draw the similarities within and between the moods of the first rows of `similarity.by_moods`. None without."""
    if table.empty:
        return None
    panels = {}
    for mood, other, share, _ in table.head(most).itertuples(index=False):
        a, b = pairs.moods.index(mood), pairs.moods.index(other)
        panels[f"{mood} and {other}: overlap {share:.2f}"] = [
            _curve(pairs.counts[a, a], TUNED, f"within {mood}", fill=0),
            _curve(pairs.counts[b, b], TUNED, f"within {other}", fill=0, linestyle="--"),
            _curve(pairs.counts[a, b], OTHER, "between them"),
        ]
    return _histograms(panels, height=2.9)


def _curve(counts: np.ndarray, color: str, label: str, fill: float = 0.3, linestyle: str = "-") -> tuple:
    return counts, {"ec": color, "fc": (color, fill), "label": label, "linestyle": linestyle, "linewidth": 1.5}


def _histograms(panels: dict[str, list[tuple]], height: float) -> Figure:
    """Draw panels of curves by their title, three in a row, limited to the similarities that occur."""
    rows, columns = -(-len(panels) // 3), 1 if len(panels) == 1 else 3
    size = (4.5 * columns + 2.5 * (columns == 1), height * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    occupied = CENTRES[sum(counts for curves in panels.values() for counts, _ in curves) > 0]
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for counts, style in curves:
            if counts.any():
                axes.hist(CENTRES, BINS // 2, (-1, 1), weights=counts, density=True, histtype="stepfilled", **style)
        axes.set_title(title, fontsize=11)
        if len(occupied):
            axes.set_xlim(occupied[0] - 0.05, occupied[-1] + 0.05)
            axes.legend(loc="upper right", fontsize=9)
    figure.supxlabel("cosine similarity of two tracks", fontsize=11)
    figure.supylabel("density of pairs", fontsize=11)
    return figure


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


def umap(
    points: dict[str, np.ndarray], tracks: pd.DataFrame, judged: dict[str, dict[str, float]], ways: list[str]
) -> Figure | None:
    """Draw maps, encoder name -> (n, 2): a column for each encoder, a row for each of `ways` (`maps.ways`).

    Below each map stand the figures of `maps.judge`. None without maps or ways.
    """
    if not points or not ways:
        return None
    size = (5.4 * len(points) + 1.6, 4.6 * len(ways))
    figure, panels = plt.subplots(len(ways), len(points), figsize=size, squeeze=False, layout="constrained")
    for row, way in zip(panels, ways, strict=True):
        name_of_way = "family of genres" if way == "genre" else way
        for axes, (name, xy) in zip(row, points.items(), strict=True):
            _scatter(axes, xy, coloured(tracks, way))
            trust, kept = judged[name].values()
            axes.set(xticks=[], yticks=[])
            low = "" if trust >= TRUSTED else ", too low to interpret the map"
            axes.set_xlabel(f"trustworthiness {trust:.2f}{low}; {kept:.0%} of neighbours are kept", fontsize=9)
            colored = axes.get_legend_handles_labels()[0] or way == "energy"
            axes.set_title(f"{name}, by {name_of_way}" if colored else name, fontsize=11)
        if way == "energy":
            figure.colorbar(axes.collections[0], cax=axes.inset_axes([1.04, 0.1, 0.03, 0.8]), label="energy")
        elif colored:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.8, fontsize=9)
    figure.suptitle(_finding(points, tracks, ways[0]), x=0.02, ha="left")
    return figure


def _finding(points: dict[str, np.ndarray], tracks: pd.DataFrame, way: str) -> str:
    """Return how often a track's ten nearest in each map have its mood, or its family of genres."""
    values = coloured(tracks, way)
    if way not in ("mood", "genre"):
        return f"{len(tracks):,} tracks"
    shares = {name: sharing(xy, values) for name, xy in points.items()}
    words = ", ".join(f"{share:.0%} ({name})" for name, (share, _) in shares.items())
    chance, kind = next(iter(shares.values()))[1], "family of genres" if way == "genre" else way
    return f"Of a track's ten nearest in the map, {words} share its {kind}; by chance {chance:.0%}"


def _scatter(axes, xy: np.ndarray, values: pd.Series) -> None:
    """Draw the tracks of a map, coloured by energy or by its commonest values, such as moods."""
    style = {"s": float(np.clip(12_000 / len(xy), 4, 16)), "linewidths": 0, "alpha": 0.8}
    if values.name == "energy":
        axes.scatter(*xy.T, c=values.astype(float), cmap="cividis", vmin=0, vmax=1, **style)
        return
    colors = groups(values.where(values.map(values.value_counts()) >= SEEN, ""), MOST)
    rest = xy[~values.isin(colors).to_numpy()]
    axes.scatter(*rest.T, color=FAINT if colors else TUNED, label="others" if colors and len(rest) else None, **style)
    for i, (value, color) in enumerate(colors.items()):  # a colour comes back with another marker
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]
        axes.scatter(*xy[(values == value).to_numpy()].T, color=color, marker=marker, label=_short(value), **style)


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
