"""The form of a text table: its separator, its quotes, its header, and how rows fit to it."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lib.core.errors import WorkbookError
from lib.tracks.readers import headers

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", "<SEP>": "<SEP>"}
QUOTES = {'"': "double", "'": "single", "none": "none", "": "none"}
ONE_COLUMN = "\x1f"  # a separator that no line has


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
    if len(separator) > 1:
        lines, separator = [line.replace(separator, ONE_COLUMN) for line in lines], ONE_COLUMN
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
    if (separator and len(separator) > 1 and separator not in SEPARATORS) or quote not in (None, *QUOTES):
        raise WorkbookError("reading: set separator to one letter or tab, quote to one of \", ' and none.")
    lines = [re.sub(r"\r\Z", "\n", re.sub(r"\r(?=.)", " ", line)) for line in (lines[1:] if mark else lines)]
    candidates = [_rows(lines, one, quote) for one in ([separator] if separator else SEPARATORS)]
    best = max(candidates, key=lambda candidate: _consistency(candidate[3], candidate[0]))
    if not separator and not any(_consistency(best[3], best[0])):
        best = _rows(lines, ONE_COLUMN, quote)
    separator, quote, escaped, rows, ends = best
    if not rows:
        raise WorkbookError(f"{file}: it has no rows. Name a file with tracks.")
    above = headers.above(rows)
    names, count, header = headers.header(rows[above:])
    if not (data := rows[above + count :]):
        raise WorkbookError(f"{file}: it has a header and no rows. Name a file with tracks.")
    names, extra, short, ragged, note = headers.fit(names, data, separator, file)
    quotes = QUOTES[quote] + (", escaped by backslashes" if escaped else "")
    facts = {"separator": SEPARATORS.get(separator, separator), "quotes": quotes, "header": header, "rows": note}
    if separator == ONE_COLUMN:
        facts["separator"] = "none: one value a line"
    if above:
        facts["header"] += f"; lines above it, skipped: {above}"
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
    # A stray quote may swallow rows: a field with line breaks and separators, each of its lines a row.
    usual = text[: text.find("\n")].count(separator)
    needed = any(
        '"' in field
        or ("\n" in field) != (separator in field)
        or any(line.count(separator) < usual for line in field.split("\n")[1:-1])
        for field in double
    )
    stray = text.count('"') - sum(field.count('"') + 2 for field in double)
    if stray * 10 > len(double) and not needed and len(double) < lines / 2:
        return "", False
    return '"', escaped and any('\\"' in field for field in double)


def _consistency(rows: list[list[str]], separator: str) -> tuple[float, bool, int]:
    """Return the share of rows with the most frequent width, if the first row has it, and this width.

    All are 0 where the separator does not fit.
    """
    above = headers.above(rows)
    widths = Counter(map(len, rows[above:]))
    if not widths or (usual := max(widths, key=lambda w: (widths[w], w))) == 1:
        return 0, False, 0
    if above and usual == 2 and headers.TITLE.fullmatch(rows[0][0].strip()):
        return 0, False, 0  # a list of titles: some have a comma
    rows = rows[above:]
    share, first = widths[usual] / len(rows), len(rows[0])
    wider = sum(n for width, n in widths.items() if width >= first) / len(rows)
    fits = share > 0.95 if first == 1 else share > 0.6 or (separator != "," and wider > 0.9)
    return (round(share, 1), not above, usual) if fits or (len(rows) < 4 and first > 1) else (0, False, 0)
