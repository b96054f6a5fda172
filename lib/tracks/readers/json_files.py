"""Catalogues in JSON: JSON Lines, an array, or a document with a list of tracks somewhere in it."""

import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from lib.core.errors import WorkbookError
from lib.tracks.readers import encodings, json_lists, rows
from lib.tracks.readers.rows import Damaged, Row
from lib.tracks.readers.source import Source

SCAN = 200_000  # JSON Lines whose columns are collected before the file is read
# Numbers keep the digits of the file.
DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=lambda _: None, strict=False)
BETWEEN = re.compile(r"[\s,]*")


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open JSON Lines or a JSON document."""
    encoding, name = _encoding(file, reading)
    facts = {"encoding": name}
    try:
        head = list(islice(_values(file, encoding), 20))
        objects = [value for value in head if isinstance(value, dict)]
        # A document in one line is no JSON Lines. One in several lines seldom has lines that are objects.
        if len(head) > 1 and (isinstance(head[0], dict) or 2 * len(objects) > len(head)):
            lines = partial(_values, file, encoding)
            return rows.source(file, "JSON Lines", facts, rows.columns_of(islice(lines(), SCAN)), lines)
        document = _document(file, file.read_text(encoding))
    except (UnicodeError, LookupError) as error:
        raise WorkbookError(
            f"{file}: it is not {encoding} text ({error}). Name its encoding: `reading: {{encoding: cp1252}}`."
        ) from error
    path, tracks, others = json_lists.tracks(file, document, reading.get("table", ""))
    facts |= {"list": path, "other lists": others} if others else {"list": path}
    return rows.source(file, "JSON", facts, rows.columns_of(tracks), lambda: tracks)


def _encoding(file: Path, reading: dict[str, str]) -> tuple[str, str]:
    """Return Python's name of the encoding, and its name for people."""
    if named := reading.get("encoding"):
        return named, named
    with file.open("rb") as opened:
        detected = json.detect_encoding(opened.read(4))
    return encodings.find(file) if detected.startswith("utf-8") else (detected, detected.upper())


def _values(file: Path, encoding: str) -> Iterator[Row]:
    """Yield the object of each line."""
    errors = "replace" if encoding.lower().startswith("utf-16") else "surrogateescape"
    with file.open(encoding=encoding, errors=errors) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _value(number, line)


def _value(number: int, line: str) -> Row:
    if not line.isascii() and (wrong := re.search("[\udc80-\udcff]", line)):
        return Damaged(f"line {number} has a byte (0x{ord(wrong[0]) - 0xDC00:02x}) that does not fit the encoding")
    try:
        value = DECODER.decode(line.strip().lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        return Damaged(f"line {number} is no JSON: {error.msg} at character {error.colno}")
    except RecursionError:
        return Damaged(f"line {number} is nested too deeply")
    return value if isinstance(value, dict) else Damaged(f"line {number} is no JSON object {{…}}")


def _document(file: Path, text: str):
    """Return the content of a document: its one value, or the list of those that follow each other.

    An array that ends early keeps its elements, and a `Damaged` one ends it.
    """
    start = BETWEEN.match(text).end()
    try:
        return DECODER.decode(text[start:])
    except RecursionError as error:
        raise WorkbookError(f"{file}: the JSON is nested too deeply. Export the tracks as a flat list.") from error
    except json.JSONDecodeError as error:
        problem, array = error, text[start] == "["
    values, end = [], BETWEEN.match(text, start + array).end()
    try:
        while end < len(text) and not (array and text[end] == "]"):
            value, end = DECODER.raw_decode(text, end)
            values.append(value)
            end = BETWEEN.match(text, end).end()
    except json.JSONDecodeError as error:
        problem = error
        # A file that ends early has its error near its end; that of a cut string is where the string begins.
        rest = len(text.rstrip()) - error.pos
        if not (array and values and rest < (1000 if error.msg.startswith("Unterminated") else 9)):
            where = f"line {problem.lineno}, character {problem.colno}"
            raise WorkbookError(
                f"{file}: the JSON is damaged at {where}: {problem.msg}. Export or download it again."
            ) from error
    if array:
        values.append(Damaged(f"the file ends early, after {len(values)} objects"))
    return values
