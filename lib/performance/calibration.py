"""Meaning of a similarity: the single-query check, the precision of the match bands, the spread of the space."""

import time

import numpy as np
import pandas as pd

from lib.core.encoder import embed
from lib.core.measures import COLLAPSED, CROWDED, Encoded, Ranking, cosines, uniformity
from lib.search.match import BANDS, band

QUERY, MOOD = "Uplifting EDM track with hype vocals and a build-up structure", "energetic"  # of the single-query check
SHOWN = 10  # tracks that a listener sees
FEWEST = 30  # tracks that a share needs


def single_query(model, tracks: pd.DataFrame, n: int = 100) -> dict | None:
    """Compare up to `n` energetic tracks, held-out ones first, with one request. None without energetic tracks.

    The check measures how close one mood is to one sentence, not whether other moods are farther away. Read it beside
    retrieval, never alone.

    Returns:
        tracks (their number), mean, std, median and scores of the similarity, the number of tracks in each of the match
        bands, and encode_seconds, the time to encode the tracks.
    """
    sample = tracks[tracks["mood"] == MOOD].sort_values("split", key=lambda s: s != "test", kind="stable").head(n)
    if sample.empty:
        return None
    embed(model, sample["text"].head(8))  # warm-up, so that the time below is of encoding alone
    started = time.perf_counter()
    vectors = embed(model, sample["text"])
    seconds = time.perf_counter() - started
    scores = vectors @ embed(model, [QUERY])[0]
    return {
        "tracks": len(sample),
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std()), 4),
        "median": round(float(np.median(scores)), 4),
        "bands": pd.Series(map(band, scores)).value_counts().reindex(list(BANDS), fill_value=0).to_dict(),
        "encode_seconds": round(seconds, 3),
        "scores": scores.round(4).tolist(),
    }


def shown_tracks(ranking: Ranking, requests: pd.DataFrame) -> pd.DataFrame:
    """Return the first ten tracks of each request. -> columns score, relevant (graded 2 or more)."""
    rows = []
    for request in requests.itertuples():
        relevant = {t for t, grade in zip(request.track_ids, request.grades, strict=True) if grade >= 2}
        rows += [(score, track in relevant) for track, score in list(ranking[request.request_id].items())[:SHOWN]]
    return pd.DataFrame(rows, columns=["score", "relevant"])


def precision_by_band(shown: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return for each match band its number of shown tracks, and their precision; None for fewer than `FEWEST`."""
    bands = shown["relevant"].groupby(shown["score"].map(band)).agg(["size", "mean"]).reindex(list(BANDS), fill_value=0)
    return {
        row.Index: {"answers": int(row.size), "precision": round(float(row.mean), 3) if row.size >= FEWEST else None}
        for row in bands.itertuples()
    }


def thresholds(shown: pd.DataFrame, targets: tuple[float, ...] = (0.9, 0.7, 0.5)) -> dict[str, float | None]:
    """Return the lowest similarity above which the shown tracks reach each target precision; None if none does."""
    ordered = shown.sort_values("score", ascending=False)
    count = np.arange(1, len(ordered) + 1)
    precision = (ordered["relevant"].cumsum() / count).to_numpy()
    results = {}
    for target in targets:
        reached = np.flatnonzero((precision >= target) & (count >= FEWEST))
        results[f"{target:.0%}"] = round(float(ordered["score"].iloc[reached[-1]]), 4) if len(reached) else None
    return results


def spread(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict:
    """Return alignment and uniformity (Wang and Isola 2020), the mean cosine of two tracks, and a verdict on collapse.

    Alignment is the mean squared distance of a request and its source track (0 to 4, lower is better). Uniformity is
    the log of the mean of exp(-2 d²) over pairs of tracks (-4 to 0, lower is better).
    """
    row = {track: i for i, track in enumerate(tracks["id"])}
    pairs = np.array([(i, row[target]) for i, target in enumerate(requests["target"]) if target in row])
    alignment = None
    if len(pairs):
        products = np.einsum("ij,ij->i", encoded.requests[pairs[:, 0]], encoded.tracks[pairs[:, 1]])
        alignment = round(float((2 - 2 * products).mean()), 4)
    cosine = cosines(encoded.tracks)
    uniform = uniformity(cosine)
    return {
        "alignment": alignment,
        "uniformity": round(uniform, 4),
        "mean_cosine": round(float(cosine.mean()), 4),
        "verdict": "collapsed" if uniform > COLLAPSED else "crowded" if uniform > CROWDED else "spread",
    }
