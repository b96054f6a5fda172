"""The next model beside the last: on later events, on text that no listener wrote, and the gate between the two."""

import numpy as np
import pandas as pd

from lib.core.measures import MAIN, Encoded, held_out, rank_by_similarity, score_ranking
from lib.feedback.position import looks
from lib.performance import typed_requests
from lib.performance.evaluation import interval
from lib.search.recommender import Recommender

TYPED, WORDED = "typed requests, served", "test requests, nDCG@10"


def on_events(songs: Recommender, shown: pd.DataFrame, propensity: pd.Series, clip: float) -> pd.Series:
    """Order the tracks that each request showed by a model's score, and measure the order by what listeners did.

    A gain counts one over the propensity of the place where it was made: the order that was shown has no advantage.
    Tracks that no listener saw are not judged.

    Returns:
        nDCG@10 of each request in which a track had a gain, index request.
    """
    gains = np.maximum(shown["gain"], 0) / looks(shown, propensity, clip)
    shown = shown.assign(gain=gains)[gains.groupby(shown["request"]).transform("sum") > 0]
    texts = shown["text"].unique().tolist()
    query = {text: songs.query(songs.read(text)) for text in texts}
    figures = {}
    for request, rows in shown.groupby("request"):
        at = songs.rows(rows["track"])
        order, one = np.argsort(at), query[rows["text"].iloc[0]]
        cosine = songs.index.at(at[order]) @ one.vector
        scores, *_ = songs.fusion.score(one, at[order], cosine)
        gain = rows["gain"].to_numpy()[order]
        figures[request] = _dcg(gain[np.argsort(-scores, kind="stable")]) / _dcg(np.sort(gain)[::-1])
    return pd.Series(figures, name=MAIN).rename_axis("request")


def on_preferences(songs: Recommender, requests: pd.DataFrame) -> pd.Series:
    """Answer requests with known grades from the whole catalogue. -> nDCG@10 of the served search, index request_id."""
    answers = {r.request_id: songs.recommend(r.text, 10)["id"] for r in requests.itertuples()}
    ranking = {name: {track: -float(place) for place, track in enumerate(ids)} for name, ids in answers.items()}
    return score_ranking(ranking, requests)[MAIN]


def on_other_text(songs: Recommender, tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, np.ndarray]:
    """Measure a model on text that it must not forget: requests as people type them, and the run's test requests.

    Returns:
        For each request: the share of the first five tracks that fit (typed, by the served search); nDCG@10 (worded, by
        the encoder among the test tracks). Without the typed requests, if the catalogue's columns cannot judge them.
    """
    typed = typed_requests.judge(lambda text, k, history=(): songs.recommend(text, k, history=history)["id"], tracks)
    some, test = held_out(tracks, requests)
    encoded = Encoded(songs.index.at(songs.rows(some["id"])), songs.encode(test["text"].tolist()))
    worded = score_ranking(rank_by_similarity(encoded, some, test), test)[MAIN]
    figures = {TYPED: typed["share"].dropna().to_numpy(), WORDED: worded.to_numpy()}
    return {name: values for name, values in figures.items() if len(values)}


def difference(last: np.ndarray, following: np.ndarray, groups=None) -> dict[str, float]:
    """Return both means, and the mean paired difference with its 95 % interval, over groups if there are some."""
    change = pd.Series(np.asarray(following) - np.asarray(last))
    of = interval(change if groups is None else change.groupby(np.asarray(groups)).mean())
    return {"last": float(np.mean(last)), "next": float(np.mean(following)), **of, "mean": float(change.mean())}


def ratio(last: pd.Series, following: pd.Series, groups: pd.Series, seed: int = 0) -> dict[str, float]:
    """Return the ratio of two means and its 95 % bootstrap interval (2,000 resamples of whole groups)."""
    sums = pd.DataFrame({"last": last, "next": following}).groupby(groups.to_numpy()).sum().to_numpy()
    draws = np.random.default_rng(seed).integers(0, len(sums), (2000, len(sums)))
    ratios = np.divide(*sums[draws].sum(axis=1).T[::-1])
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"ratio": float(sums[:, 1].sum() / sums[:, 0].sum()), "low": float(low), "high": float(high)}


def gate(later: dict[str, float], others: dict[str, dict[str, float]], tolerance: float) -> tuple[bool, str]:
    """Decide whether the next model may serve: better on later events, and no worse on other text.

    Args:
        later, others: `difference` on later events, and on each kind of other text.
        tolerance: the mean of a kind may fall by this much, unless its interval is below 0.

    Returns:
        The decision and its reason in one line.
    """
    if not others:
        return False, "this catalogue has no other text to measure"
    change = "{mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}".format
    for name, figures in others.items():
        if figures["mean"] < -tolerance or figures["high"] < 0:
            return False, f"it is worse on {name}: {change(**figures)}"
    if later["low"] <= 0:
        return False, f"it is not clearly better on later events: {change(**later)}"
    return True, f"it is better on later events: {change(**later)}; and no worse on {' and '.join(others)}"


def _dcg(gains: np.ndarray) -> float:
    return float(gains[:10] @ (1 / np.log2(np.arange(2, len(gains[:10]) + 2))))
