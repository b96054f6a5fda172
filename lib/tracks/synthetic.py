"""Synthetic tracks whose mood, genre, audio features and words agree, and their distance from a real catalogue."""

import numpy as np
import pandas as pd
from scipy.stats import wasserstein_distance

from lib.core.progress import Progress
from lib.tracks import artists as artist_table
from lib.tracks import features as audio
from lib.tracks import plausibility, titles
from lib.tracks.columns import FEATURES, KEYS, decades, finish
from lib.tracks.moods import GENRES, LANGUAGES, MOODS, PLANE, row_of
from lib.tracks.wording import PHRASES, counted, describe, pick, pick_two, with_article, worded

BLOCK = 50_000  # tracks generated together: bounds the memory, and advances the progress bar
SILENT = 0.15  # share of descriptions that do not name a mood, as many real ones do not
BLENDED = 0.35  # share of tracks with two moods
VERSIONS = 0.06  # share of titles with " - Live" and the like
OTHER_GENRE = 0.15  # share of tracks in another genre of the artist's family
RARE = 0.2  # share of tracks with a mood that is rare in the genre
FIELDS = {
    "critic": "critics",
    "listener": "listeners",
    "playlist": "playlists",
    "time": "times",
    "mood_instrument": "instruments",
    "vocals": "vocals",
}  # slot -> field of a mood
MOODS_OF = [[g.moods for g in GENRES.values()], [g.rare for g in GENRES.values()]]
NAMES = {"moods": np.array(list(MOODS), dtype=object), "genres": np.array(list(GENRES), dtype=object)}


def generate(n: int, seed: int) -> pd.DataFrame:
    """Generate `n` synthetic tracks with the columns `COLUMNS`. The same `n` and `seed` give the same tracks.

    An artist has a genre, a language, a town and a career, and the artist's tracks follow them. Mood follows genre. A
    third of the tracks blend two near moods. Audio features are drawn around the track's point on the plane.
    Description and tags use phrases of the mood that fit the genre; the title does not depend on the mood. Popularity,
    duration and tracks per artist have long tails.
    """
    rng = np.random.default_rng(seed)
    artists = artist_table.draw(int(np.clip(n // 4, 12, 20_000)), seed, rng)
    starts = range(0, n, BLOCK)
    bar = Progress(starts, desc="tracks", unit="block", disable=len(starts) < 2)
    blocks = [_block(i, min(BLOCK, n - i), artists, np.random.default_rng([seed, i])) for i in bar]
    table = pd.concat(blocks, ignore_index=True)
    copy = table.groupby(["artist", "title"]).cumcount() + 1  # an artist has each title once
    table["title"] = table["title"].where(copy == 1, table["title"] + " No. " + copy.astype(str))
    versions = PHRASES["versions"]
    shares = [1 - VERSIONS, *[VERSIONS / (len(versions) - 1)] * (len(versions) - 1)]
    table["title"] += rng.choice(np.array(versions), n, p=shares)
    return finish(table.assign(plays=np.nan, song=table["id"]), rng)


def like(real: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Generate about `n` tracks with a real catalogue's shares of moods (those in moods.yaml)."""
    tracks = generate(20 * n, seed)
    shares = real.loc[real["mood"].isin(MOODS), "mood"].value_counts(normalize=True)
    parts = [tracks[tracks["mood"] == mood].head(round(n * share)) for mood, share in shares.items()]
    return pd.concat(parts or [tracks.head(n)])


def distances_to(tracks: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Compare the features of two catalogues.

    Returns:
        A row for each feature that the real catalogue has: feature, synthetic (median), real (median), distance
        (Wasserstein, in standard deviations of the real feature).
    """
    rows = []
    for name in (*FEATURES, "tempo", "loudness", "duration_ms", "popularity"):
        values = real[name].dropna()
        if len(values) > 1 and values.std() > 0:
            distance = wasserstein_distance(tracks[name], values) / values.std()
            rows.append((name, tracks[name].median(), values.median(), round(distance, 3)))
    return pd.DataFrame(rows, columns=["feature", "synthetic", "real", "distance"])


def _block(first: int, n: int, artists: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    artist = rng.choice(len(artists), n, p=artists["fame"] / artists["fame"].sum())
    sung, since = artists["language"].to_numpy(dtype=object)[artist], artists["since"].to_numpy()[artist]
    genre = _genres(rng, artists["genre"].to_numpy()[artist], sung, since)
    mood, mood2, weight = _moods(rng, genre)
    plane = PLANE[mood] * weight[:, None] + PLANE[mood2] * (1 - weight[:, None])
    features = audio.draw(rng, mood, plane, genre) | audio.draw_release(rng, artists, artist, genre)
    language = np.where(features["instrumentalness"] > 0.5, "", sung)
    slots = _slots(rng, mood, mood2, genre, language, features)
    slots["artist"] = artists["name"].to_numpy(dtype=object)[artist]
    slots["place"] = artists["place"].to_numpy(dtype=object)[artist]
    title, slots["album"] = titles.draw(rng, slots, genre, sung)
    silent, rows = rng.random(n) < SILENT, np.arange(n)
    texts = {
        "title": title,
        "artist": slots["artist"],
        "album": slots["album"],
        "genre": slots["genre"],
        "language": language,
        "description": describe(rng, slots, silent),
    }
    quiet, tags = (worded(rng, PHRASES["tags"][kind], slots, rows) for kind in ("without_mood", "with_mood"))
    texts["tags"] = np.where(silent, quiet, tags)
    return pd.DataFrame(
        {
            "id": np.char.add("t", np.char.zfill((first + rows).astype(str), 7)),
            "mood": NAMES["moods"][mood],
            "mood2": np.where(mood2 == mood, "", NAMES["moods"][mood2]),
            "mood_weight": weight.round(2),
            "mood_source": "made",
            "mood_confidence": 1.0,
            **features,
            **{name: pd.Series(values, dtype="str") for name, values in texts.items()},
        }
    )


def _genres(rng: np.random.Generator, own: np.ndarray, language: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Draw the genre of each track: the artist's own, or another that fits the artist's language and years."""
    other = pick(rng, plausibility.kin(), own * len(LANGUAGES) + row_of(LANGUAGES, language)).astype(int)
    first, last = np.array([g.years for g in GENRES.values()])[other].T
    return np.where((rng.random(len(own)) < OTHER_GENRE) & (first <= since) & (since < last), other, own)


def _moods(rng: np.random.Generator, genre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the main mood, the second mood (the same for most tracks) and the main mood's weight. -> three of (n,)."""
    usual, rare = (pick(rng, [row_of(MOODS, some) for some in lists], genre).astype(int) for lists in MOODS_OF)
    mood = np.where(rng.random(len(genre)) < RARE, rare, usual)
    blended = rng.random(len(genre)) < BLENDED
    mood2 = np.where(blended, plausibility.second_moods()[genre, mood, rng.integers(0, 3, len(genre))], mood)
    return mood, mood2, np.where(blended, rng.uniform(0.55, 0.85, len(genre)), 1.0)


def _slots(rng, mood, mood2, genre, language, features) -> dict[str, np.ndarray]:
    """Draw the phrases that fill the templates of phrases.yaml: a column for each slot."""
    n, genres = len(mood), list(GENRES.values())
    words = [m.words["train"] for m in MOODS.values()]
    both, wordless = mood * len(genres) + genre, features["instrumentalness"] >= 0.5
    slots = {}
    for slot, choices, group in (
        ("word", words, mood),
        ("sound", plausibility.phrases("sound") + plausibility.phrases("sound", wordless=True), both),
        ("instrument", [g.instruments for g in genres], genre),
    ):
        group = group + wordless * len(genres) * len(MOODS) if slot == "sound" else group
        slots[slot], slots[f"{slot}2"] = pick_two(rng, choices, group)
    for slot, field in FIELDS.items():
        slots[slot] = pick(rng, plausibility.phrases(field), both)
    no_vocals = rng.choice(np.array(PHRASES["no_vocals"], dtype=object), n)
    second = pick(rng, words, mood2)
    slots["word2"] = np.where(mood2 == mood, slots["word2"], second)
    slots["activity"] = pick(rng, plausibility.phrases("activities", "train"), both)
    slots["instrument2"] = np.where(rng.random(n) < 0.3, slots["mood_instrument"], slots["instrument2"])
    slots["like"] = pick(rng, [g.artists for g in genres], genre)
    abroad = {code: f", sung in {v['name']}" for code, v in LANGUAGES.items() if code != "en"}
    tongue = np.array([abroad.get(code, "") for code in language], dtype=object)
    dates = pd.Series(features["release_date"])
    tempo = np.select([features["tempo"] < 85, features["tempo"] < 118], ["slow", "mid-tempo"], "fast").astype(object)
    keys = np.array([f"{key} {mode}" for key in KEYS for mode in ("minor", "major")], dtype=object)
    return slots | {
        "vocals": np.where(features["instrumentalness"] < 0.5, slots["vocals"] + tongue, no_vocals),
        "genre": NAMES["genres"][genre],
        "a_word": with_article(slots["word"]),
        "tempo_word": tempo,
        "a_tempo": with_article(tempo),
        "a_genre": with_article(NAMES["genres"][genre]),
        **{f"an_{slot}": counted(slots[slot]) for slot in ("instrument", "instrument2")},
        "bpm": features["tempo"].round().astype(int).astype(str).astype(object),
        "keyname": keys[2 * features["key"] + features["mode"]],
        "year": dates.str[:4].to_numpy(dtype=object),
        "decade": decades(dates),
    }
