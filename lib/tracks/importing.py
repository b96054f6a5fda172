"""Import of a real catalogue: a file in; distinct tracks, all that was left out with reasons, and a record out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.core.errors import WorkbookError, nearest
from lib.core.progress import Progress
from lib.tracks.letters import misread
from lib.tracks.mapping import Mapping, match
from lib.tracks.readers.opening import open_source
from lib.tracks.readers.source import Chunk, Source
from lib.tracks.songs import Repeats, groups, hashes
from lib.tracks.values import convert

SAMPLE = 10_000  # rows that decide which of the file's columns is ours
FRONT = 0.05  # the largest share of rows left out that needs no notice on every page
MANY_REPEATS = 0.1  # from this share of repeated songs on, rows count as plays
SONG = ["name", "artist", "album"]  # what makes two rows the same track, with the id or else the duration


class Catalogue(NamedTuple):
    """An imported file.

    tracks: with the columns `mapping.OURS` and song.
    left_out: rows that are not in tracks: row (1 is the first data row), id, reason.
    left_out_values: values that did not fit; ours is empty there: row, column (ours), value, reason.
    record: the source, the mapping, counts, warnings and notices, for import.json and the preview.
    """

    tracks: pd.DataFrame
    left_out: pd.DataFrame
    left_out_values: pd.DataFrame
    record: dict


def import_catalogue(
    path: str,
    columns: dict[str, str],
    units: dict[str, str],
    reading: dict[str, str],
    rename_moods: dict[str, str],
    max_tracks: int,
    seed: int,
) -> Catalogue:
    """Read a catalogue of any kind that the readers know, a chunk at a time.

    Args:
        path: a file, or a folder of music.
        columns: our column -> the file's column; "" leaves ours empty. Others are recognised.
        units: our column -> its unit in the file, one of `mapping.UNITS`. Others are recognised.
        reading: encoding, separator, quote, decimal or table, where the recognised one is wrong.
        rename_moods: mood in the file (in any case) -> our mood. Other moods keep their names.
        max_tracks: keep a random sample of at most this many tracks; 0 keeps all.
        seed: of the sample.

    Raises:
        WorkbookError: the file cannot be read, or lacks a column, a unit or a mood that a parameter names.
    """
    source = open_source(path, reading)
    sample = next((_frame(chunk).head(SAMPLE) for chunk in source.read(None)), pd.DataFrame())
    if sample.empty:
        raise WorkbookError(f"{source.file}: it has no row that can be read. Name a file with tracks.")
    mapping = match(source.columns, sample, columns, units, source.file)
    rows = _Rows(mapping, reading.get("decimal", ""), max_tracks, np.random.default_rng(seed))
    bar = Progress(desc="import", unit="row", delay=5)
    for table, misfits, damaged in _ahead(map(rows.convert, _ahead(source.read(rows.names)))):
        rows.add(table, misfits, damaged)
        bar.update(len(table) + len(damaged))
    bar.close()
    left_out, left_out_values = rows.left_out(), pd.concat(rows.misfits, ignore_index=True)
    if not rows.distinct:
        first = left_out.iloc[0]
        raise WorkbookError(f"{source.file}: no row can be used. The first reason: row {first.row}: {first.reason}.")
    tracks = _with_plays(rows, mapping)
    tracks["mood"], tracks["mood2"] = _renamed(tracks, rename_moods, rows.moods, source)
    record = _record(source, mapping, rows, tracks, left_out, left_out_values)
    return Catalogue(tracks.assign(song=groups(tracks)), left_out, left_out_values, record)


def stop_if_most_is_left_out(record: dict, max_left_out: float) -> None:
    """Raise WorkbookError if a larger share of a file's rows than `max_left_out` was left out."""
    if record and record["left_out"] > max_left_out * record["rows"]:
        raise WorkbookError(
            f"{record['left_out']:,} of {record['rows']:,} rows are left out (see left_out.csv), and the parameter "
            f"`max_left_out` is {max_left_out:g}. Correct the file or `columns`, or, if the other rows are the "
            "catalogue that you want, set max_left_out=1."
        )


class _Rows:
    """The rows of a file that were read so far."""

    def __init__(self, mapping: Mapping, decimal: str, max_tracks: int, rng: np.random.Generator):
        self.mapping, self.decimal, self.max_tracks, self.rng = mapping, decimal, max_tracks, rng
        self.names = list(dict.fromkeys(column.name for column in mapping.columns.values()))  # the file's
        self.repeats, self.moods, self.count, self.distinct = Repeats(), set(), 0, 0
        self.kept: list[pd.DataFrame] = []
        self.rejected: list[pd.DataFrame] = []
        self.misfits: list[pd.DataFrame] = []

    def convert(self, chunk: Chunk) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[int, str]]]:
        """Return a chunk's rows in our columns, the values that do not fit, and the damaged rows."""
        frame = _frame(chunk)
        header = self._is_header(frame)
        table, misfits = convert(frame[~header] if header.any() else frame, self.mapping, self.decimal)
        return table, misfits, [*chunk.damaged, *((row, "the header again") for row in frame.index[header])]

    def add(self, table: pd.DataFrame, misfits: pd.DataFrame, damaged: list[tuple[int, str]]) -> None:
        """Merge repeats, and keep a random sample."""
        self.count += len(table) + len(damaged)
        self.misfits.append(misfits)
        rejected = pd.DataFrame(damaged, columns=["row", "reason"]).assign(id="")
        self.rejected.append(rejected.astype({"row": int, "reason": "str", "id": "str"}))
        table["id"] = table["id"].where(table["id"] != "", "row" + table.index.astype("str"))
        empty = (table["title"] == "") & (table["description"] == "") & (table["tags"] == "")
        self._reject(table, empty, "no title, description or tags")
        table = table[~empty] if empty.any() else table
        name, untitled = table["title"].copy(), table["title"] == ""
        name[untitled] = table["description"][untitled] + "\t" + table["tags"][untitled]
        more = ["id"] if "id" in self.mapping.columns else [] if self.mapping.plays else ["duration_ms"]
        table = table.assign(hash=hashes(table.assign(name=name)[[*SONG, *more]]))
        repeated, again = self.repeats.add(hashes(table[["id"]]), table["hash"].to_numpy())
        self._reject(table, again, "an earlier row has the same id and another title, artist or album")
        table = table[~repeated & ~again] if (repeated | again).any() else table
        self.moods |= {*table["mood"].unique(), *table["mood2"].unique()}
        self.distinct += len(table)
        self.kept.append(table.assign(draw=self.rng.random(len(table))))
        if 0 < self.max_tracks < sum(map(len, self.kept)):
            self.kept = [pd.concat(self.kept).nsmallest(self.max_tracks, "draw").sort_index()]

    def left_out(self) -> pd.DataFrame:
        """Return the rejected rows in the file's order: row, id, reason."""
        return pd.concat(self.rejected).sort_values("row", kind="stable", ignore_index=True)[["row", "id", "reason"]]

    def _is_header(self, frame: pd.DataFrame) -> np.ndarray:
        """Return true for rows that repeat the names of the columns, as files do that were joined. (n,)."""
        first = frame[(frame[self.names[0]] == self.names[0]) & (len(self.names) > 1)]
        return frame.index.isin(first.index[(first[self.names] == self.names).all(axis=1)])

    def _reject(self, table: pd.DataFrame, rows: np.ndarray | pd.Series, reason: str) -> None:
        self.rejected.append(pd.DataFrame({"row": table.index[rows], "id": table["id"][rows], "reason": reason}))


def _ahead(items: Iterator) -> Iterator:
    """Take the next item, in a thread, while the caller uses this one."""
    with ThreadPoolExecutor(1) as pool:
        item = pool.submit(next, items, None)
        while (current := item.result()) is not None:
            item = pool.submit(next, items, None)
            yield current


def _frame(chunk: Chunk) -> pd.DataFrame:
    """Return a chunk's rows with their numbers in the file as the index."""
    return chunk.table.to_pandas().set_index(chunk.rows)


def _with_plays(rows: _Rows, mapping: Mapping) -> pd.DataFrame:
    """Return the kept tracks, with `plays` where rows are plays, and a popularity from plays where none is known."""
    tracks = pd.concat(rows.kept)
    rows.kept.clear()
    if mapping.plays or rows.repeats.share() >= MANY_REPEATS:
        tracks["plays"] = tracks["plays"].fillna(1) * rows.repeats.counts(tracks["hash"].to_numpy())
    most = tracks["plays"].max()
    if most > 1:
        share = np.log1p(tracks["plays"]) / np.log1p(most)  # few songs have most plays: their logarithm is a fair scale
        tracks["popularity"] = tracks["popularity"].fillna((100 * share).round())
    return tracks.drop(columns=["hash", "draw"]).reset_index(drop=True)


def _renamed(tracks: pd.DataFrame, rename_moods: dict[str, str], moods: set[str], source: Source) -> tuple:
    """Return the moods and the second moods with our names."""
    names = {theirs.strip().casefold(): ours for theirs, ours in rename_moods.items()}
    if absent := sorted(set(names) - moods):
        raise WorkbookError(f"rename_moods: {source.file} has no mood {absent[0]!r}{nearest(absent[0], moods - {''})}.")
    return tuple(tracks[name].replace(names) for name in ("mood", "mood2"))


def _record(source: Source, mapping: Mapping, rows: _Rows, tracks, left_out, left_out_values) -> dict:
    warnings = [*mapping.warnings]
    comma = any(column.decimal == "," for column in mapping.columns.values())
    for column, values in left_out_values.groupby("column", sort=False):
        first = values.iloc[0]
        example = f"the first in row {first.row}: {first.value!r} is {first.reason}"
        warnings.append(f"{column}: {len(values):,} values are left empty, {example}.")
    warnings += [text for name in ("title", "artist") for text in _misread(tracks[name])]
    notices = []
    if len(left_out) > FRONT * rows.count:
        reasons = left_out["reason"].str.replace(r"\d+", "…", regex=True)
        example = left_out[reasons == reasons.value_counts().index[0]].iloc[0]
        notices.append(
            f"{len(left_out):,} of {rows.count:,} rows ({len(left_out) / rows.count:.0%}) of {source.file.name} are "
            f"left out. The commonest reason, first in row {example.row}: {example.reason}. The run's left_out.csv "
            "has all."
        )
    return {
        "file": str(source.file),
        "kind": source.kind,
        "facts": source.facts | ({"decimal mark": "comma"} if comma else {}),
        "export": mapping.shape,
        "columns": {ours: column._asdict() for ours, column in mapping.columns.items()},
        "unused": mapping.unused,
        "rows": rows.count,
        "tracks": len(tracks),
        "left_out": len(left_out),
        "repeats": rows.count - len(left_out) - rows.distinct,
        "not_in_the_sample": rows.distinct - len(tracks),
        "warnings": warnings,
        "notices": notices,
    }


def _misread(texts: pd.Series) -> list[str]:
    """Return a warning if letters of these texts were read in a wrong encoding."""
    better = misread(texts)
    if not (wrong := better != "").any():
        return []
    first = wrong.idxmax()
    return [
        f"{texts.name}: the letters of {wrong.sum():,} are misread: {texts[first]!r} should be {better[first]!r}. "
        "Export the catalogue again as UTF-8, or name the encoding of the file in `reading`."
    ]
