"""Decide which of a file's columns is which of ours, in which unit, and why."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.core.errors import WorkbookError, nearest
from lib.tracks import shapes
from lib.tracks.cells import UNITS
from lib.tracks.columns import FEATURES, NUMBERS
from lib.tracks.evidence import Evidence
from lib.tracks.shapes import Shape

TEXTS = ("title", "artist", "album", "genre", "language", "mood", "mood2", "description", "tags")
OURS = ("id", *TEXTS, *NUMBERS, "plays", "explicit", "release_date")


class Column(NamedTuple):
    """A column of the file that one of ours is read from."""

    name: str
    unit: str  # one of UNITS[ours]; "" where ours has no unit
    separator: str  # of several values in a cell: "" (one value), some of the characters ; , / |, or "list" (brackets)
    why: str  # for people
    decimal: str = "."  # the decimal mark of numbers
    remove: str = ""  # a regular expression for what is no part of the values


class Mapping(NamedTuple):
    """The columns of a file that ours are read from."""

    shape: str  # name of the known export, or ""
    plays: bool  # each row is a play or an entry of a playlist, not a track
    columns: dict[str, Column]  # ours -> the file's
    unused: list[str]  # the file's columns that are not read
    warnings: list[str]  # one or two sentences each


def match(
    source_columns: list[str], sample: pd.DataFrame, columns: dict[str, str], units: dict[str, str], file: Path
) -> Mapping:
    """Find our columns in a file.

    Args:
        source_columns: the file's columns in order.
        sample: its first rows as texts; the index holds their numbers.
        columns: ours -> theirs, as the user says; "" leaves ours empty.
        units: ours -> unit, as the user says; one of `UNITS[ours]`.
        file: for messages.

    Raises:
        WorkbookError: a name or a unit is unknown; a column that we read is there twice; most values of a column that
            the user named do not fit; or no column is a title, a description or tags.
    """
    _check(columns, units)
    named = {ours: _resolve(str(theirs or ""), source_columns, file) for ours, theirs in columns.items()}
    evidence, shape = Evidence(source_columns, sample, file), shapes.find(source_columns, sample)
    choices = {ours: _choices(ours, named, source_columns, shape) for ours in OURS}
    percent = any(evidence.unit(ours, name) == "0-100" for ours in FEATURES for name, _ in choices[ours][:1])
    found, warnings, taken = {}, [], set(named.values()) | set(shape.columns.values())
    for ours in OURS:
        problems = []
        for name, why in choices[ours]:
            exported = shape.columns.get(ours) == name
            if name in taken and not exported and ours not in named:
                continue
            unit = units.get(ours) or (shape.units.get(ours, "") if exported else "")
            verdict = evidence.judge(ours, name, unit, percent, ours in named)
            if verdict.problem:
                problems.append(verdict.problem)
                continue
            separator, remove = (shape.lists.get(ours, ""), shape.remove.get(ours, "")) if exported else ("", "")
            separator = separator or verdict.separator
            found[ours] = Column(name, verdict.unit, separator, why, verdict.decimal, remove)
            taken.add(name)
            break
        if ours not in found:
            warnings += problems[:1]
    warnings += _adjust(found, set(named), evidence)
    _check_text(found, source_columns, file)
    used = {column.name for column in found.values()}
    return Mapping(shape.name, shape.plays, found, [name for name in source_columns if name not in used], warnings)


def _adjust(found: dict[str, Column], named: set[str], evidence: Evidence) -> list[str]:
    """Correct the columns by what others of the file show. Return warnings."""
    warnings = []
    if "title" not in found and "title" not in named and "album" in found:
        found["title"] = found.pop("album")._replace(why="the albums: the file has no songs")
        warnings.append(f"title: the file names no songs, so each album ({found['title'].name}) is a track.")
    if "duration_ms" in found:
        durations = found["duration_ms"]
        warnings += evidence.implausible(durations.name, durations.unit, durations.decimal)
    if "mode" not in {*found, *named} and "key" in found and evidence.names_modes(found["key"].name):
        found["mode"] = found["key"]._replace(why="the names of the keys")
    if "id" in found and "id" not in named and (problem := evidence.shared_ids(found)):
        del found["id"]
        warnings.append(problem)
    return warnings


def _choices(ours: str, named: dict[str, str], source_columns: list[str], shape: Shape) -> list[tuple[str, str]]:
    """Return the file's columns that may be ours, the best first, each with the reason."""
    if ours in named:
        return [(named[ours], "named in `columns`")] if named[ours] else []
    exported = shape.columns.get(ours)
    if exported == "":
        return []
    names = [name for name in shapes.candidates(ours, source_columns) if name != exported]
    same = [name for name in names if shapes.plain(name) == shapes.plain(ours)]
    others = [] if shape.name else [name for name in names if name not in same]
    first = [(exported, f"the name in {shape.name}")] if exported else []
    return first + [(name, "the same name") for name in same] + [(name, f"a usual name of {ours}") for name in others]


def _check(columns: dict[str, str], units: dict[str, str]) -> None:
    for ours in columns:
        if ours not in OURS:
            raise WorkbookError(f"columns: we have no column {ours!r}{nearest(ours, OURS)}. Ours: {', '.join(OURS)}.")
    for ours, unit in units.items():
        if unit not in UNITS.get(ours, ()):
            choices = "; ".join(f"{column}: {', '.join(allowed)}" for column, allowed in UNITS.items())
            raise WorkbookError(f"units: {ours}: {unit!r} is unknown. Use one of {choices}.")


def _check_text(found: dict[str, Column], source_columns: list[str], file: Path) -> None:
    if not {"title", "description", "tags"} & set(found):
        first = _listed(source_columns[:1])
        raise WorkbookError(
            f"{file}: it has none of title, description and tags, so no track has a text. Its columns: "
            f"{_listed(source_columns)}. Name one of them, for example columns: {{title: {first}}}."
        )


def _resolve(theirs: str, source_columns: list[str], file: Path) -> str:
    """Return the column that the user means: of that name, or a field of that name, such as artists.name of artists."""
    if not theirs or theirs in source_columns:
        return theirs
    alike = [name for name in source_columns if name.strip().casefold() == theirs.strip().casefold()]
    nested = [name for name in source_columns if name.startswith(f"{theirs}.")]
    fields = [name for name in nested if name.rpartition(".")[2].casefold() in ("name", "title", "#text")]
    if close := alike or fields or (nested if len(nested) == 1 else []):
        return close[0]
    hint = nearest(theirs, source_columns)
    raise WorkbookError(f"{file}: columns: it has no column {theirs!r}{hint}. Its columns: {_listed(source_columns)}.")


def _listed(names: list[str]) -> str:
    return " ".join(", ".join(names[:20]).split()) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
