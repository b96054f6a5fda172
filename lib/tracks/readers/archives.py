"""Catalogues in gzip, bzip2, xz or zip: unpacked into a temporary folder, and read from there."""

import bz2
import gzip
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lib.core.errors import WorkbookError
from lib.tracks.readers import spreadsheets
from lib.tracks.readers.source import CONVERT, Chunk, Source

LARGEST = 20 << 30  # bytes; a larger unpacked file may be a zip bomb
FOLDER = "workbook-catalogue-"  # begins the name of a temporary folder; one lies in another where a packed file does
PACKED = {b"\x1f\x8b": (gzip.open, "gzip"), b"BZ": (bz2.open, "bzip2"), b"\xfd7": (lzma.open, "xz")}
DAMAGE = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
# Members of a zip that hold no tracks: notes, pictures, and the second copies that macOS adds.
NO_TABLE = re.compile(
    r"(^|/)(__MACOSX/.*|\..*|read.?me.*|licen[cs]e.*|datapackage.json|[^/]*\.(md|pdf|html?|png|jpe?g|gif|docx?|py|ipynb"
    r"|zip|mp3|m4a|flac|ogg|wav))$",
    re.IGNORECASE,
)


def read(file: Path, reading: dict[str, str], open_source: Callable) -> Source:
    """Open the catalogue in a packed file with `open_source(path, reading)`.

    Raises:
        WorkbookError: it is damaged, too large, has a password, or has not exactly one table.
    """
    if str(file).count(FOLDER) > 1:
        raise WorkbookError(f"{file}: it is packed three times. Unpack it, and give the file in it.")
    with file.open("rb") as opened:
        magic = opened.read(2)
    if magic in PACKED:
        opener, name = PACKED[magic]
        return _unpacked(file, lambda: opener(file), file.stem, name, reading, open_source)
    try:
        with zipfile.ZipFile(file) as archive:
            return _from_zip(file, archive, reading, open_source)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise WorkbookError(f"{file}: the zip file is damaged or cut ({error}). Download it again.") from error


def _from_zip(file: Path, archive: zipfile.ZipFile, reading: dict[str, str], open_source: Callable) -> Source:
    members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    if "[Content_Types].xml" in members or "content.xml" in members:
        return spreadsheets.read(file, reading)
    named = [name for name in members if reading.get("table") in (name, Path(name).name)]
    tables = named or [name for name in members if not NO_TABLE.search(name)]
    if not tables:
        raise WorkbookError(f"{file}: the zip file has no table in it. {CONVERT}.")
    if len(tables) > 1:
        names = ", ".join(tables[:10]) + ", …" * (len(tables) > 10)
        raise WorkbookError(f"{file}: {len(tables)} files are in it: {names}. {_wanted(reading)}")
    member = members[tables[0]]
    if member.flag_bits & 1:
        raise WorkbookError(f"{file}: the zip file has a password. Unpack it, and give the file that was in it.")
    if member.file_size > LARGEST:
        raise WorkbookError(f"{file}: {member.filename} has over 20 GB unpacked. Unpack it, and give a part of it.")
    reading = {key: value for key, value in reading.items() if key != "table" or not named}
    return _unpacked(file, lambda: archive.open(member), Path(member.filename).name, "zip", reading, open_source)


def _wanted(reading: dict[str, str]) -> str:
    absent = f"None is {reading['table']!r}. " if reading.get("table") else ""
    return f"{absent}Name one: `reading: {{table: NAME}}`."


def _unpacked(file: Path, opener: Callable, name: str, packing: str, reading: dict, open_source: Callable) -> Source:
    """Read an unpacked copy. Its folder lives as long as the source's `read`."""
    folder = tempfile.TemporaryDirectory(prefix=FOLDER, dir=file.parent if FOLDER in str(file) else None)
    inner = Path(folder.name) / name
    damage = _unpack(file, opener, inner)

    def renamed(error: WorkbookError) -> WorkbookError:
        return WorkbookError(str(error).replace(str(inner), str(file)))

    try:
        source = open_source(str(inner), reading)
    except WorkbookError as error:
        raise renamed(error) from error

    def chunks(columns: list[str] | None, folder: tempfile.TemporaryDirectory = folder) -> Iterator[Chunk]:
        last = 0
        try:
            for chunk in source.read(columns):
                last = max(last, *chunk.rows[-1:].tolist(), *(row for row, _ in chunk.damaged))
                yield chunk
        except WorkbookError as error:
            raise renamed(error) from error
        if damage:
            yield Chunk(np.empty(0, np.int64), chunk.table.slice(0, 0), [(last + 1, damage)])

    return Source(file, f"{source.kind} in a {packing} file", source.facts, source.columns, chunks)


def _unpack(file: Path, opener: Callable, copy: Path) -> str:
    """Write the unpacked copy. Return the damage that ends it early, ""."""
    damage, size = "", 0
    with copy.open("wb+") as unpacked:
        try:
            with opener() as packed:
                while size <= LARGEST and (block := packed.read1(1 << 20)):
                    size += unpacked.write(block)
        except NotImplementedError as error:
            raise WorkbookError(
                f"{file}: we cannot unpack it ({error}). Unpack it, and give the file in it."
            ) from error
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno:  # the disk, not the file
                raise
            damage = f"the packed file ends early or is damaged from here on ({error})"
        if size > LARGEST:
            raise WorkbookError(f"{file}: it has over 20 GB unpacked. Unpack it, and give a part of it.")
        if damage:  # the last line may be cut in its middle
            unpacked.seek(max(0, size - (1 << 20)))
            start = unpacked.tell()
            unpacked.truncate(start + unpacked.read().rfind(b"\n") + 1)
    if damage and not copy.stat().st_size:
        raise WorkbookError(f"{file}: {damage.replace(' from here on', '')}. Download it again.")
    return damage
