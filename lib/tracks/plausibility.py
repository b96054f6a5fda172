"""Which moods, genres, languages and phrases go together (genres in moods.yaml, phrases in plausibility.yaml)."""

import re
from functools import cache

import numpy as np

from lib.tracks.moods import DISTANCES, GENRES, LANGUAGES, MOODS, load


def _pattern(words: str) -> re.Pattern:
    return re.compile(rf"\b(?:{words.replace(', ', '|')})")


_DATA = load("plausibility.yaml")
_RULES = [(_pattern(rule["words"]), set(rule["only"])) for rule in _DATA["rules"]]
_VOICES = _pattern(_DATA["voices"])
FURTHEST = 1.0  # two moods of one track are at most this far apart on the plane, if the genre has so near a mood


@cache
def genres_of(phrase: str) -> frozenset[str]:
    """Return the genres whose music a phrase can be about."""
    allowed = [only for words, only in _RULES if words.search(phrase)]
    return frozenset(g.name for g in GENRES.values() if all({g.name, g.family} & only for only in allowed))


@cache
def phrases(field: str, split: str = "", wordless: bool = False) -> list[list[str]]:
    """Return the phrases of a field of moods.yaml for each mood in each genre: moods × genres lists.

    Args:
        split: for the fields that have splits.
        wordless: leave out phrases about voices.
    """
    table = []
    for mood in MOODS.values():
        some = getattr(mood, field)[split] if split else getattr(mood, field)
        some = [phrase for phrase in some if not (wordless and _VOICES.search(phrase))]
        everywhere = [phrase for phrase in some if len(genres_of(phrase)) == len(GENRES)] or some
        for genre in GENRES:
            fitting = [phrase for phrase in some if genre in genres_of(phrase)]
            table.append(fitting if len(fitting) > 1 else everywhere)
    return table


@cache
def second_moods() -> np.ndarray:
    """Return the three nearest other moods for each genre and mood; the mood itself if none is near. -> (g, m, 3)."""
    names = list(MOODS)
    table = np.empty((len(GENRES), len(names), 3), dtype=int)
    for g, genre in enumerate(GENRES.values()):
        plausible = np.isin(names, [*genre.moods, *genre.rare])
        for m, mood in enumerate(names):
            distance = np.where(plausible & (np.array(names) != mood), DISTANCES[mood].to_numpy(), np.inf)
            nearest = np.argsort(distance, kind="stable")[:3]
            table[g, m] = np.where(distance[nearest] <= FURTHEST, nearest, nearest[0])
    return table


@cache
def kin() -> list[list[int]]:
    """Return the genres of a genre's family in which an artist may sing a language: genres × languages lists."""
    genres = list(GENRES.values())
    return [
        [row for row, one in enumerate(genres) if one.family == genre.family and language in one.languages] or [g]
        for g, genre in enumerate(genres)
        for language in LANGUAGES
    ]
