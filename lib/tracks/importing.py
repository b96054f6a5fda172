"""Import of a real catalogue: a file and a mapping of columns in; tracks, and the rejected rows with reasons, out."""

import ast
import difflib
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lib.core.errors import WorkbookError
from lib.core.paths import resolve
from lib.core.progress import Progress
from lib.tracks import inference
from lib.tracks.columns import FEATURES, KEYS, NUMBERS, decades, document, finish

TEXTS = ("title", "artist", "album", "genre", "language", "mood", "description", "tags")
OURS = ("id", *TEXTS, *NUMBERS, "explicit", "release_date")
CHUNK = 50_000  # rows read together: the memory holds the kept rows, not the file
# Units of a column in the file, each with its factor to our unit, which is the first.
UNITS = {
    "duration_ms": {"ms": 1, "s": 1000, "min": 60_000, "m:ss": 1000},
    "popularity": {"0-100": 1, "0-1": 100},
    **{name: {"0-1": 1, "0-100": 0.01} for name in FEATURES},
}
DESCRIBABLE = ("mood", "genre", "decade", "language", "features", "key")
MISSING = ("", "na", "nan", "n/a", "none", "null", "<na>")  # spellings of a missing value
KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


def import_catalogue(
    path: str, columns: dict[str, str], units: dict[str, str], rename_moods: dict[str, str], max_tracks: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a catalogue file into our columns, a chunk at a time.

    Args:
        path: CSV, TSV, JSON Lines (each may be gzipped) or Parquet.
        columns: our column -> the file's column; "" leaves ours empty. A column that is not named here is read from the
            column of the same name.
        units: our column -> its unit in the file, one of UNITS; without one, the first of UNITS.
        rename_moods: mood in the file (in any case) -> our mood. Other moods keep their names.
        max_tracks: keep a random sample of at most this many rows; 0 keeps all.
        seed: of the sample.

    Returns:
        The tracks; the rejected rows: row (1 is the first data row), id, reason.

    Raises:
        WorkbookError: the file is missing, empty, damaged or of another kind, or lacks a named column or mood.
    """
    file, first = resolve(path), 0
    scales = _scales(units)
    rng = np.random.default_rng(seed)
    kept, left_out, hashes, moods = pd.DataFrame(), [], np.array([], dtype=np.uint64), set()
    bar = Progress(desc="import", unit="row", delay=5)
    for chunk in read(file):
        table = _mapped(chunk, columns, file)
        table.index += first
        first += len(table)
        bar.update(len(table))
        reasons = pd.Series("", index=table.index, dtype="str")
        hashes = _read_texts(table, reasons, hashes)
        _read_numbers(table, reasons, scales, units)
        moods |= set(table["mood"])
        left_out.append(pd.DataFrame({"row": table.index + 1, "id": table["id"], "reason": reasons})[reasons != ""])
        kept = pd.concat([kept, table[reasons == ""].assign(draw=rng.random((reasons == "").sum()))])
        if 0 < max_tracks < len(kept):
            kept = kept.nsmallest(max_tracks, "draw").sort_index()
    bar.close()
    if not first:
        raise WorkbookError(f"{file}: it has a header and no rows. Set `catalogue` to a file with tracks.")
    left_out = pd.concat(left_out, ignore_index=True)
    if kept.empty:
        raise WorkbookError(f"{file}: every row was rejected. The first reason: row 1, {left_out['reason'].iloc[0]}.")
    renamed = {theirs.strip().casefold(): ours for theirs, ours in rename_moods.items()}
    if absent := sorted(set(renamed) - moods):
        raise WorkbookError(f"rename_moods: {file} has no mood {absent[0]!r}{_hint(absent[0], moods - {''})}.")
    kept["mood"] = kept["mood"].map(lambda mood: renamed.get(mood, mood))
    return kept.drop(columns="draw").reset_index(drop=True), left_out


def complete(
    table: pd.DataFrame, describe_from: list[str], infer_moods: list[str], infer_from: list[str], model, seed: int
) -> pd.DataFrame:
    """Add the columns that imported tracks lack: mood, description, text and split.

    Args:
        table: from `import_catalogue`.
        describe_from: which of DESCRIBABLE to describe a track from where the file has no description. Leave out a
            column that the encoder must predict, such as mood, so that the text does not contain it.
        infer_moods, infer_from, model: as in `inference.infer`, for tracks without a mood.

    Returns:
        The tracks with `COLUMNS`.
    """
    inference.check_choices("describe_from", describe_from, DESCRIBABLE)
    inference.check(infer_moods, infer_from)
    table = table.assign(mood2="", mood_weight=1.0, mood_source="given", mood_confidence=1.0)
    no_mood = table["mood"] == ""
    if no_mood.any():
        tracks = table[no_mood].assign(text=lambda t: document(t) + ". " + t["genre"])
        moods = inference.infer(tracks, infer_moods, infer_from, model, seed)
        table.loc[no_mood, ["mood", "mood_source", "mood_confidence"]] = moods.to_numpy()
        table = table.astype({"mood": "str", "mood_source": "str", "mood_confidence": float})
    bare = table["description"] == ""
    description, tags = _descriptions(table[bare], describe_from), table.loc[bare, "tags"]
    table.loc[bare, "description"] = description + np.where((description != "") & (tags != ""), ", ", "") + tags
    return finish(table, np.random.default_rng(seed))


def read(file: Path) -> Iterator[pd.DataFrame]:
    """Read the rows of a file in chunks, by its ending.

    Raises:
        WorkbookError: with the file, what is wrong with it, and what to do.
    """
    kind = (file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix).lower()
    if kind not in KINDS:
        raise WorkbookError(f"{file}: the ending {kind!r} is unknown. Use one of {', '.join(KINDS)} (or .csv.gz).")
    if not file.is_file():
        raise WorkbookError(f"{file}: no such file. Set `catalogue` to the path of your catalogue.")
    if not file.stat().st_size:
        raise WorkbookError(f"{file}: the file is empty (0 bytes).")
    try:
        yield from _chunks(file, kind)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise WorkbookError(
            f"{file}: it is not UTF-8 text (byte 0x{byte:02x} at {error.start}). If it is a table in Latin-1, convert "
            f"it: iconv -f latin1 -t utf-8 {file.name} > utf8.csv. If it is no table, set `catalogue` to one."
        ) from error
    except (ValueError, OSError, EOFError, RuntimeError) as error:  # each reader raises its own for a damaged file
        raise WorkbookError(f"{file}: it cannot be read as {kind}: {str(error).splitlines()[0]}.") from error


def _chunks(file: Path, kind: str) -> Iterator[pd.DataFrame]:
    """Read a file's columns without a change: in a text file 0012 is an id, not 12, and a song may be called "None"."""
    if kind == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(CHUNK):
            yield batch.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    elif kind == ".jsonl":
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            rows = (json.loads(line) for line in lines if line.strip())
            while chunk := list(islice(rows, CHUNK)):
                if not all(isinstance(row, dict) for row in chunk):
                    raise ValueError("a line is not a JSON object; each line must be one {…}")
                yield pd.DataFrame(chunk, dtype=object)  # keeps 7 beside null an integer, for ids
    else:
        how = {"sep": "\t" if kind == ".tsv" else ",", "dtype": str, "keep_default_na": False, "index_col": False}
        yield from pd.read_csv(file, chunksize=CHUNK, **how)


def _scales(units: dict[str, str]) -> dict[str, float]:
    for name, unit in units.items():
        if unit not in UNITS.get(name, ()):
            choices = "; ".join(f"{column}: {', '.join(allowed)}" for column, allowed in UNITS.items())
            raise WorkbookError(f"units: {name}: {unit!r} is unknown. Use one of {choices}.")
    return {name: UNITS[name][unit] for name, unit in units.items()}


def _mapped(chunk: pd.DataFrame, columns: dict[str, str], file: Path) -> pd.DataFrame:
    """Return a chunk with `OURS` as columns; a column that the file lacks is empty."""
    for ours, theirs in columns.items():
        if ours not in OURS:
            raise WorkbookError(f"columns: we have no column {ours!r}{_hint(ours, OURS)}. Ours: {', '.join(OURS)}.")
        if theirs and theirs not in chunk.columns:
            names = ", ".join(map(str, chunk.columns[:20]))
            raise WorkbookError(f"{file}: it has no column {theirs!r}{_hint(theirs, chunk.columns)}. It has: {names}.")
    source = {ours: columns.get(ours, ours) for ours in OURS}
    if twice := sorted(set(chunk.columns[chunk.columns.duplicated()]) & set(source.values())):
        raise WorkbookError(f"{file}: it has the column {twice[0]!r} twice. Rename one of them.")
    if len(chunk.columns) == 1 and (separator := re.search(r"[;|\t]", str(chunk.columns[0]))):
        raise WorkbookError(f"{file}: its columns are separated by {separator[0]!r}. Use commas, or .tsv with tabs.")
    if not any(source[name] in chunk.columns for name in ("title", "description", "tags")):
        raise WorkbookError(
            f"{file}: it has none of title, description and tags, so no track has a text. "
            f"Name them in `columns`, e.g. columns: {{title: {chunk.columns[0]}}}."
        )
    table = pd.DataFrame({ours: chunk.get(theirs) for ours, theirs in source.items()}, index=chunk.index)
    return table.reset_index(drop=True)


def _read_texts(table: pd.DataFrame, reasons: pd.Series, hashes: np.ndarray) -> np.ndarray:
    """Clean texts and ids in place. `hashes` are of the ids in earlier chunks; return them with this chunk's."""
    for name in TEXTS:
        table[name] = _as_text(table[name]).str.split().str.join(" ").astype("str")
    table["mood"] = table["mood"].str.casefold()
    table["mood"] = table["mood"].where(~table["mood"].isin([*MISSING, "unknown"]), "")
    lists = table["tags"].str.startswith("[")
    table.loc[lists, "tags"] = table.loc[lists, "tags"].map(_list_to_text)
    ids = _as_text(table["id"]).str.strip()
    table["id"] = ids.where(ids != "", [f"row{i + 1}" for i in table.index]).astype("str")
    _reject(reasons, (table[["title", "description", "tags"]] == "").all(axis=1), "no title, description or tags")
    new = pd.util.hash_array(table["id"].to_numpy(dtype=object))  # 8 bytes for each id, however long it is
    _reject(reasons, table["id"].duplicated() | np.isin(new, hashes), "an earlier row has the same id")
    return np.concatenate([hashes, new])


def _read_numbers(table: pd.DataFrame, reasons: pd.Series, scales: dict[str, float], units: dict[str, str]) -> None:
    """Convert numbers to our units in place, and reject rows with impossible ones. Missing numbers stay missing."""
    for name in NUMBERS:
        text = _as_text(table[name]).str.strip()
        plain = _seconds(text) if units.get(name) == "m:ss" else text
        value = pd.to_numeric(plain, errors="coerce").replace([np.inf, -np.inf], np.nan).astype(float)
        table[name] = value * scales.get(name, 1)
        _reject(reasons, value.isna() & ~text.str.lower().isin(MISSING), name + " " + text + " is not a number")
        if name in FEATURES:
            outside = ~table[name].between(0, 1) & table[name].notna()
            _reject(reasons, outside, name + " " + text + f" is outside {units.get(name, '0-1').replace('-', ' to ')}")
    _reject(reasons, table["duration_ms"] <= 0, "duration is not above 0")
    explicit = _as_text(table["explicit"]).str.strip().str.lower()
    table["explicit"] = explicit.isin(["true", "1", "1.0", "yes", "explicit"])
    text = _as_text(table["release_date"]).str.strip()
    date = text.str.extract(r"^(\d{4}(?:-\d{2}){0,2})(?:[T ].*|\.0)?$")[0]
    date = date + date.str.len().map({4: "-01-01", 7: "-01", 10: ""})
    # Other text stays: a rule of notebook 02 names its row.
    table["release_date"] = date.where(date.notna() | text.str.lower().isin(MISSING), text).astype("str")


def _as_text(column: pd.Series) -> pd.Series:
    """Return any column as text; lists (of JSON and Parquet) as words with commas."""
    if column.dtype == object:
        column = pd.Series([_joined(value) for value in column], column.index, dtype=object)
    return column.astype("string").fillna("").astype("str")


def _joined(value):
    return ", ".join(str(x) for x in value if x is not None) if isinstance(value, list | np.ndarray) else value


def _seconds(durations: pd.Series) -> pd.Series:
    """Convert 3:45 to 225, 1:03:45 to 3825."""
    parts = durations.str.extract(r"^(?:(\d+):)?(\d+):(\d\d)$").astype(float)
    return parts[0].fillna(0) * 3600 + parts[1] * 60 + parts[2]


def _list_to_text(text: str) -> str:
    """Return a Python or JSON list in a text cell, such as MusicCaps' aspects, as words with commas."""
    try:
        return ", ".join(map(str, ast.literal_eval(text)))
    except (ValueError, SyntaxError):
        return text


def _reject(reasons: pd.Series, rows: pd.Series, reason: str | pd.Series) -> None:
    """Note the reason for those of `rows` that have none yet."""
    new = rows & (reasons == "")
    reasons[new] = reason if isinstance(reason, str) else reason[new]


def _descriptions(table: pd.DataFrame, describe_from: list[str]) -> pd.Series:
    """Describe each track from its columns: "happy funk, 80s, fast, high energy, danceable"."""
    table = table.assign(**{name: "" for name in ("mood", "genre") if name not in describe_from})
    parts = [(table["mood"] + " " + table["genre"]).str.strip()]
    if "decade" in describe_from:
        parts.append(pd.Series(decades(table["release_date"]), table.index))
    if "language" in describe_from:
        parts.append(("in " + table["language"]).where(table["language"] != "", ""))
    if "key" in describe_from:
        names = table["key"].map(dict(enumerate(KEYS))) + " " + table["mode"].map({0: "minor", 1: "major"})
        parts.append(names.fillna(""))
    if "features" in describe_from:
        words = {
            "slow": table["tempo"] < 85,
            "fast": table["tempo"] > 130,
            "quiet": table["energy"] < 0.35,
            "high energy": table["energy"] > 0.7,
            "danceable": table["danceability"] > 0.7,
            "acoustic": table["acousticness"] > 0.6,
            "instrumental": table["instrumentalness"] > 0.6,
        }
        parts += [pd.Series(np.where(rows, word, ""), table.index) for word, rows in words.items()]
    joined = [", ".join(filter(None, row)) for row in zip(*parts, strict=True)]
    return pd.Series(joined, table.index, dtype="str")


def _hint(name: str, names: Iterable) -> str:
    close = difflib.get_close_matches(str(name), map(str, names), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
