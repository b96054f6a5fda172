"""The list of tracks in a JSON document: a page of Spotify's Web API, playlists with tracks, albums with songs."""

import re
from collections import defaultdict
from pathlib import Path

from lib.core.errors import WorkbookError
from lib.tracks.readers.rows import Damaged, Row

# Lists at one path, each with the values of the objects in whose lists it is; None: it is in no other list.
Lists = list[tuple[dict | None, list]]
ARTIST = re.compile(r"artist|performer|^(ar|band|singer|subtitles)$", re.IGNORECASE)  # keys that name an artist
MANY = 4  # objects; shorter lists within an object are taken for its parts, such as its artists and pictures


def tracks(file: Path, document, table: str) -> tuple[str, list[Row], str]:
    """Return the path of the list of tracks, its rows, and the lists that are left.

    Args:
        table: the path of the list, with dots; "" chooses it.
    """
    found = _lists(document) or {"": [(None, _table(document))]}
    if isinstance(document, dict) and "" not in found:
        found = {"": [(None, [document])]} | found  # a document may be a single track, with a list of its artists
    if not any(map(_size, found.values())):
        raise WorkbookError(
            f"{file}: the JSON has no list of objects, so no tracks. Write one object for each track: "
            '[{"title": "A", "artist": "B"}, …]'
        )
    counts = {path: f"{path or 'the whole file'} ({_count(lists):,} objects)" for path, lists in found.items()}
    if table and table not in found:
        names = ", ".join(counts.values())
        raise WorkbookError(f"{file}: it has no list {table!r}. Set `reading: {{table: …}}` to one of: {names}.")
    path = table or _best(found)
    rows = [_row(parents, row) for parents, inner in found[path] for row in inner]
    others = [other for other in found if not (_is_within(path, other) or _is_within(other, path))]
    joined = [other for other in others if _join(rows, found[other])]
    return counts[path], rows, ", ".join(counts[other] for other in others if other not in joined)


def _lists(document) -> dict[str, Lists]:
    """Return each path's lists of objects."""
    found = defaultdict(list)

    def walk(value, path: str, parents: dict | None) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}".strip("."), parents)
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            found[path].append((parents, value))
            for inner in value:
                if isinstance(inner, dict):
                    own = {f"{path or 'parent'}.{k}": v for k, v in inner.items() if not isinstance(v, dict | list)}
                    walk(inner, path, (parents or {}) | own)

    walk(document, "", None)
    return found


def _table(document) -> list[dict]:
    """Return the rows of a document without a list of objects: {id: {…}}, {title: {0: …}}, {title: […]}."""
    values = list(document.values()) if isinstance(document, dict) else []
    if values and all(isinstance(document.get(name), list) for name in ("columns", "data")):  # pandas' orient="split"
        names = list(map(str, document["columns"]))
        return [dict(zip(names, row, strict=False)) for row in document["data"] if isinstance(row, list)]
    if values and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if len(values) > 1 and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        if all(key.isdecimal() for key in values[0]):
            return [{name: column[key] for name, column in document.items()} for key in values[0]]
        return [{"id": key} | value for key, value in document.items()]
    return [document] if isinstance(document, dict) else []


def _best(found: dict[str, Lists]) -> str:
    """Return the path whose objects hold the most values.

    Lists whose objects name an artist come first, then those of many objects. In albums with an artist, a long list of
    songs without one is what holds the tracks.
    """
    named = [path for path in found if _names_artist(found[path])]
    many = [path for path, lists in found.items() if _is_long(lists)]
    best = max(named or many or found, key=lambda path: _size(found[path]))
    within = [path for path in many if _is_within(path, best)]
    return max([best, *within], key=lambda path: _size(found[path]))


def _names_artist(lists: Lists) -> bool:
    def named(value) -> bool:
        return isinstance(value, dict) and any(ARTIST.search(key) or named(inner) for key, inner in value.items())

    sample = [row for _, inner in lists[:100] for row in inner[:100]]
    return 2 * sum(map(named, sample)) >= len(sample)


def _is_long(lists: Lists) -> bool:
    """Return True for a list of its own, and for lists within objects that have at least `MANY` objects each."""
    within = any(parents is not None for parents, _ in lists)
    return _count(lists) >= MANY * len(lists) or (_count(lists) > 1 and not within)


def _is_within(path: str, other: str) -> bool:
    return not other or f"{path}.".startswith(f"{other}.")


def _count(lists: Lists) -> int:
    return sum(len(inner) for _, inner in lists)


def _size(lists: Lists) -> int:
    """Count the values in the objects, without those of the lists in them."""

    def size(value) -> int:
        if isinstance(value, dict):
            return sum(map(size, value.values()))
        return not isinstance(value, list) and value is not None

    return sum(size(row) for _, inner in lists for row in inner)


def _join(rows: list[Row], lists: Lists) -> bool:
    """Add to the rows the values of a list beside that has the same ids, such as audio features. False: few match."""
    by_id = {row["id"]: row for _, inner in lists for row in inner if isinstance(row, dict) and _is_id(row.get("id"))}
    held = [(row, row if "id" in row else row.get("track")) for row in rows if isinstance(row, dict)]
    matches = [
        (row, by_id[x["id"]]) for row, x in held if isinstance(x, dict) and _is_id(x.get("id")) and x["id"] in by_id
    ]
    if not matches or 2 * len(matches) < len(rows):
        return False
    for row, other in matches:
        row |= {key: value for key, value in other.items() if key not in row}
    return True


def _is_id(value) -> bool:
    return isinstance(value, str) and value != ""


def _row(parents: dict | None, row) -> Row:
    if isinstance(row, dict):
        return (parents or {}) | row
    return row if isinstance(row, Damaged) else Damaged(f"it is no JSON object {{…}}: {str(row)[:40]}")
