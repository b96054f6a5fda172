"""The pictures of the embedding space: lengths, similarities, pairs of moods, maps. Titles say the finding."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.core.style import BASE, FAINT, OTHER, TUNED, groups
from lib.debug.similarity import CENTRES, Pairs, figures

MARKERS = "osD^vPX*"  # a shape beside each colour: no group is told by colour alone


def tokens(lengths: np.ndarray, limit: int) -> Figure:
    """How long texts are, in tokens, against the most that the encoder reads."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    cut, known = int((lengths > limit).sum()), limit < 10 * lengths.max()
    axes.hist(lengths, np.arange(0, lengths.max() + 2, max(1, lengths.max() // 60)), color=TUNED)
    if known:
        axes.axvline(limit, color=OTHER, linewidth=2)
        axes.text(limit, 0.97, f" the encoder reads {limit} ", transform=axes.get_xaxis_transform(), va="top",
                  ha="right" if limit > lengths.max() / 2 else "left")  # fmt: skip
    axes.set(xlabel="tokens of a track's text", ylabel="tracks", xlim=(0, None))
    said = f"{cut:,} {'is' if cut == 1 else 'are'} cut" if cut else "none is cut"
    axes.set_title(f"Of {len(lengths):,} texts {said}; half have under {np.median(lengths) + 1:.0f} tokens")
    return figure


def similarity(pairs: dict[str, Pairs]) -> Figure:
    """Cosine of every two tracks, within a mood and between moods: an encoder a panel, then all over each other."""
    figure, panels = plt.subplots(1, len(pairs) + 1, figsize=(4.6 * (len(pairs) + 1), 3.8), sharex=True)
    found = {name: figures(p) for name, p in pairs.items()}
    for axes, (name, p) in zip(panels, pairs.items(), strict=False):
        for counts, color, label in ((p.within, TUNED, "same mood"), (p.between, OTHER, "other mood")):
            _histogram(axes, counts, color, label, fill=True)
        share, closer = found[name]["overlap"], found[name]["same mood is closer"]
        said = "under two moods" if share is None else f"overlap {share:.2f}, same mood closer {closer:.0%}"
        axes.set_title(f"{name}: {said}", fontsize=11)
    for (name, p), color in zip(pairs.items(), (BASE, TUNED), strict=False):
        for counts, style, label in ((p.within, "-", "same mood"), (p.between, "--", "other mood")):
            _histogram(panels[-1], counts, color, f"{name}, {label}", style)
    means = [f"{f['mean']:.2f} ({name})" for name, f in found.items() if f["mean"] is not None]
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
    pair = counts.reshape(-1, 2).sum(axis=1)  # 0.02 wide
    edges = np.linspace(-1, 1, len(pair) + 1)
    axes.stairs(pair / pair.sum() / 0.02, edges, color=color, label=label, linestyle=style, linewidth=1.5)
    if fill:
        axes.stairs(pair / pair.sum() / 0.02, edges, color=color, alpha=0.3, fill=True)


def _zoom(axes, counts: np.ndarray) -> None:
    """Show the similarities that occur."""
    seen = np.flatnonzero(counts)
    if len(seen):
        axes.set_xlim(CENTRES[seen[0]] - 0.05, CENTRES[seen[-1]] + 0.05)


def mood_pairs(tables: dict[str, pd.DataFrame], order: list[str]) -> Figure | None:
    """Overlap of every two moods: below the diagonal in the first encoder, above it in the second. None without pairs.

    Args:
        tables: two encoders -> `similarity.by_moods`.
        order: the moods in the order to show them.
    """
    (first, below), (second, above) = tables.items()
    if below.empty or above.empty:
        return None
    moods = [mood for mood in order if mood in set(above["mood"]) | set(above["other"])]
    row = {mood: i for i, mood in enumerate(moods)}
    grid = np.full((len(moods), len(moods)), np.nan)
    for table, lower in ((below, True), (above, False)):
        for a, b, share in table[["mood", "other", "overlap"]].itertuples(index=False):
            i, j = sorted((row[a], row[b]), reverse=lower)
            grid[i, j] = 100 * share
    figure, axes = plt.subplots(figsize=(0.46 * len(moods) + 3.5, 0.42 * len(moods) + 1.6))
    sns.heatmap(pd.DataFrame(grid, moods, moods), annot=True, fmt=".0f", cmap="cividis", vmin=0, vmax=100,
                annot_kws={"fontsize": 8}, cbar_kws={"label": "overlap, %"}, ax=axes)  # fmt: skip
    axes.set_facecolor("white")
    axes.grid(False)
    axes.set(xlabel=f"above the diagonal: {second}", ylabel=f"below the diagonal: {first}")
    axes.tick_params(axis="x", rotation=60)
    plt.setp(axes.get_xticklabels(), ha="right", rotation_mode="anchor")
    both = below.merge(above, on=["mood", "other"], suffixes=("_below", "_above"))
    better, worst = int((both["overlap_above"] < both["overlap_below"]).sum()), above.iloc[0]
    axes.set_title(
        f"{better} of {len(both)} pairs of moods lie further apart once {second};\n"
        f"{worst['mood']} and {worst['other']} overlap most ({worst['overlap']:.0%})"
    )
    return figure


def melting(pairs: Pairs, table: pd.DataFrame, most: int = 6) -> Figure | None:
    """The pairs of moods that overlap most: similarities within either mood and between both. None without pairs.

    Args:
        table: `similarity.by_moods` of the pairs.
        most: how many pairs of moods to show.
    """
    if table.empty:
        return None
    shown = table.head(most)
    rows = -(-len(shown) // 3)
    figure, panels = plt.subplots(
        rows, 3, figsize=(12, 2.7 * rows + 0.5), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, found in zip(panels.flat, shown.itertuples(), strict=False):
        a, b = (pairs.moods.index(mood) for mood in (found.mood, found.other))
        for counts, color, style, label in (
            (pairs.counts[a, a], TUNED, "-", f"within {found.mood}"),
            (pairs.counts[b, b], TUNED, "--", f"within {found.other}"),
            (pairs.counts[a, b], OTHER, "-", "between them"),
        ):
            _histogram(axes, counts, color, label, style, fill=color == OTHER)
        axes.set_title(f"{found.mood} and {found.other}: overlap {found.overlap:.2f}", fontsize=10)
        axes.legend(fontsize=8)
    _zoom(panels[0][0], pairs.within + pairs.between)
    for axes in panels.flat[len(shown) :]:
        axes.axis("off")
    figure.supxlabel("cosine similarity of two tracks", fontsize=10)
    figure.supylabel("density of pairs", fontsize=10)
    return figure


def umap(points: dict[str, np.ndarray], tracks: pd.DataFrame, judged: dict[str, dict[str, float]]) -> Figure:
    """Maps of the space: an encoder a column; a row each for moods, genres and energy. How far to trust it below.

    Args:
        points: encoder -> (n, 2).
        tracks: the n tracks, with mood, genre and energy.
        judged: encoder -> `maps.judge`.
    """
    ways = [way for way in ("mood", "genre") if (tracks[way] != "").any()]
    ways += ["energy"] if tracks["energy"].notna().any() else []
    ways = ways or ["mood"]  # then all are of one colour
    figure, panels = plt.subplots(
        len(ways), len(points), figsize=(5.4 * len(points) + 1.6, 4.6 * len(ways)), squeeze=False, layout="constrained"
    )
    for row, way in zip(panels, ways, strict=True):
        for axes, (name, xy) in zip(row, points.items(), strict=True):
            last = _energy(axes, xy, tracks["energy"]) if way == "energy" else _groups(axes, xy, tracks[way])
            trust, kept = judged[name].values()
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"trustworthiness {trust:.2f}; {kept:.0%} of neighbours are kept", fontsize=9)
            axes.set_title(f"{name}, by {way}", fontsize=11)
        if way == "energy":
            figure.colorbar(last, cax=row[-1].inset_axes([1.04, 0.1, 0.03, 0.8]), label="energy")
        else:
            row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.8, fontsize=9)
    trust = {name: found["trustworthiness"] for name, found in judged.items()}
    told = [f"{name} {t:.2f}{' (read no structure into it)' if t < 0.9 else ''}" for name, t in trust.items()]
    figure.suptitle(f"{len(tracks):,} tracks; trustworthiness: {', '.join(told)}", x=0.02, ha="left")
    return figure


def _groups(axes, xy: np.ndarray, values: pd.Series):
    colors = groups(values)
    rest = ~values.isin(colors).to_numpy()
    size = float(np.clip(12_000 / len(xy), 1, 16))
    axes.scatter(*xy[rest].T, s=size / 2, color=FAINT, linewidths=0, label="others" if rest.any() else None)
    for (value, color), marker in zip(colors.items(), MARKERS, strict=False):
        axes.scatter(
            *xy[(values == value).to_numpy()].T,
            s=size,
            color=color,
            marker=marker,
            label=value,
            linewidths=0,
            alpha=0.8,
        )


def _energy(axes, xy: np.ndarray, energy: pd.Series):
    size = float(np.clip(12_000 / len(xy), 1, 16))
    return axes.scatter(*xy.T, s=size, c=energy.astype(float), cmap="cividis", vmin=0, vmax=1, linewidths=0, alpha=0.8)
