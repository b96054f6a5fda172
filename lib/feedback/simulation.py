"""Simulated listeners, whose true preferences are known: a log to test the loop with, and to see it without a tier.

A listener looks at a place of an answer with a chance that falls with the place (position-based examination, Craswell
et al. 2008), whatever the track. After a look, grade and chance decide: good tracks are played and liked, bad ones are
sometimes played too, and skipped. The grades are those of `lib.tracks.listener_requests.Judge` for the mood that an
idiom means to the community (listeners.yaml) and for its genres.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.core.errors import WorkbookError
from lib.feedback.listening import normal
from lib.search.recommender import Recommender
from lib.tracks.listener_requests import NAMES, Judge

_DATA = yaml.safe_load(Path(__file__).with_name("listeners.yaml").read_text(encoding="utf-8"))
START = datetime(2026, 11, 30, 6, tzinfo=UTC)
SHOWN = 10  # tracks of an answer
EXAMINED = np.arange(1, SHOWN + 1) ** -0.7  # the chance to look at each place
PLAIN = 0.25  # share of requests in ordinary words, drawn from the run's training requests
ASKS = 6  # requests of a session, at most
ORDINARY = 60  # different ones: popular requests come again and again
_NO = dict.fromkeys(("genre", "genre2", "decade", "language", "instrument", "wants", "unwanted", "target"), "")
_READ = ["text", "mood", *_NO, *NAMES]  # columns of a request that `Judge` reads


def wordings(hours: str) -> pd.DataFrame:
    """Return all requests in idioms of `hours`, "earlier" or "later": community, text, mood, and what `Judge` reads."""
    rows = []
    for name, community in _DATA["communities"].items():
        taste = dict(zip(("genre", "genre2"), community["genres"], strict=True))
        for mood, idioms in community["idioms"].items():
            texts = [frame.format(idiom=idiom) for idiom in idioms[hours] for frame in _DATA["frames"][hours]]
            rows += [
                _NO | dict.fromkeys(NAMES, "") | taste | {"community": name, "text": text, "mood": mood}
                for text in texts
            ]
    return pd.DataFrame(rows)


def graded(requests: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """Grade all tracks for requests by the listeners' true preferences.

    Returns:
        The requests with request_id, track_ids and grades (1 to 3), best first, as in requests.parquet.
    """
    judge, rows = Judge(tracks), []
    for number, request in enumerate(requests.itertuples()):
        grades = judge.grade(request)
        best = np.argsort(-grades, kind="stable")[: (grades > 0).sum()]
        rows.append((f"s{number:05d}", judge.ids[best].tolist(), grades[best].tolist()))
    return requests.assign(**dict(zip(("request_id", "track_ids", "grades"), zip(*rows, strict=True), strict=True)))


def true_grades(judged: pd.DataFrame, tracks: pd.DataFrame, requests: pd.DataFrame) -> pd.Series:
    """Return the true grade of each text and track in a table of `learning.graded`, with its index."""
    every = pd.concat([_ordinary(requests), wordings("earlier"), wordings("later")])
    every = every.assign(text=normal(every["text"])).drop_duplicates("text")
    judge, row = Judge(tracks), pd.Series(range(len(tracks)), tracks["id"])
    grades = {ask.text: judge.grade(ask) for ask in every[every["text"].isin(judged["text"])].itertuples()}
    both = zip(judged["text"], row[judged["track"]], strict=True)
    return pd.Series([grades[text][at] for text, at in both], judged.index)


def listen(
    songs: Recommender, tracks: pd.DataFrame, requests: pd.DataFrame, sessions: int, hours: int, later: int, seed: int
) -> list[dict]:
    """Let listeners ask `songs` for music and act on its answers.

    As in the tier, a session's likes and dislikes move its next answer, and no track is shown twice in a session. So
    the same request shows a track at several places.

    Args:
        requests: the run's requests; those for training are the ordinary ones.
        sessions: their number, spread over `hours` hours from `START`; the last `later` hours have new wordings.

    Returns:
        Events with the columns of `lake.SCHEMA`, in the order of time.

    Raises:
        WorkbookError: the catalogue has too few tracks with a mood.
    """
    if tracks["mood"].isin(wordings("earlier")["mood"]).mean() < 0.2:
        raise WorkbookError("too few tracks have a mood that simulated listeners ask for: name a lake of real events.")
    rng, world, events = np.random.default_rng(seed), _World(songs, tracks), []
    words = [wordings(hours).sample(frac=1, random_state=seed).groupby("community") for hours in ("earlier", "later")]
    popular, plain = [{name: _rows(of) for name, of in hours} for hours in words], _rows(_ordinary(requests))
    for number, second in enumerate(np.sort(rng.integers(0, 3600 * hours, sessions)).tolist()):
        asks = popular[int(second >= 3600 * (hours - later))][rng.choice(list(_DATA["communities"]))]
        events += _session(world, asks, plain, f"{number:06d}", START + timedelta(seconds=second), rng)
    return sorted(events, key=lambda event: event["at"])


class _World:
    """What answers requests, and what listeners really want."""

    def __init__(self, songs: Recommender, tracks: pd.DataFrame):
        self.songs, judge = songs, Judge(tracks)
        self.row = dict(zip(judge.ids, range(len(judge.ids)), strict=True))
        self.grades = cache(judge.grade)
        self.vectors: dict[str, np.ndarray] = {}

    def answer(self, text: str, seen: list[str], liked: list[str], disliked: list[str]) -> list[dict]:
        reading = self.songs.read(text)
        if new := [text for text in reading.texts if text not in self.vectors]:
            self.vectors |= dict(zip(new, self.songs.encode(new), strict=True))
        return self.songs.search(self.songs.query(reading, liked, disliked, self.vectors), SHOWN, without=seen)

    def grade(self, ask, track: str) -> int:
        return int(self.grades(ask)[self.row[track]])


def _rows(requests: pd.DataFrame) -> list[tuple]:
    return [*requests[_READ].itertuples(index=False)]


def _session(world: _World, asks: list, plain: list, name: str, at: datetime, rng: np.random.Generator) -> list[dict]:
    """Return the events of one session."""
    events, seen, liked, disliked = [], [], [], []
    for number in range(rng.integers(1, ASKS + 1)):
        source = plain if rng.random() < PLAIN and plain else asks
        ask = source[int((len(source) + 1) ** rng.random()) - 1]  # the n-th is asked for in proportion to 1 / n
        answer = world.answer(ask.text, seen, liked, disliked)
        for place, track in enumerate(answer):
            row = {"request": f"r{name}-{number}", "session": f"s{name}", "track": track["id"]}
            more = {"position": place + 1, "score": track["score"], "model": world.songs.fingerprints["model"]}
            events.append(_event("shown", row, at, **more, text=ask.text))
            for kind in _acts(world.grade(ask, track["id"]), place, rng):
                at += timedelta(seconds=int(rng.integers(2, 20)))
                events.append(_event(kind, row, at))
                (liked if kind == "liked" else disliked if kind == "disliked" else []).append(track["id"])
        seen += [track["id"] for track in answer]
        at += timedelta(seconds=int(rng.integers(5, 60)))
    return events


def _ordinary(requests: pd.DataFrame) -> pd.DataFrame:
    return requests[requests["split"] == "train"].head(ORDINARY)


def _acts(grade: int, place: int, rng: np.random.Generator) -> list[str]:
    """Draw the events of one track that is shown."""
    looks, plays, likes, skips, dislikes = rng.random(5)
    if looks >= EXAMINED[place] or plays >= _DATA["play"][grade]:
        return []
    if likes < _DATA["like"][grade]:
        return ["played", "liked"]
    if skips < _DATA["skip"][grade]:
        return ["played", "disliked" if grade == 0 and dislikes < 0.2 else "skipped"]
    return ["played"]


def _event(kind: str, row: dict, at: datetime, **more) -> dict:
    return row | {"id": f"{row['request']}-{row['track']}-{kind}", "kind": kind, "at": at, "received": at} | more
