"""Import of a real catalogue: a file and a mapping of columns in, tracks and the rows left out (with reasons) back."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import numpy as np
import pandas as pd

from lib import moods
from lib.runs import WorkbookError, resolve
from lib.tracks import FEATURES, finish

TEXTS = ("title", "artist", "album", "genre", "mood", "description", "tags")
NUMBERS = (*FEATURES, "tempo", "loudness", "duration_ms", "popularity")
KNOWN = ("id", *TEXTS, *NUMBERS, "explicit", "release_date")
# Everything in a CSV is read as text: 0012 is an id and not 12, and a song may be called "None".
AS_TEXT = {"dtype": str, "keep_default_na": False}
MISSING = ("", "na", "nan", "n/a", "none", "null")
READERS = {
    ".csv": lambda path: pd.read_csv(path, **AS_TEXT),
    ".tsv": lambda path: pd.read_csv(path, sep="\t", **AS_TEXT),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": pd.read_parquet,
}


def import_catalogue(
    path: str, columns: dict[str, str], describe_from: list[str], duration_unit: str, max_tracks: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a catalogue file into the workbook's columns.

    Args:
        path: CSV, TSV, JSON Lines (each may be gzipped) or Parquet.
        columns: our column name -> the file's; a column of ours that is not named here is taken if the file has it.
        describe_from: which of mood, genre and features to word a description from, where the file has none.
        duration_unit: "ms" or "s", the unit of the file's durations.
        max_tracks: keep a random sample of at most this many rows; 0 keeps all.
        seed: of the sample and the split.

    Returns:
        The tracks (columns of `tracks.COLUMNS`), and the rows left out: row (1 is the first data row), id, reason.

    Raises:
        WorkbookError: the file is missing, empty, damaged, not of its kind, or lacks a column that was named.
    """
    file = resolve(path)
    raw = read(file)
    table = _mapped(raw, columns, file)
    if duration_unit not in ("ms", "s"):
        raise WorkbookError(f'duration_unit is "{duration_unit}": write "ms" or "s".')
    reason = pd.Series("", index=table.index)
    _read_numbers(table, reason, {"ms": 1, "s": 1000}[duration_unit])
    _read_texts(table, reason)
    left_out = pd.DataFrame({"row": table.index + 1, "id": table["id"], "reason": reason})[reason != ""]
    table = table[reason == ""]
    if table.empty:
        raise WorkbookError(f"{file}: no row can be used; the first reason: row 1, {left_out['reason'].iloc[0]}.")
    rng = np.random.default_rng(seed)
    if 0 < max_tracks < len(table):
        table = table.iloc[np.sort(rng.choice(len(table), max_tracks, replace=False))]
    table = _with_moods(table.reset_index(drop=True))
    table["description"] = table["description"].where(table["description"] != "", _described(table, describe_from))
    return finish(table, rng), left_out.reset_index(drop=True)


def read(file: Path) -> pd.DataFrame:
    """Read a table by the file's ending.

    Raises:
        WorkbookError: with the file, what is wrong with it, and what to do.
    """
    kind = file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix
    if kind not in READERS:
        raise WorkbookError(f"{file}: do not know the ending {kind!r}; use one of {', '.join(READERS)} (or .csv.gz).")
    if not file.is_file():
        raise WorkbookError(f"{file}: no such file. Set `catalogue` to the path of your catalogue.")
    if not file.stat().st_size:
        raise WorkbookError(f"{file}: the file is empty (0 bytes).")
    try:
        table = READERS[kind](file)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise WorkbookError(
            f"{file}: not UTF-8 text (byte 0x{byte:02x} at {error.start}). If it is a table saved as Latin-1, "
            f"convert it: iconv -f latin1 -t utf-8 {file.name} > utf8.csv. If it is no table at all, name one that is."
        ) from error
    except Exception as error:  # each reader has errors of its own; all mean that the file is not what its name says
        raise WorkbookError(f"{file}: cannot be read as {kind}: {str(error).splitlines()[0]}.") from error
    if table.empty:
        raise WorkbookError(f"{file}: has a header and no rows.")
    return table


def _mapped(raw: pd.DataFrame, columns: dict[str, str], file: Path) -> pd.DataFrame:
    for ours, theirs in columns.items():
        if ours not in KNOWN:
            raise WorkbookError(f"columns: we have no column {ours!r}{_near(ours, KNOWN)}. Ours: {', '.join(KNOWN)}.")
        if theirs not in raw.columns:
            have = ", ".join(map(str, raw.columns[:20]))
            raise WorkbookError(f"{file}: has no column {theirs!r}{_near(theirs, raw.columns)}. It has: {have}.")
    wanted = {ours: columns.get(ours, ours) for ours in KNOWN}
    table = pd.DataFrame({ours: raw.get(theirs) for ours, theirs in wanted.items()}, index=raw.index)
    if not any(wanted[name] in raw.columns for name in ("title", "description", "tags")):
        raise WorkbookError(
            f"{file}: none of title, description and tags is there, so no track has a text. "
            f"Name them in `columns`, e.g. columns: {{title: {raw.columns[0]}}}."
        )
    return table.reset_index(drop=True)


def _read_numbers(table: pd.DataFrame, reason: pd.Series, duration_scale: int) -> None:
    """Numbers in place; a row with a number that cannot be gets a reason. Missing numbers stay missing."""
    for name in NUMBERS:
        given = table[name].astype("string").fillna("").str.strip()
        table[name] = pd.to_numeric(given, errors="coerce").replace([np.inf, -np.inf], np.nan).astype(float)
        _because(reason, table[name].isna() & ~given.str.lower().isin(MISSING), name + " " + given + " is not a number")
        if name in FEATURES:
            outside = ~table[name].between(0, 1) & table[name].notna()
            _because(reason, outside, name + " " + given + " is outside 0 to 1")
    table["duration_ms"] *= duration_scale
    _because(reason, table["duration_ms"] <= 0, "duration is not above 0")
    table["explicit"] = table["explicit"].map(lambda v: str(v).strip().lower() in ("true", "1", "1.0", "yes"))
    date = table["release_date"].astype("string").str.strip().str.extract(r"^(\d{4}(?:-\d{2}){0,2})")[0]
    table["release_date"] = date + date.str.len().map({4: "-01-01", 7: "-01", 10: ""})


def _read_texts(table: pd.DataFrame, reason: pd.Series) -> None:
    for name in TEXTS:
        table[name] = table[name].astype("string").fillna("").str.split().str.join(" ").astype(object)
    listed = table["tags"].str.startswith("[")
    table.loc[listed, "tags"] = table.loc[listed, "tags"].map(_unlisted)
    number = pd.Series(np.arange(1, len(table) + 1), index=table.index).astype(str)
    given = table["id"].astype("string").str.strip()
    table["id"] = given.where(given.notna() & (given != ""), "row" + number).astype(object)
    silent = (table[["title", "description", "tags"]] == "").all(axis=1)
    _because(reason, silent, "no title, description or tags")
    _because(reason, table["id"].duplicated(), "the id stands in an earlier row too")


def _unlisted(text: str) -> str:
    """A Python or JSON list written as text, such as MusicCaps' aspects, as words with commas."""
    try:
        return ", ".join(map(str, ast.literal_eval(text)))
    except (ValueError, SyntaxError):
        return text


def _because(reason: pd.Series, rows: pd.Series, why) -> None:
    first = rows & (reason == "")
    reason[first] = why if isinstance(why, str) else why[first]


def _with_moods(table: pd.DataFrame) -> pd.DataFrame:
    """Moods kept as they are; where there is none, from the track's words, else from valence and energy, else none."""
    given = table["mood"].str.lower()
    text = (table["title"] + ". " + table["description"] + ". " + table["tags"]).map(moods.from_text)
    heard = pd.Series(None, index=table.index, dtype=object)
    known = table[["valence", "energy"]].notna().all(axis=1)
    if known.any():
        heard[known] = moods.from_features(*table.loc[known, ["valence", "energy"]].to_numpy().T)
    choices = [given != "", text.notna(), known]
    table["mood"] = np.select(choices, [given, text, heard], "")
    table["mood_source"] = np.select(choices, ["given", "words", "features"], "none")
    return table


def _described(table: pd.DataFrame, describe_from: list[str]) -> pd.Series:
    """A plain description worded from what is known: "happy funk, fast, high energy, danceable"."""
    known = {"mood": table["mood"], "genre": table["genre"]}
    unknown = set(describe_from) - {*known, "features"}
    if unknown:
        raise WorkbookError(f"describe_from: {', '.join(sorted(unknown))} is not one of mood, genre, features.")
    out = pd.Series("", index=table.index)
    for name in (n for n in ("mood", "genre") if n in describe_from):
        out = (out + " " + known[name]).str.strip()
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
        for word, rows in words.items():
            out = out.where(~rows, (out + ", " + word).str.removeprefix(", "))
    return out


def _near(name: str, known) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
