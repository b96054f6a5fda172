"""The texts in a column of a file -> numbers, durations, keys, modes, dates, or true and false."""

import datetime
import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.tracks.moods import load

_DATA = load("cells.yaml")
UNITS = _DATA["units"]  # of our columns, each with its factor to ours, which is the first
RANGES = {ours: tuple(ends) for ours, ends in _DATA["ranges"].items()}  # of our columns, in our units
WHOLE = ("key", "mode", "plays")  # a fraction does not fit
UNKNOWN = _DATA["unknown"]  # numbers that mean "not known", in the file's unit
MISSING, MINOR, MAJOR, YES, NO = (tuple(_DATA[name]) for name in ("missing", "minor", "major", "yes_words", "no_words"))
_MISSING = pa.array(MISSING, pa.large_string())
_NOTES = _DATA["notes"]  # their pitch classes
_KEY = re.compile(
    rf"(do|r[eé]|mi|fa|sol|la|si|[a-h])(#|b|is|es|s)?\s*(?:/\s*[a-g][#b]?)?[\s_-]*({'|'.join(MINOR + MAJOR)})?",
    re.IGNORECASE,
)
_WHEEL = re.compile(r"0?([1-9]|1[0-2])([abmd])", re.IGNORECASE)  # Camelot 8A, Open Key 1m
_CLOCK = re.compile(r"(?:0 days )?(?:(\d+):)?(\d+)[:'′]([0-5]\d)(?:[.,]\d+|[\"″])?")
_SPELLED = re.compile(
    r"(?:pt)?(?:(\d+)\s*h(?:ours?|rs?)?)?\s*(?:(\d+)\s*(?:m|mins?|minutes?|'|′))?"
    r"\s*(?:(\d+(?:\.\d+)?)\s*(?:s|secs?|seconds?|\"|″|''))?",
    re.IGNORECASE,
)
BLANK = r"['’ \x{a0}\x{202f}]"  # between thousands: 1 234 567, 1'234'567
_DATES = [(re.compile(pattern, re.IGNORECASE), parts) for pattern, parts in _DATA["dates"]]
_MONTHS = {name: n for n, name in enumerate(_DATA["months"], 1)}


def arrow(column: pd.Series) -> pa.Array:
    """Return a column of texts as an Arrow array, null where the file has no value."""
    array = pa.array(column.astype("str"), from_pandas=True)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.cast(pa.large_string())


def present(texts: pa.Array) -> pa.Array:
    """Return the texts without blanks around them; null where they mean "not known"."""
    texts = pc.utf8_trim_whitespace(texts)
    heads = pc.utf8_slice_codeunits(texts, 0, 1 + max(map(len, MISSING)))  # long texts are none of these
    return pc.if_else(pc.is_in(pc.utf8_lower(heads), _MISSING), None, texts)


def by_value(texts: pa.Array, function: Callable, kind: pa.DataType) -> pa.Array:
    """Apply a function to each distinct text. Null stays null."""
    coded = texts.dictionary_encode()
    return pa.array([function(text) for text in coded.dictionary.to_pylist()], kind).take(coded.indices)


def read(ours: str, texts: pa.Array, unit: str, decimal: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a column of numbers.

    Args:
        ours: our column, one of `RANGES`.
        texts: the file's, (n,).
        unit: one of `UNITS[ours]`; "" where ours has no unit.
        decimal: the decimal mark, "," or ".".

    Returns:
        values: in our unit, NaN where they are not known or do not fit. (n,) float
        wrong: true where the file has a value that does not fit. (n,) bool
        outside: true where that value is a number, but too small or too large. (n,) bool
    """
    factor = UNITS.get(ours, {}).get(unit, 1)
    found, filled = numbers(ours, texts, decimal, unit)
    unknown = np.isin(found, UNKNOWN.get(ours, ()))
    values, (low, high) = found * factor, RANGES[ours]
    values = np.round(values) if ours == "duration_ms" else values
    fits = (values >= low) & (values <= high)
    if ours in WHOLE:
        fits &= values == np.floor(values)
    wrong = filled & ~unknown & ~fits
    return np.where(fits & ~unknown, values, np.nan), wrong, wrong & ~np.isnan(found)


def numbers(ours: str, texts: pa.Array, decimal: str, unit: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers in a column in the file's unit, NaN where there is none, and true where there is a text."""
    try:  # the usual case, ten times as fast as the other: numbers and empty cells
        quick = decimal != "," and unit != "m:ss"
        plain = pc.cast(pc.if_else(pc.equal(texts, ""), None, texts), pa.float64()) if quick else None
    except pa.ArrowInvalid:
        plain = None
    if plain is None:
        texts = present(texts)
        filled, plain = pc.is_valid(texts), _READ.get(ours, _numbers)(texts, decimal, unit)
    else:
        filled = pc.and_(pc.is_valid(plain), pc.invert(pc.is_nan(plain))).fill_null(False)
    return plain.to_numpy(zero_copy_only=False).astype(float), filled.to_numpy(zero_copy_only=False)


def _numbers(texts: pa.Array, decimal: str, unit: str = "") -> pa.Array:
    """Read "31 %", "124 BPM", "-5,2 dB" or "1.234.567"; null where a text is no number."""
    texts = pc.replace_substring(texts, "−", "-")
    texts = pc.replace_substring_regex(texts, r"""^\[\s*["']?|["']?\s*\]$|^\+""", "")  # a list of one, a plus
    texts = pc.replace_substring_regex(texts, r"(?i)\s*(%|bpm|dbfs|db|lufs|ms|msec)$", "")
    mark, group = (",", r"\.") if decimal == "," else (r"\.", ",")
    grouped = pc.match_substring_regex(texts, rf"^-?[1-9]\d{{0,2}}(({BLANK}\d{{3}})+|({group}\d{{3}})+)({mark}\d*)?$")
    bare = pc.replace_substring_regex(texts, f"{BLANK}|{group}", "")
    texts = pc.if_else(grouped, bare, texts)
    if decimal == ",":
        texts = pc.replace_substring(texts, ",", ".")
    number = pc.match_substring_regex(texts, r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$")
    return pc.cast(pc.if_else(number, texts, None), pa.float64())


def _durations(texts: pa.Array, decimal: str, unit: str) -> pa.Array:
    """Read numbers in the file's unit, and also 3:45, 1:03:45, PT3M45S and "3 min 45 s", whatever the unit."""
    if unit == "m:ss":
        texts = pc.replace_substring_regex(texts, r"^(\d+)[.,]([0-5]\d)$", r"\1:\2")
    spelled = pc.if_else(pc.match_substring_regex(texts, "(?i)[:'′hms]"), texts, None)
    spelled = by_value(spelled, seconds, pa.float64())
    scale = 1 if unit == "h:mm" else 1000 / UNITS["duration_ms"].get(unit, 1)
    return pc.coalesce(pc.multiply(spelled, scale), _numbers(texts, decimal))


@lru_cache(100_000)
def seconds(text: str) -> float | None:
    """Return the seconds of a duration with parts: 3:45 -> 225. None if it is not one."""
    if not (match := _CLOCK.fullmatch(text) or _SPELLED.fullmatch(text)):
        return None
    return sum(float(part or 0) * size for part, size in zip(match.groups(), (3600, 60, 1), strict=True))


def _keys(texts: pa.Array, decimal: str, unit: str) -> pa.Array:
    german = pc.any(pc.match_substring_regex(texts, "^[hH]|(?i)(dur|moll)$")).as_py()  # where H is B, B is B flat
    texts = pc.replace_substring_regex(texts, "^[bB]([^a-zA-Z#♯♭]|m|$|(?i:dur|moll))", r"Bb\1") if german else texts
    return by_value(texts, lambda text: key(text)[0], pa.float64())


def _modes(texts: pa.Array, decimal: str, unit: str) -> pa.Array:
    return by_value(texts, mode, pa.float64())


_READ = {"duration_ms": _durations, "key": _keys, "mode": _modes}


@lru_cache(10_000)
def key(text: str) -> tuple[float | None, float | None]:
    """Return a key's pitch class (0 is C) and mode (1 major, 0 minor, None unknown); (None, None) if it is no key."""
    if wheel := _WHEEL.fullmatch(text):
        number, ring = int(wheel[1]), wheel[2].lower()
        major = ring in "bd"
        steps = 7 * (number - (8 if ring in "ab" else 1))  # both wheels go up by fifths
        return float(((0 if major else 9) + steps) % 12), float(major)
    plain = text.replace("♯", "#").replace("♭", "b")
    plain = re.sub(r"[\s-]*sharp", "#", re.sub(r"[\s-]*flat", "b", plain, flags=re.IGNORECASE), flags=re.IGNORECASE)
    if match := _KEY.fullmatch(plain):
        note, sign, scale = match.groups()
        step = {"": 0, "#": 1, "is": 1}.get((sign or "").lower(), -1)
        kind = None if scale is None else float(not (scale == "m" or scale.lower() in MINOR[1:]))
        return float((_NOTES[note.lower()] + step) % 12), kind
    number = pd.to_numeric(text, errors="coerce")
    return (None if np.isnan(number) else float(number)), None


def mode(text: str) -> float | None:
    """Return 1 for major and 0 for minor, also from a key: Am -> 0. A key without a mode beside it is major."""
    word = text.casefold()
    if word in MINOR or word in map(str.casefold, MAJOR[1:]):
        return float(word not in MINOR)
    number = pd.to_numeric(text, errors="coerce")
    if not np.isnan(number):
        return float(number)
    pitch, kind = key(text)
    return None if pitch is None else 1.0 if kind is None else kind


def yes_or_no(text: str | None) -> bool | None:
    """Return True or False for a word that says so, None for another."""
    word = (text or "").strip().casefold()
    return True if word in YES else False if word in NO else None


@lru_cache(200_000)
def date(text: str) -> str | None:
    """Return YYYY-MM-DD, with 01 for what the text leaves open; "" if it means "not known", None if it is no date."""
    text = re.sub(r"""^\[\s*["']?([^"',\]]*).*\]$""", r"\1", text)  # the first in a list
    if re.fullmatch(r"0+(\.0+|-00?){0,2}|-1|0000-.*|unknown|nat", text.lower()):
        return ""
    for pattern, order in _DATES:
        if match := pattern.match(text):
            parts = dict(zip(order, match.groups(), strict=True))
            return _ymd(parts.get("y"), parts.get("m"), parts.get("d"))
    if re.fullmatch(r"-?\d{9,13}", text):  # seconds or milliseconds since 1970
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(text) / (1 if len(text) < 12 else 1000))
        return _ymd(str(moment.year), str(moment.month), str(moment.day))
    years = set(re.findall(r"(?<![\d.,])(\d{4})(?=\D)", text + " "))
    return _ymd(min(years), None, None) if years and len(text) <= 40 else None


def _ymd(year: str, month: str | None, day: str | None) -> str | None:
    """Return the date if there is one; an impossible day or month, or an unknown word for one, becomes 01."""
    number = int(year)
    if len(year) == 2:
        number += 2000 if number <= datetime.date.today().year % 100 + 1 else 1900
    if not 1000 <= number <= 2100:
        return None
    m = _MONTHS.get((month or "").lower()) or (int(month) if (month or "").isdecimal() else 0)
    d = int(day) if day and m else 0
    try:
        return datetime.date(number, m or 1, d or 1).isoformat()
    except ValueError:
        return f"{number:04}-01-01" if m in (0, *range(1, 13)) and d <= 31 else None
