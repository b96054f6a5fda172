"""The catalogue: synthetic tracks whose mood, genre, audio features and words hang together."""

from __future__ import annotations

from string import Formatter

import numpy as np
import pandas as pd
from faker import Faker

from lib.moods import GENRES, MOODS

FEATURES = ("danceability", "energy", "valence", "acousticness", "instrumentalness", "liveness", "speechiness")
COLUMNS = (
    *("id", "title", "artist", "album", "genre", "mood", "mood_source", "description", "tags"),
    *FEATURES,
    *("tempo", "loudness", "duration_ms", "explicit", "popularity", "release_date", "text", "split"),
)
# Share of descriptions that say nothing of mood: real ones are often silent about it.
SILENT = 0.15

DESCRIPTIONS = (
    "{A_word} {genre} song built on {instrument} and {instrument2}, with {sound} and {vocals}.",
    "{A_word} {genre} track. {Instrument} carries the melody over {sound}; {vocals}. Music for {activity}.",
    "This {tempo_word} {genre} piece pairs {instrument} with {instrument2}. It feels {word} and {word2}.",
    "{Instrument} opens, then {instrument2} joins in. The mood is {word}, the tempo {tempo_word}.",
    "The {genre} song features {vocals} over {instrument}, {instrument2} and {sound}. It is {word} and {word2}.",
    "Recorded in {place}: {instrument}, {sound}, and {a_word} feeling that suits {activity}.",
    "{Sound} and {sound2} give this {tempo_word} {genre} number {a_word} mood. {Vocals}.",
    "I put this on for {activity}. It is {word}, {tempo_word}, all {instrument} and {vocals}.",
    "{artist} from {place} play {word} {genre} with {sound}.",
)
SILENT_DESCRIPTIONS = (
    "This {tempo_word} {genre} song pairs {instrument} with {instrument2}, with {sound} and {vocals}.",
    "{Instrument} and {instrument2} over {sound}. {Vocals}.",
    "{artist}, from {place}. {genre}, {tempo_word}, {instrument}.",
    "A {genre} recording made in {place}: {instrument}, {instrument2}, {sound}.",
)
TAGS = (
    "{genre}, {word}, {instrument}, {vocals}, {tempo_word}, {sound}",
    "{word}, {word2}, {instrument}, {instrument2}, {sound}, {genre}",
    "{tempo_word}, {genre}, {sound}, {sound2}, {instrument}, {vocals}, {word}",
    "{vocals}, {instrument}, {sound}, {word}, {activity}",
)
SILENT_TAGS = (
    "{genre}, {instrument}, {instrument2}, {tempo_word}, {vocals}",
    "{sound}, {sound2}, {instrument}, {tempo_word}, {genre}",
)
TITLES = ("{title}", "{title} {title2}", "The {title}", "{title} in {place}", "{title} Again", "{title} & {title2}")
ARTISTS = ("{person}", "{person}", "The {word}s", "{word} {person}", "{place} {noun}", "{person} & the {word}s")


def generate(n: int, seed: int) -> pd.DataFrame:
    """Make `n` synthetic tracks with the columns `COLUMNS`; the same `n` and `seed` give the same tracks.

    Mood follows genre, audio features follow both (energy with arousal, valence with valence, acousticness
    against energy), and title, description and tags are worded from the mood's and genre's own vocabulary,
    from the words that moods.yaml sets aside for training only. Durations are lognormal, popularity is skewed.
    """
    rng = np.random.default_rng(seed)
    artists = _artists(max(12, n // 8), seed, rng)
    artist = _skewed(rng, len(artists), n)
    genre = np.where(rng.random(n) < 0.8, artists["genre"].to_numpy()[artist], rng.integers(0, len(GENRES), n))
    mood = _moods_given_genre(rng, genre)
    features = _features(rng, mood, genre)
    slots = _slots(rng, mood, genre, features, artists["place"].to_numpy()[artist])
    slots["artist"] = artists["name"].to_numpy()[artist]
    silent = rng.random(n) < SILENT
    table = pd.DataFrame(
        {
            "id": [f"t{i:07d}" for i in range(n)],
            "title": _worded(rng, TITLES, slots),
            "artist": slots["artist"],
            "album": slots["title2"],
            "genre": np.array(list(GENRES))[genre],
            "mood": np.array(list(MOODS))[mood],
            "mood_source": "made",
            "description": np.where(
                silent, _worded(rng, SILENT_DESCRIPTIONS, slots), _worded(rng, DESCRIPTIONS, slots)
            ),
            "tags": np.where(silent, _worded(rng, SILENT_TAGS, slots), _worded(rng, TAGS, slots)),
            **features,
        }
    )
    return finish(table, rng)


def finish(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Add the text that the encoder reads and the split (70 % train, 10 % dev, 20 % test); order the columns."""
    order, dev, test = rng.permutation(len(table)), max(1, len(table) // 10), max(1, len(table) // 5)
    split = np.full(len(table), "train", dtype=object)
    split[order[:dev]], split[order[dev : dev + test]] = "dev", "test"
    table = table.assign(text=document(table), split=split)
    return table.reindex(columns=list(COLUMNS))


def document(table: pd.DataFrame) -> pd.Series:
    """What the encoder reads of each track: "title — artist (album). description", whichever of these there are."""
    filled = table.reindex(columns=["title", "artist", "album", "description"]).fillna("").astype(str)
    head = filled["title"].where(filled["artist"] == "", filled["title"] + " — " + filled["artist"])
    named = (filled["album"] != "") & (filled["album"] != filled["title"])
    head = head.where(~named, head + " (" + filled["album"] + ")").str.removeprefix(" — ")
    joined = head + np.where((head != "") & (filled["description"] != ""), ". ", "") + filled["description"]
    return joined.str.strip()


def fill(template: str, slots: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """A template's `{slots}` filled for the given rows, by whole columns rather than row by row. -> (rows,)."""
    out = np.full(len(rows), "", dtype=object)
    for literal, name, _, _ in Formatter().parse(template):
        out = out + literal
        if name:
            out = out + slots[name][rows]
    return out


def pick(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> np.ndarray:
    """One random choice for each row, from the list of the row's group. (n,) -> (n,)."""
    return pick_two(rng, choices, group)[0]


def pick_two(rng: np.random.Generator, choices: list[list], group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two different choices for each row (the same one twice only where the list has no other). (n,) -> (n,), (n,)."""
    sizes = np.array([len(c) for c in choices])
    starts = np.concatenate([[0], sizes.cumsum()[:-1]])[group]
    flat = np.array([word for c in choices for word in c], dtype=object)
    size = sizes[group]
    first = (rng.random(len(group)) * size).astype(int)
    second = (first + 1 + (rng.random(len(group)) * (size - 1)).astype(int)) % size
    return flat[starts + first], flat[starts + second]


def capitalised(words: np.ndarray) -> np.ndarray:
    """Each phrase with its first letter in upper case."""
    return np.array([word[:1].upper() + word[1:] for word in words], dtype=object)


def _worded(rng, templates, slots) -> np.ndarray:
    n = len(slots["word"])
    which = rng.integers(0, len(templates), n)
    out = np.empty(n, dtype=object)
    for i, template in enumerate(templates):
        rows = np.flatnonzero(which == i)
        out[rows] = capitalised(fill(template, slots, rows))
    return out


def _skewed(rng, k: int, n: int) -> np.ndarray:
    """n draws of 0…k-1, few of them often and most of them rarely (Zipf with exponent 0.7)."""
    weights = 1 / np.arange(1, k + 1) ** 0.7
    return rng.choice(k, n, p=weights / weights.sum())


def _artists(k: int, seed: int, rng) -> pd.DataFrame:
    fake = Faker("en_US")
    fake.seed_instance(seed)
    genre = rng.integers(0, len(GENRES), k)
    slots = {
        "person": np.array(
            [f"{fake.first_name()} {fake.last_name()}" if i % 3 else fake.first_name() for i in range(k)], dtype=object
        ),
        "place": np.array([fake.city() for _ in range(k)], dtype=object),
        "noun": np.array(
            [str(w) for w in rng.choice(["Quartet", "Collective", "Sound", "Orchestra", "Club"], k)], object
        ),
        "word": pick(rng, [mood.titles for mood in MOODS.values()], rng.integers(0, len(MOODS), k)),
    }
    return pd.DataFrame({"name": _worded(rng, ARTISTS, slots), "genre": genre, "place": slots["place"]})


def _moods_given_genre(rng, genre: np.ndarray) -> np.ndarray:
    index = {name: i for i, name in enumerate(MOODS)}
    usual = pick(rng, [[index[m] for m in g.moods] for g in GENRES.values()], genre).astype(int)
    return np.where(rng.random(len(genre)) < 0.75, usual, rng.integers(0, len(MOODS), len(genre)))


def _features(rng, mood: np.ndarray, genre: np.ndarray) -> dict[str, np.ndarray]:
    """Audio features drawn jointly, in Spotify's units: 0 to 1, BPM, decibels, milliseconds."""
    n = len(mood)
    of_mood = {k: np.array([getattr(m, k) for m in MOODS.values()])[mood] for k in ("valence", "arousal", "tempo")}
    of_genre = {
        k: np.array([getattr(g, k) for g in GENRES.values()])[genre]
        for k in ("tempo", "acoustic", "danceable", "vocal")
    }
    noise = rng.normal(size=(8, n))
    energy = np.clip(0.5 + 0.42 * of_mood["arousal"] + 0.09 * noise[0], 0.01, 0.99)
    valence = np.clip(0.5 + 0.42 * of_mood["valence"] + 0.10 * noise[1], 0.01, 0.99)
    acoustic = 0.7 * of_genre["acoustic"] + 0.3 * (1 - energy) + 0.1 * noise[2]
    danceable = 0.65 * of_genre["danceable"] + 0.15 * energy + 0.2 * valence + 0.08 * noise[3]
    sung = rng.random(n) < of_genre["vocal"]
    middle = (of_mood["tempo"].mean(axis=1) + of_genre["tempo"].mean(axis=1)) / 2
    year = 2025 - np.minimum(rng.exponential(14, n), 75).astype(int)
    date = np.datetime_as_string(
        (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + rng.integers(0, 365, n), unit="D"
    )
    explicit_rate = 0.03 + 0.25 * np.isin([g.family for g in GENRES.values()], ["hip hop", "metal"])[genre]
    return {
        "danceability": np.clip(danceable, 0.02, 0.98).round(3),
        "energy": energy.round(3),
        "valence": valence.round(3),
        "acousticness": np.clip(acoustic, 0, 1).round(3),
        "instrumentalness": np.where(sung, rng.beta(1, 14, n), rng.beta(9, 2, n)).round(3),
        "liveness": rng.beta(1.6, 7, n).round(3),
        "speechiness": rng.beta(1.4, 16, n).round(3),
        "tempo": np.clip(middle + 9 * noise[4], 40, 220).round(1),
        "loudness": np.clip(-26 + 22 * energy + 2 * noise[5], -50, 0).round(2),
        "duration_ms": (np.exp(np.log(215) + 0.3 * noise[6]) * 1000).clip(30_000, 1_500_000).astype(int),
        "explicit": rng.random(n) < explicit_rate,
        "popularity": (100 * rng.beta(1.3, 4, n)).astype(int),
        "release_date": date.astype(object),
    }


def _slots(rng, mood, genre, features, place) -> dict[str, np.ndarray]:
    """The words that descriptions, tags and titles are made of, a column each."""
    words = [m.words["train"] for m in MOODS.values()]
    sung = features["instrumentalness"] < 0.5
    tempo = features["tempo"]
    word, word2 = pick_two(rng, words, mood)
    sound, sound2 = pick_two(rng, [m.sound for m in MOODS.values()], mood)
    instrument, instrument2 = pick_two(rng, [g.instruments for g in GENRES.values()], genre)
    title, title2 = pick_two(rng, [m.titles for m in MOODS.values()], mood)
    slots = {
        **{"word": word, "word2": word2, "sound": sound, "sound2": sound2, "title": title, "title2": title2},
        **{"instrument": instrument, "instrument2": instrument2, "place": place.astype(object)},
        "activity": pick(rng, [m.activities["train"] for m in MOODS.values()], mood),
        "vocals": np.where(sung, pick(rng, [m.vocals for m in MOODS.values()], mood), "no vocals"),
        "genre": np.array(list(GENRES), dtype=object)[genre],
        "tempo_word": np.select([tempo < 85, tempo < 118], ["slow", "mid-tempo"], "fast").astype(object),
    }
    slots["a_word"] = np.array([("an " if w[0] in "aeiou" else "a ") + w for w in slots["word"]], dtype=object)
    for name in ("a_word", "instrument", "sound", "vocals"):
        slots[name[:1].upper() + name[1:]] = capitalised(slots[name])
    return slots
