"""Cosine similarity of every two tracks, counted in one histogram for each pair of moods.

Blocks bound the memory: 20,000 tracks have 200 million pairs, and no list of pairs is kept.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.measures import ENOUGH, enough, too_few

BINS = 200  # from -1 to 1, each 0.01 wide
COARSE = 4  # bins joined for an overlap: single bins would make small moods look apart by chance
BLOCK = 200  # rows: their similarities to 20,000 tracks take 16 MB, and counting them ten times as much
EXACT = 20_000  # tracks examined together; a larger catalogue is sampled
KNOWN = 0.5  # share of the tracks that must have a mood or another property for a figure or a map of it
GROUPS = 5  # disjoint parts of a sample; their spread gives the sample's standard error
CENTRES = np.linspace(-1, 1, BINS, endpoint=False) + 1 / BINS


def obstacle(moods: pd.Series) -> str:
    """Return a line on why moods cannot be compared; "" if most tracks have one and two moods have enough tracks."""
    known = (moods != "").sum()
    if known < KNOWN * len(moods):
        return f"Moods are not measured: {known:,} of {len(moods):,} tracks have one; this needs half of them."
    return "" if enough(moods) else too_few(moods, "tracks")


def grouped(moods: pd.Series) -> pd.Series:
    """Return the moods if they can be compared; else one group of all tracks, named "any"."""
    return pd.Series("any", moods.index) if obstacle(moods) else moods


class Pairs(NamedTuple):
    """Histograms of the similarity of two tracks, for each two of m moods."""

    moods: list[str]
    tracks: np.ndarray  # (m,) number of tracks of each mood
    counts: np.ndarray  # (m, m, BINS) unordered pairs of one track of each mood; symmetric

    @property
    def within(self) -> np.ndarray:
        """Return the pairs of one mood. -> (BINS,)."""
        return np.einsum("iib->b", self.counts)

    @property
    def between(self) -> np.ndarray:
        """Return the pairs of two moods. -> (BINS,)."""
        return self.counts[np.triu_indices(len(self.moods), 1)].sum(axis=0)


def all_pairs(vectors: np.ndarray, moods: pd.Series) -> Pairs:
    """Count every pair of the first `EXACT` tracks that have a mood. (n, d) unit vectors and n moods."""
    rows = np.flatnonzero((moods != "").to_numpy())[:EXACT]
    vectors, (code, names) = vectors[rows], pd.factorize(moods.iloc[rows], sort=True)
    m = len(names)
    counts = np.zeros(m * m * BINS, dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        bins = ((vectors[block] @ vectors[start:].T + 1) * (BINS / 2)).astype(np.int32).clip(0, BINS - 1)
        bins += (code[block, None] * m + code[start:]).astype(np.int32) * BINS
        counts += np.bincount(bins.ravel(), minlength=len(counts))
        counts -= np.bincount(bins[np.tril_indices(len(bins))], minlength=len(counts))  # no pair twice
    table = counts.reshape(m, m, BINS)
    table = table + table.transpose(1, 0, 2)
    table[np.arange(m), np.arange(m)] //= 2
    return Pairs(list(names), np.bincount(code, minlength=m), table)


def figures(pairs: Pairs) -> dict[str, float | None]:
    """Return the mean similarities, the overlap, and how often a pair of one mood is closer than a pair of two.

    One mood alone has a mean only.
    """
    within, between = pairs.within, pairs.between
    return {
        "mean": mean(within + between),
        "mean within a mood": mean(within) if len(pairs.moods) > 1 else None,
        "mean between moods": mean(between),
        "overlap": overlap(within, between),
        "same mood is closer": closer(within, between),
    }


def error(vectors: np.ndarray, moods: pd.Series) -> dict[str, float | None]:
    """Return the standard error of `figures` for a sample in random order, from the spread over `GROUPS` parts.

    Pairs share tracks, so they are not independent; disjoint parts are. The error is slightly too large, because
    pairs across parts are not counted (Politis, Romano, Wolf 1999, Subsampling).
    """
    parts = [figures(all_pairs(vectors[i::GROUPS], moods.iloc[i::GROUPS])) for i in range(GROUPS)]
    table = pd.DataFrame(parts).astype(float)
    return {name: float(table[name].std() / GROUPS**0.5) if table[name].notna().all() else None for name in table}


def by_moods(pairs: Pairs) -> pd.DataFrame:
    """Compare the similarities within two moods with those between them, for moods of at least `ENOUGH` tracks.

    Returns:
        Columns mood, other, overlap (1: indistinguishable), same mood is closer (0.5: chance); most overlap first.
    """
    large = np.flatnonzero(pairs.tracks >= ENOUGH)
    rows = []
    for a, b in combinations(large, 2):
        within = sum(pairs.counts[mood, mood] / pairs.counts[mood, mood].sum() for mood in (a, b))
        between = pairs.counts[a, b]
        rows.append((pairs.moods[a], pairs.moods[b], overlap(within, between), closer(within, between)))
    table = pd.DataFrame(rows, columns=["mood", "other", "overlap", "same mood is closer"])
    return table.sort_values("overlap", ascending=False, ignore_index=True)


def mean(counts: np.ndarray) -> float | None:
    """Return the mean of a histogram, to half a bin (0.005); None if it is empty. (BINS,)."""
    return float(counts @ CENTRES / counts.sum()) if counts.sum() else None


def overlap(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the overlapping coefficient of two histograms (Weitzman 1970): the area they share, 0 to 1."""
    if not first.sum() or not second.sum():
        return None
    shares = [h.reshape(-1, COARSE).sum(axis=1) / h.sum() for h in (first, second)]
    return float(np.minimum(*shares).sum())


def closer(within: np.ndarray, between: np.ndarray) -> float | None:
    """Return how often a pair within is closer than a pair between: the area under the ROC curve, ties count half."""
    if not within.sum() or not between.sum():
        return None
    p, q = within / within.sum(), between / between.sum()
    return float(p @ (np.cumsum(q) - q / 2))
