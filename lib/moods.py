"""Moods and genres as data (moods.yaml), and the valence–arousal plane that the moods lie on.

The plane is Russell's circumplex: Russell (1980), "A circumplex model of affect",
Journal of Personality and Social Psychology 39(6). Both axes run from -1 to 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

SPLITS = ("train", "dev", "test")
# Two moods closer than this on the plane are near enough that a listener may like either (grade 1).
NEAR = 0.45


@dataclass(frozen=True)
class Mood:
    """One mood: its point on the plane, and its words by split, so that what is tested was never taught."""

    name: str
    valence: float
    arousal: float
    tempo: tuple[float, float]
    words: dict[str, list[str]]
    phrases: dict[str, list[str]]
    activities: dict[str, list[str]]
    vocals: list[str]
    sound: list[str]
    titles: list[str]


@dataclass(frozen=True)
class Genre:
    """One genre: its instruments, tempo (BPM), the moods it leans to, and three shares between 0 and 1."""

    name: str
    family: str
    tempo: tuple[float, float]
    instruments: list[str]
    moods: list[str]
    acoustic: float
    danceable: float
    vocal: float


def load(path: Path) -> tuple[dict[str, Mood], dict[str, Genre]]:
    """Read the moods and genres, by name, in the file's order."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    moods = {name: Mood(name=name, **fields) for name, fields in data["moods"].items()}
    genres = {name: Genre(name=name, **fields) for name, fields in data["genres"].items()}
    return moods, genres


MOODS, GENRES = load(Path(__file__).with_name("moods.yaml"))
_PLANE = np.array([(mood.valence, mood.arousal) for mood in MOODS.values()])
_WORD_TO_MOOD = {word.casefold(): mood.name for mood in MOODS.values() for word in mood.words["train"]}
_ANY_WORD = re.compile(r"\b(" + "|".join(map(re.escape, sorted(_WORD_TO_MOOD, key=len, reverse=True))) + r")\b", re.I)


def distance(first: str, second: str) -> float:
    """Distance of two moods on the plane (0 to 2.83); NaN if either is not in moods.yaml."""
    if first not in MOODS or second not in MOODS:
        return float("nan")
    a, b = MOODS[first], MOODS[second]
    return float(np.hypot(a.valence - b.valence, a.arousal - b.arousal))


def near(mood: str) -> list[str]:
    """The other moods within `NEAR` of `mood`; none for a mood that is not in moods.yaml."""
    return [other for other in MOODS if other != mood and distance(mood, other) <= NEAR]


def from_features(valence: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The nearest mood on the plane for audio features between 0 and 1. (n,), (n,) -> (n,) names."""
    points = np.stack([valence, energy], axis=1) * 2 - 1
    nearest = np.linalg.norm(points[:, None] - _PLANE[None], axis=2).argmin(axis=1)
    return np.array(list(MOODS))[nearest]


def from_text(text: str) -> str | None:
    """The mood whose words `text` uses most (the first one on a tie), or None where it uses none."""
    found = [_WORD_TO_MOOD[word.casefold()] for word in _ANY_WORD.findall(text)]
    return max(found, key=found.count) if found else None
