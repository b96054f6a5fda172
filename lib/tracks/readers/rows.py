"""Rows of nested values -> chunks of flat text columns, for the readers of nested kinds."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from lib.tracks.readers.source import Chunk, Source

CHUNK = 50_000  # rows
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON and names of files may hold one, Parquet cannot
LIST = json.JSONEncoder(ensure_ascii=False).encode


class Damaged(str):
    """The reason why a row of the file cannot be read."""


Row = dict | Damaged | None  # None: a row that counts, but is no track (an empty line of a sheet, a video)


def source(
    file: Path, kind: str, facts: dict[str, str], columns: list[str], rows: Callable[[], Iterable[Row]]
) -> Source:
    """Return the source of a file whose rows are dicts. Each call of `rows` starts at the first row."""

    def read(wanted: list[str] | None) -> Iterator[Chunk]:
        numbered = enumerate(rows(), start=1)
        while part := list(islice(numbered, CHUNK)):
            yield chunk(part, columns if wanted is None else wanted)

    return Source(file, kind, facts, columns, read)


def table(
    file: Path, kind: str, facts: dict[str, str], columns: list[str], rows: Callable[[], Iterable[Row]]
) -> Source:
    """Return the source of a file whose rows are dicts: place of a column -> text. Columns may have the same name."""

    def read(wanted: list[str] | None) -> Iterator[Chunk]:
        places = range(len(columns)) if wanted is None else [columns.index(n) if n in columns else -1 for n in wanted]
        for part in source(file, kind, facts, columns, rows).read([str(place) for place in places]):
            names = columns if wanted is None else wanted
            yield part._replace(table=part.table.rename_columns(names))

    return Source(file, kind, facts, columns, read)


def chunk(numbered: list[tuple[int, Row]], columns: list[str]) -> Chunk:
    """Return numbered rows as a chunk with these columns."""
    needed = {name[: dot.start()] for name in columns for dot in re.finditer(r"\.|$", name)}  # album, album.name
    kept = [(n, flatten({k: row[k] for k in row if str(k) in needed})) for n, row in numbered if isinstance(row, dict)]
    table = pa.Table.from_arrays([strings([row.get(name) for _, row in kept]) for name in columns], names=columns)
    damaged = [(number, str(row)) for number, row in numbered if isinstance(row, Damaged)]
    return Chunk(np.array([number for number, _ in kept], dtype=np.int64), table, damaged)


def strings(values: list[str | None]) -> pa.Array:
    """Return values as strings; half a character becomes U+FFFD."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and SURROGATE.sub("\ufffd", value) for value in values], pa.string())


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Return the names of all columns of the rows, in the order of their first use."""
    filled = {}
    for row in rows:
        if isinstance(row, dict):
            for name, value in flatten(row).items():
                filled[name] = filled.get(name, False) or value is not None
    # `album` may be null in one row and an object in the next: only album.name is a column.
    parents = {name[: dot.start()] for name in filled for dot in re.finditer(r"\.", name)}
    return [name for name in filled if filled[name] or name not in parents]


def flatten(row: dict) -> dict[str, str | None]:
    """Return a row with text values: album: {name: A} -> album.name: A; artists: [{name: A}] -> artists.name: ["A"]."""
    flat = {}
    for name, value in row.items():
        _put(flat, str(name), value, False)
    return {name: LIST(v) if isinstance(v, list) else v for name, v in flat.items()}


def _put(flat: dict, name: str, value, many: bool) -> None:
    """Put a value and the values within it under their dotted names. `many`: it is within a list."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _put(flat, f"{name}.{key}", inner, many)
    elif isinstance(value, list | tuple):
        counted = many and len(value) == 2 and re.fullmatch(r"[\d.]+", str(value[1]))  # ["rock", 100], in a list
        for inner in value[:1] if counted else value:
            _put(flat, name, inner, True)
    elif not many:
        flat[name] = text(value)
    elif value is not None:
        if not isinstance(flat.get(name), list):
            flat[name] = []
        flat[name].append(text(value))


def text(value) -> str | None:
    """Return a single value as text: 7 and 7.0 -> "7", true -> "true", bytes by UTF-8; None and NaN stay None."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
