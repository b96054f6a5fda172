"""Completion of imported tracks: moods, descriptions, texts and splits that the file lacks."""

import numpy as np
import pandas as pd

from lib.tracks import inference, known_artists
from lib.tracks.columns import KEYS, decades, document, finish

NAMED = {
    "tags": "tags",
    "description": "words of their descriptions",
    "artist": "artists",
    "album": "albums",
    "title": "songs",
}
DESCRIBABLE = ("mood", "genre", "decade", "language", "features", "key")


def complete(
    table: pd.DataFrame, describe_from: list[str], infer_moods: list[str], infer_from: list[str], model, seed: int,
    artists: pd.DataFrame = known_artists.ARTISTS,
) -> pd.DataFrame:  # fmt: skip
    """Add the columns that imported tracks lack: facts of known artists, mood, description, text and split.

    Args:
        table: the tracks of an imported catalogue.
        describe_from: which of DESCRIBABLE to describe a track from where the file has no description. Leave out a
            column that the encoder must predict, such as mood, so that the text does not contain it.
        infer_moods, infer_from, model: as in `inference.infer`, for tracks without a mood.
        artists: the known artists, as `known_artists.load` returns them.

    Returns:
        The tracks with `COLUMNS`.
    """
    inference.check_choices("describe_from", describe_from, DESCRIBABLE)
    inference.check(infer_moods, infer_from)
    table = _with_known_artists(table, describe_from, artists).assign(
        mood_weight=1.0, mood_source="given", mood_confidence=1.0
    )
    no_mood = table["mood"] == ""
    if no_mood.any():
        tracks = table[no_mood].assign(text=lambda t: document(t) + ". " + t["genre"])
        moods = inference.infer(tracks, infer_moods, infer_from, model, seed)
        table.loc[no_mood, ["mood", "mood_source", "mood_confidence"]] = moods.to_numpy()
        table = table.astype({"mood": "str", "mood_source": "str", "mood_confidence": float})
    bare = table["description"] == ""
    description, tags = _descriptions(table[bare], describe_from), table.loc[bare, "tags"]
    table.loc[bare, "description"] = description + np.where((description != "") & (tags != ""), ", ", "") + tags
    return finish(table, np.random.default_rng(seed))


def _with_known_artists(table: pd.DataFrame, describe_from: list[str], artists: pd.DataFrame) -> pd.DataFrame:
    """Give tracks without a genre or a language those of their artist, where they are known.

    The artist's other genres become tags, and its decades where the file has no date. Of its languages, the first
    counts.
    """
    known, bare = known_artists.facts(table["artist"], artists), table["genre"] == ""
    genre = known["genres"].where(bare, "").str.partition(", ")
    decades_too = bare & (table["release_date"] == "") & ("decade" in describe_from)
    facts = (table["tags"], genre[2], known["decades"].where(decades_too, ""))
    tags = [", ".join(filter(None, row)) for row in zip(*facts, strict=True)]
    unknown = (table["language"] == "") & ~(table["instrumentalness"] > 0.5)
    language = table["language"].where(~unknown, known["language"].str.partition(", ")[0])
    return table.assign(
        genre=table["genre"] + genre[0], language=language, tags=pd.Series(tags, table.index, dtype="str")
    )


def borrowed(imported: pd.DataFrame, tracks: pd.DataFrame) -> str:
    """Return a sentence on the genres and languages that tracks have from their artist; "" if none has."""
    counts = {name: int((tracks[name] != "").sum() - (imported[name] != "").sum()) for name in ("genre", "language")}
    parts = [f"the {name} of {count:,}" for name, count in counts.items() if count]
    return f"Of {len(tracks):,} tracks, {' and '.join(parts)} is that of a known artist." if parts else ""


def gaps(tracks: pd.DataFrame) -> str:
    """Return sentences on the tracks without a mood or a genre, and on the requests for them; "" if all have both.

    A request for a track without both repeats its tags or its description; it names the track if there are none.
    """
    parts, n = [], len(tracks)
    for column, why in (("mood", ", and nothing in the file allows one"), ("genre", "")):
        if bare := int((tracks[column] == "").sum()):
            parts.append(
                f"No track has a {column}{why}" if bare == n else f"{bare:,} of {n:,} tracks have no {column}{why}"
            )
    rest = tracks[(tracks["mood"] == "") & (tracks["genre"] == "")]
    named = (rest["tags"] == "") & (rest["description"] == "")
    rows = {column: rest[~named if column in ("tags", "description") else named] for column in NAMED}
    known = [words for column, words in NAMED.items() if (rows[column][column] != "").any()]
    if known:
        last = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
        parts.append(f"Requests for tracks without both name {last}")
    return "".join(f"{part}. " for part in parts).rstrip()


def _descriptions(table: pd.DataFrame, describe_from: list[str]) -> pd.Series:
    """Describe each track from its columns: "happy funk, 80s, fast, high energy, danceable"."""
    table = table.assign(**{name: "" for name in ("mood", "genre") if name not in describe_from})
    parts = [(table["mood"] + " " + table["genre"]).str.strip()]
    if "decade" in describe_from:
        parts.append(pd.Series(decades(table["release_date"]), table.index))
    if "language" in describe_from:
        parts.append(("in " + table["language"]).where(table["language"] != "", ""))
    if "key" in describe_from:
        names = table["key"].map(dict(enumerate(KEYS))) + " " + table["mode"].map({0: "minor", 1: "major"})
        parts.append(names.fillna(""))
    if "features" in describe_from:
        words = {
            "slow": table["tempo"] < 85,
            "fast": table["tempo"] > 130,
            "quiet": table["energy"] < 0.35,
            "high energy": table["energy"] > 0.7,
            "danceable": table["danceability"] > 0.7,
            "acoustic": table["acousticness"] > 0.6,
            "instrumental": table["instrumentalness"] > 0.6,
        }
        parts += [pd.Series(np.where(rows, word, ""), table.index) for word, rows in words.items()]
    joined = [", ".join(filter(None, row)) for row in zip(*parts, strict=True)]
    return pd.Series(joined, table.index, dtype="str")
