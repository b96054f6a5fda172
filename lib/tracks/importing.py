"""Import of a real catalogue: a file and a mapping of columns in, tracks and the rows left out (with reasons) back."""

from __future__ import annotations

import ast
import difflib
import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from lib.core.errors import WorkbookError
from lib.core.paths import resolve
from lib.tracks import inference
from lib.tracks.columns import FEATURES, KEYS, NUMBERS, decades, document, finish

TEXTS = ("title", "artist", "album", "genre", "language", "mood", "description", "tags")
KNOWN = ("id", *TEXTS, *NUMBERS, "explicit", "release_date")
CHUNK = 50_000  # rows read at a time, so that memory holds what is kept and not what is in the file
# Units that a column may have in the file: what one of them is in ours.
UNITS = {
    "duration_ms": {"ms": 1, "s": 1000, "min": 60_000, "m:ss": 1000},
    "popularity": {"0-100": 1, "0-1": 100},
    **{name: {"0-1": 1, "0-100": 0.01} for name in FEATURES},
}
DESCRIBABLE = ("mood", "genre", "decade", "language", "features", "key")
MISSING = ("", "na", "nan", "n/a", "none", "null", "<na>")
# Everything in a text file is read as text: 0012 is an id and not 12, and a song may be called "None".
AS_TEXT = {"dtype": str, "keep_default_na": False, "index_col": False, "chunksize": CHUNK}
READERS = {
    ".csv": lambda path: pd.read_csv(path, **AS_TEXT),
    ".tsv": lambda path: pd.read_csv(path, sep="\t", **AS_TEXT),
    ".jsonl": lambda path: _json_lines(path),
    ".parquet": lambda path: (
        batch.to_pandas(integer_object_nulls=True, ignore_metadata=True)
        for batch in pq.ParquetFile(path).iter_batches(CHUNK)
    ),
}


def import_catalogue(
    path: str, columns: dict[str, str], units: dict[str, str], rename_moods: dict[str, str], max_tracks: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a catalogue file into the workbook's columns, in chunks.

    Args:
        path: CSV, TSV, JSON Lines (each may be gzipped) or Parquet.
        columns: our column name -> the file's; "" leaves ours empty though the file has a column of that name. A column
            of ours that is not named here is taken if the file has it.
        units: our column name -> its unit in the file, as in UNITS; ours are the first of each.
        rename_moods: mood in the file (in lower case) -> ours; moods that are not named here are kept as they are.
        max_tracks: keep a random sample of at most this many rows; 0 keeps all.
        seed: of the sample.

    Returns:
        The tracks as they were given, and the rows left out: row (1 is the first data row), id, reason.

    Raises:
        WorkbookError: the file is missing, empty, damaged, not of its kind, or lacks a column that was named.
    """
    file = resolve(path)
    scale = _scales(units)
    rng = np.random.default_rng(seed)
    kept, left, seen, first, heard = pd.DataFrame(), [], np.array([], dtype=np.uint64), 0, set()
    large = file.is_file() and file.stat().st_size > 10**8
    for raw in tqdm(read(file), desc="rows", unit_scale=CHUNK, unit="row", disable=not large):
        table = _mapped(raw, columns, file)
        table.index += first
        first += len(table)
        reason = pd.Series("", index=table.index, dtype="str")
        seen = _read_texts(table, reason, seen)
        _read_numbers(table, reason, scale, units)
        heard |= set(table["mood"].str.casefold())
        left.append(pd.DataFrame({"row": table.index + 1, "id": table["id"], "reason": reason})[reason != ""])
        kept = pd.concat([kept, table[reason == ""].assign(draw=rng.random((reason == "").sum()))])
        if 0 < max_tracks < len(kept):
            kept = kept.nsmallest(max_tracks, "draw").sort_index()
    if not first:
        raise WorkbookError(f"{file}: has a header and no rows.")
    left_out = pd.concat(left, ignore_index=True)
    if kept.empty:
        raise WorkbookError(f"{file}: no row can be used; the first reason: row 1, {left_out['reason'].iloc[0]}.")
    kept["mood"] = kept["mood"].str.casefold()
    renamed = {theirs.strip().casefold(): ours for theirs, ours in rename_moods.items()}
    if absent := sorted(set(renamed) - heard):
        near = _near(absent[0], heard - {""})
        raise WorkbookError(f"rename_moods: {file} has no mood {absent[0]!r}{near}.")
    kept["mood"] = kept["mood"].map(lambda mood: renamed.get(mood, mood))
    return kept.drop(columns="draw").reset_index(drop=True), left_out


def complete(
    table: pd.DataFrame, describe_from: list[str], infer_moods: list[str], infer_from: list[str], model, seed: int
) -> pd.DataFrame:
    """Give imported tracks what they lack: moods, descriptions, and the text and split that all tracks have.

    Args:
        table: from `import_catalogue`.
        describe_from: which of DESCRIBABLE to word a description from, where the file has none. Leave out what you want
            to predict, "mood" say, so that it does not stand in the text.
        infer_moods, infer_from, model: as in `inference.infer`, for tracks without a mood.

    Returns:
        The tracks with the columns of `tracks.COLUMNS`.
    """
    if unknown := sorted(set(describe_from) - set(DESCRIBABLE)):
        raise WorkbookError(f"describe_from: {', '.join(unknown)} is not one of {', '.join(DESCRIBABLE)}.")
    inference.check(infer_moods, infer_from)
    table = table.assign(mood2="", mood_weight=1.0, mood_source="given", mood_confidence=1.0)
    unknown = table["mood"] == ""
    if unknown.any():
        without = table[unknown].assign(text=lambda t: document(t) + ". " + t["genre"])
        found = inference.infer(without, infer_moods, infer_from, model, seed)
        table.loc[unknown, ["mood", "mood_source", "mood_confidence"]] = found.to_numpy()
        table = table.astype({"mood": "str", "mood_source": "str", "mood_confidence": float})
    silent = table["description"] == ""
    worded, tags = _described(table[silent], describe_from), table.loc[silent, "tags"]
    table.loc[silent, "description"] = worded + np.where((worded != "") & (tags != ""), ", ", "") + tags
    return finish(table, np.random.default_rng(seed))


def read(file: Path) -> Iterator[pd.DataFrame]:
    """The file's rows in chunks, read by its ending.

    Raises:
        WorkbookError: with the file, what is wrong with it, and what to do.
    """
    kind = (file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix).lower()
    if kind not in READERS:
        raise WorkbookError(f"{file}: do not know the ending {kind!r}; use one of {', '.join(READERS)} (or .csv.gz).")
    if not file.is_file():
        raise WorkbookError(f"{file}: no such file. Set `catalogue` to the path of your catalogue.")
    if not file.stat().st_size:
        raise WorkbookError(f"{file}: the file is empty (0 bytes).")
    try:
        yield from READERS[kind](file)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise WorkbookError(
            f"{file}: not UTF-8 text (byte 0x{byte:02x} at {error.start}). If it is a table saved as Latin-1, "
            f"convert it: iconv -f latin1 -t utf-8 {file.name} > utf8.csv. If it is no table at all, name one that is."
        ) from error
    except (ValueError, OSError, EOFError, RuntimeError) as error:  # each reader has its own: the file is not its kind
        raise WorkbookError(f"{file}: cannot be read as {kind}: {str(error).splitlines()[0]}.") from error


def _scales(units: dict[str, str]) -> dict[str, float]:
    for name, unit in units.items():
        if unit not in UNITS.get(name, ()):
            known = "; ".join(f"{column}: {', '.join(choices)}" for column, choices in UNITS.items())
            raise WorkbookError(f"units: {name}: {unit!r} is not known. Known are {known}.")
    return {name: UNITS[name][unit] for name, unit in units.items()}


def _mapped(raw: pd.DataFrame, columns: dict[str, str], file: Path) -> pd.DataFrame:
    for ours, theirs in columns.items():
        if ours not in KNOWN:
            raise WorkbookError(f"columns: we have no column {ours!r}{_near(ours, KNOWN)}. Ours: {', '.join(KNOWN)}.")
        if theirs and theirs not in raw.columns:
            have = ", ".join(map(str, raw.columns[:20]))
            raise WorkbookError(f"{file}: has no column {theirs!r}{_near(theirs, raw.columns)}. It has: {have}.")
    wanted = {ours: columns.get(ours, ours) for ours in KNOWN}
    if twice := sorted(set(raw.columns[raw.columns.duplicated()]) & set(wanted.values())):
        raise WorkbookError(f"{file}: the column {twice[0]!r} is there twice. Rename one of the two.")
    if len(raw.columns) == 1 and (mark := re.search(r"[;|\t]", str(raw.columns[0]))):
        raise WorkbookError(
            f"{file}: its columns are parted by {mark[0]!r}. Save it with commas, or as .tsv with tabs."
        )
    if not any(wanted[name] in raw.columns for name in ("title", "description", "tags")):
        raise WorkbookError(
            f"{file}: none of title, description and tags is there, so no track has a text. "
            f"Name them in `columns`, e.g. columns: {{title: {raw.columns[0]}}}."
        )
    return pd.DataFrame({ours: raw.get(theirs) for ours, theirs in wanted.items()}, index=raw.index).reset_index(
        drop=True
    )


def _read_texts(table: pd.DataFrame, reason: pd.Series, seen: np.ndarray) -> np.ndarray:
    """Texts and ids in place. `seen`: hashes of the ids in earlier chunks; returned with this chunk's."""
    for name in TEXTS:
        table[name] = _as_text(table[name]).str.split().str.join(" ").astype("str")
    table["mood"] = table["mood"].where(~table["mood"].str.lower().isin([*MISSING, "unknown"]), "")
    listed = table["tags"].str.startswith("[")
    table.loc[listed, "tags"] = table.loc[listed, "tags"].map(_unlisted)
    given = _as_text(table["id"]).str.strip()
    table["id"] = given.where(given != "", [f"row{i + 1}" for i in table.index]).astype("str")
    _because(reason, (table[["title", "description", "tags"]] == "").all(axis=1), "no title, description or tags")
    hashes = pd.util.hash_array(table["id"].to_numpy(dtype=object))  # 8 bytes an id, however long ids are
    _because(reason, table["id"].duplicated() | np.isin(hashes, seen), "the id stands in an earlier row too")
    return np.concatenate([seen, hashes])


def _read_numbers(table: pd.DataFrame, reason: pd.Series, scale: dict[str, float], units: dict[str, str]) -> None:
    """Numbers in our units, in place; a row with a number that cannot be gets a reason. Missing ones stay missing."""
    for name in NUMBERS:
        given = _as_text(table[name]).str.strip()
        plain = _seconds(given) if units.get(name) == "m:ss" else given
        value = pd.to_numeric(plain, errors="coerce").replace([np.inf, -np.inf], np.nan).astype(float)
        table[name] = value * scale.get(name, 1)
        _because(reason, value.isna() & ~given.str.lower().isin(MISSING), name + " " + given + " is not a number")
        if name in FEATURES:
            outside = ~table[name].between(0, 1) & table[name].notna()
            _because(reason, outside, name + " " + given + f" is outside {units.get(name, '0-1').replace('-', ' to ')}")
    _because(reason, table["duration_ms"] <= 0, "duration is not above 0")
    table["explicit"] = (
        _as_text(table["explicit"]).str.strip().str.lower().isin(["true", "1", "1.0", "yes", "explicit"])
    )
    given = _as_text(table["release_date"]).str.strip()
    date = given.str.extract(r"^(\d{4}(?:-\d{2}){0,2})(?:[T ].*|\.0)?$")[0]
    whole = date + date.str.len().map({4: "-01-01", 7: "-01", 10: ""})
    # What is no date stays as it is, for notebook 02 to name its row.
    table["release_date"] = whole.where(whole.notna() | given.str.lower().isin(MISSING), given).astype("str")


def _as_text(column: pd.Series) -> pd.Series:
    """Any column as text; lists (JSON's and Parquet's) as words with commas."""
    if column.dtype == object:
        joined = [
            ", ".join(str(x) for x in v if x is not None) if isinstance(v, list | np.ndarray) else v for v in column
        ]
        column = pd.Series(joined, column.index, dtype=object)
    return column.astype("string").fillna("").astype("str")


def _seconds(durations: pd.Series) -> pd.Series:
    """3:45 as 225, 1:03:45 as 3825."""
    parts = durations.str.extract(r"^(?:(\d+):)?(\d+):(\d\d)$").astype(float)
    return parts[0].fillna(0) * 3600 + parts[1] * 60 + parts[2]


def _json_lines(path: Path) -> Iterator[pd.DataFrame]:
    """An object a line, its values as they are: a number is an id without ".0", also where another one is null."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines if line.strip())
        while chunk := list(itertools.islice(rows, CHUNK)):
            if not all(isinstance(row, dict) for row in chunk):
                raise ValueError("a line is not a JSON object; one {…} a line is needed")
            yield pd.DataFrame(chunk, dtype=object)


def _unlisted(text: str) -> str:
    """A Python or JSON list written as text, such as MusicCaps' aspects, as words with commas."""
    try:
        return ", ".join(map(str, ast.literal_eval(text)))
    except (ValueError, SyntaxError):
        return text


def _because(reason: pd.Series, rows: pd.Series, why) -> None:
    first = rows & (reason == "")
    reason[first] = why if isinstance(why, str) else why[first]


def _described(table: pd.DataFrame, describe_from: list[str]) -> pd.Series:
    """A plain description worded from what is known: "happy funk, 80s, fast, high energy, danceable"."""
    out = pd.Series("", index=table.index, dtype="str")
    for name in (n for n in ("mood", "genre") if n in describe_from):
        out = (out + " " + table[name]).str.strip()
    said = []
    if "decade" in describe_from:
        said.append(pd.Series(decades(table["release_date"]), table.index))
    if "language" in describe_from:
        said.append(("in " + table["language"]).where(table["language"] != "", ""))
    if "key" in describe_from:
        names = table["key"].map(dict(enumerate(KEYS))) + " " + table["mode"].map({0: "minor", 1: "major"})
        said.append(names.fillna(""))
    if "features" in describe_from:
        heard = {
            "slow": table["tempo"] < 85,
            "fast": table["tempo"] > 130,
            "quiet": table["energy"] < 0.35,
            "high energy": table["energy"] > 0.7,
            "danceable": table["danceability"] > 0.7,
            "acoustic": table["acousticness"] > 0.6,
            "instrumental": table["instrumentalness"] > 0.6,
        }
        said += [pd.Series(np.where(rows, word, ""), table.index) for word, rows in heard.items()]
    for words in said:
        out = (out + np.where(words == "", "", ", ") + words).str.removeprefix(", ")
    return out


def _near(name: str, known) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
