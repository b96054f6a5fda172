"""Honest comparison of encoders: retrieval on held-out requests with graded relevance, intervals and paired tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from lib.core.catalogue import titles
from lib.core.measures import MAIN, Encoded, Ranking, rank_by_similarity
from lib.search.words import fuse, rank_by_words
from lib.tracks.moods import ordered


def rank(encoded: dict[str, Encoded], tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, Ranking]:
    """The ranking by BM25 (bm25), by each encoder, and by BM25 and the encoder named tuned together (hybrid)."""
    rankings = {"bm25": rank_by_words(tracks, requests)}
    rankings |= {name: rank_by_similarity(vectors, tracks, requests) for name, vectors in encoded.items()}
    return rankings | {"hybrid": fuse(rankings["bm25"], rankings["tuned"])}


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
