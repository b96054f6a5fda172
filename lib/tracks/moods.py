"""Moods and genres as data (moods.yaml), and the valence–arousal plane that the moods lie on.

The plane is Russell's circumplex: Russell (1980), "A circumplex model of affect",
Journal of Personality and Social Psychology 39(6). Both axes run from -1 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

SPLITS = ("train", "dev", "test")
# Two moods closer than this on the plane are near enough that a listener may like either (grade 1).
NEAR = 0.45


@dataclass(frozen=True)
class Mood:
    """One mood: its point on the plane and its vocabulary; what requests may say of it is set apart by split."""

    name: str
    valence: float
    arousal: float
    tempo: tuple[float, float]
    words: dict[str, list[str]]
    phrases: dict[str, list[str]]
    activities: dict[str, list[str]]
    critics: list[str]
    listeners: list[str]
    playlists: list[str]
    times: list[str]
    instruments: list[str]
    vocals: list[str]
    sound: list[str]
    titles: list[str]


@dataclass(frozen=True)
class Genre:
    """One genre: tempo (BPM), typical length (minutes), years, instruments, moods, artists, shares from 0 to 1."""

    name: str
    family: str
    tempo: tuple[float, float]
    minutes: float
    years: tuple[int, int]
    language: str
    acoustic: float
    danceable: float
    vocal: float
    instruments: list[str]
    moods: list[str]
    artists: list[str]


_DATA = yaml.safe_load(Path(__file__).with_name("moods.yaml").read_text(encoding="utf-8"))
LANGUAGES: dict[str, str] = _DATA["languages"]
MOODS = {name: Mood(name=name, **fields) for name, fields in _DATA["moods"].items()}
GENRES = {name: Genre(name=name, **fields) for name, fields in _DATA["genres"].items()}
PLANE = np.array([(mood.valence, mood.arousal) for mood in MOODS.values()])
_WORD_TO_MOOD = {word.casefold(): mood.name for mood in MOODS.values() for word in mood.words["train"]}
_ANY_WORD = re.compile(r"\b(" + "|".join(map(re.escape, sorted(_WORD_TO_MOOD, key=len, reverse=True))) + r")\b")


def distances() -> np.ndarray:
    """Distance of every two moods on the plane, 0 to 2.83, in the file's order. -> (moods, moods)."""
    return np.linalg.norm(PLANE[:, None] - PLANE[None], axis=2)


def near(mood: str) -> list[str]:
    """The other moods within `NEAR` of `mood`; none for a mood that is not in moods.yaml."""
    if mood not in MOODS:
        return []
    row = distances()[list(MOODS).index(mood)]
    return [other for other, far in zip(MOODS, row, strict=True) if other != mood and far <= NEAR]


def ordered(names: Iterable[str]) -> list[str]:
    """Moods from quiet to excited, those of equal arousal from unpleasant to pleasant; names not known come last."""
    place = {name: (0, mood.arousal, mood.valence) for name, mood in MOODS.items()}
    return sorted({name for name in names if name}, key=lambda name: (place.get(name, (1, 0, 0)), name))


def apart(pairs: pd.DataFrame) -> list[float]:
    """Distance on the plane of the moods in the columns mood and other; NaN for one that is not in moods.yaml."""
    row, far = {name: i for i, name in enumerate(MOODS)}, distances()
    known = [a in row and b in row for a, b in zip(pairs["mood"], pairs["other"], strict=True)]
    both = zip(pairs["mood"], pairs["other"], known, strict=True)
    return [float(far[row[a], row[b]]) if is_known else float("nan") for a, b, is_known in both]


def opposite(mood: str) -> str:
    """The mood farthest from `mood` on the plane."""
    return list(MOODS)[int(distances()[list(MOODS).index(mood)].argmax())]


def words_of(texts: pd.Series, moods: list[str]) -> np.ndarray:
    """How many of each mood's words stand in each text. (n,) -> (n, moods) of int."""
    column = {mood: i for i, mood in enumerate(moods)}
    counts = np.zeros((len(texts), len(moods)), dtype=int)
    for row, text in enumerate(texts.str.casefold()):
        for word in _ANY_WORD.findall(text):
            if (mood := _WORD_TO_MOOD[word]) in column:
                counts[row, column[mood]] += 1
    return counts
