"""All tracks against all: cosine similarity of every pair, as one histogram for each pair of moods.

Memory is bounded by blocks: 20,000 tracks are 200 million pairs, and none of them is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

BINS = 200  # over -1 to 1: 0.01 wide
COARSE = 4  # bins taken together for an overlap, so that small moods do not look apart by chance
BLOCK = 2_000  # rows: a block's similarities are 16 MB, and counting them takes ten times as much
EXACT = 20_000  # tracks up to which every pair counts; of more, given in random order, those of the first so many
FEWEST = 10  # tracks of a mood, below which its histogram says nothing
GROUPS = 5  # disjoint parts of a sample, whose spread is the error of the whole
CENTRES = np.linspace(-1, 1, BINS, endpoint=False) + 1 / BINS


class Pairs(NamedTuple):
    """How many pairs of tracks have which similarity.

    Attributes:
        moods: the m moods.
        tracks: how many tracks of each.
        counts: (m, m, BINS) unordered pairs of a track of one mood and one of the other; symmetric.
    """

    moods: list[str]
    tracks: np.ndarray
    counts: np.ndarray

    @property
    def within(self) -> np.ndarray:
        """Pairs of one mood. -> (BINS,)."""
        return self.counts[np.arange(len(self.moods)), np.arange(len(self.moods))].sum(axis=0)

    @property
    def between(self) -> np.ndarray:
        """Pairs of two moods. -> (BINS,)."""
        return self.counts[np.triu_indices(len(self.moods), 1)].sum(axis=0)


def all_pairs(vectors: np.ndarray, moods: pd.Series) -> Pairs:
    """Every pair of the first `EXACT` tracks that have a mood, counted in blocks. (n, d) unit vectors and n moods."""
    known = np.flatnonzero((moods != "").to_numpy())[:EXACT]
    code, names = pd.factorize(moods.iloc[known], sort=True)
    kinds = len(names)
    counts = np.zeros(kinds * kinds * BINS, dtype=np.int64)
    starts = range(0, len(known), BLOCK)
    for first in starts:
        rows = known[first : first + BLOCK]
        for second in starts[first // BLOCK :]:
            columns = known[second : second + BLOCK]
            bins = ((vectors[rows] @ vectors[columns].T + 1) * (BINS / 2)).astype(np.int32).clip(0, BINS - 1)
            bins += (code[first : first + BLOCK, None] * kinds + code[second : second + BLOCK]).astype(np.int32) * BINS
            chosen = bins[np.triu_indices(len(rows), 1)] if first == second else bins.ravel()
            counts += np.bincount(chosen, minlength=len(counts))
    table = counts.reshape(kinds, kinds, BINS)
    both = table + table.transpose(1, 0, 2)
    both[np.arange(kinds), np.arange(kinds)] //= 2
    return Pairs(list(names), np.bincount(code, minlength=kinds), both)


def figures(pairs: Pairs) -> dict[str, float | None]:
    """Mean similarity of any two, within a mood and between moods; overlap; how often the same mood is closer."""
    within, between = pairs.within, pairs.between
    return {
        "mean": mean(within + between),
        "mean within a mood": mean(within),
        "mean between moods": mean(between),
        "overlap": overlap(within, between),
        "same mood is closer": closer(within, between),
    }


def error(vectors: np.ndarray, moods: pd.Series) -> dict[str, float | None]:
    """Standard error of `figures` of a random sample, in random order: from the spread over `GROUPS` parts of it.

    Pairs share tracks and are not independent; parts that share none are. It overstates a little, since pairs across
    parts are left out (Politis, Romano, Wolf 1999, Subsampling).
    """
    parts = [figures(all_pairs(vectors[i::GROUPS], moods.iloc[i::GROUPS])) for i in range(GROUPS)]
    table = pd.DataFrame(parts).astype(float)
    return {name: float(table[name].std() / GROUPS**0.5) if table[name].notna().all() else None for name in table}


def by_moods(pairs: Pairs) -> pd.DataFrame:
    """For each two moods: how much similarities within either overlap with those between them.

    Returns:
        Columns mood, other, overlap (1: they melt into each other), same mood is closer (0.5: chance), for moods with
        at least `FEWEST` tracks, most overlapping first.
    """
    enough = np.flatnonzero(pairs.tracks >= FEWEST)
    rows = []
    for i, a in enumerate(enough):
        for b in enough[i + 1 :]:
            within = sum(pairs.counts[m, m] / pairs.counts[m, m].sum() for m in (a, b))
            between = pairs.counts[a, b]
            rows.append((pairs.moods[a], pairs.moods[b], overlap(within, between), closer(within, between)))
    table = pd.DataFrame(rows, columns=["mood", "other", "overlap", "same mood is closer"])
    return table.sort_values("overlap", ascending=False, ignore_index=True)


def mean(counts: np.ndarray) -> float | None:
    """Mean of a histogram, to a bin's half width (0.005); None of nothing."""
    return float(counts @ CENTRES / counts.sum()) if counts.sum() else None


def overlap(first: np.ndarray, second: np.ndarray) -> float | None:
    """Overlapping coefficient of two histograms (Weitzman 1970): the area that they share, 0 to 1."""
    if not first.sum() or not second.sum():
        return None
    shares = [h.reshape(-1, COARSE).sum(axis=1) / h.sum() for h in (first, second)]
    return float(np.minimum(*shares).sum())


def closer(within: np.ndarray, between: np.ndarray) -> float | None:
    """How often a pair of one mood is closer than a pair of two: the area under the ROC curve, ties by half."""
    if not within.sum() or not between.sum():
        return None
    p, q = within / within.sum(), between / between.sum()
    return float(p @ (np.cumsum(q) - q / 2))
