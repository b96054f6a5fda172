"""words."""

from __future__ import annotations

from collections.abc import Iterable

import bm25s
import numpy as np
import pandas as pd

from lib.core.measures import DEPTH, Ranking, best_tracks


def rank_by_words(tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """The same by BM25, of the tracks that share a word with the request: what words alone find."""
    ranking = best_tracks(word_scores(requests["text"], tracks["text"]), tracks, requests)
    return {request: {track: s for track, s in found.items() if s > 0} for request, found in ranking.items()}


def word_scores(queries: Iterable[str], documents: Iterable[str]) -> np.ndarray:
    """BM25 of each query and document; 0 where they share no word. -> (queries, documents)."""
    index, documents = bm25s.BM25(), list(documents)
    index.index(bm25s.tokenize(documents, show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(queries), show_progress=False, return_ids=False)
    return np.stack([index.get_scores(w) if w else np.zeros(len(documents)) for w in words])


def fuse(first: Ranking, second: Ranking) -> Ranking:
    """Both rankings in one: reciprocal rank fusion with its usual constant 60 (Cormack et al. 2009)."""
    fused = {}
    for request in first:
        scores: dict[str, float] = {}
        for ranking in (first, second):
            for rank, track in enumerate(ranking[request]):
                scores[track] = scores.get(track, 0) + 1 / (61 + rank)
        fused[request] = dict(sorted(scores.items(), key=lambda item: -item[1])[:DEPTH])
    return fused
