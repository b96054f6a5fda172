"""Libraries of players in XML: iTunes and Apple Music, Rekordbox, Traktor. Read as a stream, without entities."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from lib.core.errors import WorkbookError
from lib.tracks.readers import rows
from lib.tracks.readers.rows import Damaged, Row
from lib.tracks.readers.source import Source

NO_MUSIC = ("Podcast", "Movie", "TV Show", "Music Video", "Has Video", "Audiobook", "iTunesU", "Voice Memo")
REPEATED = ("CUE_V2", "STEM", "LOOPINFO")  # what an entry of Traktor has besides its tags
MAJOR = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
TRAKTOR_KEYS = {str(number): key for number, key in enumerate((*MAJOR, *(f"{key}m" for key in MAJOR)))}


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open a library; the root element says of which player."""
    try:
        _, root = next(iter(_events(file)))
    except (ParseError, StopIteration) as error:
        raise WorkbookError(f"{file}: it begins like XML, but is none ({error}). Export it again.") from error
    except DefusedXmlException as error:
        raise WorkbookError(f"{file}: the XML defines entities, which may be an attack. Export it again.") from error
    if root.tag not in LIBRARIES:
        known = ", ".join(f"{library.name} (<{tag}>)" for tag, library in LIBRARIES.items())
        raise WorkbookError(f"{file}: XML with the root <{root.tag}> is unknown. We read {known}. Export it as CSV.")
    library = LIBRARIES[root.tag]
    tracks = partial(_tracks, file, library)
    counts, facts = Counter(), {}

    def counted() -> Iterator[Row]:
        for row in tracks():
            counts[type(row)] += 1
            if isinstance(row, Damaged):
                facts["damaged"] = str(row)
            yield row

    columns = rows.columns_of(counted())
    if not counts[dict]:
        raise WorkbookError(
            f"{file}: this {library.name} file has no track that can be read. Export the collection again."
        )
    if counts[type(None)]:
        facts["skipped"] = f"{counts[type(None)]:,} podcasts, videos and audiobooks"
    return rows.source(file, library.name, facts, columns, tracks)


def _events(file: Path) -> Iterator[tuple[str, Element]]:
    return iterparse(file, events=("start", "end"), forbid_entities=True, forbid_external=True)


def _tracks(file: Path, library: "Library") -> Iterator[Row]:
    """Yield the row of each track element. XML that is damaged ends with a `Damaged` row."""
    stack = []
    try:
        for event, element in _events(file):
            if event == "start":
                stack.append(element)
                continue
            if tuple(e.tag for e in stack) == library.path:
                yield library.row(element)
            stack.pop()
            if len(stack) == len(library.path) - 1:
                stack[-1].clear()  # memory holds one track
    except ParseError as error:
        line = error.position[0]
        yield Damaged(f"the XML is damaged or ends early at line {line} ({error.msg}): the tracks after it are lost")


def _apple(element: Element) -> Row:
    """Return the row of a plist dict: keys and values in turn."""
    row = {}
    for key, value in zip(element[::2], element[1::2], strict=False):
        row[key.text] = value.tag if value.tag in ("true", "false") else value.text
    video = "video" in (row.get("Kind") or "").lower() or row.get("Has Video") == "true"
    return None if video or any(row.get(name) == "true" for name in NO_MUSIC) else row


def _traktor(element: Element) -> Row:
    """Return the attributes of an entry and of the elements in it: TITLE, ALBUM.TITLE, TEMPO.BPM."""
    inner = {f"{e.tag}.{name}": value for e in element if e.tag not in REPEATED for name, value in e.items()}
    if number := inner.get("MUSICAL_KEY.VALUE"):
        inner["MUSICAL_KEY.VALUE"] = TRAKTOR_KEYS.get(number, number)
    return dict(element.items()) | inner


class Library(NamedTuple):
    """A player's form of XML."""

    name: str
    path: tuple[str, ...]  # of the elements that are tracks
    row: object  # Element -> Row


LIBRARIES = {
    "plist": Library("iTunes/Apple Music XML", ("plist", "dict", "dict", "dict"), _apple),
    "DJ_PLAYLISTS": Library(
        "Rekordbox XML", ("DJ_PLAYLISTS", "COLLECTION", "TRACK"), lambda element: dict(element.items())
    ),
    "NML": Library("Traktor NML", ("NML", "COLLECTION", "ENTRY"), _traktor),
}
