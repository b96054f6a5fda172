"""The header of a text table: where it is, the names in it, and how the rows fit to it."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from lib.core.errors import WorkbookError

NUMBER = re.compile(
    r"[-+]?[\d.,:/]+([eE][-+]?\d+)?%?|\d{4}-\d\d?(-\d\d?)?([T ][\d:.+Z]*)?|\d\d? \w{3,9} \d{4},?( [\d:]+)?"
)
DASHES = re.compile(r"\s*(:?-{2,}:?)?\s*")  # below a header
ID = re.compile(r"(?=.*\d)[\w:/.-]{16,}")  # UUIDs, the ids of Spotify and YouTube
TITLE = re.compile(r"#?((track|song)s?[ _]?)?(title|name|song|track|titel|titre|t[ií]tulo|titolo)s?", re.IGNORECASE)


def above(rows: list[list[str]]) -> int:
    """Return the number of rows above the header: comments, or a title of the table."""
    usual = max(Counter(map(len, rows)).items(), key=lambda item: item[::-1], default=(0, 0))[0]
    for i, row in enumerate(rows[:30]):
        if usual == 1:
            above = row[0].startswith("# ")
        elif usual == 2 and len(row) == 1 and not row[0].startswith("#"):
            above = i + 1 < len(rows) and not rows[i + 1][0].isdigit()  # else it is R's header: one name, and row names
        else:
            comment = row[0].startswith("#") and len(row) != usual
            groups = row.count("") > 1 and _names_columns(rows[i + 1 : i + 2], usual)  # of columns, above the header
            empty = usual > 2 and sum(map(bool, map(str.strip, row))) < 2
            above = groups or comment or empty or len(row) <= usual / 2
        if not above:
            return i
    return 0


def _names_columns(rows: list[list[str]], width: int) -> bool:
    """Return True if the first of these rows is full, and names a column of titles."""
    return any(len(row) == width and all(row) and any(TITLE.fullmatch(cell.strip()) for cell in row) for row in rows)


def header(rows: list[list[str]]) -> tuple[list[str], int, str]:
    """Return the names of the columns, the number of rows that they take, and a word on them."""
    first = rows[0]
    for k in (2, 3):  # pandas' header of k rows, and one more with the name of the index
        full = len(rows) > k and all(all(row[1:]) for row in rows[:k])
        if full and len(first) > 2 and len(rows[k]) == len(first) and rows[k][0].strip() and not any(rows[k][1:]):
            names = [".".join(parts) for parts in zip(*rows[:k], strict=True)]
            return [rows[k][0], *names[1:]], k + 1, f"{k + 1} rows, joined by dots"
    if _is_data(first, rows[1:]):
        return [f"column{i + 1}" for i in range(len(first))], 0, "none: the columns are numbered"
    dashes = len(rows) > 1 and all(map(DASHES.fullmatch, rows[1]))
    names = [re.sub(r"^#\s*(?=\w)|[\ufeff\u200b]", "", name.strip()).strip("\"' ") for name in first]
    return [name or f"column {i + 1}" for i, name in enumerate(names)], 1 + dashes, "the first row"


def _is_data(first: list[str], rows: list[list[str]]) -> bool:
    """Return True if the first row is like the others: its numbers and ids stand where theirs stand."""
    if len(first) == 1 and rows:
        return not TITLE.fullmatch(first[0].strip()) and (" " in first[0].strip() or bool(ID.fullmatch(first[0])))
    if first in ([str(i) for i in range(len(first))], ["", *map(str, range(len(first) - 1))]):
        return False  # pandas' names of columns without names
    alike = 0
    for i, cell in enumerate(first):
        values = [row[i].strip() for row in rows if len(row) > i and row[i].strip() not in ("", "\\N")]
        if not values or cell.strip() in ("", "\\N"):
            continue
        for pattern in (NUMBER, ID):
            if sum(bool(pattern.fullmatch(value)) for value in values) > 0.8 * len(values):
                if not pattern.fullmatch(cell.strip()):
                    return False  # a name above numbers
                alike += 1
        shape = re.sub(r"\d+", "0", cell)
        same = sum(re.sub(r"\d+", "0", value) == shape for value in values)
        alike += len(cell) > 80 or (same > 1 and (values.count(cell) > 1 or same > len(values) / 2))
    return alike > 0


def _names_rows(values: list[str]) -> bool:
    """Return True for values as R names rows: 1, 2, 3 … or other short names, none twice."""
    short = sum(bool(re.fullmatch(r"\S*\d\S*", value)) for value in values)
    return len(set(values)) == len(values) and short > 0.95 * len(values)


def fit(names: list[str], rows: list[list[str]], separator: str, file: Path) -> tuple[list[str], int, bool, bool, str]:
    """Fit the header to the rows: their names, extra, short, ragged, and a word on it."""
    width, widths = len(names), Counter(map(len, rows))
    share = {n: count / len(rows) for n, count in widths.items()}
    wider = sum(part for n, part in share.items() if n > width)
    narrower = sum(part for n, part in share.items() if n < width)
    if share.get(width + 1, 0) > 0.9 and width + 1 == max(share, key=share.get):
        if sum(not row[-1].strip() for row in rows) > 0.95 * len(rows):
            return names, 1, False, False, "each ends in a separator"
        # Where the header starts with an id, the second value must look like one: else the last name is missing.
        keys = [0, 1] if re.search(r"(?i)(id|index|nr|no|number|rank|pos|#)$", names[0]) else [0]
        if all(_names_rows([row[i] for row in rows]) for i in keys):
            return ["row names", *names], 0, False, False, "each begins with a name, as R writes them"
    if share.get(width - 1, 0) > 0.9 and names[-1] == f"column {width}":
        return names[:-1], 0, False, False, ""
    if wider > 1 / 3 and narrower < 0.05 and separator != "," and sum(n > width for n in share) > 1:
        return names, 0, False, True, f"all values from {names[-1]} on are one list"
    usual = max(share, key=share.get)
    if usual != width and share[usual] > 0.9 and len(rows) > 1:
        values = " ".join(", ".join(rows[0]).split())[:80]
        raise WorkbookError(
            f"{file}: its header has {width} names and its rows have {usual} values ({values}…). "
            "Add the missing names to the first line, or remove those that are too many."
        )
    halves = sum(len(a) < width and len(a) + len(b) == width + 1 for a, b in pairwise(rows))
    return names, 0, narrower > 0.1 and halves < narrower * len(rows) / 4, False, ""
