"""Comparison of encoders on held-out requests with graded relevance: intervals, paired differences, moods, failures."""

import numpy as np
import pandas as pd
from scipy import stats

from lib.core.catalogue import titles
from lib.core.measures import ENOUGH, MAIN, Encoded, Ranking, enough, rank_by_similarity
from lib.performance.baselines import fuse, rank_by_words
from lib.tracks.moods import ordered


def rank(encoded: dict[str, Encoded], tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, Ranking]:
    """Rank the tracks by words (bm25), by each encoder, and by the ranks of words and tuned together."""
    rankings = {"bm25": rank_by_words(tracks, requests)}
    rankings |= {name: rank_by_similarity(vectors, tracks, requests) for name, vectors in encoded.items()}
    return rankings | {"rank fusion": fuse(rankings["bm25"], rankings["tuned"])}


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return the mean and its 95 % bootstrap interval (2,000 resamples), rounded to 4 places."""
    values = np.asarray(values, dtype=float)
    low = high = values.mean()
    if np.ptp(values) > 0:
        bootstrap = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=seed)
        low, high = bootstrap.confidence_interval
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def intervals(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return each measure's mean with its interval."""
    return {measure: interval(scores[measure]) for measure in scores}


def compare(base: pd.DataFrame, tuned: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return tuned minus base for each measure, paired by request: the mean and its 95 % interval."""
    return {measure: interval(tuned[measure].to_numpy() - base[measure].to_numpy(), seed) for measure in base}


def right_moods(rankings: dict[str, Ranking], requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return how many of the first ten tracks have the requested mood, as their first or second one.

    Returns:
        Index "all" (requests with a mood), then each mood with enough requests (`measures.enough`); columns requests,
        chance, one for each ranking, and possible (10, or fewer if the catalogue has fewer). Empty with too few.
    """
    asked, rows = requests[requests["mood"] != ""], []
    moods = tracks.set_index("id")[["mood", "mood2"]]
    for request in asked.itertuples():
        fits = (moods == request.mood).any(axis=1)
        first = {name: fits[list(ranking[request.request_id])[:10]].sum() for name, ranking in rankings.items()}
        rows.append({"requests": 1, "chance": 10 * fits.mean(), **first, "possible": min(10, fits.sum())})
    table = pd.DataFrame(rows).assign(mood=asked["mood"].to_list())
    if len(asked) < ENOUGH:
        return table.head(0)
    of = enough(asked["mood"])
    table = pd.concat([table.assign(mood="all"), table[table["mood"].isin(of)]])
    return table.groupby("mood").agg(dict.fromkeys(table.columns[:-1], "mean") | {"requests": "sum"}).loc[["all", *of]]


def by_mood(scores: dict[str, pd.DataFrame], requests: pd.DataFrame) -> pd.DataFrame:
    """Return the mean average precision of the requests of each mood that has enough of them (`measures.enough`).

    Returns:
        Index mood, columns requests (their number) and the encoders.
    """
    moods = requests.set_index("request_id")["mood"]
    moods = moods[moods.isin(enough(moods))]
    table = pd.DataFrame({name: scored["mAP"].groupby(moods).mean() for name, scored in scores.items()})
    table.insert(0, "requests", moods.value_counts())
    return table.rename_axis("mood")


def confusion(ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each mood in the first ten tracks, for moods with enough requests (`measures.enough`).

    Returns:
        Index requested mood, columns retrieved mood, or "unknown".
    """
    requests = requests[requests["mood"].isin(enough(requests["mood"]))]
    mood = tracks.set_index("id")["mood"].replace("", "unknown")
    pairs = [(r.mood, mood[track]) for r in requests.itertuples() for track in list(ranking[r.request_id])[:10]]
    table = pd.DataFrame(pairs, columns=["requested", "retrieved"])
    shares = pd.crosstab(table["requested"], table["retrieved"], normalize="index")
    return shares.loc[ordered(shares.index), ordered(shares.columns)]


def answers(scores: pd.DataFrame, ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return each request's measures and first three songs, to compare with another run.

    Returns:
        Columns request_id, text, mood, each of `MEASURES`, songs (three lines of title, artist and mood).
    """
    artist = (" — " + tracks["artist"]).where(tracks["artist"] != "", "")
    mood = (" [" + tracks["mood"] + "]").where(tracks["mood"] != "", "")
    songs = (titles(tracks) + artist + mood).set_axis(tracks["id"])
    first = ["\n".join(songs[list(ranking[request])[:3]]) for request in requests["request_id"]]
    return requests[["request_id", "text", "mood"]].join(scores.reset_index(drop=True)).assign(songs=first)


def worst(scores: pd.DataFrame, ranking: Ranking, requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the requests by nDCG@10, worst first, each with its first track and the track it should have found.

    Columns that are empty for all requests are left out.
    """
    by_id = tracks.set_index("id")
    first = [next(iter(ranking[request])) for request in requests["request_id"]]
    best = [ids[0] for ids in requests["track_ids"]]
    table = requests[["text", "mood", "genre"]].assign(
        first_track=by_id["text"][first].to_list(),
        first_mood=by_id["mood"][first].to_list(),
        expected_track=by_id["text"][best].to_list(),
        ndcg=scores[MAIN].to_numpy().round(3),
    )
    return table.loc[:, (table != "").any()].sort_values("ndcg", kind="stable")
