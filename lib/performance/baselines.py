"""Baselines: BM25 over the tracks' text, the fused ranking of two rankings, chance, and the best possible ranking."""

from collections import Counter
from collections.abc import Callable, Iterable

import bm25s
import numpy as np
import pandas as pd

from lib.core.measures import DEPTH, Ranking, best_tracks

CONSTANT = 60  # of reciprocal rank fusion, the usual one (Cormack, Clarke and Büttcher 2009)


def scorer(documents: Iterable[str]) -> Callable[[Iterable[str]], np.ndarray]:
    """Index documents by BM25. -> a function that scores queries: (queries, documents), 0 where no word is shared."""
    index, documents = bm25s.BM25(), list(documents)
    index.index(bm25s.tokenize(documents, show_progress=False), show_progress=False)

    def score(queries: Iterable[str]) -> np.ndarray:
        words = bm25s.tokenize(list(queries), show_progress=False, return_ids=False)
        return np.stack([index.get_scores(w) if w else np.zeros(len(documents)) for w in words])

    return score


def word_scores(queries: Iterable[str], documents: Iterable[str]) -> np.ndarray:
    """Score each query and document by BM25. -> (queries, documents)."""
    return scorer(documents)(queries)


def rank_by_words(tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """Rank the tracks that share a word with each request, by BM25."""
    ranking = best_tracks(word_scores(requests["text"], tracks["text"]), tracks, requests)
    return {request: {track: s for track, s in scores.items() if s > 0} for request, scores in ranking.items()}


def fuse(first: Ranking, second: Ranking) -> Ranking:
    """Fuse two rankings of the same requests by reciprocal rank."""
    fused = {}
    for request in first:
        scores = Counter()
        for ranking in (first, second):
            scores.update({track: 1 / (CONSTANT + rank) for rank, track in enumerate(ranking[request], start=1)})
        fused[request] = dict(scores.most_common(DEPTH))
    return fused


def bounds(tracks: pd.DataFrame, requests: pd.DataFrame, seed: int = 0) -> dict[str, Ranking]:
    """Rank at random, by popularity (if it is known) and by the grades: what chance gives, and what is possible."""
    shape = len(requests), len(tracks)
    scores = {"random": np.random.default_rng(seed).random(shape)}
    if tracks["popularity"].notna().any():
        scores["popularity"] = np.broadcast_to(tracks["popularity"].fillna(0).to_numpy(float), shape)
    graded = {r.request_id: dict(zip(r.track_ids, map(float, r.grades), strict=True)) for r in requests.itertuples()}
    return {name: best_tracks(of, tracks, requests) for name, of in scores.items()} | {"best possible": graded}
