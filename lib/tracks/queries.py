"""Listener requests with graded relevance. Train, dev and test share no template and no mood wording."""

from __future__ import annotations

import re
from string import Formatter

import numpy as np
import pandas as pd

from lib.tracks.moods import GENRES, MOODS, SPLITS, near, opposite
from lib.tracks.synthetic import decades
from lib.tracks.wording import fill, pick, with_article

# What a request may ask beside its slots: a rule on a track's columns that is not worded by the track itself.
WANTS = {
    "instrumental": lambda t: t["instrumentalness"] >= 0.5,
    "sung": lambda t: t["instrumentalness"] < 0.5,
    "quiet": lambda t: t["energy"] < 0.5,
    "loud": lambda t: t["energy"] >= 0.6,
    "clean": lambda t: ~t["explicit"].astype(bool),
}
# (template, what it wants beside its slots). A template is for a track that has all of its slots and passes the want.
# {title}, {tags} and {opening} are worded from one track alone: the last resort of a track without mood and genre.
TEMPLATES = {
    "train": (
        *((t, "") for t in (
            "{word} {instrument}", "{word} {genre}", "{word} music", "{word} songs please", "something {phrase}",
            "{word} music for {activity}", "{genre} for {activity}", "{activity}", "music for {activity}",
            "play me something {word}, not {opposite}", "I need a {decade} {genre} song, kind of {word}",
            "{word} {genre} meets {genre2}", "{decade} {genre}", "songs like {like}, but more {word}",
            "I feel {word} today", "{genre} with {instrument}, {word} and {word2}", "{time} I want {word} {genre}",
            "my playlist is called {playlist}, what should go on it", "the kind of {genre} that {listener}",
            "got anything by artists like {like}?",
            "{word} {genre} led by {instrument}", "{instrument} {genre}", "a song {phrase}, for {activity}",
        )),
        ("{word} {genre}, instrumental only", "instrumental"),
        ("{word} music without any singing, for {activity}", "instrumental"),
        ("{word} {genre} with great vocals", "sung"),
        ("{word}, but not too loud", "quiet"),
        ("{word} and loud", "loud"),
        ("{word} songs without swearing", "clean"),
        ("{tags}", ""), ("a song like {title}", ""), ("{opening}", ""),
    ),
    "dev": (
        *((t, "") for t in (
            "any {word} {genre} tracks?", "tunes for {activity}", "put on anything {phrase}",
            "{word} stuff from the {decade}", "cross {genre} with {genre2} and keep it {word}",
        )),
        ("{word} tracks where nobody sings", "instrumental"),
        ("more of this: {tags}", ""), ("who has {title}", ""), ("this one again: {opening}", ""),
    ),
    "test": (
        *((t, "") for t in (
            "Looking for {genre} with {a_word} vibe", "I'm in the mood for {word} tunes",
            "Could you find one {phrase}?", "What goes well with {activity}?",
            "Build a set around {activity}, {word} if possible",
            "anything but {opposite}: make it {word}", "{word} recordings featuring {instrument}",
            "Halfway between {genre} and {genre2}, on the {word} side", "Back to the {decade}: {word} {genre}",
            "Suggest {genre} acts in the vein of {like}",
            "We host {activity} and want a soundtrack {phrase}, ideally {genre}",
        )),
        ("give us {word} pieces in a {genre} style, voices off", "instrumental"),
        ("{a_word} singer doing {genre}", "sung"),
        ("Keep the volume down: {word} background listening", "quiet"),
        ("{word} at full volume", "loud"),
        ("family-friendly and {word}", "clean"),
        ("Find recordings described as {tags}", ""), ("Do you know {title}?", ""),
        ("Which track is this? {opening}", ""),
    ),
}  # fmt: skip
BY_MOOD = {"word", "a_word", "word2", "phrase", "activity", "time", "playlist", "listener"}
FROM_ONE_TRACK = {"title", "tags", "opening"}
GRADES = {"exact": 3, "mood": 2, "near": 1}


def generate(tracks: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Make `n` requests: 70 % for training, 10 % dev, 20 % test, each about a track of its own split.

    Returns:
        A row a request: request_id, text, split, template; what was asked for ("" if not asked): mood, genre, genre2,
        decade, instrument, wants; target (the track it was worded from), track_ids and grades (the relevant tracks of
        the same split, best first; for training only the target).
    """
    rng = np.random.default_rng(seed + 1)
    shares = dict(zip(SPLITS, (0.7, 0.1, 0.2), strict=True))
    parts = [
        _of_split(tracks[tracks["split"] == split].reset_index(drop=True), split, max(1, round(n * share)), rng)
        for split, share in shares.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "request_id", [f"q{i:06d}" for i in range(len(table))])
    return table


class Judge:
    """Grades every track of a catalogue for a request, from 0 (not relevant) to 3.

    3: the mood asked for, in a genre asked for if any was; 2: the mood in another genre; 1: a mood near it on the
    plane, or as the track's second mood, in a genre asked for; without a mood, 3 for the genre. One grade less for
    each further wish that a track does not meet: decade, instrument (named in its text or tags), singing, volume,
    no swearing. The track that the request was worded from is always a 3.
    """

    def __init__(self, tracks: pd.DataFrame):
        self.ids = tracks["id"].to_numpy()
        columns = {name: tracks[name].to_numpy(dtype=object) for name in ("mood", "mood2", "genre")}
        self.decade = decades(tracks["release_date"])
        self.has = {(column, value): values == value for column, values in columns.items() for value in set(values)}
        self.met = {want: rule(tracks).to_numpy(dtype=bool) for want, rule in WANTS.items()}
        self.words = (tracks["text"] + " " + tracks["tags"]).str.casefold()
        self.heard: dict[str, np.ndarray] = {}

    def grade(self, request) -> np.ndarray:
        """Grades for one request. -> (tracks,) of int."""
        genres = [genre for genre in (request.genre, request.genre2) if genre]
        in_genre = np.any([self._has("genre", genre) for genre in genres], axis=0) if genres else self._all(True)
        grades = np.zeros(len(self.ids), dtype=int)
        if request.mood:
            same = self._has("mood", request.mood)
            nearby = [self._has("mood", other) for other in near(request.mood)]
            close = np.any([self._has("mood2", request.mood), *nearby], axis=0)
            grades[close & in_genre] = GRADES["near"]
            grades[same] = GRADES["mood"]
            grades[same & in_genre] = GRADES["exact"]
        elif genres:
            grades[in_genre] = GRADES["exact"]
        for unmet in self._unmet(request):
            grades = np.maximum(grades - unmet, 0)
        grades[self.ids == request.target] = GRADES["exact"]
        return grades

    def _unmet(self, request):
        if request.decade:
            yield self.decade != request.decade
        if request.instrument:
            if request.instrument not in self.heard:
                named = self.words.str.contains(request.instrument.casefold(), regex=False)
                self.heard[request.instrument] = named.to_numpy(dtype=bool)
            yield ~self.heard[request.instrument]
        if request.wants:
            yield ~self.met[request.wants]

    def _has(self, column: str, value: str) -> np.ndarray:
        return self.has.get((column, value), self._all(False))

    def _all(self, value: bool) -> np.ndarray:
        return np.full(len(self.ids), value)


def _of_split(tracks: pd.DataFrame, split: str, n: int, rng) -> pd.DataFrame:
    if tracks.empty:
        return pd.DataFrame()
    about = tracks.iloc[rng.integers(0, len(tracks), n)].reset_index(drop=True)
    slots = _slots(about, split, rng)
    templates, wants = zip(*TEMPLATES[split], strict=True)
    needs = [{name for _, name, _, _ in Formatter().parse(t) if name} for t in templates]
    has = np.stack([np.all([slots[name] != "" for name in need], axis=0) for need in needs], axis=1)
    last_resort = np.array([bool(need & FROM_ONE_TRACK) for need in needs])
    has &= ~(last_resort & has[:, ~last_resort].any(axis=1, keepdims=True))
    met = {want: rule(about).to_numpy(dtype=bool) for want, rule in WANTS.items()} | {"": np.ones(n, dtype=bool)}
    has &= np.stack([met[want] for want in wants], axis=1)
    which = (rng.random(has.shape) * has).argmax(axis=1)
    text = np.empty(n, dtype=object)
    for i, template in enumerate(templates):
        rows = np.flatnonzero(which == i)
        text[rows] = fill(template, slots, rows)
    asks = {
        name: np.array([name in need for need in needs])[which] for name in ("genre", "genre2", "decade", "instrument")
    }
    table = pd.DataFrame({"text": text, "split": split, "template": np.array(templates, dtype=object)[which]})
    table["mood"] = np.where(np.array([bool(need & BY_MOOD) for need in needs])[which], about["mood"], "")
    for name, asked in asks.items():
        table[name] = np.where(asked, slots[name], "")
    by_artist = np.array(["like" in need for need in needs])[which]  # who names an artist asks for the artist's genre
    table["genre"] = np.where(by_artist, slots["genre"], table["genre"])
    table["wants"] = np.array(wants, dtype=object)[which]
    table["target"] = about["id"]
    table["track_ids"], table["grades"] = _judgements(table, tracks, split)
    return table


def _slots(about: pd.DataFrame, split: str, rng) -> dict[str, np.ndarray]:
    """What a request can say of its track; "" where the track does not have it."""
    moods, genres = list(MOODS.values()), list(GENRES.values())
    mood, genre = (
        np.maximum(pd.Index(list(names)).get_indexer(about[c]), 0) for names, c in ((MOODS, "mood"), (GENRES, "genre"))
    )
    known, genre_known = about["mood"].isin(list(MOODS)), about["genre"].isin(list(GENRES))
    far = pd.Index(list(MOODS)).get_indexer([opposite(m) for m in MOODS])[mood]
    words = [m.words[split] for m in moods]
    second = np.where(about["mood2"].isin(list(MOODS)), pd.Index(list(MOODS)).get_indexer(about["mood2"]), mood)
    out = {
        "phrase": pick(rng, [m.phrases[split] for m in moods], mood),
        "activity": pick(rng, [m.activities[split] for m in moods], mood),
        "opposite": pick(rng, words, far),
        "word2": pick(rng, words, second),
        "time": pick(rng, [m.times for m in moods], mood),
        "playlist": pick(rng, [m.playlists for m in moods], mood),
        "listener": pick(rng, [m.listeners for m in moods], mood),
    }
    out = {name: np.where(known, phrases, "") for name, phrases in out.items()}
    out["word"] = np.where(known, pick(rng, words, mood), about["mood"].to_numpy(dtype=object))
    out["a_word"] = np.where(out["word"] == "", "", with_article(out["word"]))
    out["genre"] = about["genre"].to_numpy(dtype=object)
    out["genre2"] = np.where(genre_known, pick(rng, [_others(g) for g in genres], genre), "")
    out["like"] = np.where(genre_known, pick(rng, [g.artists for g in genres], genre), "")
    named = pick(rng, [g.instruments for g in genres], genre)
    heard = [
        i.casefold() in text.casefold() for i, text in zip(named, about["text"] + " " + about["tags"], strict=True)
    ]
    out["instrument"] = np.where(genre_known & np.array(heard), named, "")
    out["decade"] = decades(about["release_date"])
    out["title"] = about["title"].to_numpy(dtype=object)
    out["tags"] = about["tags"].map(lambda tags: ", ".join(re.split(r", ", tags)[:3])).to_numpy(dtype=object)
    out["opening"] = about["description"].str.split().str[:8].str.join(" ").to_numpy(dtype=object)
    return out


def _others(genre) -> list[str]:
    """The other genres of a family: what a genre is blended with; the genre itself where it has none."""
    return [g.name for g in GENRES.values() if g.family == genre.family and g != genre] or [genre.name]


def _judgements(table: pd.DataFrame, tracks: pd.DataFrame, split: str) -> tuple[list, list]:
    if split == "train":
        return [[target] for target in table["target"]], [[GRADES["exact"]] for _ in table["target"]]
    judge = Judge(tracks)
    graded = [judge.grade(request) for request in table.itertuples()]
    best_first = [np.argsort(-g, kind="stable")[: (g > 0).sum()] for g in graded]
    return [judge.ids[b].tolist() for b in best_first], [g[b].tolist() for g, b in zip(graded, best_first, strict=True)]
