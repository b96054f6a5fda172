"""Measures: rank held-out tracks for each request and score the rankings; uniformity of an embedding space.

The runner imports this module, so it loads neither PyTorch nor sentence-transformers.
"""

from typing import NamedTuple

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import AP, RR, R, nDCG

MAIN = "nDCG@10"  # the measure that encoders are compared by
DEPTH = 100  # tracks ranked for a request
ENOUGH = 8  # requests or tracks of a mood that a figure on the mood needs
# nDCG uses the grades as gains (linear); the others count grades of 2 and more as relevant.
MEASURES = {
    MAIN: nDCG @ 10,
    "MRR": RR(rel=2),
    "recall@1": R(rel=2) @ 1,
    "recall@10": R(rel=2) @ 10,
    "mAP": AP(rel=2) @ DEPTH,
}
# Uniformity (Wang and Isola 2020) of unit vectors is 0 when all are equal, about -4 when they spread over the sphere.
# All pairs at cosine 0.94 give -0.24, at 0.7 give -1.2. No fixed threshold below -1.2 means anything.
COLLAPSED, CROWDED = -0.25, -1.2

Ranking = dict[str, dict[str, float]]  # request id -> track id -> score, best first


class Encoded(NamedTuple):
    """An encoder's unit vectors of a catalogue and of requests: (tracks, d) and (requests, d) float32."""

    tracks: np.ndarray
    requests: np.ndarray


def held_out(tracks: pd.DataFrame, requests: pd.DataFrame, split: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tracks and requests of the split test or dev, which training never reads."""
    tracks = tracks[tracks["split"] == split].reset_index(drop=True)
    return tracks, requests[requests["split"] == split].reset_index(drop=True)


def enough(moods: pd.Series) -> list[str]:
    """Return the moods that at least `ENOUGH` rows have; [] for fewer than two, which leave nothing to compare."""
    counts = moods[moods != ""].value_counts()
    large = counts.index[counts >= ENOUGH].tolist()
    return large if len(large) > 1 else []


def too_few(moods: pd.Series, things: str) -> str:
    """Return a line on the moods with fewer than `ENOUGH` rows, or on why no mood is measured; "" if all have enough.

    things: the rows in words, such as "requests".
    """
    counts = moods[moods != ""].value_counts()
    few = ", ".join(f"{mood} ({n})" for mood, n in counts[counts < ENOUGH].items())
    if enough(moods):
        return f"Left out, with fewer than {ENOUGH} {things} each: {few}." if few else ""
    first = "".join(f", {mood} ({n})" for mood, n in counts.head(3).items()).replace(",", ", most often", 1)
    return (
        f"Moods are not measured: this needs two moods with at least {ENOUGH} {things} each. "
        f"{counts.sum():,} of {len(moods):,} {things} have a mood{first}."
    )


def rank_by_similarity(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """Rank the best `DEPTH` tracks for each request by cosine similarity."""
    return best_tracks(encoded.requests @ encoded.tracks.T, tracks, requests)


def best_tracks(scores: np.ndarray, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """Rank the best `DEPTH` tracks for each request by scores, (requests, tracks). Equal scores keep their order."""
    ids = tracks["id"].to_numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return {
        request: dict(zip(ids[top], row[top].astype(float).tolist(), strict=True))
        for request, top, row in zip(requests["request_id"], order, scores, strict=True)
    }


def score_ranking(ranking: Ranking, requests: pd.DataFrame) -> pd.DataFrame:
    """Score each request's ranking. -> index request_id, one column for each of `MEASURES`."""
    judged = {r.request_id: dict(zip(r.track_ids, map(int, r.grades), strict=True)) for r in requests.itertuples()}
    table = pd.DataFrame(ir_measures.iter_calc(list(MEASURES.values()), judged, ranking))
    wide = table.pivot(index="query_id", columns="measure", values="value")
    return wide[list(MEASURES.values())].set_axis(list(MEASURES), axis=1).loc[requests["request_id"]]


def cosines(vectors: np.ndarray, most: int = 2000) -> np.ndarray:
    """Return the cosine of each pair of the first `most` unit vectors. (n, d) -> (pairs,) float64."""
    first = vectors[:most]
    return (first @ first.T)[np.triu_indices(len(first), 1)].astype(np.float64)


def uniformity(cosine: np.ndarray) -> float:
    """Return the log of the mean of exp(-2 d²) over pairs (Wang and Isola 2020), -4 to 0, from their `cosines`."""
    return float(np.log(np.exp(-4 * (1 - cosine)).mean()))
