"""The form of a text table: its separator, its quotes, the lines above its data, and the names of its columns."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import WorkbookError

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}
QUOTES = {'"': "double", "'": "single", "none": "none", "": "none"}
ONE_COLUMN = "\x1f"  # a separator that no line has
NUMBER = re.compile(r"[-+]?[\d.,:/]+([eE][-+]?\d+)?%?|\d{4}-\d\d?(-\d\d?)?([T ][\d:.+Z]*)?")
ID = re.compile(r"(?=.*\d)[\w:/.-]{16,}")  # UUIDs, the ids of Spotify and YouTube
TITLE = re.compile(r"#?((track|song)s?[ _]?)?(title|name|song|track|titel|titre|t[ií]tulo|titolo)s?", re.IGNORECASE)


class Dialect(NamedTuple):
    """How to read the lines of a table."""

    separator: str
    quote: str  # "" where quotes are letters like any other
    escaped: bool  # inside quotes, a quote is written \"
    skip: int  # lines above the data
    columns: list[str]
    extra: int  # 1 if each row ends in an empty value that has no name
    short: bool  # rows may end early: their last values are empty
    ragged: bool  # the last column takes all further values of a row
    facts: dict[str, str]

    @property
    def width(self) -> int:
        """The number of values that a line has."""
        return len(self.columns) + self.extra


def parse(lines: Iterable[str], separator: str, quote: str) -> Iterator[list[str]]:
    """Return a csv reader of the lines."""
    how = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t", **how)


def unescaped(lines: list[str]) -> list[str]:
    """Return the lines with doubled quotes instead of quotes after backslashes."""
    return [re.sub(r'\\(["\\])', lambda m: '""' if m[1] == '"' else m[1], line) for line in lines]


def find(lines: list[str], reading: dict[str, str], file: Path) -> Dialect:
    """Recognise the form of a table by its first lines.

    Raises:
        WorkbookError: header and rows do not fit together, or there are no rows.
    """
    mark = re.fullmatch(r'"?sep=(.)"?[;,]*\s*', lines[0])
    separator = {"tab": "\t", "\\t": "\t"}.get(reading.get("separator"), reading.get("separator", mark and mark[1]))
    quote = reading.get("quote")
    if (separator and len(separator) > 1) or quote not in (None, *QUOTES):
        raise WorkbookError("reading: set separator to one letter or tab, quote to one of \", ' and none.")
    lines = [re.sub(r"\r(?=.)", " ", line) for line in (lines[1:] if mark else lines)]
    candidates = [_rows(lines, one, quote) for one in ([separator] if separator else SEPARATORS)]
    best = max(candidates, key=lambda candidate: _consistency(candidate[3], candidate[0]))
    if not separator and not any(_consistency(best[3], best[0])):
        best = _rows(lines, ONE_COLUMN, quote)
    separator, quote, escaped, rows, ends = best
    if not rows:
        raise WorkbookError(f"{file}: it has no rows. Set `catalogue` to a file with tracks.")
    above = _above(rows)
    names, count, header = _header(rows[above:])
    if not (data := rows[above + count :]):
        raise WorkbookError(f"{file}: it has a header and no rows. Set `catalogue` to a file with tracks.")
    names, extra, short, ragged, note = _fit(names, data, separator, file)
    quotes = QUOTES[quote] + (", escaped by backslashes" if escaped else "")
    facts = {"separator": SEPARATORS.get(separator, separator), "quotes": quotes, "header": header, "rows": note}
    if separator == ONE_COLUMN:
        facts["separator"] = "none: one value a line"
    if above:
        facts["header"] += f"; {above} lines above it are skipped"
    skip = bool(mark) + ([0, *ends])[above + count]
    return Dialect(separator, quote, escaped, skip, names, extra, short, ragged, {k: v for k, v in facts.items() if v})


def _rows(lines: list[str], separator: str, quote: str | None) -> tuple[str, str, bool, list[list[str]], list[int]]:
    """Return the separator, the quote, if it is escaped; the rows that have values, and the line where each ends."""
    found, escaped = _quote("".join(lines), separator, len(lines))
    quote = found if quote is None else quote.replace("none", "")
    reader = parse(unescaped(lines) if escaped else lines, separator, quote)
    try:
        numbered = [(row, reader.line_num) for row in reader if any(row)]
    except csv.Error:
        numbered = []
    return separator, quote, escaped, [row for row, _ in numbered], [end for _, end in numbered]


def _quote(text: str, separator: str, lines: int) -> tuple[str, bool]:
    """Return the quote, "" where quotes are letters; and if it is escaped by a backslash."""
    sep = re.escape(separator)
    escaped = bool(re.search(rf'[^\\]\\"(?!{sep}|["\r\n]|$)', text))

    def fields(mark: str) -> list[str]:
        letter = rf"[^{mark}\\]|\\." if escaped else rf"[^{mark}]"
        field = rf"(?:^|(?<={sep})) *{mark}((?:{letter}|{mark}{mark})*){mark}(?= *(?:{sep}|\r*$))"
        return re.findall(field, text, re.MULTILINE | re.DOTALL)

    double, single = fields('"'), fields("'")
    if len(single) > lines / 2 and not double:
        return "'", False
    # A field with line breaks and separators may be several rows that a stray quote swallows: it proves nothing.
    needed = [f for f in double if '"' in f or ("\n" in f) != (separator in f)]
    stray = text.count('"') - sum(field.count('"') + 2 for field in double)
    if stray and not needed and len(double) < lines / 2:
        return "", False
    return '"', escaped and any('\\"' in field for field in double)


def _consistency(rows: list[list[str]], separator: str) -> tuple[float, int]:
    """Return the share of rows with the most frequent width, and this width; zeros where the separator does not fit."""
    widths = Counter(map(len, rows))
    if not widths or (usual := max(widths, key=lambda w: (widths[w], w))) == 1:
        return 0, 0
    share, first = widths[usual] / len(rows), len(rows[0])
    wider = sum(n for width, n in widths.items() if width >= first) / len(rows)
    fits = share > 0.95 if first == 1 else share > 0.6 or (separator != "," and wider > 0.9)
    return (round(share, 1), usual) if fits or (len(rows) < 4 and first > 1) else (0, 0)


def _above(rows: list[list[str]]) -> int:
    """Return the number of rows above the header: comments, or a title of the table."""
    usual = Counter(map(len, rows)).most_common(1)[0][0]
    for i, row in enumerate(rows[:30]):
        if usual == 1:
            above = row[0].startswith("# ")
        elif usual == 2 and len(row) == 1 and not row[0].startswith("#"):
            above = i + 1 < len(rows) and not rows[i + 1][0].isdigit()  # else it is R's header: one name, and row names
        else:
            comment = row[0].startswith("#") and len(row) != usual
            above = comment or len(row) <= usual / 2 or (usual > 2 and sum(map(bool, map(str.strip, row))) < 2)
        if not above:
            return i
    return 0


def _header(rows: list[list[str]]) -> tuple[list[str], int, str]:
    """Return the names of the columns, the number of rows that they take, and a word on them."""
    first = rows[0]
    for k in (2, 3):  # pandas' header of k rows, and one more with the name of the index
        full = len(rows) > k and all(all(row[1:]) for row in rows[:k])
        if full and len(first) > 2 and len(rows[k]) == len(first) and rows[k][0].strip() and not any(rows[k][1:]):
            names = [".".join(parts) for parts in zip(*rows[:k], strict=True)]
            return [rows[k][0], *names[1:]], k + 1, f"{k + 1} rows, joined by dots"
    if _is_data(first, rows[1:]):
        return [f"column{i + 1}" for i in range(len(first))], 0, "none: the columns are numbered"
    names = [re.sub(r"^#\s*(?=\w)|[\ufeff\u200b]", "", name.strip()).strip("\"' ") for name in first]
    return [name or f"column {i + 1}" for i, name in enumerate(names)], 1, "the first row"


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


def _fit(names: list[str], rows: list[list[str]], separator: str, file: Path) -> tuple[list[str], int, bool, bool, str]:
    """Fit the header to the rows: their names, extra, short, ragged, and a word on it."""
    width, widths = len(names), Counter(map(len, rows))
    share = {n: count / len(rows) for n, count in widths.items()}
    wider = sum(part for n, part in share.items() if n > width)
    narrower = sum(part for n, part in share.items() if n < width)
    if share.get(width + 1, 0) > 0.9 and width + 1 == max(share, key=share.get):
        if sum(not row[-1].strip() for row in rows) > 0.95 * len(rows):
            return names, 1, False, False, "each ends in a separator"
        keys = [row[0] for row in rows]
        if len(set(keys)) == len(keys) and sum(" " not in key for key in keys) > 0.95 * len(keys):
            return ["row names", *names], 0, False, False, "each begins with a name, as R writes them"
    if share.get(width - 1, 0) > 0.9 and names[-1] == f"column {width}":
        return names[:-1], 0, False, False, ""
    if wider > 1 / 3 and narrower < 0.05 and separator != "," and sum(n > width for n in share) > 1:
        return names, 0, False, True, f"all values from {names[-1]} on are one list"
    usual = max(share, key=share.get)
    if usual != width and share[usual] > 0.9 and len(rows) > 1:
        raise WorkbookError(
            f"{file}: its header has {width} names and its rows have {usual} values ({', '.join(rows[0])[:80]}…). "
            "Add the missing names to the first line, or remove those that are too many."
        )
    halves = sum(len(a) < width and len(a) + len(b) == width + 1 for a, b in pairwise(rows))
    return names, 0, narrower > 0.1 and halves < narrower * len(rows) / 4, False, ""
