"""Recognise known exports by their headers, and our columns by the names that they have in the world (shapes.yaml)."""

import re
import unicodedata
from dataclasses import dataclass, field, replace
from functools import cache

import pandas as pd

from lib.tracks.moods import load

_DATA = load("shapes.yaml")
NAMES: dict[str, list[str]] = _DATA["names"]
LANGUAGES: dict[str, str] = _DATA["languages"]
_UNITS = {  # a unit at the end of a column's name
    "ms": r"ms|msecs?|millis|milliseconds?|in ?millis(econds)?",
    "s": r"s|secs?|seconds?|in[ _]seconds|(in )?sekunden|secondes|segundos|secondi|秒",
    "min": r"mins?|minutes?|minuten|minutos|minuti|分",
    "m:ss": r"m:ss|mm:ss|min[:.]sec|hh:mm:ss|h:mm:ss",
    "0-100": r"%|percent|percentage|pct|0-100",
    "0-10": r"0-10",
    "0-1": r"0-1",
    "": r"bpm|db|dbfs|lufs",
}
_UNIT = {unit: re.compile(rf"[\s_.(\[-]+({pattern})[)\]. ]*$") for unit, pattern in _UNITS.items()}
_WRAPPERS = re.compile(  # objects around a track's values
    r"^((tracks?|items?|songs?|node|data|attributes|results?|metadata|format|tags?|(audio_?)?features)[.])+"
)


@dataclass(frozen=True)
class Shape:
    """A known export. shapes.yaml describes the fields."""

    name: str = ""
    header: tuple[str, ...] = ()
    columns: dict[str, str | int | list[str]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    remove: dict[str, str] = field(default_factory=dict)
    plays: bool = False
    count: int = 0
    values: dict[int | str, str] = field(default_factory=dict)


SHAPES = [Shape(**fields) for fields in _DATA["shapes"]]


def find(source_columns: list[str], sample: pd.DataFrame) -> Shape:
    """Return the known export that a file is, with the file's names in `columns`; `Shape()` if there is none."""
    header = {name.strip().casefold(): name for name in reversed(source_columns)}
    fitting = [shape for shape in SHAPES if _fits(shape, header, sample)]
    if not fitting:
        return Shape()
    shape = max(fitting, key=lambda shape: len(shape.header) or shape.count)
    columns = {}
    for ours, names in shape.columns.items():
        names = names if isinstance(names, list) else [names]
        here = [source_columns[name - 1] if shape.count else header.get(name.casefold()) for name in names]
        if any(here) or names == [""]:
            columns[ours] = next(filter(None, here), "")
    return replace(shape, columns=columns)


def _fits(shape: Shape, header: dict[str, str], sample: pd.DataFrame) -> bool:
    """Return True if the file has the shape's header or its number of columns, and the shape's kinds of values."""
    if not all(name.casefold() in header for name in shape.header):
        return False
    if not shape.header and (len(sample.columns) != shape.count or sample.empty):
        return False
    for place, form in shape.values.items():
        place = place - 1 if shape.count else list(sample.columns).index(header[place])
        texts = sample.iloc[:, place].dropna().astype("str")
        if not len(texts) or texts.str.fullmatch(form).mean() <= 0.9:
            return False
    return True


def candidates(ours: str, source_columns: list[str]) -> list[str]:
    """Return the file's columns that have a name of our column, the best name first."""
    found = {}
    for rank, name in enumerate(dict.fromkeys(map(plain, NAMES.get(ours, [ours])))):
        for column in source_columns:
            if name in _readings(column):
                found.setdefault(column, rank)
    return sorted(found, key=lambda column: (column != ours, found[column]))


def unit_of(name: str) -> str:
    """Return the unit that a column's name ends with, one of `mapping.UNITS`; "" if it has none."""
    return next((unit for unit, pattern in _UNIT.items() if unit and pattern.search(_spaced(name))), "")


def _spaced(name: str) -> str:
    """Return a name in small letters, with a blank before its unit: durationMs -> duration ms."""
    return re.sub(r"(?<=[a-z])(?=(Ms|In[A-Z]\w+|Millis|Seconds|Sec|%)$)", " ", name.strip()).casefold()


@cache
def _readings(column: str) -> set[str]:
    """Return the plain forms of a column's name: in full, without its unit, without "track." in front."""
    name = _spaced(column)
    names = {name, _WRAPPERS.sub("", name)}
    names |= {pattern.sub("", name) for name in names for pattern in _UNIT.values()}
    return {plain(name) for name in names} - {""}


@cache
def plain(name: str) -> str:
    """Return a name without case, accents, blanks and marks: "Künstler-Name" -> "kunstlername"."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("#", "no"))  # "Track #" is no track
    return "".join(letter for letter in letters if letter.isalnum())
