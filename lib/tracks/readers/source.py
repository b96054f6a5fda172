"""The rows of a catalogue file of any kind. The kind is recognised by its content first, by its ending second."""

import bz2
import gzip
import importlib
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lib.core.errors import WorkbookError
from lib.core.paths import resolve

READING = ("encoding", "separator", "quote", "decimal", "table")
KINDS = "CSV, TSV, JSON, Parquet, Excel, SQLite, iTunes, Rekordbox or Traktor libraries, M3U, or a folder of music"
CONVERT = f"We read {KINDS}, also in gzip or zip. Export your catalogue as CSV in UTF-8, and set `catalogue` to it"
LARGEST = 20 << 30  # bytes; a larger unpacked file is taken for a zip bomb
UNPACKERS = {b"\x1f\x8b": (gzip.open, "gzip"), b"BZh": (bz2.open, "bzip2"), b"\xfd7zXZ": (lzma.open, "xz")}
READERS = {  # the first bytes of a file -> its reader
    b"PAR1": "parquet",
    b"SQLite format 3\0": "sqlite",
    b"\xd0\xcf\x11\xe0": "spreadsheets",
    b"bplist00": "libraries",
    b"#EXTM3U": "playlists",
    b"\xef\xbb\xbf#EXTM3U": "playlists",
}
ENDINGS = {".m3u": "playlists", ".m3u8": "playlists"} | dict.fromkeys((".json", ".jsonl", ".ndjson"), "json_files")
MUSIC = re.compile(rb"ID3|fLaC|OggS|RIFF....WAVE|....ftyp|\xff[\xfb\xf3\xf2]", re.DOTALL)
# Members of a zip that hold no tracks: notes, pictures, and the second copies that macOS adds.
NO_TABLE = re.compile(
    r"(^|/)(__MACOSX/.*|\..*|read.?me.*|licen[cs]e.*|datapackage.json|[^/]*\.(md|pdf|html?|png|jpe?g|gif|docx?|py|ipynb))$",
    re.IGNORECASE,
)


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


def open_source(path: str, reading: dict[str, str]) -> Source:
    """Open a catalogue.

    Args:
        path: a file of one of `KINDS`, also in gzip, bzip2, xz or zip; or a folder of music.
        reading: overrides what is recognised: encoding, separator, quote, decimal, table (of SQLite, a sheet of Excel,
            a member of a zip, a list in JSON as a dotted path).

    Raises:
        WorkbookError: the path is no catalogue. The message says why, and what to do.
    """
    if unknown := sorted(set(reading) - set(READING)):
        raise WorkbookError(f"reading: {unknown[0]!r} is unknown. Use some of {', '.join(READING)}.")
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", str(path)):
        raise WorkbookError(f"{path}: it is a web address. Download it first (curl -LO {path}), and give the file.")
    file = resolve(path)
    try:
        return _open(file, reading, 0)
    except PermissionError as error:
        raise WorkbookError(f"{file}: you may not read it. Allow it: chmod u+r {file}") from error
    except OSError as error:
        raise WorkbookError(f"{file}: it cannot be read: {error.strerror or error}. Copy it, and try again.") from error


def _open(file: Path, reading: dict[str, str], layers: int) -> Source:
    if file.is_dir():
        return _reader("music_folder", file, reading)
    if not file.exists():
        raise WorkbookError(f"{file}: no such file. Set `catalogue` to the path of your catalogue.")
    if not file.is_file():
        raise WorkbookError(f"{file}: it is no regular file (a pipe or a device). Save its content as a file first.")
    with file.open("rb") as opened:
        head = opened.read(4096)
    if not head:
        raise WorkbookError(f"{file}: the file is empty (0 bytes). Export or download it again.")
    if head.startswith(b"PK\x03\x04"):
        return _from_zip(file, reading)
    for magic, (opener, name) in UNPACKERS.items():
        if head.startswith(magic) and layers < 2:
            return _unpacked(file, opener, file.stem, f"a {name} file", reading, layers)
    return _reader(_kind(file, head), file, reading)


def _reader(name: str, file: Path, reading: dict[str, str]) -> Source:
    """Read with the module of this name. It is imported only now: some kinds need slow libraries."""
    return importlib.import_module(f"lib.tracks.readers.{name}").read(file, reading)


def _kind(file: Path, head: bytes) -> str:
    """Return the name of the reader for a file with this head; refuse what is known to be no catalogue."""
    for magic, name in READERS.items():
        if head.startswith(magic):
            return name
    if MUSIC.match(head):
        raise WorkbookError(f"{file}: it is one piece of music. Set `catalogue` to the folder of your music.")
    if head[257:262] == b"ustar":
        raise WorkbookError(f"{file}: it is a tar archive. Unpack it (tar -xf), and give the file with the tracks.")
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16" if utf16 else "utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("version https://git-lfs"):
        raise WorkbookError(f"{file}: it is a pointer of Git LFS, not the file itself. Run: git lfs pull")
    if re.match(r"<(!doctype html|html|head|body|script|meta)|<[?!][^\0]*<html", text, re.IGNORECASE):
        raise WorkbookError(f"{file}: it is a web page (perhaps of a login). Download the file again, signed in.")
    if re.match(r"<[?!a-z]", text, re.IGNORECASE):
        return "libraries"
    if re.match(r'\{\s*["}]|\[\s*[\[{"\]\d-]', text):
        return "json_files"
    return ENDINGS.get(file.suffix.lower(), "text_tables")


def _from_zip(file: Path, reading: dict[str, str]) -> Source:
    """Read an Excel file, or the one table of a zip file."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise WorkbookError(f"{file}: the zip file is damaged or cut ({error}). Download it again.") from error
    with archive:
        members = {m.filename: m for m in archive.infolist() if not m.is_dir()}
        if "[Content_Types].xml" in members or "content.xml" in members:
            return _reader("spreadsheets", file, reading)
        tables = [name for name in members if not NO_TABLE.search(name)]
        wanted = [name for name in members if reading.get("table") in (name, Path(name).name)]
        if not (wanted or tables):
            raise WorkbookError(f"{file}: the zip file has no table in it. {CONVERT}.")
        if len(wanted or tables) > 1:
            names = ", ".join((wanted or tables)[:10])
            raise WorkbookError(
                f"{file}: {len(tables)} files are in it: {names}. Name one: `reading: {{table: NAME}}`."
            )
        member = members[(wanted or tables)[0]]
        if member.flag_bits & 1:
            raise WorkbookError(f"{file}: the zip file has a password. Unpack it, and give the file that was in it.")
        if member.file_size > LARGEST:
            raise WorkbookError(f"{file}: {member.filename} has over 20 GB unpacked. Unpack it, and give a part of it.")
        inner = {key: value for key, value in reading.items() if key != "table" or not wanted}
        return _unpacked(file, lambda _: archive.open(member), Path(member.filename).name, "a zip file", inner, 1)


def _unpacked(file: Path, opener: Callable, name: str, within: str, reading: dict[str, str], layers: int) -> Source:
    """Unpack into a temporary folder, which lives as long as the source, and read the file from there."""
    folder = tempfile.TemporaryDirectory(prefix="catalogue-")
    inner, cut, size = Path(folder.name) / name, "", 0
    with inner.open("wb+") as unpacked:
        try:
            with opener(file) as packed:
                while size <= LARGEST and (block := packed.read(1 << 20)):
                    size += unpacked.write(block)
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, ValueError) as error:
            cut = f"the file ends early or is damaged from here on ({error})"
        except NotImplementedError as error:
            raise WorkbookError(
                f"{file}: we cannot unpack it ({error}). Unpack it, and give the file in it."
            ) from error
        if size > LARGEST:
            raise WorkbookError(f"{file}: it has over 20 GB unpacked. Unpack it, and give a part of it.")
        if cut:  # the last line may be cut in its middle
            unpacked.seek(max(0, size - (1 << 20)))
            unpacked.truncate(unpacked.tell() + unpacked.read().rfind(b"\n") + 1)
    try:
        source = _open(inner, reading, layers + 1)
    except WorkbookError as error:
        raise WorkbookError(str(error).replace(str(inner), str(file))) from error

    def read(columns: list[str] | None) -> Iterator[Chunk]:
        last = 0
        try:
            for chunk in source.read(columns):
                last = max(last, *chunk.rows[-1:], *(row for row, _ in chunk.damaged))
                yield chunk
        except WorkbookError as error:
            raise WorkbookError(str(error).replace(folder.name, str(file))) from error
        if cut:
            yield Chunk(np.empty(0, np.int64), chunk.table.slice(0, 0), [(last + 1, cut)])

    return Source(file, f"{source.kind} in {within}", source.facts, source.columns, read)
