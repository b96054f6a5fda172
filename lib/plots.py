"""The pictures: each takes a table, says its finding in the title, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.moods import MOODS

BASE, TUNED, OTHER = "#999999", "#0072B2", "#E69F00"  # Okabe and Ito (2008)
PALETTE = [TUNED, OTHER, "#009E73", "#CC79A7"]
PAIRED = ("energy", "valence", "acousticness", "danceability")
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


def pairs(tracks: pd.DataFrame, moods: list[str]) -> Figure:
    """Pair plot of four audio features, with up to four moods told apart."""
    shown = tracks[tracks["mood"].isin(moods[:4])].dropna(subset=PAIRED)
    shown = shown.sample(min(600, len(shown)), random_state=0)
    hues = [mood for mood in moods[:4] if mood in set(shown["mood"])]
    look = {"palette": PALETTE[: len(hues)], "markers": list("osD^")[: len(hues)], "height": 1.7, "corner": True}
    dots = {"s": 12, "alpha": 0.6, "linewidth": 0}
    grid = sns.pairplot(shown, vars=list(PAIRED), hue="mood", hue_order=hues, plot_kws=dots, **look)
    correlation = tracks[["energy", "acousticness"]].corr().iloc[0, 1]
    grid.figure.suptitle(f"Features move together: energy against acousticness {correlation:+.2f}", y=1.02)
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


def failures(results: list[dict]) -> Figure | None:
    """Failing rows of each rule that fails; None if none does."""
    failed = pd.DataFrame([result for result in results if not result["passed"]]).iloc[::-1]
    if failed.empty:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(failed) + 1))
    axes.barh(failed["rule"], failed["failures"], color=np.where(failed["severity"] == "error", OTHER, BASE))
    for i, count in enumerate(failed["failures"]):
        axes.text(count, i, f" {count:,}", va="center", fontsize=9)
    axes.set(xlabel="failing rows (orange: errors, grey: warnings)", xlim=(0, failed["failures"].max() * 1.12))
    axes.set_title(f"{len(results) - len(failed)} of {len(results)} rules hold, {len(failed)} do not")
    return figure


def broken(results: list[dict], failing: pd.DataFrame, tracks: pd.DataFrame) -> Figure | None:
    """A picture for each rule that failed: where its rows lie in their column, or what failed. None if none did."""
    failed = [result for result in results if not result["passed"]]
    if not failed:
        return None
    rows = -(-len(failed) // 3)
    figure, panels = plt.subplots(rows, 3, figsize=(13, 3.2 * rows), squeeze=False)
    for axes, result in zip(panels.flat, failed, strict=False):
        bad = tracks.loc[failing.loc[failing["rule"] == result["rule"], "row"].astype(int)]
        _broken(axes, result, bad, tracks)
        axes.set_title("\n".join(wrap(f"{result['rule']}: {result['failures']:,} do not", 38)), fontsize=10)
    for axes in panels.flat[len(failed) :]:
        axes.axis("off")
    figure.tight_layout()
    return figure


def _broken(axes, result: dict, bad: pd.DataFrame, tracks: pd.DataFrame) -> None:
    column = result["column"]
    if len(bad) and column in tracks and pd.api.types.is_numeric_dtype(tracks[column]):
        edges = np.histogram_bin_edges(tracks[column].dropna(), 40)
        axes.hist(
            [tracks[column].dropna(), bad[column].dropna()], edges, color=[BASE, OTHER], histtype="stepfilled", log=True
        )
        axes.set(xlabel=f"{column} (orange: failing)", ylabel="tracks")
    elif len(bad) and column in tracks and column not in ("mood", "genre"):
        words = [table[column].str.count(" ").add(1).clip(upper=150) for table in (tracks, bad)]
        axes.hist(
            words, np.histogram_bin_edges(words[0].dropna(), 40), color=[BASE, OTHER], histtype="stepfilled", log=True
        )
        axes.set(xlabel=f"words in {column} (orange: failing)", ylabel="tracks")
    else:
        things = (
            result["rows"] if result["rows"] and "row" not in result["rows"][0] else bad["genre"].value_counts().head(8)
        )
        if isinstance(things, pd.Series):
            labels, sizes = list(things.index), things.to_numpy()
        else:
            labels = [str(next(iter(thing.values())))[:28] for thing in things]
            sizes = [next((v for v in reversed(thing.values()) if isinstance(v, int | float)), 1) for thing in things]
        axes.barh([label or "(none)" for label in labels][::-1], list(sizes)[::-1], color=OTHER)
        axes.tick_params(axis="y", labelsize=8)


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
