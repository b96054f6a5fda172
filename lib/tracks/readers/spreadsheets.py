"""Spreadsheets (.xlsx, .xlsb, .xls, .ods): the sheet with the largest table, and its header wherever it is."""

import datetime
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

from lib.core.errors import WorkbookError
from lib.tracks.readers import rows
from lib.tracks.readers.rows import Row
from lib.tracks.readers.source import Source

KINDS = {".ods": "OpenDocument spreadsheet", ".xls": "Excel (.xls)"}
OLE = b"\xd0\xcf\x11\xe0"  # how an .xls begins, and an .xlsx with a password
LAST_SECTOR = 0xFFFFFFFA
FIRST_DAY = datetime.datetime(1899, 12, 31)  # a time of over 24 hours is a date after this one
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
Sheet = list[list]  # rows of cells; an empty cell is ""


def read(file: Path, reading: dict[str, str]) -> Source:
    """Open the sheet that `reading` names as its table, or the largest."""
    try:
        sheets = _sheets(file)
    except PasswordError as error:
        raise WorkbookError(f"{file}: it has a password. Open it, and save it without one, or as CSV.") from error
    except BaseException as error:
        # Calamine panics on some damaged files, with an exception that is no Exception and that no module exports.
        if not isinstance(error, CalamineError | OSError | ValueError) and type(error).__name__ != "PanicException":
            raise
        raise WorkbookError(
            f"{file}: the spreadsheet is damaged or of another kind ({error}). Save it as CSV."
        ) from error
    name, sheet = _choose(file, sheets, reading.get("table", ""))
    start = _header(sheet)
    sheet = sheet[start:]
    used = [i for i, cells in enumerate(zip(*sheet, strict=True)) if any(cell != "" for cell in cells)]
    columns = [rows.text(sheet[0][i]).strip() or f"column {i + 1}" for i in used]
    minutes = {i for i in used if _is_minutes([_duration(row[i]) for row in sheet[1:]])}
    facts = {"sheet": name}
    if others := [other for other in sheets if other != name]:
        facts["other sheets"] = ", ".join(others)
    facts["header"] = f"row {start + 1}"
    if minutes:
        facts["times"] = f"hours are read as minutes in {', '.join(columns[used.index(i)] for i in sorted(minutes))}"

    def tracks() -> Iterator[Row]:
        for row in sheet[1:]:
            cells = [_cell(row[i], i in minutes) for i in used]
            yield dict(enumerate(cells)) if any(cells) else None

    return rows.table(file, KINDS.get(file.suffix.lower(), "Excel"), facts, columns, tracks)


def _sheets(file: Path) -> dict[str, Sheet]:
    """Return the sheets that have cells; those that are hidden only where all are."""
    with file.open("rb") as opened:
        if opened.read(4) == OLE:
            _check(OLE + opened.read())
    with _book(file) as book:
        names = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        shown = [sheet for sheet in names if sheet.visible == SheetVisibleEnum.Visible] or names
        sheets = {sheet.name: book.get_sheet_by_name(sheet.name).to_python() for sheet in shown}
    return {name: sheet for name, sheet in sheets.items() if any(cell != "" for row in sheet for cell in row)}


def _book(file: Path) -> CalamineWorkbook:
    try:
        return CalamineWorkbook.from_path(file)
    except PasswordError:
        raise
    except CalamineError as error:  # Calamine trusts the ending: here it may be wrong
        try:
            with file.open("rb") as opened:
                return CalamineWorkbook.from_filelike(BytesIO(opened.read()))
        except CalamineError:
            raise error from None


def _check(data: bytes) -> None:
    """Refuse an OLE file (.xls) with a password, and one whose sectors run in circles: Calamine would never end.

    Raises:
        PasswordError, ValueError.
    """
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise PasswordError("encrypted")
    size = 1 << data[30]
    tables = [place for place in struct.unpack_from("<109I", data.ljust(512, b"\xff"), 76) if place < LAST_SECTOR]
    links = np.frombuffer(
        b"".join(data[(place + 1) * size : (place + 2) * size] for place in tables)[: len(data)], "<u4"
    )
    links = links[links < LAST_SECTOR]
    if data[30] not in (9, 12) or len(np.unique(links)) < len(links):
        raise ValueError("its sectors do not fit together")


def _choose(file: Path, sheets: dict[str, Sheet], named: str) -> tuple[str, Sheet]:
    if not sheets:
        raise WorkbookError(f"{file}: its sheets are empty. Give a file with a row for each track.")
    if named and named not in sheets:
        raise WorkbookError(
            f"{file}: it has no sheet {named!r}. Set `reading: {{table: …}}` to one of: {', '.join(sheets)}."
        )
    name = named or max(sheets, key=lambda name: sum(cell != "" for row in sheets[name] for cell in row))
    return name, sheets[name]


def _header(sheet: Sheet) -> int:
    """Return the place of the first row that is about as full as the others; titles above it have fewer cells."""
    filled = [sum(cell != "" for cell in row) for row in sheet]
    usual = median(count for count in filled if count)
    return next(place for place, count in enumerate(filled) if count >= 0.6 * usual)


def _duration(cell) -> datetime.timedelta | None:
    """Return the duration that a cell holds as a time; None: it holds something else."""
    if isinstance(cell, datetime.time):
        return datetime.datetime.combine(FIRST_DAY, cell) - FIRST_DAY
    if isinstance(cell, datetime.datetime) and cell - FIRST_DAY < 60 * DAY:
        return cell - FIRST_DAY
    return cell if isinstance(cell, datetime.timedelta) else None


def _is_minutes(durations: list[datetime.timedelta | None]) -> bool:
    """Return True where 3:45 was typed and became 3 h 45 min: hours, but not a second."""
    values = [value for value in durations if value is not None]
    return any(value >= HOUR for value in values) and not any(value.seconds % 60 for value in values)


def _cell(cell, minutes: bool) -> str | None:
    if (duration := _duration(cell)) is not None:
        seconds = round(duration.total_seconds()) // (60 if minutes else 1)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        cell = cell.date()
    return rows.text(cell) or None
