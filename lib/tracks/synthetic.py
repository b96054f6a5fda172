"""The catalogue: synthetic tracks whose mood, genre, audio features and words hang together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import wasserstein_distance
from tqdm.auto import tqdm

from lib.tracks.moods import GENRES, LANGUAGES, MOODS, PLANE, distances
from lib.tracks.wording import (
    ALBUMS,
    FOREIGN_TITLES,
    INSTRUMENTAL,
    NOUNS,
    SILENT_TAGS,
    TAGS,
    TITLES,
    VERSIONS,
    describe,
    faker,
    pick,
    pick_two,
    with_article,
    worded,
)

FEATURES = ("danceability", "energy", "valence", "acousticness", "instrumentalness", "liveness", "speechiness")
NUMBERS = (*FEATURES, "tempo", "loudness", "key", "mode", "duration_ms", "popularity")
COLUMNS = (
    *("id", "title", "artist", "album", "genre", "language"),
    *("mood", "mood2", "mood_weight", "mood_source", "mood_confidence", "description", "tags"),
    *FEATURES,
    *("tempo", "loudness", "key", "mode", "duration_ms", "explicit", "popularity", "release_date", "text", "split"),
)
BLOCK = 50_000  # tracks made at a time: bounds memory, and a tick of the progress bar
SILENT = 0.15  # share of descriptions that say nothing of mood: real ones are often silent about it
BLENDED = 0.35  # share of tracks that are two moods at once
HELD_OUT = 20_000  # at most this many tracks in dev and in test: enough to measure with, and every one is judged
KEYS = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
# How the chance parts of the audio features move together, once mood and genre are known: the signs and rough sizes
# that analyses of Spotify's features report (energy with loudness, against acousticness; danceability with valence).
_NAMES = ("energy", "valence", "danceability", "acousticness", "loudness", "tempo", "liveness", "speechiness")
_CORRELATED = {
    ("energy", "loudness"): 0.7,
    ("energy", "acousticness"): -0.55,
    ("acousticness", "loudness"): -0.4,
    ("danceability", "valence"): 0.4,
    ("energy", "valence"): 0.15,
    ("energy", "tempo"): 0.2,
    ("danceability", "tempo"): -0.15,
    ("energy", "liveness"): 0.15,
    ("danceability", "speechiness"): 0.15,
}
_CORRELATION = np.eye(len(_NAMES))


for (_a, _b), _r in _CORRELATED.items():
    _i, _j = _NAMES.index(_a), _NAMES.index(_b)
    _CORRELATION[_i, _j] = _CORRELATION[_j, _i] = _r


def generate(n: int, seed: int) -> pd.DataFrame:
    """Make `n` synthetic tracks with the columns `COLUMNS`; the same `n` and `seed` give the same tracks.

    Artists have a genre, a language, a home and years; their tracks follow. Mood follows genre, a third of the tracks
    are two near moods with a weight, and the audio features are drawn jointly (a Gaussian copula on logistic margins)
    around the point of the plane that the moods make. Title, description and tags are worded from the vocabulary of
    mood and genre in moods.yaml. Popularity, tracks an artist and durations have long tails.
    """
    rng = np.random.default_rng(seed)
    artists = _artists(int(np.clip(n // 4, 12, 20_000)), seed, rng)
    starts = range(0, n, BLOCK)
    bar = tqdm(starts, desc="tracks", unit="block", disable=len(starts) < 2)
    blocks = [_block(i, min(BLOCK, n - i), artists, np.random.default_rng([seed, i])) for i in bar]
    table = pd.concat(blocks, ignore_index=True)
    again = table.groupby(["artist", "title"]).cumcount() + 1  # an artist has a title once
    table["title"] = table["title"].where(again == 1, table["title"] + " No. " + again.astype(str))
    table["title"] += rng.choice(np.array(VERSIONS), n, p=[0.94, *[0.06 / (len(VERSIONS) - 1)] * (len(VERSIONS) - 1)])
    return finish(table, rng)


def finish(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Add the text that the encoder reads and the split (10 % dev, 20 % test, both at most `HELD_OUT`, rest train)."""
    order = rng.permutation(len(table))
    dev, test = (min(HELD_OUT, max(1, len(table) // part)) for part in (10, 5))
    split = np.full(len(table), "train", dtype=object)
    split[order[:dev]], split[order[dev : dev + test]] = "dev", "test"
    table = table.assign(text=document(table), split=pd.Series(split, dtype="str"))
    return table.reindex(columns=list(COLUMNS))


def document(table: pd.DataFrame) -> pd.Series:
    """What the encoder reads of each track: "title — artist (album). description", whichever of these there are."""
    filled = table.reindex(columns=["title", "artist", "album", "description"]).fillna("").astype("str")
    has = {name: (filled[name] != "").to_numpy() for name in filled}
    album = has["album"] & (filled["album"] != filled["title"]).to_numpy()
    parts = (
        filled["title"],
        _where(has["title"] & has["artist"], " — "),
        filled["artist"],
        _where(album, " ("),
        filled["album"].where(album, ""),
        _where(album, ")"),
        _where((has["title"] | has["artist"] | album) & has["description"], ". "),
        filled["description"],
    )
    arrays = (pa.array(part, pa.large_string()) for part in parts)
    joined = pc.binary_join_element_wise(*arrays, pa.scalar("", pa.large_string()))
    return pd.Series(pc.utf8_trim_whitespace(joined), table.index, dtype="str")


def _where(rows: np.ndarray, text: str) -> pa.Array:
    return pc.if_else(pa.array(rows), pa.scalar(text, pa.large_string()), pa.scalar("", pa.large_string()))


def like(real: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """About `n` synthetic tracks with the shares of (our) moods that a real catalogue has, to compare features with."""
    made = generate(20 * n, seed)
    shares = real.loc[real["mood"].isin(list(MOODS)), "mood"].value_counts(normalize=True)
    parts = [made[made["mood"] == mood].head(round(n * share)) for mood, share in shares.items()]
    return pd.concat(parts or [made.head(n)])


def distances_to(made: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """How far two catalogues' features lie apart: Wasserstein distance in standard deviations of the real feature.

    Returns:
        Columns feature, made (median), real (median), distance; a row for each feature that the real catalogue has.
    """
    rows = []
    for name in (*FEATURES, "tempo", "loudness", "duration_ms", "popularity"):
        known = real[name].dropna()
        if len(known) > 1 and known.std() > 0:
            far = wasserstein_distance(made[name], known) / known.std()
            rows.append(
                {"feature": name, "made": made[name].median(), "real": known.median(), "distance": round(far, 3)}
            )
    return pd.DataFrame(rows, columns=["feature", "made", "real", "distance"])


def decades(dates: pd.Series) -> np.ndarray:
    """How people say the decade of a date: 80s, 2010s, 1920s; "" where there is no date. (n,) of "1984-…" -> (n,)."""
    years = pd.to_numeric(dates.str[:4], errors="coerce").to_numpy(float)  # "INF" is a number, too
    return _DECADES[np.nan_to_num(years, posinf=0, neginf=0).astype(int).clip(0, 2100)]


# From a year to its decade, by looking it up: a million rows a call.
_DECADES = np.array(
    [
        f"{year % 100 // 10}0s" if 1930 <= year < 2000 else f"{year // 10}0s" if 1000 <= year < 2100 else ""
        for year in range(2101)
    ],
    dtype=object,
)


def _artists(k: int, seed: int, rng: np.random.Generator) -> pd.DataFrame:
    """A table of artists: name, genre (its row), language, place, first year, fame (1 for the least known)."""
    genres = list(GENRES.values())
    genre = rng.permutation(np.arange(k) % len(genres))
    sung = np.array(["en" if g.language == "instrumental" else g.language for g in genres], dtype=object)[genre]
    abroad = rng.random(k) < 0.12  # every genre is also sung elsewhere
    language = np.where(abroad, rng.choice(list(LANGUAGES), k), sung)
    fakes = {code: faker(code, seed) for code in LANGUAGES}
    years = np.array([g.years for g in genres])[genre]
    return pd.DataFrame(
        {
            "name": _names(fakes, language, [genres[g].family for g in genre]),
            "genre": genre,
            "language": language,
            "place": [fakes[code].city() for code in language],
            "since": years[:, 0] + (rng.random(k) * (years[:, 1] - years[:, 0])).astype(int),
            "fame": np.sqrt(k / np.arange(1, k + 1)),  # Zipf: few artists have most of the tracks and of the listeners
        }
    )


def _names(fakes: dict, language: np.ndarray, family: list[str]) -> list[str]:
    """A name for each artist, no name twice: after five names that are taken, the sixth says where it is from."""
    taken: dict[str, None] = {}
    for code, kind in zip(language, family, strict=True):
        name, tries = fakes[code].artist(kind), 1
        while name in taken:
            name, tries = fakes[code].artist(kind) + (f" of {fakes[code].city()}" if tries > 5 else ""), tries + 1
        taken[name] = None
    return list(taken)


def _block(first: int, n: int, artists: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    artist = rng.choice(len(artists), n, p=artists["fame"] / artists["fame"].sum())
    genre = np.where(rng.random(n) < 0.85, artists["genre"].to_numpy()[artist], rng.integers(0, len(GENRES), n))
    mood, mood2, weight = _moods(rng, genre)
    plane = PLANE[mood] * weight[:, None] + PLANE[mood2] * (1 - weight[:, None])
    features = _features(rng, mood, plane, genre) | _release(rng, artists, artist, genre)
    language = np.where(features["instrumentalness"] > 0.5, "", artists["language"].to_numpy()[artist])
    slots = _slots(rng, mood, mood2, genre, language, features)
    everyone = np.arange(n)
    slots["artist"] = artists["name"].to_numpy(dtype=object)[artist]
    slots["place"] = artists["place"].to_numpy(dtype=object)[artist]
    slots["album"] = worded(rng, ALBUMS, slots, everyone)
    silent = rng.random(n) < SILENT
    names = np.array(list(MOODS), dtype=object)
    return pd.DataFrame(
        {
            "id": np.char.add("t", np.char.zfill((first + everyone).astype(str), 7)),
            "title": _titles(rng, slots, language),
            "artist": slots["artist"],
            "album": slots["album"],
            "genre": slots["genre"],
            "language": language,
            "mood": names[mood],
            "mood2": np.where(mood2 == mood, "", names[mood2]),
            "mood_weight": weight.round(2),
            "mood_source": "made",
            "mood_confidence": 1.0,
            "description": describe(rng, slots, silent),
            "tags": np.where(silent, worded(rng, SILENT_TAGS, slots, everyone), worded(rng, TAGS, slots, everyone)),
            **features,
        }
    ).astype(dict.fromkeys(("title", "artist", "album", "genre", "language", "description", "tags"), "str"))


def _moods(rng: np.random.Generator, genre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Main mood, second mood (the same where there is none) and the main one's weight, by genre. -> three (n,)."""
    index = {name: i for i, name in enumerate(MOODS)}
    usual = pick(rng, [[index[m] for m in g.moods] for g in GENRES.values()], genre).astype(int)
    mood = np.where(rng.random(len(genre)) < 0.75, usual, rng.integers(0, len(MOODS), len(genre)))
    neighbours = np.argsort(distances(), axis=1)[:, 1:4]  # of each mood the three nearest others
    blended = rng.random(len(genre)) < BLENDED
    mood2 = np.where(blended, neighbours[mood, rng.integers(0, 3, len(genre))], mood)
    return mood, mood2, np.where(blended, rng.uniform(0.55, 0.85, len(genre)), 1.0)


def _features(rng: np.random.Generator, mood: np.ndarray, plane: np.ndarray, genre: np.ndarray) -> dict:
    """Audio features drawn jointly, in Spotify's units: 0 to 1, BPM, decibels, milliseconds."""
    n = len(mood)
    genres = list(GENRES.values())
    valence, arousal = plane.T
    acoustic, danceable, vocal, minutes = (
        np.array([getattr(g, k) for g in genres])[genre] for k in ("acoustic", "danceable", "vocal", "minutes")
    )
    noise = dict(zip(_NAMES, rng.multivariate_normal(np.zeros(8), _CORRELATION, n, method="cholesky").T, strict=True))
    loud = 0.25 + 1.7 * arousal + 1.6 * (0.45 - acoustic) + 0.55 * noise["energy"]
    energy = _logistic(loud)
    middle = np.hstack([np.array([m.tempo for m in MOODS.values()])[mood], np.array([g.tempo for g in genres])[genre]])
    sung = rng.random(n) < vocal
    minor = rng.random(n) < _logistic(-0.5 - 1.6 * valence)
    return {
        "danceability": _logistic(-1.2 + 2.2 * danceable + 0.3 * valence + 0.5 * noise["danceability"]).round(3),
        "energy": energy.round(3),
        # As measured from sound: quiet and instrumental music scores low on valence, however peaceful it feels.
        "valence": _logistic(1.3 * valence + 0.5 * loud - 0.4 - 0.6 * ~sung + 0.8 * noise["valence"]).round(3),
        "acousticness": _logistic(-3.2 + 5.2 * acoustic - 1.2 * arousal + 1.3 * noise["acousticness"]).round(4),
        "instrumentalness": np.where(sung, 0.2 * rng.beta(0.25, 6, n), rng.beta(9, 1.8, n)).round(4),
        "liveness": _logistic(-1.9 + 0.75 * noise["liveness"]).round(3),
        "speechiness": _logistic(-3 + 0.7 * noise["speechiness"] + 1.3 * _of(genre, "hip hop")).round(3),
        "tempo": np.clip(middle.mean(axis=1) + 11 * noise["tempo"], 40, 230).round(1),
        "loudness": np.clip(-22 + 17.5 * energy + 2.2 * noise["loudness"], -50, 0).round(2),
        "key": rng.integers(0, 12, n),
        "mode": (~minor).astype(int),
        "duration_ms": (60_000 * minutes * np.exp(0.22 * rng.standard_t(5, n))).clip(35_000, 3_600_000).astype(int),
        "explicit": rng.random(n) < 0.02 + 0.4 * _of(genre, "hip hop") + 0.12 * _of(genre, "metal"),
    }


def _release(rng: np.random.Generator, artists: pd.DataFrame, artist: np.ndarray, genre: np.ndarray) -> dict:
    """Release date within the artist's career, and popularity (0 to 100) by fame, recency and luck."""
    n = len(artist)
    first, last = np.array([g.years for g in GENRES.values()])[genre].T
    year = np.clip(artists["since"].to_numpy()[artist] + rng.exponential(6, n).astype(int), first, last)
    day = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + rng.integers(0, 365, n)
    liked = 0.8 * np.log(artists["fame"].to_numpy()[artist]) + 0.02 * (year - 2000) + 1.1 * rng.normal(size=n)
    popularity = np.where(rng.random(n) < 0.08, 0, 100 * _logistic(liked - 1.8))
    return {"popularity": popularity.astype(int), "release_date": np.datetime_as_string(day, unit="D").astype(object)}


def _slots(rng, mood, mood2, genre, language, features) -> dict[str, np.ndarray]:
    """The words that descriptions, tags and titles are made of, a column each."""
    moods, genres, tempo = list(MOODS.values()), list(GENRES.values()), features["tempo"]
    words = [m.words["train"] for m in moods]
    word, other = pick_two(rng, words, mood)
    title, title2 = pick_two(rng, [m.titles for m in moods], mood)
    sound, sound2 = pick_two(rng, [m.sound for m in moods], mood)
    instrument, instrument2 = pick_two(rng, [g.instruments for g in genres], genre)
    foreign, foreign2 = pick_two(rng, [v["titles"] or [""] for v in LANGUAGES.values()], _row(LANGUAGES, language))
    of_mood = {name: pick(rng, [getattr(m, name) for m in moods], mood)
               for name in ("critics", "listeners", "playlists", "times", "instruments", "vocals")}  # fmt: skip
    year = pd.Series(features["release_date"]).str[:4].to_numpy(dtype=object)
    tongue = np.array([""] + [f", sung in {v['name']}" for code, v in LANGUAGES.items() if code != "en"], dtype=object)
    foreign_row = _row([c for c in LANGUAGES if c != "en"], language) + 1
    abroad = np.where((language == "en") | (language == ""), 0, foreign_row)
    unsung = rng.choice(np.array(INSTRUMENTAL, dtype=object), len(mood))
    tempo_word = np.select([tempo < 85, tempo < 118], ["slow", "mid-tempo"], "fast").astype(object)
    key = np.array([f"{k} {mode}" for k in KEYS for mode in ("minor", "major")], dtype=object)
    return {
        **{
            "word": word,
            "word2": np.where(mood2 == mood, other, pick(rng, words, mood2)),
            "a_word": with_article(word),
        },
        **{"critic": of_mood["critics"], "listener": of_mood["listeners"], "playlist": of_mood["playlists"]},
        **{"time": of_mood["times"], "activity": pick(rng, [m.activities["train"] for m in moods], mood)},
        **{
            "title": title,
            "title2": title2,
            "foreign": foreign,
            "foreign2": foreign2,
            "sound": sound,
            "sound2": sound2,
        },
        **{"instrument": instrument, "genre": np.array(list(GENRES), dtype=object)[genre]},
        "instrument2": np.where(rng.random(len(mood)) < 0.3, of_mood["instruments"], instrument2),
        "vocals": np.where(features["instrumentalness"] < 0.5, of_mood["vocals"] + tongue[abroad], unsung),
        "noun": rng.choice(np.array(NOUNS, dtype=object), len(mood)),
        "like": pick(rng, [g.artists for g in genres], genre),
        **{"tempo_word": tempo_word, "a_tempo": with_article(tempo_word)},
        "bpm": tempo.round().astype(int).astype(str).astype(object),
        "keyname": key[2 * features["key"] + features["mode"]],
        **{"year": year, "decade": decades(pd.Series(features["release_date"]))},
    }


def _titles(rng: np.random.Generator, slots: dict, language: np.ndarray) -> np.ndarray:
    everyone = np.arange(len(language))
    title = worded(rng, TITLES, slots, everyone)
    local = np.flatnonzero((slots["foreign"] != "") & (rng.random(len(language)) < 0.8))
    title[local] = worded(rng, FOREIGN_TITLES, slots, local)
    return title


def _row(keys, values: np.ndarray) -> np.ndarray:
    """The place of each value among the keys; 0 where it is not one of them. (n,) -> (n,)."""
    return np.maximum(pd.Index(list(keys)).get_indexer(values), 0)


def _of(genre: np.ndarray, family: str) -> np.ndarray:
    return np.array([g.family == family for g in GENRES.values()], dtype=float)[genre]


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
