"""Playlists (M3U, M3U8): artist and title from #EXTINF, or from the files' names."""

import re
from os.path import commonpath
from pathlib import Path
from urllib.parse import unquote

from lib.core.errors import WorkbookError
from lib.tracks.readers import encodings, rows
from lib.tracks.readers.source import Source

COLUMNS = ["title", "artist", "album", "duration_s", "location"]
EXTINF = re.compile(r'#EXTINF:\s*(-?[\d.]+)?(?:\s+[\w-]+="[^"]*")*[^,]*,(.*)', re.IGNORECASE)
# The number of a track, in front of its name: "01 Title", "12. Title", "1-03 Title"; not that of "99 Problems".
NUMBER = re.compile(r"^(\d{1,2}-\d\d(?=\D)|0\d{1,2}(?=\D)|\d{1,3}(?=\s*[._-]))[\s._-]+(?=\S)")


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open a playlist."""
    content, encoding = _text(file, reading.get("encoding"))
    if "#EXT-X-" in content:
        raise WorkbookError(
            f"{file}: it is the playlist of a stream (HLS), whose parts are no songs. Give a list of songs."
        )
    tracks = _tracks(content)
    if not tracks:
        raise WorkbookError(f"{file}: the playlist has no song. Export it again.")
    return rows.source(file, "an M3U playlist", {"encoding": encoding}, COLUMNS, lambda: tracks)


def _text(file: Path, named: str | None) -> tuple[str, str]:
    """Return the content, and the name of its encoding."""
    encoding, name = (named, named) if named else encodings.find(file)
    try:
        return file.read_text(encoding, errors="strict" if named else "replace"), name
    except (UnicodeError, LookupError) as error:
        raise WorkbookError(f"{file}: it is not {encoding} text ({error}). Name another in `reading`.") from error


def _tracks(content: str) -> list[dict]:
    """Return the row of each location. The lines before it describe it."""
    tracks, track = [], {}
    for line in map(str.strip, content.splitlines()):
        if described := EXTINF.match(line):
            artist, title = artist_and_title(described[2], number=False)
            track = {"title": title, "artist": artist, "duration_s": described[1]}
        elif line.upper().startswith("#EXTALB:"):
            track["album"] = line[8:].strip()
        elif line.upper().startswith("#EXTART:"):
            track["artist"] = line[8:].strip()
        elif line and not line.startswith("#"):
            tracks.append(track | {"location": line})
            track = {}
    paths = [_parts(track["location"]) for track in tracks]
    absolute = all(re.match(r"[/\\]|\w+:", track["location"]) for track in tracks)
    # Absolute paths share folders that name no artist, such as /home/ana/Music.
    root = len(commonpath(["/" + "/".join(path[:-1]) for path in paths]).split("/")) - 1 if tracks and absolute else 0
    return [_by_path(track, path[root:]) for track, path in zip(tracks, paths, strict=True)]


def _parts(location: str) -> list[str]:
    """Return the folders and the name of a path of any system, or of a URL."""
    if "://" in location:
        location = unquote(location.partition("://")[2])
    return [part for part in re.split(r"[/\\]", location) if part] or [location]


def _by_path(track: dict, path: list[str]) -> dict:
    """Complete a track from its path: Artist - Title.mp3, Artist/Album/01 Title.mp3."""
    if track.get("title"):
        return track
    artist, title = artist_and_title(Path(path[-1]).stem)
    if len(path) >= 3 and not artist:
        return {"artist": path[-3], "album": path[-2]} | track | {"title": title}
    return {"artist": artist} | track | {"title": title}


def artist_and_title(name: str, number: bool = True) -> tuple[str | None, str]:
    """Return the artist (None: it has none) and the title of "Artist - Title" or "03 - Artist - Title".

    Args:
        number: a number in front is the track's.
    """
    name = name.strip() if " " in name else name.replace("_", " ").strip()
    if number:
        name = NUMBER.sub("", name)
    parts = [part.strip() for part in re.split(r"\s+[-–—]\s+", name)]
    if number and len(parts) > 2:  # Artist - Album - 03 - Title
        return parts[0], parts[-1]
    if len(parts) == 1 or not all(parts):
        return None, re.sub(r"^[12]\d\s+(?=\S)", "", name) if number else name  # "12 Title"
    return parts[0], " - ".join(parts[1:])
