"""Convert the texts of a file's rows to our columns, and list the values that do not fit."""

import ast
import html
import re
import unicodedata
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.tracks import cells, lists
from lib.tracks.columns import FEATURES
from lib.tracks.mapping import OURS, TEXTS, Column, Mapping
from lib.tracks.shapes import LANGUAGES

FAULTS = {"row": "int64", "column": "str", "value": "str", "reason": "str"}
UNKNOWN = ("unknown", "[unknown]")  # no mood, genre or language
LONGEST = 80  # characters of a value that does not fit, as it is listed
NOUNS = {"key": "key", "mode": "mode", "duration_ms": "duration"}
TEXT = pa.large_string()
# All that `_plain` may change has one of these in it: no letter of this list is composed, invisible or a blank.
_ODD = r"[^ -~¡-¬®-ſ‐-‧Ѐ-҂Ҋ-ӿぁ-ゖァ-ヺ一-鿿가-힣]|  |&#?\w+;|</?\w|^b['\"].*['\"]$"
_BREAK = re.compile(r"</?(br|p|div|ul|ol|li|h[1-6])(\s[^<>]*)?/?>", re.IGNORECASE)
_TAG = re.compile(r"</?(a|b|i|u|em|strong|span|font|small|sub|sup)(\s[^<>]*)?/?>", re.IGNORECASE)
_BYTES = re.compile(r"""b'([^'\\]|\\.)*'|b"([^"\\]|\\.)*\"""")  # as Python shows bytes: b'Moon'
# Characters that nobody sees. U+200D stays: it joins emoji and the letters of some scripts.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def convert(table: pd.DataFrame, mapping: Mapping, decimal: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Convert rows.

    Args:
        table: the file's columns as texts; the index holds the numbers of the rows.
        mapping: from `mapping.match`.
        decimal: the decimal mark of all numbers, as the user says; "" as in `mapping`.

    Returns:
        Our columns with the same index: texts are "" and numbers NaN where they are missing.
        The values that do not fit, which are left empty: row, column (ours), value, reason.
    """
    source = {ours: cells.arrow(table[column.name]) for ours, column in mapping.columns.items()}
    out, faults = _texts(source, mapping, len(table)), []
    key = mapping.columns["key"].name if "key" in mapping.columns else None
    for ours in cells.RANGES:
        out[ours] = np.full(len(table), np.nan)
        if ours in source:
            column = mapping.columns[ours]
            out[ours], wrong, outside = cells.read(ours, source[ours], column.unit, decimal or column.decimal)
            if wrong.any() and not (ours == "mode" and column.name == key):  # listed once, as a key
                reasons = np.where(outside[wrong], _range(ours, column.unit), f"not a {NOUNS.get(ours, 'number')}")
                faults.append(_faults(table, ours, source[ours], wrong, reasons))
    for ours, function, noun, kind, missing in (
        ("explicit", cells.yes_or_no, "not true or false", pa.bool_(), False),
        ("release_date", cells.date, "not a date", TEXT, ""),
    ):
        values = pa.nulls(len(table), kind)
        if ours in source:
            texts = cells.present(source[ours])
            values = cells.by_value(texts, function, kind)
            wrong = pc.and_(pc.is_valid(texts), pc.is_null(values)).to_numpy(zero_copy_only=False)
            if wrong.any():
                faults.append(_faults(table, ours, texts, wrong, noun))
        out[ours] = values.fill_null(missing)
    tracks = pa.table({ours: out[ours] for ours in OURS}).to_pandas().set_axis(table.index)
    faults = pd.concat(faults).sort_values("row", kind="stable") if faults else pd.DataFrame(columns=list(FAULTS))
    return tracks, faults.astype(FAULTS).reset_index(drop=True)


def _range(ours: str, unit: str) -> str:
    """Return the reason for a number that is too small or too large, in the unit of the file."""
    if ours in FEATURES or ours == "popularity":
        return f"outside {unit.replace('-', ' to ')}"
    if ours == "duration_ms":
        return "outside 0 to 24 hours"
    low, high = cells.RANGES[ours]
    return "not a count" if ours == "plays" else f"outside {low} to {high}"


def _faults(table: pd.DataFrame, ours: str, texts: pa.Array, wrong: np.ndarray, reasons) -> pd.DataFrame:
    values = pc.utf8_slice_codeunits(texts.filter(pa.array(wrong)), 0, LONGEST).to_pylist()
    return pd.DataFrame({"row": table.index[wrong], "column": ours, "value": values, "reason": reasons})


def _texts(source: dict[str, pa.Array], mapping: Mapping, rows: int) -> dict[str, pa.Array]:
    """Return our columns of texts."""
    out = {ours: pa.nulls(rows, TEXT) for ours in ("id", *TEXTS)}
    more = {}  # our column -> the second, third ... values in its cells
    for ours, texts in source.items():
        if ours not in out:
            continue
        column, texts = mapping.columns[ours], clean(texts)
        if ours in ("title", "artist"):  # a song may be called "None", and a band "NA"
            texts = pc.if_else(pc.is_in(texts, pa.array(["", r"\N"], TEXT)), None, texts)
        else:
            texts = cells.present(texts)
        if ours in ("genre", "language", "mood", "tags"):
            also = {other for other, twin in mapping.columns.items() if twin.name == column.name}
            out[ours], more[ours] = _several(ours, texts, column, also)
        else:
            out[ours] = _single(ours, texts, column)
        if column.remove:
            out[ours] = pc.replace_substring_regex(out[ours], column.remove, "")
    out["mood"], out["mood2"] = pc.utf8_lower(out["mood"]), pc.utf8_lower(out["mood2"])
    _spread(out, more)
    return {ours: texts.fill_null("") for ours, texts in out.items()}


def _single(ours: str, texts: pa.Array, column: Column) -> pa.Array:
    """Return one text for each cell: "['Uli', 'Ana']" -> "Uli, Ana"."""
    marks = "" if column.separator == lists.LIST else column.separator
    if not (column.separator or ours == "artist"):
        return texts
    pattern = r"^[\[{]" + (f"|[{re.escape(marks)}]" if marks else "")
    several = pc.match_substring_regex(texts, pattern).fill_null(False)
    joined = cells.by_value(
        pc.if_else(several, texts, None), lambda text: ", ".join(lists.items(text, marks, ())) or None, TEXT
    )
    return pc.if_else(several, joined, texts)


def _several(ours: str, texts: pa.Array, column: Column, also: set[str]) -> tuple[pa.Array, list[pa.Array]]:
    """Return the first value in each cell (of tags: all); and the second, those from there on, those from the third."""
    coded = texts.dictionary_encode()
    values = [
        lists.for_column(ours, lists.items(text, column.separator), also) for text in coded.dictionary.to_pylist()
    ]
    if ours == "language":
        values = [[LANGUAGES.get(value.casefold(), value) for value in row] for row in values]
    if ours != "tags":
        values = [[value for value in row if value and value.casefold() not in UNKNOWN] for row in values]
    slices = (slice(None) if ours == "tags" else slice(1), slice(1, 2), slice(1, None), slice(2, None))
    parts = [[", ".join(row[part]) or None for row in values] for part in slices]
    head, *rest = (pa.array(part, TEXT).take(coded.indices) for part in parts)
    return head, rest


def _spread(out: dict[str, pa.Array], more: dict[str, list[pa.Array]]) -> None:
    """Put the second mood into mood2, if that is empty, and the other values that have no column into the tags."""
    extra = [more[ours][1] for ours in ("genre", "language") if ours in more]
    if "mood" in more:
        second, from_second, from_third = more["mood"]
        own = pc.is_valid(out["mood2"])
        out["mood2"] = pc.coalesce(out["mood2"], pc.utf8_lower(second))
        extra.append(pc.if_else(own, from_second, from_third))
    for texts in extra:
        if texts.null_count < len(texts):
            joined = pc.binary_join_element_wise(out["tags"].fill_null(""), texts.fill_null(""), pa.scalar(", ", TEXT))
            joined = cells.by_value(pc.if_else(pc.is_valid(texts), joined, None), _without_doubles, TEXT)
            out["tags"] = pc.coalesce(joined, out["tags"])


def _without_doubles(tags: str) -> str:
    return ", ".join(lists.items(tags, ","))


def clean(texts: pa.Array) -> pa.Array:
    """Return texts in NFC with single blanks, without invisible characters and without the marks of HTML."""
    texts = pc.utf8_trim_whitespace(texts)
    odd = pc.match_substring_regex(texts, _ODD).fill_null(False)
    if not pc.any(odd).as_py():
        return texts
    plain = pa.array([_plain(text) for text in texts.filter(odd).to_pylist()], TEXT)
    return pc.replace_with_mask(texts, odd, plain)


def _plain(text: str) -> str:
    """Clean a text. What stands between tags of HTML stays; a text of tags only stays as it is."""
    if _BYTES.fullmatch(text):
        with suppress(SyntaxError, ValueError):
            text = ast.literal_eval(text).decode("utf-8", "replace")
    if "<" in text and (bare := _TAG.sub("", _BREAK.sub(" ", text)).strip()):
        text = bare
    if "&" in text:
        text = html.unescape(html.unescape(text))  # exports of exports escape twice
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", text)).split())
