"""The preview of an import: the file, its columns, the first tracks, all that is left out; and a parameter file."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib.core.catalogue import TRANSLATIONS
from lib.core.errors import WorkbookError
from lib.core.files import atomic
from lib.core.pages import render
from lib.core.paths import ROOT, shown
from lib.tracks.importing import Catalogue
from lib.tracks.moods import MOODS

SHOWN = 28  # letters of a cell
SOME = 10  # moods in a message
TAKEN = ("quick", "gpu", "own-catalogue", "tour", "current", "previous")  # parameter files and runs of the workbook


def text(catalogue: Catalogue) -> str:
    """Return the whole preview for a terminal."""
    parts = [source(catalogue.record), _table(columns(catalogue)), _table(first_tracks(catalogue)), losses(catalogue)]
    return "\n\n".join(parts)


def source(record: dict) -> str:
    """Return what the file is, in a few lines."""
    facts = ", ".join(f"{name} {value}" for name, value in record["facts"].items())
    export = f", known as: {record['export']}" if record["export"] else ""
    return f"{record['file']}\n{record['kind']}{export}\n{facts}\n{record['rows']:,} rows → {record['tracks']:,} tracks"


def columns(catalogue: Catalogue) -> pd.DataFrame:
    """Return each of our columns with the file's column, its unit, the reason, the share that is filled, an example."""
    rows = []
    for ours, column in catalogue.record["columns"].items():
        values = catalogue.tracks[ours]
        filled = values.notna() & (values != "")
        example = values[filled].iloc[0] if filled.any() else ""
        rows.append((ours, column["name"], column["unit"], column["why"], f"{filled.mean():.0%}", _short(example)))
    return pd.DataFrame(rows, columns=["ours", "yours", "unit", "because", "filled", "first"]).set_index("ours")


def first_tracks(catalogue: Catalogue, n: int = 5) -> pd.DataFrame:
    """Return the first tracks as they are read, a column each; empty columns are not shown."""
    head = catalogue.tracks.head(n).drop(columns=["song"])
    head = head.loc[:, [(head[name].notna() & ~head[name].isin(["", False])).any() for name in head]]
    return head.map(_short).T.rename(columns=lambda i: f"track {i + 1}")


def losses(catalogue: Catalogue) -> str:
    """Return what is not in the catalogue: columns, rows, values, repeats, and warnings."""
    record = catalogue.record
    lines = [f"Columns that are not read: {', '.join(record['unused']) or 'none'}."]
    if record["unused"]:
        theirs = shlex.quote(record["unused"][0])
        lines.append(f"  To read one: --column OURS={theirs}, where OURS is artist, genre, mood or another.")
    lines += [f"Rows left out: {record['left_out']:,}."]
    lines += [f"  row {row.row}: {row.reason}" for row in catalogue.left_out.head(3).itertuples()]
    if record["repeats"]:
        lines.append(f"Rows that repeat an earlier song: {record['repeats']:,}. Each song is one track.")
    if record["not_in_the_sample"]:
        lines.append(f"Tracks outside the random sample of max_tracks: {record['not_in_the_sample']:,}.")
    moods = catalogue.tracks["mood"].unique()
    if not any(moods):
        lines.append("No column has moods: the run infers them, as infer_from in the parameter file says.")
    if translated := _translated(moods):
        pairs = ", ".join(f"{theirs} → {ours}" for theirs, ours in [*translated.items()][:SOME])
        lines.append(f"Moods in other languages, which rename_moods in the parameter file translates: {pairs}.")
    if unknown := [mood for mood in moods if mood and mood not in MOODS and mood not in translated]:
        more = " …" if len(unknown) > SOME else ""
        lines.append(
            f"Moods that are not in lib/tracks/moods.yaml: {', '.join(unknown[:SOME])}{more}. They keep their names. "
            "If one means the same as a mood there, use rename_moods."
        )
    if versions := int(catalogue.tracks["song"].duplicated().sum()):
        lines.append(
            f"Other versions of a song (live, remaster …): {versions:,}. They stay, in one split with the song."
        )
    return "\n".join([*lines, *(f"WARNING: {warning}" for warning in [*record["notices"], *record["warnings"]])])


def write_parameters(catalogue: Catalogue, reading: dict[str, str]) -> Path:
    """Write params/NAME.yaml for an imported file: every column with its reason, ready for make run.

    Raises:
        WorkbookError: the file exists with another content: it may have been edited.
    """
    record = catalogue.record
    name = re.sub(r"[^\w]+", "-", Path(record["file"]).name.split(".")[0].casefold()).strip("-") or "catalogue"
    name = f"my-{name}" if name in TAKEN else name
    path = ROOT / "params" / f"{name}.yaml"
    moods = catalogue.tracks.loc[catalogue.tracks["mood"] != "", "mood"].value_counts()
    content = render(
        "tracks/params.yaml",
        name=name,
        record=record,
        file=shown(Path(record["file"])),
        reading=reading,
        moods=moods.index[:18].tolist(),
        ours=list(MOODS),
        translated=_translated(moods.index),
        units={ours: column["unit"] for ours, column in record["columns"].items() if column["unit"]},
    )
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise WorkbookError(
            f"{shown(path)} exists and differs from this import, so it stays unchanged. To use it: make run "
            f"PARAMS={shown(path)}. To write a new one: rm {shown(path)}, then import again."
        )
    with atomic(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path


def _translated(moods: Iterable[str]) -> dict[str, str]:
    """Return our name of each mood that is named in another language."""
    ours = {word.casefold(): mood for mood, words in TRANSLATIONS.items() for word in words}
    return {mood: ours[mood.casefold()] for mood in moods if mood.casefold() in ours and mood not in MOODS}


def next_step(record: dict, params: str) -> str:
    """Return the next command; if most rows are left out, first say that a run would stop."""
    stop = ""
    if record["left_out"] > 0.5 * record["rows"]:
        stop = "More than half of the rows are left out, so a run would stop. Correct the file or `columns`, or, if "
        stop += "the other rows are the catalogue that you want, set max_left_out: 1.\n"
    return f"{stop}All of this is in {params}. Change what is wrong there, then: make run PARAMS={params}"


def with_option(message: str) -> str:
    """Return an import's error with the option that sets the parameter it names: there is no parameter file yet."""
    named = re.search(r"(columns: \{title|reading: \{(table|encoding|separator)):", message)
    if not named:
        return message
    option = f"--{named[2]} NAME" if named[2] else "--column title=NAME"
    return f'{message} In this command: {option}, or with make: IMPORT="{option}".'


def _short(value) -> str:
    line = "" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _table(table: pd.DataFrame) -> str:
    return table.rename_axis(None).fillna("").to_string(justify="left")
