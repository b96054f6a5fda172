"""pictures."""

from __future__ import annotations

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.core.style import FAINT, OTHER, TUNED


def answer(text: str, found: pd.DataFrame, where: np.ndarray, songs: np.ndarray, request: np.ndarray) -> Figure:
    """One answer: its songs with their scores, and where they and the request lie among all tracks.

    Args:
        found: the songs, a table of what `Recommender.search` gives.
        where: (n, 2), valence and arousal of all tracks; `songs`, (k, 2), of those found; `request`, (1, 2).
    """
    figure, (bars, plane) = plt.subplots(1, 2, figsize=(12, 5), width_ratios=(3, 2))
    names = [fill(f"{i}  {s.title} — {s.artist}", 34) for i, s in enumerate(found.itertuples(), 1)]
    bars.barh(names[::-1], found["score"][::-1], color=TUNED)
    for i, s in enumerate(found[::-1].itertuples()):
        bars.text(s.score, i, f" {s.score:.2f} {s.match}, {s.mood}", va="center", fontsize=9)
    bars.set(xlabel="cosine similarity to the request", xlim=(0, 1.5 * max(0.1, found["score"].max())))
    bars.grid(visible=False, axis="y")
    mood, times = found["mood"].value_counts().index[0], found["mood"].value_counts().iloc[0]
    bars.set_title(fill(f"“{text}”: {times} of {len(found)} songs are {mood or 'of no known mood'}", 60))
    plane.scatter(*where.T, s=4, color=FAINT)
    plane.scatter(*songs.T, s=150, color=TUNED, zorder=3)
    for i, at in enumerate(songs, 1):
        plane.text(*at, str(i), color="white", ha="center", va="center", fontsize=9, zorder=4, clip_on=True)
    plane.scatter(*request.T, s=150, marker="D", color=OTHER, edgecolors="black", zorder=5, label="the request")
    plane.set(
        xlabel="valence (unpleasant to pleasant)",
        ylabel="arousal (quiet to excited)",
        xlim=(-1.1, 1.1),
        ylim=(-1.1, 1.1),
    )
    at = "The request lies at valence {:+.2f}, arousal {:+.2f}".format(*request[0])
    plane.set_title(fill("None of the catalogue's moods is on the plane" if np.isnan(request).any() else at, 36))
    plane.legend(loc="lower right")
    figure.tight_layout()
    plt.close(figure)
    return figure
