"""Listener requests with graded relevance. Train, dev and test share no template and no word for a mood."""

from functools import cache

import numpy as np
import pandas as pd

from lib.tracks import plausibility
from lib.tracks.columns import decades
from lib.tracks.moods import GENRES, LANGUAGES, MOODS, SPLITS, load, near, opposite, row_of
from lib.tracks.wording import fill, pick, slots_of, with_article, with_typo

_DATA = load("listener_requests.yaml")
# Split -> condition -> templates.
TEMPLATES: dict[str, dict[str, list[str]]] = {split: _DATA[split] for split in SPLITS}
LOWER_CASE, TYPOS = 0.4, 0.1  # shares of requests
# Conditions on a track's columns that no slot of a template states. A request has at most one, in the column wants.
CONDITIONS = {
    "instrumental": lambda t: t["instrumentalness"] >= 0.5,
    "sung": lambda t: t["instrumentalness"] < 0.5,
    "quiet": lambda t: t["energy"] < 0.5,
    "loud": lambda t: t["energy"] >= 0.6,
    "clean": lambda t: ~t["explicit"].astype(bool),
    "slow": lambda t: t["tempo"] < 95,
    "fast": lambda t: t["tempo"] >= 120,
}
# Slots that state a mood.
BY_MOOD = ["word", "a_word", "word2", "need", "phrase", "activity", "time", "playlist", "listener"]
NAMES = ("artist", "album", "title")  # slots that name a track, for requests about tracks without a mood
EXACT, SAME_MOOD, NEAR_MOOD = 3, 2, 1  # grades


def generate(tracks: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Word `n` requests: 70 % for training, 10 % dev, 20 % test, each about a track of its own split.

    A track without a mood, as in many real catalogues, is asked for by its genre, artist, album or title.

    Returns:
        A row for each request: request_id, text, split, template; what it asks for ("" where it does not): mood, genre,
        genre2, decade, instrument, language, artist, album, title, wants; unwanted (a genre or family that it refuses);
        target (the track it is worded from); track_ids and grades (the relevant tracks of its split, best first; for
        training only the target).
    """
    rng = np.random.default_rng(seed + 1)
    parts = [
        _of_split(tracks[tracks["split"] == split].reset_index(drop=True), split, max(1, round(n * share)), rng)
        for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "request_id", [f"q{i:06d}" for i in range(len(table))])
    return table


class Judge:
    """Grades of every track of a catalogue for a request, from 0 (not relevant) to 3.

    3: the mood, in a genre that the request names if it names any. 2: the mood in another genre. 1: a near mood, or the
    mood as the track's second one, in a genre that the request names. A request without a mood: 3 for its genre, or
    for the artist, the album and the title that it names.
    A track loses one grade for each of the request's decade, language, instrument (in its text or tags) and condition
    that it does not meet, and all of them if the request refuses its genre or family. The track that the request is
    worded from always has grade 3.
    """

    def __init__(self, tracks: pd.DataFrame):
        self.ids, self.decade = tracks["id"].to_numpy(), decades(tracks["release_date"])
        self.meets = {name: condition(tracks).to_numpy(dtype=bool) for name, condition in CONDITIONS.items()}
        columns = {name: tracks[name].to_numpy(dtype=object) for name in ("mood", "mood2", "genre", "language", *NAMES)}
        columns["family"] = _families(tracks["genre"])
        self.has = cache(lambda column, value: columns[column] == value)
        words = (tracks["text"] + " " + tracks["tags"]).str.casefold()
        self.plays = cache(lambda name: words.str.contains(name.casefold(), regex=False).to_numpy(dtype=bool))

    def grade(self, request) -> np.ndarray:
        """Return the grades for one request. -> (tracks,) of int."""
        genres = [self.has("genre", genre) for genre in (request.genre, request.genre2) if genre]
        in_genre = np.any(genres, axis=0) if genres else np.full(len(self.ids), True)
        grades = np.zeros(len(self.ids), dtype=int)
        if request.mood:
            same = self.has("mood", request.mood)
            neighbours = [self.has("mood", other) for other in near(request.mood)]
            close = np.any([self.has("mood2", request.mood), *neighbours], axis=0)
            grades[close & in_genre] = NEAR_MOOD
            grades[same] = SAME_MOOD
            grades[same & in_genre] = EXACT
        elif genres:
            grades[in_genre] = EXACT
        elif names := [self.has(name, getattr(request, name)) for name in NAMES if getattr(request, name)]:
            grades[np.all(names, axis=0)] = EXACT
        if request.decade:
            grades -= self.decade != request.decade
        if request.language:
            grades -= ~self.has("language", request.language)
        if request.instrument:
            grades -= ~self.plays(request.instrument)
        if request.wants:
            grades -= ~self.meets[request.wants]
        if request.unwanted:
            grades[self.has("genre", request.unwanted) | self.has("family", request.unwanted)] = 0
        grades = np.maximum(grades, 0)
        grades[self.ids == request.target] = EXACT
        return grades


def _of_split(tracks: pd.DataFrame, split: str, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Word `n` requests about tracks of one split."""
    if tracks.empty:
        return pd.DataFrame()
    about = tracks.iloc[rng.integers(0, len(tracks), n)].reset_index(drop=True)
    slots = _slots(about, split, rng)
    groups, templates = zip(*((group, t) for group, some in TEMPLATES[split].items() for t in some), strict=True)
    needs = [slots_of(template) for template in templates]
    fits = np.stack([np.all([slots[name] != "" for name in need], axis=0) for need in needs], axis=1)
    by_name, fallback = (np.array(groups) == group for group in ("by_name", "fallback"))
    fits &= ~(fallback & fits[:, ~fallback & ~by_name].any(axis=1, keepdims=True))
    fits &= ~(by_name & ((about["mood"] != "").to_numpy()[:, None] | fits[:, fallback].any(axis=1, keepdims=True)))
    meets = {name: condition(about).to_numpy(dtype=bool) for name, condition in CONDITIONS.items()}
    fits &= np.stack([meets.get(group, np.full(n, True)) for group in groups], axis=1)
    chance = np.empty(fits.shape)
    chance[:, ~by_name] = rng.random((n, (~by_name).sum()))
    chance[:, by_name] = rng.spawn(1)[0].random((n, by_name.sum()))
    draws = (chance * fits).argmax(axis=1)

    uses = pd.DataFrame([{slot: slot in need for slot in slots} for need in needs]).iloc[draws].reset_index(drop=True)
    text = np.empty(n, dtype=object)
    for i, template in enumerate(templates):
        text[draws == i] = fill(template, slots, np.flatnonzero(draws == i))
    text = _styled(text, (by_name | fallback)[draws], rng)
    table = pd.DataFrame({"text": text, "split": split, "template": np.array(templates, dtype=object)[draws]})
    table["mood"] = np.where(uses[BY_MOOD].any(axis=1), about["mood"], "")
    table["genre"] = np.where(uses["genre"] | uses["like"], slots["genre"], "")  # a named artist stands for a genre
    uses["decade"] |= uses["a_decade"]
    for name in ("genre2", "decade", "instrument", "unwanted"):
        table[name] = np.where(uses[name], slots[name], "")
    table["language"] = np.where(uses["language"], about["language"], "")
    for name in NAMES:
        table[name] = np.where(uses[name] & by_name[draws], slots[name], "")
    table["wants"] = np.array([group if group in CONDITIONS else "" for group in groups], dtype=object)[draws]
    table["target"] = about["id"]
    table["track_ids"], table["grades"] = _judgements(table, tracks, split)
    return table


def _styled(text: np.ndarray, by_name: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write some requests in lower case without a full stop, and some with a typo, but not in a name. (n,) -> (n,)."""
    lower, typo, at = rng.random((3, len(text)))
    text = np.array(
        [t.lower().rstrip(".?!") if low < LOWER_CASE else t for t, low in zip(text, lower, strict=True)], object
    )
    typos = (typo < TYPOS) & ~by_name
    text[typos] = [with_typo(t, where) for t, where in zip(text[typos], at[typos], strict=True)]
    return text


def _families(genres: pd.Series) -> np.ndarray:
    return genres.map({g.name: g.family for g in GENRES.values()}).fillna("").to_numpy(dtype=object)


def _slots(about: pd.DataFrame, split: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the phrases for a request about each track; "" where the track has no such property."""
    moods, genres = list(MOODS.values()), list(GENRES.values())
    mood, genre = row_of(MOODS, about["mood"]), row_of(GENRES, about["genre"])
    has_mood, has_genre = about["mood"].isin(MOODS), about["genre"].isin(GENRES)
    words = [m.words[split] for m in moods]
    slots = {
        "phrase": pick(rng, [m.phrases[split] for m in moods], mood),
        "opposite": pick(rng, words, row_of(MOODS, [opposite(m) for m in MOODS])[mood]),
        "word2": pick(rng, words, np.where(about["mood2"].isin(MOODS), row_of(MOODS, about["mood2"]), mood)),
        "need": pick(rng, [_DATA["needs"][m][split] for m in MOODS], mood),
    }
    both = np.where(has_genre, mood * len(genres) + genre, len(moods) * len(genres) + mood)
    for name, field in (
        ("activity", "activities"),
        ("time", "times"),
        ("playlist", "playlists"),
        ("listener", "listeners"),
    ):
        in_split = split if field == "activities" else ""
        anywhere = [getattr(m, field)[split] if in_split else getattr(m, field) for m in moods]
        slots[name] = pick(rng, plausibility.phrases(field, in_split) + anywhere, both)
    slots = {name: np.where(has_mood, phrases, "") for name, phrases in slots.items()}
    word = np.where(has_mood, pick(rng, words, mood), about["mood"].to_numpy(dtype=object))
    families = [[g.name for g in genres if g.family == one.family and g != one] or [one.name] for one in genres]
    genre2, like = pick(rng, families, genre), pick(rng, [g.artists for g in genres], genre)
    instrument = pick(rng, [g.instruments for g in genres], genre)
    texts = (about["text"] + " " + about["tags"]).str.casefold()
    named = np.array([i.casefold() in text for i, text in zip(instrument, texts, strict=True)])
    unwanted = rng.choice(np.array(_DATA["unwanted"], dtype=object), len(about))
    own = (unwanted == about["genre"].to_numpy(dtype=object)) | (unwanted == _families(about["genre"]))
    decade = decades(about["release_date"])
    languages = {"en": "", "English": ""} | {code: v["name"] for code, v in LANGUAGES.items() if code != "en"}
    pools = {name: rng.choice(np.array(pool, dtype=object), len(about)) for name, pool in _DATA["pools"][split].items()}
    return slots | {
        "word": word,
        "a_word": np.where(word == "", "", with_article(word)),
        "genre": about["genre"].to_numpy(dtype=object),
        "genre2": np.where(has_genre, genre2, ""),
        "like": np.where(has_genre, like, ""),
        "instrument": np.where(has_genre & named, instrument, ""),
        "unwanted": np.where(has_genre & ~own, unwanted, ""),
        "language": about["language"].replace(languages).to_numpy(dtype=object),
        "decade": decade,
        "a_decade": np.where(decade == "", "", with_article(decade)),
        **pools,
        **{name: about[name].to_numpy(dtype=object) for name in NAMES},
        "tags": about["tags"].str.split(", ").str[:3].str.join(", ").to_numpy(dtype=object),
        "opening": about["description"].str.split().str[:8].str.join(" ").to_numpy(dtype=object),
    }


def _judgements(table: pd.DataFrame, tracks: pd.DataFrame, split: str) -> tuple[list, list]:
    """Return the ids and the grades of each request's relevant tracks, best first."""
    if split == "train":
        return [[target] for target in table["target"]], [[EXACT] for _ in table["target"]]
    judge = Judge(tracks)
    grades = [judge.grade(request) for request in table.itertuples()]
    best_first = [np.argsort(-g, kind="stable")[: (g > 0).sum()] for g in grades]
    return [judge.ids[b].tolist() for b in best_first], [g[b].tolist() for g, b in zip(grades, best_first, strict=True)]
