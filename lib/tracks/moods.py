"""Moods, genres and languages (moods.yaml), and the valence–arousal plane on which the moods are points.

The plane is Russell's circumplex: Russell (1980), "A circumplex model of affect",
Journal of Personality and Social Psychology 39(6). Both axes run from -1 to 1.
"""

import re
from collections import namedtuple
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

SPLITS = ("train", "dev", "test")
NEAR = 0.45  # moods within this distance on the plane are near: a listener may like either (grade 1)


# moods.yaml describes the fields.
Mood = namedtuple(
    "Mood",
    "name valence arousal tempo words phrases activities critics listeners playlists times instruments vocals sound",
)
Genre = namedtuple(
    "Genre", "name family tempo minutes years peak languages acoustic danceable vocal instruments moods rare artists"
)


def load(name: str) -> dict:
    """Return the contents of one of this folder's YAML files."""
    return yaml.load(Path(__file__).with_name(name).read_text(encoding="utf-8"), yaml.CSafeLoader)


_DATA = load("moods.yaml")
LANGUAGES: dict[str, dict] = _DATA["languages"]
MOODS = {name: Mood(name=name, **fields) for name, fields in _DATA["moods"].items()}
GENRES = {name: Genre(name=name, **fields) for name, fields in _DATA["genres"].items()}
PLANE = np.array([(mood.valence, mood.arousal) for mood in MOODS.values()])
# Distance of every two moods on the plane, 0 to 2.83: rows and columns are names.
DISTANCES = pd.DataFrame(np.linalg.norm(PLANE[:, None] - PLANE, axis=2), list(MOODS), list(MOODS))
_MOOD_OF_WORD = {word.casefold(): mood.name for mood in MOODS.values() for word in mood.words["train"]}
_ANY_WORD = re.compile(r"\b(" + "|".join(map(re.escape, sorted(_MOOD_OF_WORD, key=len, reverse=True))) + r")\b")


@cache
def near(mood: str) -> list[str]:
    """Return the other moods within `NEAR` of `mood`; [] for a mood that is not in moods.yaml."""
    return [other for other in MOODS if other != mood and DISTANCES[mood][other] <= NEAR] if mood in MOODS else []


def opposite(mood: str) -> str:
    """Return the mood farthest from `mood` on the plane."""
    return DISTANCES[mood].idxmax()


def ordered(names: Iterable[str]) -> list[str]:
    """Sort moods from quiet to excited, then from unpleasant to pleasant; those not in moods.yaml come last."""
    place = {name: (0, mood.arousal, mood.valence) for name, mood in MOODS.items()}
    return sorted({name for name in names if name}, key=lambda name: (place.get(name, (1, 0, 0)), name))


def apart(pairs: pd.DataFrame) -> list[float]:
    """Return the distance of the moods in the columns mood and other; NaN for one that is not in moods.yaml."""
    return [DISTANCES.get(a, {}).get(b, np.nan) for a, b in zip(pairs["mood"], pairs["other"], strict=True)]


def row_of(names: Iterable[str], values) -> np.ndarray:
    """Return the position of each value in `names`, 0 for a value that is not there. (n,) -> (n,) of int."""
    return np.maximum(pd.Index(list(names)).get_indexer(values), 0)


def words_of(texts: pd.Series, moods: list[str]) -> np.ndarray:
    """Count each mood's training words in each text. (n,) -> (n, moods) of int."""
    column = {mood: i for i, mood in enumerate(moods)}
    counts = np.zeros((len(texts), len(moods)), dtype=int)
    for row, text in enumerate(texts.str.casefold()):
        for word in _ANY_WORD.findall(text):
            if (mood := _MOOD_OF_WORD[word]) in column:
                counts[row, column[mood]] += 1
    return counts
