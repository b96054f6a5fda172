"""Catalogues in SQLite: the library of beets, or a table by its name. The file is never changed."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from lib.core.errors import WorkbookError
from lib.tracks.readers.rows import CHUNK, strings, text
from lib.tracks.readers.source import Chunk, Source

BEETS = {"items", "albums", "item_attributes"}


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open a table of a database."""
    folder, database = None, file
    log = Path(f"{file}-wal")
    if log.is_file() and log.stat().st_size:  # its rows are not in the file yet: SQLite merges them, in a copy
        folder = tempfile.TemporaryDirectory(prefix="catalogue-")
        database = Path(folder.name) / "copy.db"
        shutil.copyfile(file, database)
        shutil.copyfile(log, f"{database}-wal")
    try:
        with closing(_connect(database)) as connection:
            counts = _tables(connection)
            table = _choose(file, counts, reading.get("table", ""))
            columns = [name for name, *_ in connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0").description]
    except sqlite3.Error as error:
        raise _damaged(file, error) from error
    facts = {"table": f"{table} ({counts[table]:,} rows)"}
    if others := [name for name in counts if name != table]:
        facts["other tables"] = ", ".join(others[:10])

    def chunks(wanted: list[str] | None, _folder=folder) -> Iterator[Chunk]:  # the copy lives as long as this function
        names, first = columns if wanted is None else wanted, 1
        fields = ", ".join(_quoted(name) if name in columns else "NULL" for name in names) if wanted else "*"
        try:
            with closing(_connect(database)) as connection:
                rows = connection.execute(f"SELECT {fields} FROM {_quoted(table)}")
                while part := rows.fetchmany(CHUNK):
                    yield _chunk(part, names, first)
                    first += len(part)
        except sqlite3.Error as error:
            raise _damaged(file, error) from error

    return Source(
        file, "beets, in SQLite" if counts.keys() >= BEETS and table == "items" else "SQLite", facts, columns, chunks
    )


def _connect(database: Path) -> sqlite3.Connection:
    """Open a database for reading. `immutable` needs no lock; the copy of a database with a log must be writable."""
    how = "mode=rw" if database.name == "copy.db" else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(bytes(database))}?{how}", uri=True)
    connection.text_factory = lambda value: value.decode("utf-8", "replace")
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the tables and views with their numbers of rows."""
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    counts = {}
    for (name,) in connection.execute(query).fetchall():
        try:
            counts[name] = connection.execute(f"SELECT COUNT(*) FROM {_quoted(name)}").fetchone()[0]
        except sqlite3.OperationalError:  # a view of what is gone, or a table that needs an extension
            counts[name] = 0
    return counts


def _choose(file: Path, counts: dict[str, int], named: str) -> str:
    """Return the table to read: the one that is named, that of beets, or the only one with rows."""
    names = ", ".join(f"{name} ({count:,} rows)" for name, count in counts.items())
    if not counts:
        raise WorkbookError(f"{file}: the database has no table. Give the file that has the tracks.")
    if named:
        same = [name for name in counts if name.casefold() == named.casefold()]
        if not same:
            raise WorkbookError(f"{file}: it has no table {named!r}. Set `reading: {{table: …}}` to one of: {names}.")
        return same[0]
    filled = [name for name, count in counts.items() if count]
    if counts.keys() >= BEETS and counts["items"]:
        return "items"
    if len(counts) == 1 or len(filled) == 1:
        return (filled or list(counts))[0]
    raise WorkbookError(f"{file}: it has several tables. Name one, `reading: {{table: NAME}}`, of: {names}.")


def _chunk(part: list[tuple], names: list[str], first: int) -> Chunk:
    arrays = [strings(list(map(text, values))) for values in zip(*part, strict=True)]
    return Chunk(np.arange(first, first + len(part)), pa.Table.from_arrays(arrays[: len(names)], names=names), [])


def _damaged(file: Path, error: sqlite3.Error) -> WorkbookError:
    return WorkbookError(f"{file}: SQLite cannot read it ({error}). Copy it again while no program has it open.")
