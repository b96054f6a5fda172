"""Requests as people type them (typed_requests.yaml), judged by the columns of the catalogue that answers."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.performance.evaluation import interval
from lib.tracks.moods import GENRES

# A request, a number of tracks and, if there is one, the keyword history -> ids of tracks, best first.
Ask = Callable[..., Iterable[str]]
FIRST = 5  # tracks of each answer that are judged; a request that fewer tracks of the catalogue fit is left out
INF = np.inf
# Conditions on numbers: column, from, below. A third of the synthetic tracks are slow, and a third fast.
RANGES = {
    "instrumental": ("instrumentalness", 0.5, INF),
    "sung": ("instrumentalness", -INF, 0.5),
    "slow": ("tempo", -INF, 95),
    "fast": ("tempo", 120, INF),
    "explicit": ("explicit", 0.5, INF),
    "clean": ("explicit", -INF, 0.5),
}


def load() -> pd.DataFrame:
    """Read the requests.

    Returns:
        Columns kind, text, history (the turns before it), tuned (False for the requests that nobody reads while
        tuning), wanted and unwanted (condition -> values).
    """
    parts = yaml.load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    rows = []
    for part, kinds in parts.items():
        for kind, requests in kinds.items():
            for request in requests:
                wanted = {name: values for name, values in request.items() if name not in ("text", "history", "not")}
                history = request.get("history", [])
                rows.append((kind, request["text"], history, part == "tuned", wanted, request.get("not", {})))
    return pd.DataFrame(rows, columns=["kind", "text", "history", "tuned", "wanted", "unwanted"])


def conditions(tracks: pd.DataFrame, wanted: dict, unwanted: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return True for each track that fits a request, and for each whose values are known. -> two (n,) of bool.

    A track fits if it meets all wanted conditions and no unwanted one. Without a known value it does neither.

    Args:
        wanted, unwanted: condition -> values, as in `load`.
    """
    fits, known = np.ones((2, len(tracks)), bool)
    for negated, of in ((False, wanted), (True, unwanted)):
        for condition, values in of.items():
            met, has_value = _meets(tracks, condition, values)
            fits &= has_value & (met != negated)
            known &= has_value
    return fits, known


def judge(ask: Ask, tracks: pd.DataFrame, requests: pd.DataFrame | None = None) -> pd.DataFrame:
    """Ask the requests (by default all of `load`) and judge the first `FIRST` tracks of each answer.

    Returns:
        Columns kind, text, tuned, share (of the first tracks that fit; a missing track does not) and chance (share of
        the catalogue that fits). Both are NaN for a request that fewer than `FIRST` tracks fit, or whose conditions
        read columns that are empty for most tracks.
    """
    requests = load() if requests is None else requests
    rows = []
    for request in requests.itertuples():
        fits, known = conditions(tracks, request.wanted, request.unwanted)
        share = chance = np.nan
        if fits.sum() >= FIRST and known.mean() >= 0.5:
            before = {"history": request.history} if request.history else {}
            answer = list(dict.fromkeys(ask(request.text, FIRST, **before)))[:FIRST]
            share, chance = tracks["id"][fits].isin(answer).sum() / FIRST, fits.mean()
        rows.append((request.kind, request.text, request.tuned, share, chance))
    return pd.DataFrame(rows, columns=["kind", "text", "tuned", "share", "chance"])


def by_kind(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of each kind of request, and of all of them in the last row, "all".

    Returns:
        Index kind; columns requests, left_out, share with its 95 % bootstrap interval (low, high), and chance.
    """
    kinds = dict(tuple(judged.groupby("kind", sort=False))) | {"all": judged}
    table = pd.DataFrame({kind: _figures(rows) for kind, rows in kinds.items()}).T
    return table.astype({"requests": int, "left_out": int}).rename_axis("kind")


def _figures(judged: pd.DataFrame) -> dict[str, float]:
    """Return one row of `by_kind`."""
    kept = judged.dropna(subset="share")
    share = interval(kept["share"]) if len(kept) else dict.fromkeys(("mean", "low", "high"), np.nan)
    counts = {"requests": len(kept), "left_out": len(judged) - len(kept)}
    return counts | {"share": share.pop("mean"), **share, "chance": kept["chance"].mean()}


def _meets(tracks: pd.DataFrame, condition: str, values: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return True for each track that has one of the values, and for each whose value is known. -> two (n,) of bool."""
    if values[0] in RANGES:
        column, low, high = RANGES[values[0]]
        numbers = _numbers(tracks, column)
        return (numbers >= low) & (numbers < high), ~np.isnan(numbers)
    if condition == "genre":
        genre = _texts(tracks, "genre")
        of = {name: any(_is_genre(name, value) for value in values) for name in genre.unique()}
        return genre.map(of).to_numpy(bool), (genre != "").to_numpy()
    if condition == "decade":
        date = _texts(tracks, "release_date")
        return (date.str[:3] + "0s").isin(values).to_numpy(), (date != "").to_numpy()
    if condition == "instrument":
        text = _texts(tracks, "description") + " " + _texts(tracks, "tags")
        named = text.str.contains(rf"\b(?:{'|'.join(values)})s?\b", case=False)
        return named.to_numpy(bool), (text != " ").to_numpy()
    value = _texts(tracks, condition)
    known = (value != "").to_numpy()
    if condition == "language":  # an instrumental is in no language
        return value.isin(values).to_numpy(), known | (_numbers(tracks, "instrumentalness") >= 0.5)
    return (value.isin(values) | _texts(tracks, f"{condition}2").isin(values)).to_numpy(), known


def _is_genre(genre: str, value: str) -> bool:
    """Return True if the genre belongs to the family `value`, or has it among its words."""
    family = GENRES[genre].family if genre in GENRES else ""
    return family == value or bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", genre, re.IGNORECASE))


def _texts(tracks: pd.DataFrame, column: str) -> pd.Series:
    """Return a column of text, "" where nothing is known."""
    return tracks[column].fillna("").astype("str") if column in tracks else pd.Series("", tracks.index)


def _numbers(tracks: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column of numbers, NaN where nothing is known. -> (n,) of float."""
    column = tracks[column] if column in tracks else pd.Series(np.nan, tracks.index)
    return pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
