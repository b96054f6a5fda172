"""Honest comparison of encoders: retrieval on held-out requests with graded relevance, intervals and paired tests."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import bm25s
import ir_measures
import numpy as np
import pandas as pd
from ir_measures import AP, RR, R, nDCG
from scipy import stats
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from lib.encoder import embed
from lib.findings import MAIN
from lib.moods import ordered
from lib.recommender import titles

DEPTH = 100  # tracks ranked for a request
# nDCG uses the grades as gains (linear); the others count grades of 2 and more as relevant.
MEASURES = {
    "nDCG@10": nDCG @ 10,
    "MRR": RR(rel=2),
    "recall@1": R(rel=2) @ 1,
    "recall@10": R(rel=2) @ 10,
    "mAP": AP(rel=2) @ DEPTH,
}
TEXTS, SINGLES = 256, 50  # texts encoded to measure speed: in batches, and one by one
Ranking = dict[str, dict[str, float]]  # request id -> track id -> score, best first


class Encoded(NamedTuple):
    """An encoder's unit vectors of a catalogue and of requests: (tracks, d) and (requests, d) float32."""

    tracks: np.ndarray
    requests: np.ndarray


class RequestEvaluator(SentenceEvaluator):
    """sentence-transformers' evaluator for training: `MEASURES` on graded requests; `MAIN` is the primary metric."""

    def __init__(self, tracks: pd.DataFrame, requests: pd.DataFrame, most: int = 2000):
        """Requests of which none of the first `most` tracks is relevant are left out."""
        super().__init__()
        self.tracks = tracks.head(most)
        kept = set(self.tracks["id"])
        self.requests = requests[[bool(kept & set(ids)) for ids in requests["track_ids"]]].head(most)
        self.primary_metric = MAIN

    def __call__(self, model, output_path=None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        encoded = encode(model, self.tracks, self.requests)
        scores = score_ranking(rank_by_similarity(encoded, self.tracks, self.requests), self.requests)
        return {measure: float(scores[measure].mean()) for measure in scores}


def held_out(tracks: pd.DataFrame, requests: pd.DataFrame, split: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tracks and requests of the split test (or dev), which no training saw."""
    tracks = tracks[tracks["split"] == split].reset_index(drop=True)
    return tracks, requests[requests["split"] == split].reset_index(drop=True)


def encode(model, tracks: pd.DataFrame, requests: pd.DataFrame, progress: bool = False) -> Encoded:
    """Vectors of the tracks' and the requests' text."""
    return Encoded(embed(model, tracks["text"], progress=progress), embed(model, requests["text"], progress=progress))


def rank(encoded: dict[str, Encoded], tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, Ranking]:
    """The ranking by BM25 (bm25), by each encoder, and by BM25 and the encoder named tuned together (hybrid)."""
    rankings = {"bm25": rank_by_words(tracks, requests)}
    rankings |= {name: rank_by_similarity(vectors, tracks, requests) for name, vectors in encoded.items()}
    return rankings | {"hybrid": fuse(rankings["bm25"], rankings["tuned"])}


def rank_by_similarity(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """The best `DEPTH` tracks for each request by cosine similarity."""
    return _best(encoded.requests @ encoded.tracks.T, tracks, requests)


def rank_by_words(tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """The same by BM25, of the tracks that share a word with the request: what words alone find."""
    ranking = _best(word_scores(requests["text"], tracks["text"]), tracks, requests)
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


def score_ranking(ranking: Ranking, requests: pd.DataFrame) -> pd.DataFrame:
    """Each request's measures. -> index request_id, a column for each of `MEASURES`."""
    judged = {r.request_id: dict(zip(r.track_ids, map(int, r.grades), strict=True)) for r in requests.itertuples()}
    table = pd.DataFrame(ir_measures.iter_calc(list(MEASURES.values()), judged, ranking))
    wide = table.pivot(index="query_id", columns="measure", values="value")
    return wide[list(MEASURES.values())].set_axis(list(MEASURES), axis=1).loc[requests["request_id"]]


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval (2,000 resamples). Rounded to 4 places."""
    values = np.asarray(values, dtype=float)
    low = high = values.mean()
    if np.ptp(values) > 0:
        drawn = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=seed)
        low, high = drawn.confidence_interval
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def intervals(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The mean of each measure with its interval."""
    return {measure: interval(scores[measure]) for measure in scores}


def compare(base: pd.DataFrame, tuned: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, float]]:
    """Tuned minus base for each measure: mean, 95 % interval, and p of a paired sign-flip permutation test."""
    out = {}
    for measure in base.columns:
        difference = (tuned[measure] - base[measure]).to_numpy()
        test = stats.permutation_test(
            (difference,), np.mean, permutation_type="samples", n_resamples=2000, vectorized=False, rng=seed
        )
        out[measure] = {**interval(difference, seed), "p": round(float(test.pvalue), 4)}
    return out


def by_mood(scores: dict[str, pd.DataFrame], requests: pd.DataFrame) -> pd.DataFrame:
    """Mean average precision of the requests that ask for each mood. -> index mood, columns requests and encoders."""
    asked = requests.set_index("request_id")["mood"]
    asked = asked[asked != ""]
    table = pd.DataFrame({name: scored["mAP"].groupby(asked).mean() for name, scored in scores.items()})
    table.insert(0, "requests", asked.value_counts())
    return table.rename_axis("mood")


def confusion(ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Of the ten tracks that answer requests for a mood, the share of each mood. -> index asked, columns answered."""
    mood = tracks.set_index("id")["mood"].replace("", "unknown")
    pairs = [
        (r.mood, mood[track]) for r in requests.itertuples() if r.mood for track in list(ranking[r.request_id])[:10]
    ]
    table = pd.DataFrame(pairs, columns=["asked", "answered"])
    counts = pd.crosstab(table["asked"], table["answered"], normalize="index")
    return counts.loc[ordered(counts.index), ordered(counts.columns)]


def answered(scores: pd.DataFrame, ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """What each request was answered, to hold against another run: its measures and its first three songs.

    Returns:
        Columns request_id, text, mood, each of `MEASURES`, songs (three lines: title, artist, mood).
    """
    artist = (" — " + tracks["artist"]).where(tracks["artist"] != "", "")
    songs = (titles(tracks) + artist + " [" + tracks["mood"].replace("", "mood unknown") + "]").set_axis(tracks["id"])
    first = ["\n".join(songs[list(ranking[request])[:3]]) for request in requests["request_id"]]
    return requests[["request_id", "text", "mood"]].join(scores.reset_index(drop=True)).assign(songs=first)


def worst(scores: pd.DataFrame, ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """The requests in order of nDCG@10, worst first, with what came first and the best of what should have."""
    text = tracks.set_index("id")["text"]
    mood = tracks.set_index("id")["mood"]
    first = [next(iter(ranking[r])) for r in requests["request_id"]]
    table = requests[["text", "mood", "genre"]].assign(
        came_first=[text[t] for t in first],
        of_mood=[mood[t] for t in first],
        should_have_come=[text[ids[0]] for ids in requests["track_ids"]],
        ndcg=scores[MAIN].to_numpy().round(3),
    )
    return table.sort_values("ndcg", kind="stable")


def speed(model, texts: pd.Series) -> dict[str, dict[str, float]]:
    """Texts a second in batches and milliseconds for one text: after a warm-up, the medians.

    Returns:
        These by device: the CPU, and the model's own where that is another.
    """
    own, found = model.device, {}
    for where in dict.fromkeys(("cpu", own.type)):
        found[where] = _speed(model.to(where), texts)
    model.to(own)
    return found


def _speed(model, texts: pd.Series) -> dict[str, float]:
    texts = texts.drop_duplicates()  # which `embed` would encode once
    some, few = texts.head(TEXTS).tolist(), texts.head(SINGLES).tolist()
    embed(model, some[:64])
    batches = [_seconds(model, some) for _ in range(3)]
    singles = [_seconds(model, [text]) for text in few]
    return {
        "texts_per_second": round(len(some) / float(np.median(batches)), 1),
        "ms_for_one": round(1000 * float(np.median(singles)), 2),
    }


def _best(scores: np.ndarray, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    ids = tracks["id"].to_numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return {
        request: dict(zip(ids[top], row[top].astype(float).tolist(), strict=True))
        for request, top, row in zip(requests["request_id"], order, scores, strict=True)
    }


def _seconds(model, texts: list[str]) -> float:
    started = time.perf_counter()
    embed(model, texts)
    return time.perf_counter() - started
