"""Meaning of a similarity: the single-query check, the precision of the match bands, the spread of the space."""

import numpy as np
import pandas as pd

from lib.core.encoder import embed, seconds
from lib.core.measures import COLLAPSED, CROWDED, ENOUGH, Encoded, Ranking, cosines, uniformity
from lib.search.match import BANDS, band

QUERY, MOOD = "Uplifting EDM track with hype vocals and a build-up structure", "energetic"  # of the single-query check
SHOWN = 10  # tracks that a listener sees
FEWEST = 30  # tracks that a share needs


def single_query(model, tracks: pd.DataFrame, n: int = 100) -> dict | None:
    """Compare up to `n` energetic tracks, held-out ones first, with one request. None for fewer than `ENOUGH`.

    The check measures how close one mood is to one sentence, not whether other moods are farther away. Read it beside
    retrieval, never alone.

    Returns:
        tracks (their number), mean, std, median and scores of the similarity, the number of tracks in each of the match
        bands, and encode_seconds, the time to encode the tracks.
    """
    sample = tracks[tracks["mood"] == MOOD].sort_values("split", key=lambda s: s != "test", kind="stable").head(n)
    if len(sample) < ENOUGH:
        return None
    scores = embed(model, sample["text"]) @ embed(model, [QUERY])[0]  # also warms up, for the time below
    return {
        "tracks": len(sample),
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std()), 4),
        "median": round(float(np.median(scores)), 4),
        "bands": pd.Series(map(band, scores)).value_counts().reindex(list(BANDS), fill_value=0).to_dict(),
        "encode_seconds": round(seconds(model, sample["text"]), 3),
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
    precision = ordered["relevant"].expanding(FEWEST).mean()
    lowest = {f"{target:.0%}": ordered["score"][precision >= target].min() for target in targets}
    return {target: None if np.isnan(score) else round(float(score), 4) for target, score in lowest.items()}


def spread(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict:
    """Return alignment and uniformity (Wang and Isola 2020), the mean cosine of two tracks, and a verdict on collapse.

    Alignment is the mean squared distance of a request and its source track (0 to 4, lower is better). Uniformity is
    the log of the mean of exp(-2 d²) over pairs of tracks (-4 to 0, lower is better).
    """
    row = pd.Index(tracks["id"]).get_indexer(requests["target"])
    distances = ((encoded.requests - encoded.tracks[row]) ** 2).sum(axis=1)[row >= 0]
    cosine = cosines(encoded.tracks)
    uniform = uniformity(cosine)
    return {
        "alignment": round(float(distances.mean()), 4) if len(distances) else None,
        "uniformity": round(uniform, 4),
        "mean_cosine": round(float(cosine.mean()), 4),
        "verdict": "collapsed" if uniform > COLLAPSED else "crowded" if uniform > CROWDED else "spread",
    }
