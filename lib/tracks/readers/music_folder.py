"""A folder of music: the tags of every file in it, read by mutagen."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mutagen
from mutagen.asf import ASFTags
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Tags

from lib.core.errors import WorkbookError
from lib.core.progress import Progress
from lib.tracks.readers import rows
from lib.tracks.readers.playlists import artist_and_title
from lib.tracks.readers.rows import Damaged, Row
from lib.tracks.readers.source import Source

ENDINGS = ("mp3", "flac", "ogg", "oga", "opus", "m4a", "aac", "wma", "wav", "aif", "aiff", "ape", "wv", "mpc", "dsf")
UNSET = (("bpm", "0"), ("compilation", "0"), ("compilation", "false"))
UNNAMED = "title from the name"
APPLE = "----:com.apple.iTunes:"
# Our name -> the frames of ID3, the atoms of MP4, the attributes of ASF (WMA), the keys of Vorbis comments and APE.
TAGS = {
    "title": (["TIT2"], ["©nam"], ["Title"], ["title"]),
    "artist": (["TPE1", "TPE2"], ["©ART", "aART"], ["Author", "WM/AlbumArtist"], ["artist", "albumartist"]),
    "album": (["TALB"], ["©alb"], ["WM/AlbumTitle"], ["album"]),
    "genre": (["TCON"], ["©gen"], ["WM/Genre"], ["genre"]),
    "date": (["TDRC", "TDRL", "TDOR"], ["©day"], ["WM/Year"], ["date", "year", "originaldate"]),
    "bpm": (["TBPM"], ["tmpo", f"{APPLE}BPM"], ["WM/BeatsPerMinute"], ["bpm", "tempo"]),
    "key": (["TKEY"], [f"{APPLE}initialkey", f"{APPLE}KEY"], ["WM/InitialKey"], ["initialkey", "key"]),
    "comment": (["COMM"], ["©cmt"], ["Description"], ["comment", "description"]),
    "mood": (["TMOO", "TXXX:MOOD", "TXXX:mood"], [f"{APPLE}MOOD"], ["WM/Mood"], ["mood"]),
    "language": (["TLAN"], [f"{APPLE}LANGUAGE"], ["WM/Language"], ["language"]),
    "compilation": (["TCMP"], ["cpil"], ["WM/IsCompilation"], ["compilation"]),
}


def read(folder: Path, reading: dict[str, str]) -> Source:
    """Read the tags of all files in a folder and its subfolders."""
    music, facts = _files(folder)
    if not music:
        raise WorkbookError(f"{folder}: the folder has no music. We read files that end in {', '.join(ENDINGS)}.")
    with Progress(music, desc="reading tags", unit="file", delay=5) as paths:
        tracks = [_track(folder, path) for path in paths]
    if unnamed := sum(isinstance(track, dict) and track.pop(UNNAMED, False) for track in tracks):
        facts["titled by file name"] = f"{unnamed:,} files"
    if damaged := sum(isinstance(track, Damaged) for track in tracks):
        facts["damaged"] = f"{damaged:,} files"
    if damaged == len(tracks):
        raise WorkbookError(
            f"{folder}: not one of its {damaged:,} files can be read. The first: {tracks[0]}. Copy them again."
        )
    return rows.source(folder, "a folder of music", facts, rows.columns_of(tracks), lambda: tracks)


def _files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the music files, by their paths, and the numbers of files. Hidden files and linked folders are left."""
    music, others, links = [], 0, 0
    for parent, folders, names in os.walk(folder):
        links += sum(Path(parent, name).is_symlink() for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))  # macOS hides more data in ._x.mp3
        found = [Path(parent, name) for name in shown if _ending(name) in ENDINGS]
        music += found
        others += len(shown) - len(found)
    counts = Counter(_ending(path.name) for path in music)
    facts = {"files": ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common())}
    if others:
        facts["not music"] = f"{others:,} files"
    if links:
        facts["linked folders"] = f"{links:,}, which are not followed"
    return music, facts


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _track(folder: Path, path: Path) -> Row:
    """Return the row of a file, or the reason why it cannot be read."""
    place = _shown(path.relative_to(folder))
    try:
        if not path.is_file():
            return Damaged(f"{place} is no regular file, or a link to a file that is gone")
        if not path.stat().st_size:
            return Damaged(f"{place} is empty (0 bytes)")
        audio = mutagen.File(path)
        tags = (
            {name: _values(audio.tags, *TAGS[name]) for name in TAGS}
            if audio is not None and audio.tags is not None
            else {}
        )
    except Exception as error:  # a damaged file raises almost anything: struct.error, IndexError, MemoryError …
        return Damaged(f"{place} is damaged or cut ({' '.join(_shown(error).split()) or type(error).__name__})")
    if audio is None:
        return Damaged(f"{place} is no music, or is damaged")
    row = {"id": place} | {name: value for name, value in tags.items() if value and (name, value) not in UNSET}
    if not row.get("title"):
        artist, title = artist_and_title(unicodedata.normalize("NFC", _shown(path.stem, "replace")))
        row |= {"title": title, "artist": row.get("artist") or artist, UNNAMED: True}
    return row | {"duration_ms": round(length * 1000) if (length := getattr(audio.info, "length", 0)) else None}


def _shown(text, errors: str = "backslashreplace") -> str:
    r"""Return a path or a message; a byte in it that is no UTF-8 becomes \xe9, or U+FFFD by "replace"."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", errors)


def _values(tags, *names: list[str]) -> str | list[str] | None:
    """Return the value of the first of these tags that the file has, or the list of its values."""
    kinds = (ID3, MP4Tags, ASFTags)
    own = names[next((i for i, kind in enumerate(kinds) if isinstance(tags, kind)), len(kinds))]
    for name in own:
        texts = [text.strip() for value in _raw(tags, name) for text in (rows.text(value) or "").split("\0")]
        if texts := [text for text in texts if text]:
            return texts if len(texts) > 1 else texts[0]
    return None


def _pairs(tags) -> list[tuple]:
    return [(key, tags[key]) for key in dict.fromkeys(tags.keys())]


def _raw(tags, name: str) -> Iterator:
    """Yield the values of a tag as mutagen has them."""
    if not isinstance(tags, ID3):
        for values in [values for key, values in _pairs(tags) if key.lower() == name.lower()][:1]:
            yield from values if isinstance(values, list) else [values]
        return
    frames = [frame for frame in tags.getall(name) if not getattr(frame, "desc", "").startswith("iTun")]  # no comments
    for frame in sorted(frames, key=lambda frame: bool(getattr(frame, "desc", "")))[:1]:
        yield from frame.genres if name == "TCON" else frame.text
