"""Tables in text: CSV, TSV and their like, row by row, so that one damaged row costs no other."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from lib.core.errors import WorkbookError
from lib.tracks.readers import dialect as dialects
from lib.tracks.readers import encodings
from lib.tracks.readers.dialect import Dialect
from lib.tracks.readers.source import Chunk, Source

CHUNK = 50_000  # rows
BLOCK = 1 << 24  # letters read together
SAMPLE = 2000  # lines by which the form is recognised
LONGEST = 1000  # lines of a row; a quote that opens more is a stray one
BROKEN = re.compile("[\udc00-\udcff]")  # a byte that the encoding does not have

csv.field_size_limit(1 << 30)
codecs.register_error("keep", lambda e: ("".join(chr(0xDC00 + b) for b in e.object[e.start : e.end]), e.end))


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open a text table.

    Raises:
        WorkbookError: it is not text, has no rows, or header and rows do not fit together.
    """
    if codec := reading.get("encoding"):
        encoding = f"{codec}, as named in `reading`"
        try:
            codecs.lookup(codec)
        except LookupError as error:
            raise WorkbookError(f"reading: the encoding {codec!r} is unknown. Use one of Python's: cp1252.") from error
    else:
        codec, encoding = encodings.find(file)
    with file.open(encoding=codec, errors="keep", newline="") as text:
        lines = list(islice(text, SAMPLE))
    if not "".join(lines).strip():
        raise WorkbookError(f"{file}: it has only empty lines. Export or download it again.")
    newline = "\n" if any(line.endswith("\n") for line in lines) else "\r"
    with file.open(encoding=codec, errors="replace", newline=newline) as text:
        lines = list(islice(text, SAMPLE))
    dialect = dialects.find(lines, reading, file)

    def chunks(columns: list[str] | None) -> Iterator[Chunk]:
        wanted = [i for i, name in enumerate(dialect.columns) if columns is None or name in columns]
        names = [dialect.columns[i] for i in wanted]
        with file.open(encoding=codec, errors="keep", newline=newline) as text:
            for numbers, table, damaged in _blocks(text, newline, dialect, encoding, wanted):
                for start in range(0, len(numbers) or bool(damaged), CHUNK):
                    part = table.slice(start, CHUNK).rename_columns(names)
                    yield Chunk(numbers[start : start + CHUNK], part, [] if start else damaged)

    kind = "TSV" if dialect.separator == "\t" else "text" if dialect.separator == dialects.ONE_COLUMN else "CSV"
    return Source(file, kind, {"encoding": encoding} | dialect.facts, dialect.columns, chunks)


def _blocks(text: TextIO, newline: str, dialect: Dialect, encoding: str, wanted: list[int]) -> Iterator[tuple]:
    """Read some lines at a time; yield the rows' numbers, the wanted columns, and the damaged rows with reasons."""
    sum(1 for _ in islice(text, dialect.skip))
    number, line_number, rest, final = 0, dialect.skip, "", False
    while not final:
        block = text.read(BLOCK) + text.readline()
        final, block = not block, rest + (dialects.unescaped([block])[0] if dialect.escaped else block)
        if (table := _table(block, dialect, wanted)) is not None:
            yield np.arange(number + 1, number + 1 + len(table)), table, []
            number, line_number, rest = number + len(table), line_number + len(table), ""
            continue
        lines = re.findall(f"[^{newline}]*{newline}|[^{newline}]+", block)
        broken, numbers, rows, damaged, done = _broken(lines), [], [], [], 0
        for row, start, end in _records(lines, dialect, final):
            if end == len(lines) and not final:
                break
            done = end
            if not any(row):
                continue
            number += 1
            where = next((i for i in range(start, end) if i in broken), None)
            if where is not None:
                damaged.append((number, f"line {line_number + where + 1} {broken[where]} {encoding.split(',')[0]}"))
            elif (fitted := _fitted(row, dialect)) is None:
                shown = lines[start].rstrip("\r\n")
                shown = shown[:80] + "…" * (len(shown) > 80)
                damaged.append((number, f"{len(row)} values, the header has {len(dialect.columns)}: {shown}"))
            else:
                numbers.append(number)
                rows.append(fitted)
        columns = [_present(pa.array([row[i] for row in rows], pa.string())) for i in wanted]
        yield np.array(numbers, np.int64), pa.table(columns, list(map(str, wanted))), damaged
        rest, line_number = "".join(lines[done:]), line_number + done


def _table(text: str, dialect: Dialect, wanted: list[int]) -> pa.Table | None:
    """Return the wanted columns, named by their numbers, if each line is a row without a fault; else None.

    Arrow reads such lines several times as fast as `csv`. Lines that the two may read differently are left to `csv`.
    """
    quote, separator, names = dialect.quote, dialect.separator, list(map(str, wanted))
    try:
        data = text.encode()
        if dialect.ragged or len(separator) > 1 or data.count(b"\r") > data.count(b"\r\n"):
            return None
        if quote:
            blank = rf"(?:^|[{re.escape(separator)}\n]) +{quote}(?!{quote}[^{quote}{re.escape(separator)}\r\n])"
            if f" {quote}".encode() in data and re.search(blank.encode(), data):
                return None
            last = text[text.rfind("\n", 0, -1) + 1 :]  # its quote may end in the next lines
            next(csv.reader([last], delimiter=separator, quotechar=quote, strict=True))
        table = pa_csv.read_csv(
            pa.py_buffer(data),
            pa_csv.ReadOptions(column_names=list(map(str, range(dialect.width))), block_size=len(data) + 1),
            pa_csv.ParseOptions(delimiter=separator, quote_char=quote or False, newlines_in_values=True),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=names),
        )
    except (pa.ArrowInvalid, csv.Error, UnicodeEncodeError):
        return None
    table = pa.table([_present(column) for column in table.columns], names)
    empty = pc.any(reduce(pc.and_, map(pc.is_null, table.columns))).as_py()
    return None if empty or len(table) != data.count(b"\n") + (not text.endswith("\n")) else table


def _present(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the texts without a blank in front, null for none."""
    if pc.any(pc.starts_with(column, " ")).as_py():
        column = pc.ascii_ltrim(column, " ")
    return pc.if_else(pc.equal(column, ""), None, column)


def _records(lines: list[str], dialect: Dialect, final: bool) -> Iterator[tuple[list[str], int, int]]:
    """Yield each row with its first line and the line after its last.

    A field that begins with a stray quote swallows the lines up to the next quote. They are rows where each of them has
    the right number of values.
    """
    start = 0
    while start < len(lines):
        reader, base, end = dialects.parse(lines[start:], dialect.separator, dialect.quote), start, start
        try:
            for row in reader:
                start, end = end, base + reader.line_num
                whole = final or end < len(lines) or end - start > LONGEST  # else the next block may continue it
                if end - start > 1 and whole and _swallows(row, lines[start:end], dialect):
                    row, end = _unquoted(lines[start], dialect), start + 1
                    yield row, start, end
                    break
                cut = dialect.short and len(row) < dialect.width  # its last values are empty
                unquoted = _unquoted(lines[start], dialect) if len(row) != dialect.width and not cut else []
                yield unquoted if len(unquoted) == dialect.width else row, start, end
        except csv.Error:  # a carriage return inside a line
            bad = base + reader.line_num - 1
            lines[bad] = lines[bad].rstrip("\r\n").replace("\r", " ") + "\n"
        start = end


def _swallows(row: list[str], lines: list[str], dialect: Dialect) -> bool:
    """Return True if the lines of one row are rows of their own."""
    width = dialect.width
    if len(lines) > LONGEST or len(_unquoted(lines[0], dialect)) != width:
        return len(lines) > LONGEST
    quoted = (next(dialects.parse([line], dialect.separator, dialect.quote), []) for line in lines[1:20])
    fit = (width in (len(one), len(_unquoted(line, dialect))) for one, line in zip(quoted, lines[1:20], strict=True))
    return len(row) != width or all(fit)


def _unquoted(line: str, dialect: Dialect) -> list[str]:
    return next(dialects.parse([line], dialect.separator, ""), [])


def _fitted(row: list[str], dialect: Dialect) -> list[str | None] | None:
    """Return the row with one value for each column, None if it cannot be."""
    width = len(dialect.columns)
    if dialect.ragged and len(row) >= width:
        return [*row[: width - 1], json.dumps([value for value in row[width - 1 :] if value], ensure_ascii=False)]
    if len(row) == width + dialect.extra:
        return row
    if dialect.short and len(row) < width:
        return row + [None] * (width - len(row))
    return None


def _broken(lines: list[str]) -> dict[int, str]:
    """Return the lines with bytes that the encoding does not have, each with a word on the first such byte."""
    found = ((i, BROKEN.search(line)) for i, line in enumerate(lines))
    return {i: f"has the byte 0x{ord(match[0]) - 0xDC00:02x}, which is not" for i, match in found if match}
