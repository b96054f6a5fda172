"""The embedding space of a run: its vectors, its tracks, and each track's nearest neighbours."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.core.paths import shown
from lib.debug.similarity import EXACT
from lib.search.index import TRACKS

NEIGHBOURS = 10
FEWEST = 2 * NEIGHBOURS + 1  # tracks that neighbours and a map need


class Space(NamedTuple):
    """The vectors to examine, without the tracks whose vectors are not finite."""

    index: np.ndarray  # (n, d) served vectors, at most EXACT
    tracks: pd.DataFrame  # the n tracks
    near: np.ndarray | None  # (n, k) rows of each track's nearest neighbours; None without neighbours
    cosine: np.ndarray | None  # (n, k) cosines of these neighbours
    sampled: bool  # True if index is a sample
    sample: pd.DataFrame  # m tracks to compare the encoders on
    vectors: dict[str, np.ndarray]  # encoder name -> (m, d) vectors of these tracks
    not_finite: int  # number of values that are not finite
    summary: str  # the numbers of tracks, in words


def open_space(run: Path, models: dict, most: int, seed: int) -> Space:
    """Read a run's index, and encode up to `most` held-out tracks with the other encoders.

    Args:
        models: encoder name -> encoder; "tuned" made the index, so its vectors are read from there.

    Raises:
        WorkbookError: the index is of another catalogue, or fewer than two tracks have finite vectors.
    """
    stored = np.load(run / "index" / "vectors.npy", mmap_mode="r")
    tracks, listed = pd.read_parquet(run / "tracks.parquet"), pd.read_feather(run / "index" / TRACKS)
    if len(stored) != len(tracks) or list(listed["id"]) != list(tracks["id"]):
        raise WorkbookError(f"{shown(run)}: index/ was made from another catalogue. Run 03_finetune again.")
    tracks["title"] = listed["title"]  # the index names a track without a title by the beginning of its text
    rows = sample_rows(len(tracks), seed)
    index, held_out = np.array(stored[rows]), tracks["split"] == "test"
    pool = tracks[held_out] if held_out.sum() >= FEWEST else tracks
    sample = pool.sample(min(most, len(pool)), random_state=seed)
    vectors = {n: stored[sample.index] if n == "tuned" else embed(m, sample["text"]) for n, m in models.items()}
    served, compared = np.isfinite(index).all(axis=1), np.isfinite(np.hstack(list(vectors.values()))).all(axis=1)
    if min(served.sum(), compared.sum()) < 2:
        bad = [name for name, v in vectors.items() if not np.isfinite(v).all()]
        raise WorkbookError(
            f"vectors of {' and '.join(bad) or 'the index'} are not finite numbers: there is no space to examine. "
            "Train again with a lower lr, or name another base_model."
        )
    near, cosine = neighbours(index[served]) or (None, None)
    tracks_served, not_finite = tracks.iloc[rows][served], [(~np.isfinite(v)).sum() for v in (index, *vectors.values())]
    summary = (
        f"The checks examine {len(rows):,} of the index's {len(tracks):,} tracks. They compare the encoders on "
        f"{len(sample):,} of {len(pool):,} tracks, of which {held_out[pool.index].sum():,} are held out."
    )
    return Space(
        index[served], tracks_served.reset_index(drop=True), near, cosine, len(rows) < len(tracks),
        sample[compared].reset_index(drop=True), {n: v[compared] for n, v in vectors.items()}, int(sum(not_finite)),
        summary,
    )  # fmt: skip


def sample_rows(n: int, seed: int) -> np.ndarray:
    """Return all rows of n, or `EXACT` random ones in random order."""
    return np.arange(n) if n <= EXACT else np.random.default_rng(seed).choice(n, EXACT, replace=False)


def can_compare(vectors: np.ndarray) -> bool:
    """Return True if there are at least `FEWEST` vectors and they are not all equal. (n, d)."""
    return len(vectors) >= FEWEST and np.ptp(vectors, axis=0).max() > 1e-5


def neighbours(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the exact nearest neighbours of unit vectors, nearest first; None unless `can_compare`.

    (n, d) -> rows (n, k), cosines (n, k).
    """
    if not can_compare(vectors):
        return None
    distance, rows = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(vectors).kneighbors()
    return rows, 1 - distance**2 / 2
