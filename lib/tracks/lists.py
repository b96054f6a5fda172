"""Cells with several values, such as "happy; energetic" or "['rock', 'pop']": which separator, and the values."""

import ast
import json
import re
from collections import Counter
from functools import lru_cache

from lib.tracks.cells import MISSING
from lib.tracks.moods import GENRES, MOODS, load

LISTED = ("artist", "genre", "language", "mood", "tags")  # our columns of which a cell may hold several values
WHOLE = load("shapes.yaml")["whole"]  # names with a separator within, such as R&B/Soul
LIST = "list"
_WORDS = {
    "mood": {name for mood in MOODS.values() for name in (mood.name, *(w.casefold() for w in mood.words["train"]))},
    "genre": {name.casefold() for name in GENRES},
}
_WHOLE = re.compile("|".join(re.sub(r"(\\ )*/(\\ )*", r"\\s*/\\s*", re.escape(name)) for name in WHOLE), re.IGNORECASE)
_GUARD = str.maketrans(",/;|", "\ue000\ue001\ue002\ue003")  # stand for the separators within a whole name
_UNGUARD = str.maketrans("\ue000\ue001\ue002\ue003", ",/;|")
_NAME = re.compile(r"(.*[._])?(name|title)", re.IGNORECASE)
PREFIX = re.compile(r"([a-z/]+)---(.+)", re.IGNORECASE)  # MTG-Jamendo's mood/theme---happy
_BETWEEN = re.compile(r"[\s,;|]+(?=[a-z]+(?:/[a-z]+)?---)", re.IGNORECASE)  # two such values
_BRACKETS = re.compile(r"\[.*\]|\{.*\}")  # [rock, pop]: no list of Python or JSON, but meant as one
OURS_OF = {"genre": "genre", "mood/theme": "mood", "instrument": "tags"}


def separators(ours: str, cells: list[str]) -> str:
    """Return the separators of the lists in a column.

    Args:
        ours: our column.
        cells: distinct texts of the file's column.

    Returns:
        Some of the characters ; | , / where the cells are lists with them, `LIST` where the cells are lists in
        brackets, "" where each cell is one value.
    """
    plain = [cell for cell in cells if parsed(cell) is None]
    if 2 * len(plain) < len(cells):
        return LIST
    if ours not in LISTED:
        return ""
    marks = [mark for mark in ";|" if any(mark in cell for cell in plain)]
    if ours != "artist":  # Earth, Wind & Fire; AC/DC
        others = ",/&+" if ours == "mood" else ",/"  # Drum & Bass
        marks += [m for m in others if (ours, m) == ("tags", ",") or _shows_lists(ours, plain, m, "".join(marks))]
    return "".join(marks)


def _shows_lists(ours: str, cells: list[str], mark: str, others: str) -> bool:
    """Return True if the parts between the marks are values of their own: words that are known or recur elsewhere."""
    parts = [[part.casefold() for part in items(cell, mark + others)] for cell in cells]
    marked = [part for part, cell in zip(parts, cells, strict=True) if mark in _WHOLE.sub("", cell)]
    seen = Counter(part for row in parts for part in set(row))
    words = _WORDS.get(ours, ())
    needed = 0.5 if mark == "," else 1  # "Pop/Rock" may be one genre: both parts must be known
    shown = [sum(part in words or seen[part] > 1 for part in row) >= needed * len(row) for row in marked]
    return bool(marked) and sum(shown) >= 0.5 * len(marked)


def items(cell: str, separators: str, missing: tuple[str, ...] = MISSING) -> list[str]:
    """Return the values in a cell, without doubles, blanks and those that mean "not known" (`missing`)."""
    values = parsed(cell)
    if values is None and PREFIX.match(cell):
        values = _BETWEEN.split(cell)
    elif values is None and separators not in ("", LIST):
        inner = cell[1:-1] if "," in separators and _BRACKETS.fullmatch(cell) else cell
        guarded = _WHOLE.sub(lambda match: match[0].translate(_GUARD), inner)
        values = [part.translate(_UNGUARD) for part in re.split(f"[{re.escape(separators)}]", guarded)]
    clean = (" ".join(value.split()) for value in ([cell] if values is None else values))
    distinct = {}
    for value in clean:
        if value and value.casefold() not in missing:
            distinct.setdefault(value.casefold(), value)
    return list(distinct.values())


@lru_cache(100_000)
def parsed(cell: str) -> list[str] | None:
    """Return the values of a Python or JSON list in a text; of dicts, their names. None if the text is no list."""
    if not (cell.startswith(("[", "{")) and cell.endswith(("]", "}"))):
        return None
    quoted = cell if '"' in cell or "\\" in cell else cell.replace("'", '"')  # most Python lists are JSON then: faster
    spaced = re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", cell)  # NumPy's ['a' 'b'], which Python would read as 'ab'
    for text, read in ((quoted, json.loads), (spaced, ast.literal_eval)):
        try:
            values = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(values, set):  # a set has no order, its text has one
            values = ast.literal_eval(f"[{spaced[1:-1]}]")
        if isinstance(values, dict) and all(isinstance(count, int | float) for count in values.values()):
            values = [name for name in values if name != "id"]  # {"rock": 100, "pop": 50}
        values = values if isinstance(values, list | tuple) else [values]
        return [text for value in values if value is not None for text in _texts(value)]
    return None


def _texts(value) -> list[str]:
    """Return the text of a list's value; of a dict, that under its name or title; of ["rock", 100], the first."""
    if isinstance(value, list | tuple):
        return [str(inner) for inner in value[:1]]
    if isinstance(value, dict):
        return [str(inner) for name, inner in value.items() if _NAME.fullmatch(str(name)) and inner is not None][:1]
    return [str(value)]


def for_column(ours: str, values: list[str], also: set[str]) -> list[str]:
    """Keep the values of a list that belong to our column.

    Args:
        ours: our column.
        values: of the list; a prefix as in mood/theme---happy names the column that a value belongs to.
        also: our other columns that are read from the same column of the file.
    """
    matches = [(PREFIX.fullmatch(value), value) for value in values]
    if not any(match for match, _ in matches):
        return values
    column = [
        (OURS_OF.get(match[1].lower(), "tags"), match[2]) if match else ("tags", value) for match, value in matches
    ]
    own = [value for name, value in column if name == ours or (ours == "tags" and name not in also)]
    return own or ([value for _, value in column] if ours == "tags" else [])
