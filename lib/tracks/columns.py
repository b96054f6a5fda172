"""The columns of tracks.parquet, and those that are computed from others: the text and the split."""

import numpy as np
import pandas as pd

FEATURES = ("danceability", "energy", "valence", "acousticness", "instrumentalness", "liveness", "speechiness")
NUMBERS = (*FEATURES, "tempo", "loudness", "key", "mode", "duration_ms", "popularity")
COLUMNS = (
    *("id", "title", "artist", "album", "genre", "language"),
    *("mood", "mood2", "mood_weight", "mood_source", "mood_confidence", "description", "tags"),
    *FEATURES,
    *("tempo", "loudness", "key", "mode", "duration_ms", "explicit", "popularity", "plays", "release_date"),
    *("song", "text", "split"),
)
KEYS = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
HELD_OUT = 20_000  # most tracks in dev and in test: enough to measure with, and a request judges every one
_DECADES = np.array(
    [f"{y % 100 // 10}0s" if 1930 <= y < 2000 else f"{y // 10}0s" if 1000 <= y < 2100 else "" for y in range(2101)],
    dtype=object,
)  # a lookup table: faster than a function for each of a million rows


def finish(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Add text and split (10 % dev, 20 % test, at most `HELD_OUT` songs each, the rest train); order the columns.

    Versions of one song (the column `song`) are in one split: no test text is a version of a text to train on.
    """
    number, songs = pd.factorize(table["song"])
    order = rng.permutation(len(songs))
    dev, test = (min(HELD_OUT, max(1, len(songs) // part)) for part in (10, 5))
    split = np.full(len(songs), "train", dtype=object)
    split[order[:dev]], split[order[dev : dev + test]] = "dev", "test"
    table = table.assign(text=document(table), split=pd.Series(split[number], dtype="str"))
    return table.reindex(columns=list(COLUMNS))


def document(table: pd.DataFrame) -> pd.Series:
    """Return the text that the encoder reads of each track: "title — artist (album). description", without gaps."""
    filled = table.reindex(columns=["title", "artist", "album", "description"]).fillna("").astype("str")
    title, artist, album, description = (filled[name] for name in filled)
    name = title + artist
    name = (title + " — " + artist).where((title != "") & (artist != ""), name)
    name = (name + " (" + album + ")").where((album != "") & (album != title), name)
    return (name + ". " + description).where((name != "") & (description != ""), name + description).str.strip()


def decades(dates: pd.Series) -> np.ndarray:
    """Return the decade of each date as people name it: 80s, 2010s, 1920s; "" without a date. (n,) -> (n,)."""
    years = pd.to_numeric(dates.str[:4], errors="coerce").to_numpy(float)  # "INF" is a number, too
    return _DECADES[np.nan_to_num(years, posinf=0, neginf=0).astype(int).clip(0, 2100)]
