"""The rows of a catalogue file of any kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

KINDS = "CSV, TSV, JSON, Parquet, Excel, SQLite, iTunes, Rekordbox or Traktor libraries, M3U, or a folder of music"
CONVERT = f"We read {KINDS}, also in gzip or zip. Export your catalogue as CSV in UTF-8, and set `catalogue` to it"


class Chunk(NamedTuple):
    """Consecutive rows of a file."""

    rows: np.ndarray  # (n,) int64: the number of each row in the file; 1 is the first data row, damaged ones count
    table: pa.Table  # (n, columns) strings, named as the file names them; null where the file has no value
    damaged: list[tuple[int, str]]  # (row number, reason) of the file's rows that are not in the table


@dataclass
class Source:
    """An open catalogue file."""

    file: Path
    kind: str  # for people: "CSV", "Excel", "CSV in a zip file"
    facts: dict[str, str]  # for people, in order: encoding, separator, quotes, header, table
    columns: list[str]  # in the file's order; a nested field has dots: album.name
    read: Callable[[list[str] | None], Iterator[Chunk]]  # of these columns (None: all), from the first row
