"""What is known of artists whom listeners name (artists.csv): facts from general knowledge.

To add an artist, add a line: genres, decades, country (ISO 3166), language (ISO 639-1; empty for instrumental music),
moods of moods.yaml, and the nearest artists. Several values in a cell are joined by semicolons, the best known first.
"""

import csv
import re
from pathlib import Path

import pandas as pd

from lib.core.catalogue import LEADER
from lib.core.errors import WorkbookError, nearest
from lib.core.paths import resolve, shown
from lib.tracks.songs import plain

ARTISTS = pd.read_csv(Path(__file__).with_name("artists.csv"), keep_default_na=False).astype("str")
FACTS = ("genres", "decades", "language")  # that tracks get
FORMS = {  # column -> the form of one value, and an example
    "decades": (re.compile(r"\d{3}0s"), "1990s"),
    "country": (re.compile("[A-Z]{2}"), "BR"),
    "language": (re.compile("[a-z]{2}"), "pt"),
}


def load(own: str = "") -> pd.DataFrame:
    """Return the known artists: ours, and those of a CSV file of the user's, whose cells replace ours by name.

    Raises:
        WorkbookError: the file cannot be read, or one of its lines is wrong.
    """
    if not own:
        return ARTISTS
    yours, ours = (table.replace("", None).set_index(_keys(table["name"])) for table in (_read(resolve(own)), ARTISTS))
    return yours.combine_first(ours).reindex(columns=ARTISTS.columns).fillna("").reset_index(drop=True)


def facts(artists: pd.Series, known: pd.DataFrame = ARTISTS) -> pd.DataFrame:
    """Return what is `known` of each track's artist, or of its first one: (n,) -> columns `FACTS`.

    Values are joined: "trip hop, electronic"; "" where nothing is known.
    """
    table = known.set_index(_keys(known["name"]))[list(FACTS)]
    codes, names = pd.factorize(artists)
    names = pd.Series(names, dtype="str")
    whole, first = _keys(names), _keys(names.str.replace(r", .*", "", regex=True))  # "Tyler, The Creator"
    rows = table.reindex(whole.where(whole.isin(table.index), first)).fillna("")
    return rows.apply(lambda column: column.str.replace(";", ", ")).iloc[codes].set_axis(artists.index)


def _keys(names: pd.Series) -> pd.Series:
    """Return names in `plain` form: "Bob Marley & The Wailers" as "bobmarley", "!!!" as it is."""
    names = names.str.replace(LEADER, r"\1", regex=True)
    return plain(names).where(lambda key: key != "", names)


def _read(file: Path) -> pd.DataFrame:
    """Read a user's artists: a CSV file with the column name and any of ours."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = [(name or "").strip().casefold() for name in reader.fieldnames or ()]
            if "name" not in columns:
                raise WorkbookError(f"{shown(file)}: line 1 has no column `name`. {_advice()}")
            if unknown := [name for name in columns if name not in ARTISTS]:
                hint = nearest(unknown[0], ARTISTS)
                raise WorkbookError(f"{shown(file)}: line 1: there is no column {unknown[0]!r}{hint}. {_advice()}")
            reader.fieldnames, rows = columns, {}
            for row in reader:
                _check(row, rows, f"{shown(file)}, line {reader.line_num}")
    except UnicodeDecodeError as error:
        raise WorkbookError(f"{shown(file)} is not UTF-8: {error.reason}. Save it as CSV UTF-8.") from error
    except (csv.Error, OSError) as error:
        raise WorkbookError(f"{shown(file)} cannot be read as CSV: {error}. {_advice()}") from error
    if not rows:
        raise WorkbookError(f"{shown(file)} has no artist. Write a line for each below the line of column names.")
    return pd.DataFrame(list(rows.values()), dtype="str")


def _check(row: dict, rows: dict[str, dict], where: str) -> None:
    """Check a line and add it, without the spaces around its values, to `rows`, by its name in `plain` form."""
    if None in row or None in row.values():
        cells = "more" if None in row else "fewer"
        raise WorkbookError(f"{where} has {cells} cells than line 1. Put a cell that holds a comma in quotes.")
    row = {column: ";".join(filter(None, map(str.strip, cell.split(";")))) for column, cell in row.items()}
    if not row["name"]:
        raise WorkbookError(f"{where}: the name is empty. Write the artist's name, or delete the line.")
    for column, (form, example) in FORMS.items():
        if wrong := [value for value in row.get(column, "").split(";") if value and not form.fullmatch(value)]:
            more = f" Join several by a semicolon: {example};…" if column != "country" else ""
            raise WorkbookError(f"{where}: {column} is {wrong[0]!r}. Write it like {example}.{more}")
    key = _keys(pd.Series([row["name"]]))[0]
    if key in rows:
        raise WorkbookError(f"{where}: {row['name']} is in an earlier line, too. Keep one of both lines.")
    rows[key] = row


def _advice() -> str:
    return f"Its columns are name and any of {', '.join(ARTISTS.columns[1:])}, separated by commas."
