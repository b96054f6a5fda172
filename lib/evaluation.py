"""Honest comparison of encoders: retrieval on held-out requests with intervals, and the seed's similarity test."""

from __future__ import annotations

import time

import bm25s
import ir_measures
import numpy as np
import pandas as pd
from ir_measures import RR, R, nDCG
from scipy import stats

from lib.encoder import embed

SEED_QUERY = "Uplifting EDM track with hype vocals and a build-up structure"
SEED_MOOD = "energetic"
# The seed's bands, on cosine similarity; the lower edge of each.
BANDS = {"strong": 0.7, "moderate": 0.5, "borderline": 0.4, "weak": -1.0}
# nDCG uses the grades as gains (linear); MRR and recall count grades of 2 and more as relevant.
MEASURES = {"nDCG@10": nDCG @ 10, "MRR": RR(rel=2), "recall@10": R(rel=2) @ 10}
DEPTH = 100


def held_out(tracks: pd.DataFrame, requests: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tracks and requests of the test split, which no training saw."""
    tracks = tracks[tracks["split"] == "test"].reset_index(drop=True)
    return tracks, requests[requests["split"] == "test"].reset_index(drop=True)


def band(score: float) -> str:
    """strong above 0.7, moderate from 0.5, borderline from 0.4, weak below."""
    if score > BANDS["strong"]:
        return "strong"
    return next((name for name in ("moderate", "borderline") if score >= BANDS[name]), "weak")


def rank_by_encoder(model, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The best `DEPTH` tracks for each request by cosine similarity. -> request id -> track id -> score."""
    scores = embed(model, requests["text"]) @ embed(model, tracks["text"]).T
    return _best(scores, tracks, requests)


def rank_by_words(tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The same by BM25: what shared words alone find."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(tracks["text"].tolist(), show_progress=False), show_progress=False)
    words = bm25s.tokenize(requests["text"].tolist(), show_progress=False, return_ids=False)
    return _best(np.stack([index.get_scores(w) if w else np.zeros(len(tracks)) for w in words]), tracks, requests)


def score_ranking(ranking: dict[str, dict[str, float]], requests: pd.DataFrame) -> pd.DataFrame:
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


def worst(scores: pd.DataFrame, ranking: dict, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """The requests in order of nDCG@10, worst first, with what was wanted and what came first."""
    by_id = tracks.set_index("id")
    first = [by_id.loc[next(iter(ranking[r]))] for r in requests["request_id"]]
    table = requests[["text", "mood", "genre"]].assign(
        came_first=[t["text"] for t in first], of_mood=[t["mood"] for t in first], ndcg=scores["nDCG@10"].to_numpy()
    )
    return table.sort_values("ndcg", kind="stable")


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


def verdict(metrics: dict) -> str:
    """One sentence on whether tuning helped, from the measured difference and its interval."""
    change, encoders = metrics["difference"]["nDCG@10"], metrics["encoders"]
    if change["low"] > 0:
        said = "Tuning helped"
    elif change["high"] < 0:
        said = "Tuning did harm: serve the base model"
    else:
        said = "Tuning made no clear difference"
    words = encoders["bm25"]["retrieval"]["nDCG@10"]["mean"]
    base, tuned = (encoders[name]["retrieval"]["nDCG@10"]["mean"] for name in ("base", "tuned"))
    return (
        f"{said}: nDCG@10 on {metrics['requests']} held-out requests goes from {base:.3f} to {tuned:.3f} "
        f"({change['mean']:+.3f}, 95 % interval {change['low']:+.3f} to {change['high']:+.3f}); "
        f"words alone (BM25) have {words:.3f}."
    )


def summary(metrics: dict) -> pd.DataFrame:
    """The figures as a table to show: a row an encoder."""
    rows = {}
    for name, encoder in metrics["encoders"].items():
        row = {m: f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in encoder["retrieval"].items()}
        seed = encoder.get("seed_test")
        rows[name] = row | ({"seed test: mean": seed["mean"], "above 0.7": seed["bands"]["strong"]} if seed else {})
    return pd.DataFrame(rows).T.fillna("–")


def _best(scores: np.ndarray, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, dict[str, float]]:
    ids = tracks["id"].to_numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return {
        request: dict(zip(ids[top], row[top].astype(float).tolist(), strict=True))
        for request, top, row in zip(requests["request_id"], order, scores, strict=True)
    }
