"""The fit of tracks to the conditions of a request: genre, decade, language, mood, voice, tempo and others."""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from weakref import proxy

import numpy as np
import pandas as pd

from lib.search.conditions.reading import Understood, read
from lib.search.conditions.vocabulary import DATA, Vocabulary, words_of

__all__ = ["Facts", "Understood"]
FAMILY, RELATED = 0.8, 0.6  # the fit of a genre in the family that a request names; of another genre of the same family
SOFT_YEARS = 2  # this many years from a year, a track no longer fits
SOFT_BPM = 5  # so far beyond "under 80 BPM", it no longer fits
FAR, AT_LEAST = 45, 0.7  # of "old hip hop", the oldest there is: the years over which this much of a fit fades
UNKNOWN = 0.5  # the fit of a track of which the catalogue does not know it
NO_VOICE = "none"
KEPT = 128  # conditions whose fits are kept: as a number for each value, and as a bit for each track
TEXTS = ("genre", "language", "mood", "mood2")
NUMBERS = {  # condition -> column
    **{"tempo": "tempo", "energy": "energy", "voice": "instrumentalness", "sound": "acousticness"},
    **{"explicit": "explicit", "decade": "release_date"},
}


class Facts:
    """The catalogue's columns that conditions read, as codes of their values: at most 20 bytes a track."""

    def __init__(self, tracks: pd.DataFrame):
        """Take the columns in `TEXTS` and `NUMBERS` that the table has and that are not empty."""
        if {"language", "instrumentalness"} <= {*tracks}:  # a track without voices is in no language
            silent = (tracks["language"].fillna("") == "") & (tracks["instrumentalness"] > 0.5)
            tracks = tracks.assign(language=tracks["language"].astype(object).mask(silent, NO_VOICE))
        texts = {name: _coded(tracks[name]) for name in TEXTS if name in tracks}
        numbers = {condition: _numbers(tracks[name]) for condition, name in NUMBERS.items() if name in tracks}
        numbers = {condition: column for condition, column in numbers.items() if _informs(condition, column)}
        self._newest = np.nanquantile(numbers.get("decade", np.zeros(1)).astype("float32"), 0.99)
        self._columns = {name: column for name, column in texts.items() if len(column[1])}
        self._columns |= {condition: _coded(column) for condition, column in numbers.items()}
        genres = self._columns["genre"][1] if "genre" in self._columns else []
        self._labels = [_labels(cell) for cell in genres]
        moods = {mood for name in ("mood", "mood2") if name in self._columns for mood in self._columns[name][1]}
        self.vocabulary = Vocabulary(sorted({part for cell in genres for part in _parts(cell)}), sorted(moods))
        own = proxy(self)  # without it the caches would keep the closed catalogue until a garbage collection
        self._of_values = lru_cache(KEPT)(partial(Facts._value_scores, own))
        self.mask = lru_cache(KEPT)(partial(Facts._mask, own))

    def understand(self, text: str, names: Iterable[tuple[int, int]] = ()) -> Understood:
        """Return the conditions of a request; `names` are the characters (start, end) of the names in it."""
        return read(text, self.vocabulary, names)

    def fits(self, condition: str, *values: str, exact: bool = False, rows=slice(None)) -> np.ndarray | None:
        """Return how well each track fits any of some values: 1 fits, 0 does not, 0.5 is not known.

        Args:
            condition: "genre", "decade", "language", "mood", "voice", "sound", "explicit", "tempo" or "energy".
            values: as `understand` returns them; of a genre, a family or any genre.
            exact: near misses (a related genre, the year after a decade) do not fit: for what is unwanted.
            rows: only these tracks, (m,) of int.

        Returns:
            (n,) or (m,) of float32; None if the catalogue does not know the condition.
        """
        if not (scored := self._scored(condition, values, exact)):
            return None
        fits = np.fmax.reduce([scores[codes[rows]] for codes, scores in scored])
        fits[np.isnan(fits)] = UNKNOWN
        return fits

    def _mask(self, condition: str, *values: str, exact: bool = False) -> np.ndarray | None:
        """Return the tracks that are known to fit, or nearly, as bits, the first in the lowest one; None as `fits`."""
        known = [((fit > 0) & (fit != UNKNOWN))[codes] for codes, fit in self._scored(condition, values, exact)]
        return np.packbits(np.logical_or.reduce(known), bitorder="little") if known else None

    def _scored(self, condition: str, values: tuple[str, ...], exact: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the codes of each column of a condition, and the scores that these stand for."""
        columns = [name for name in (condition, f"{condition}2") if name in self._columns]
        return [(self._columns[name][0], self._of_values(name, values, exact)) for name in columns]

    def genre_of(self, rows: np.ndarray) -> str:
        """Return the commonest genre of some tracks; "" if none is known."""
        codes, genres = self._columns.get("genre", (np.full(1, -1), []))
        known = codes[rows][codes[rows] >= 0] if len(genres) else codes[:0]
        return genres[np.bincount(known).argmax()] if len(known) else ""

    def _value_scores(self, column: str, wanted: tuple[str, ...], exact: bool) -> np.ndarray:
        """Return the score of each value of a column, and NaN for a missing one. -> (values + 1,) of float32."""
        scores = np.max([self._scores(column, value) for value in wanted], axis=0).astype("float32")
        return np.append(np.where(scores < FAMILY, 0, scores) if exact else scores, np.float32(np.nan))

    def _scores(self, column: str, wanted: str) -> np.ndarray | list[float]:
        """Return how well each value of a column fits one that is wanted."""
        _, values = self._columns[column]
        if column in NUMBERS:
            low, high, softness = self._range(column, wanted)
            away = np.maximum(low - values, values - high)
            fits = 1 - np.clip(away / softness, 0, 1)
            return np.maximum(fits, AT_LEAST * (1 - np.clip(away / FAR, 0, 1))) if wanted in ("old", "new") else fits
        if column == "genre":
            return [_genre_score(wanted, *labels) for labels in self._labels]
        same = {wanted.casefold(), DATA["languages"].get(wanted, "")}
        foreign = wanted == "foreign" and {"en", "english", NO_VOICE}
        return [float(name.casefold() not in foreign if foreign else name.casefold() in same) for name in values]

    def _range(self, condition: str, value: str) -> tuple[float, float, float]:
        """Return the lowest and highest number that fit a value, and the distance at which none does."""
        ranges = DATA["ranges"].get(condition, {})
        if value in ranges:
            return tuple(map(float, ranges[value]))
        figures = [int(figure) for figure in re.findall(r"\d+", value)]
        if condition == "tempo":  # "120 BPM"
            side = value.split()[0]
            if side in ("over", "under"):
                return *((figures[0], np.inf) if side == "over" else (0, figures[0])), SOFT_BPM
            return figures[0] - 5 * (len(figures) == 1), max(figures[-1], figures[0] + 5), 15
        if value == "new":
            return self._newest - 5, np.inf, 10
        first, last = figures[0], figures[-1] + 9 * value.endswith("s")
        if value.startswith("before"):
            return -np.inf, first - 1, 1
        return (first, np.inf, 1) if value.startswith("since") else (first, last, SOFT_YEARS if first == last else 1)


def _coded(column: pd.Series | np.ndarray) -> tuple[np.ndarray, list[str] | np.ndarray]:
    """Return codes, (n,) of int16 or int32, and their values: of texts, of which "" and missing are -1; of float16."""
    if isinstance(column, pd.Series):
        codes, values = pd.factorize(column.replace("", None))
        values = [str(value) for value in values]
    else:
        codes, values = pd.factorize(column.view("uint16"))
        values = values.view("float16").astype("float32")
    return codes.astype("int16" if len(values) < 32_767 else "int32"), values


def _numbers(column: pd.Series) -> np.ndarray:
    """Return a column of numbers, of True and False, or of dates as years. (n,) -> (n,) of float16."""
    if column.name == "release_date":
        codes, dates = pd.factorize(column)  # the few distinct dates of many tracks
        years = pd.to_numeric(pd.Series(dates).astype("str").str[:4], errors="coerce").to_numpy(
            "float64", na_value=np.nan
        )
        years = np.where((years > 1000) & (years < 2040), years, np.nan).astype("float16")  # exact up to 2048
        return np.append(years, np.float16(np.nan))[codes]
    return column.to_numpy("float32", na_value=np.nan).astype("float16")


def _informs(condition: str, column: np.ndarray) -> bool:
    """Return False for an empty column. If no track is explicit, the catalogue does not know which are."""
    return bool(np.nanmax(column, initial=0) > 0 if condition == "explicit" else np.isfinite(column).any())


def _parts(cell: str) -> list[str]:
    """Return the genres in a cell: "Pop / Rock" -> Pop, Rock."""
    return [part.strip() for part in re.split(r"[,;/|]", cell) if part.strip()]


def _grams(words: list[str]) -> list[str]:
    """Return the phrases in some words."""
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]


def _genre_tables() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the families of each folded genre, its main one first, and the folded genre of each other name."""
    families, names = {}, {}
    for family, entry in DATA["families"].items():
        names |= dict.fromkeys(map(words_of, entry["names"]), words_of(family))
        for genre in map(words_of, (family, *entry["genres"])):
            families.setdefault(genre, []).append(family)
    for whole, entry in DATA["families"].items():
        for own in families.values():
            if whole not in own and not set(own).isdisjoint(entry.get("families", ())):
                own.append(whole)
    for genre, others in DATA["aliases"].items():
        names |= dict.fromkeys(map(words_of, others), words_of(genre))
    return families, {name: genre for name, genre in names.items() if name not in families}


_FAMILIES, _GENRES = _genre_tables()
_NAMESAKES = {words_of(name) for name, entry in DATA["families"].items() if name in entry["genres"]}


def _labels(cell: str) -> tuple[set[str], set[str]]:
    """Return the folded genres and the families of a cell: "Deep House" -> {deep house, house}, {electronic, dance}."""
    genres, families = set(), set()
    for part in _parts(cell):
        words = words_of(part).split()
        whole = " ".join(words)
        genres |= {_GENRES.get(tail, tail) for tail in (" ".join(words[i:]) for i in range(len(words)))}
        for gram in [whole] if _GENRES.get(whole, whole) in _FAMILIES else _grams(words):
            families.update(_FAMILIES.get(_GENRES.get(gram, gram), ()))
    return genres, families


def _genre_score(value: str, genres: set[str], families: set[str]) -> float:
    """Return how well a cell's genres fit a genre or a family.

    A family that has the name of one of its genres ("soul") prefers that genre. Another genre of the family scores more
    than an unknown one: cool jazz is nearer to bebop than any other track.
    """
    name = words_of(value)
    name = _GENRES.get(name, name)
    if name in genres:
        return 1
    if name in map(words_of, families):
        return FAMILY if name in _NAMESAKES else 1
    own = next((_FAMILIES[gram] for gram in [name, *_grams(name.split())] if gram in _FAMILIES), [])
    return RELATED if own and own[0] in families else 0
