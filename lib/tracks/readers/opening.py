"""Open a catalogue. Its kind is recognised by its content first, by its ending second."""

import re
from pathlib import Path
from types import ModuleType

from lib.core.errors import WorkbookError
from lib.core.paths import resolve
from lib.tracks.readers import (
    archives,
    json_files,
    libraries,
    music_folder,
    parquet,
    playlists,
    spreadsheets,
    sqlite,
    text_tables,
)
from lib.tracks.readers.source import Source

READING = ("encoding", "separator", "quote", "decimal", "table")
READERS = {  # the first bytes of a file -> its reader
    b"PK\x03\x04": archives,
    b"\x1f\x8b": archives,
    b"BZh": archives,
    b"\xfd7zXZ": archives,
    b"PAR1": parquet,
    b"SQLite format 3\0": sqlite,
    b"\xd0\xcf\x11\xe0": spreadsheets,
    b"bplist00": libraries,
    b"#EXTM3U": playlists,
    b"\xef\xbb\xbf#EXTM3U": playlists,
}
ENDINGS = {".m3u": playlists, ".m3u8": playlists} | dict.fromkeys((".json", ".jsonl", ".ndjson"), json_files)
MUSIC = re.compile(rb"ID3|fLaC|OggS|RIFF....WAVE|....ftyp|\xff[\xfb\xf3\xf2]", re.DOTALL)


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
        reader = _reader(file)
        return reader.read(file, reading, open_source) if reader is archives else reader.read(file, reading)
    except PermissionError as error:
        raise WorkbookError(f"{file}: you may not read it. Allow it: chmod u+r {file}") from error
    except OSError as error:
        raise WorkbookError(f"{file}: the disk says: {error.strerror or error}. Copy it, and try again.") from error


def _reader(file: Path) -> ModuleType:
    """Return the reader for a file or folder; refuse what is no catalogue."""
    if file.is_dir():
        return music_folder
    if not file.exists():
        raise WorkbookError(f"{file}: no such file. Check the path of your catalogue.")
    if not file.is_file():
        raise WorkbookError(f"{file}: it is no regular file (a pipe or a device). Save its content as a file first.")
    with file.open("rb") as opened:
        head = opened.read(4096)
    if not head:
        raise WorkbookError(f"{file}: the file is empty (0 bytes). Export or download it again.")
    return next((reader for magic, reader in READERS.items() if head.startswith(magic)), None) or _of_text(file, head)


def _of_text(file: Path, head: bytes) -> ModuleType:
    """Return the reader for a text with this head; refuse what is known to be no catalogue."""
    if MUSIC.match(head):
        raise WorkbookError(f"{file}: it is one piece of music. Name the folder of your music.")
    if head[257:262] == b"ustar":
        raise WorkbookError(f"{file}: it is a tar archive. Unpack it (tar -xf), and give the file with the tracks.")
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16" if utf16 else "utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("version https://git-lfs"):
        raise WorkbookError(f"{file}: it is a pointer of Git LFS, not the file itself. Run: git lfs pull")
    if re.match(r"<(!doctype html|html|head|body|script|meta)|<[?!][^\0]*<html", text, re.IGNORECASE):
        raise WorkbookError(f"{file}: it is a web page (perhaps of a login). Download the file again, signed in.")
    if re.match(r"<[?!a-z]", text, re.IGNORECASE):
        return libraries
    if re.match(r'\{\s*["}]|\[\s*[\[{"\]\d-]', text):
        return json_files
    named = ENDINGS.get(file.suffix.lower(), text_tables)
    return text_tables if named == json_files and not re.match(r"[\0\[{]", text) else named
