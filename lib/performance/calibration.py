"""What a similarity is worth: the seed's test, what its bands really promise, and whether a space has collapsed."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from lib.core.encoder import embed
from lib.core.measures import COLLAPSED, CROWDED, Encoded, Ranking, cosines, uniformity
from lib.search.match import BANDS, band

SEED_QUERY = "Uplifting EDM track with hype vocals and a build-up structure"
SEED_MOOD = "energetic"
SHOWN = 10  # tracks that a listener is shown: bands are judged on these
FEWEST = 30  # tracks below which a share is not worth printing


def seed_test(model, tracks: pd.DataFrame, n: int = 100) -> dict | None:
    """The seed's test: similarity of up to `n` energetic tracks to one uplifting request, and the time to encode them.

    Held-out tracks are taken first. It says how close one mood lies to one sentence, not whether other moods lie
    further off: read it beside retrieval, never alone. None where the catalogue has no energetic track.
    """
    chosen = tracks[tracks["mood"] == SEED_MOOD].sort_values("split", key=lambda s: s != "test", kind="stable").head(n)
    if chosen.empty:
        return None
    embed(model, chosen["text"].head(8))  # warm-up, so that the time below is encoding alone
    started = time.perf_counter()
    vectors = embed(model, chosen["text"])
    seconds = time.perf_counter() - started
    scores = vectors @ embed(model, [SEED_QUERY])[0]
    counts = pd.Series([band(s) for s in scores]).value_counts().reindex(list(BANDS), fill_value=0)
    return {
        "tracks": len(chosen),
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std()), 4),
        "median": round(float(np.median(scores)), 4),
        "bands": counts.to_dict(),
        "encode_seconds": round(seconds, 3),
        "scores": scores.round(4).tolist(),
    }


def seed_table(tests: dict[str, dict]) -> pd.DataFrame:
    """The seed's figures as a table: a row an encoder."""
    rows = {
        name: {k: v for k, v in t.items() if k not in ("bands", "scores")} | t["bands"] for name, t in tests.items()
    }
    return pd.DataFrame(rows).T


def answers(ranking: Ranking, requests: pd.DataFrame) -> pd.DataFrame:
    """What listeners would be shown, the first ten of each request. -> columns score, relevant (graded 2 or more)."""
    rows = []
    for request in requests.itertuples():
        good = {t for t, grade in zip(request.track_ids, request.grades, strict=True) if grade >= 2}
        rows += [(score, track in good) for track, score in list(ranking[request.request_id].items())[:SHOWN]]
    return pd.DataFrame(rows, columns=["score", "relevant"])


def precision_by_band(shown: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """For each of the seed's bands: how many answers fall into it, and the share of them that are relevant."""
    named = shown["score"].map(band)
    out = {}
    for name in BANDS:
        part = shown.loc[named == name, "relevant"]
        out[name] = {
            "answers": len(part),
            "precision": round(float(part.mean()), 3) if len(part) >= FEWEST else None,
        }
    return out


def thresholds(shown: pd.DataFrame, wanted: tuple[float, ...] = (0.9, 0.7, 0.5)) -> dict[str, float | None]:
    """The lowest similarity above which answers have each precision wanted; None where no threshold gives it."""
    ordered = shown.sort_values("score", ascending=False)
    precision = ordered["relevant"].cumsum() / np.arange(1, len(ordered) + 1)
    enough = np.arange(1, len(ordered) + 1) >= FEWEST
    out = {}
    for share in wanted:
        reached = np.flatnonzero((precision >= share).to_numpy() & enough)
        out[f"{share:.0%}"] = round(float(ordered["score"].iloc[reached[-1]]), 4) if len(reached) else None
    return out


def spread(encoded: Encoded, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict:
    """Alignment and uniformity (Wang and Isola 2020), the mean cosine of two tracks, and a verdict on collapse.

    Alignment is the mean squared distance of a request and the track it was worded from (lower is better, 0 to 4);
    uniformity is log of the mean of exp(-2 d²) over pairs of tracks (lower is better, -4 to 0).
    """
    row = {track: i for i, track in enumerate(tracks["id"])}
    pairs = [(i, row[target]) for i, target in enumerate(requests["target"]) if target in row]
    cosine = cosines(encoded.tracks)
    uniform = uniformity(cosine)
    alignment = None
    if pairs:
        asked, target = np.array(pairs).T
        alignment = float((2 - 2 * np.einsum("ij,ij->i", encoded.requests[asked], encoded.tracks[target])).mean())
    return {
        "alignment": alignment and round(alignment, 4),
        "uniformity": round(uniform, 4),
        "mean_cosine": round(float(cosine.mean()), 4),
        "verdict": "collapsed" if uniform > COLLAPSED else "crowded" if uniform > CROWDED else "spread",
    }
