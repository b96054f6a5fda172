"""measures."""

from __future__ import annotations

from typing import NamedTuple

import ir_measures
import numpy as np
import pandas as pd
from ir_measures import AP, RR, R, nDCG

MAIN = "nDCG@10"


DEPTH = 100  # tracks ranked for a request
# nDCG uses the grades as gains (linear); the others count grades of 2 and more as relevant.
MEASURES = {
    "nDCG@10": nDCG @ 10,
    "MRR": RR(rel=2),
    "recall@1": R(rel=2) @ 1,
    "recall@10": R(rel=2) @ 10,
    "mAP": AP(rel=2) @ DEPTH,
}
Ranking = dict[str, dict[str, float]]  # request id -> track id -> score, best first


class Encoded(NamedTuple):
    """An encoder's unit vectors of a catalogue and of requests: (tracks, d) and (requests, d) float32."""

    tracks: np.ndarray
    requests: np.ndarray


def held_out(tracks: pd.DataFrame, requests: pd.DataFrame, split: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tracks and requests of the split test (or dev), which no training saw."""
    tracks = tracks[tracks["split"] == split].reset_index(drop=True)
    return tracks, requests[requests["split"] == split].reset_index(drop=True)


def rank_by_similarity(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    """The best `DEPTH` tracks for each request by cosine similarity."""
    return best_tracks(encoded.requests @ encoded.tracks.T, tracks, requests)


def score_ranking(ranking: Ranking, requests: pd.DataFrame) -> pd.DataFrame:
    """Each request's measures. -> index request_id, a column for each of `MEASURES`."""
    judged = {r.request_id: dict(zip(r.track_ids, map(int, r.grades), strict=True)) for r in requests.itertuples()}
    table = pd.DataFrame(ir_measures.iter_calc(list(MEASURES.values()), judged, ranking))
    wide = table.pivot(index="query_id", columns="measure", values="value")
    return wide[list(MEASURES.values())].set_axis(list(MEASURES), axis=1).loc[requests["request_id"]]


def best_tracks(scores: np.ndarray, tracks: pd.DataFrame, requests: pd.DataFrame) -> Ranking:
    ids = tracks["id"].to_numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return {
        request: dict(zip(ids[top], row[top].astype(float).tolist(), strict=True))
        for request, top, row in zip(requests["request_id"], order, scores, strict=True)
    }


# Uniformity (Wang and Isola 2020) of unit vectors, 0 when all are one, about -4 when spread over the sphere. All pairs
# at cosine 0.94 give -0.24, at 0.7 give -1.2: beyond the first no fixed threshold means anything.
COLLAPSED, CROWDED = -0.25, -1.2


def cosines(vectors: np.ndarray, most: int = 2000) -> np.ndarray:
    """Cosine of each pair of the first `most` unit vectors. (n, d) -> (pairs,) float64."""
    first = vectors[:most]
    return (first @ first.T)[np.triu_indices(len(first), 1)].astype(np.float64)


def uniformity(cosine: np.ndarray) -> float:
    """Log of the mean of exp(-2 d²) over pairs (Wang and Isola 2020), -4 to 0, from their `cosines`."""
    return float(np.log(np.exp(-4 * (1 - cosine)).mean()))
