"""The served search beside its parts: typed requests by kind, and names, over a run's whole catalogue."""

import numpy as np
import pandas as pd

from lib.core.encoder import embed
from lib.performance import named_requests, typed_requests
from lib.performance.baselines import scorer
from lib.performance.typed_requests import Ask
from lib.search.match import BANDS
from lib.search.recommender import Recommender

LARGEST = 10_000  # tracks that the base embeds only for this comparison
NAMES = 100  # artists, and titles


def systems(songs: Recommender, base, tracks: pd.DataFrame) -> dict[str, Ask]:
    """Return functions that answer requests: the served search, the tuned encoder's cosine, the base's, and BM25.

    The base is left out of catalogues with over `LARGEST` tracks.
    """
    ids, texts = tracks["id"].to_numpy(), tracks["text"]

    def nearest(scores) -> Ask:
        return lambda text, k, history=(): ids[np.argsort(-scores(" ".join((*history, text))), kind="stable")[:k]]

    asks = {
        "served": lambda text, k, history=(): songs.recommend(text, k, history=history)["id"],
        "tuned": nearest(lambda text: songs.vectors @ songs.encode([text])[0]),
    }
    if len(tracks) <= LARGEST:
        vectors = embed(base, texts)
        asks["base"] = nearest(lambda text: vectors @ embed(base, [text])[0])
    by_words = scorer(texts)
    return asks | {"bm25": nearest(lambda text: by_words([text])[0])}


def compare(asks: dict[str, Ask], tracks: pd.DataFrame) -> pd.DataFrame:
    """Judge each system's answers to typed requests, and the served search's first answers to names.

    Returns:
        Index kind of request; columns requests, chance, one for each system, low and high (the 95 % interval of the
        served search). Without the kinds that the catalogue's columns cannot judge.
    """
    typed = {name: typed_requests.by_kind(typed_requests.judge(ask, tracks)) for name, ask in asks.items()}
    table = typed["served"][["requests", "chance", "low", "high"]]
    table = table.assign(**{name: figures["share"] for name, figures in typed.items()})
    drawn = named_requests.draw(tracks, NAMES)
    named = {name: named_requests.by_kind(named_requests.judge(ask, tracks, drawn)) for name, ask in asks.items()}
    by_name = named["served"][["requests", "low", "high"]].assign(
        **{name: figures["share"] for name, figures in named.items()}
    )
    table = pd.concat([table[table["requests"] > 0], by_name.assign(chance=0.0)])  # one track of many
    return table[["requests", "chance", *asks, "low", "high"]]


def by_band(songs: Recommender, tracks: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the served tracks that fit, by match band: the first ten for each typed request.

    Returns:
        Index match band, the best first; columns tracks (their number) and fit (the share); no band without tracks.
    """
    answers = []
    for request in typed_requests.load().itertuples():
        fits, known = typed_requests.conditions(tracks, request.wanted, request.unwanted)
        if known.mean() >= 0.5:
            answer = songs.recommend(request.text, 10, history=request.history)
            answers.append(answer[["match"]].assign(fit=answer["id"].isin(tracks["id"][fits])))
    if not answers:
        return pd.DataFrame(columns=["tracks", "fit"])
    bands = pd.concat(answers).groupby("match")["fit"].agg(tracks="size", fit="mean")
    return bands.reindex([band for band in BANDS if band in bands.index])
