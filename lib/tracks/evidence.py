"""The first rows of a file as evidence: do a column's values fit one of ours, in which unit, with which separators?"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lib.core.errors import WorkbookError
from lib.tracks import cells, lists, shapes
from lib.tracks.cells import UNITS
from lib.tracks.columns import FEATURES

FITS = 0.9  # share of the values that must fit before a column is taken that nobody named
NAMED_FITS = 0.5  # the same for a column that the user named
CERTAIN = 0.99  # share of minutes and hundredths that would exceed it with 40 % of hundredths from .60 on
WORDS = ("genre", "language", "mood", "mood2", "description", "tags")  # a column of numbers is none of these
AMBIGUOUS = ("track", "tracks", "piste", "pista", "faixa", "трек", "release", "record", "artistcredit")  # or numbers
# Names of the date of a release and the length of a song, but also of the date and the time of a play.
BARE_DATES = ("date", "datum", "data", "fecha")
BARE_TIMES = ("time", "temps", "время", "時間", "时间")
CLOCK, LATE = r"^([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?$", r"^(1\d|2[0-3]):"  # from 10:00 on
SCALES = {
    **dict.fromkeys(FEATURES, "0 to 1 or 0 to 100"),
    "popularity": "0 to 100 or 0 to 1",
    "tempo": "20 to 400 beats per minute",
    "loudness": "decibels, most of which are negative",
    "key": "0 to 11 or names such as C# and Am",
    "mode": "0 and 1, or minor and major",
    "duration_ms": "durations of up to a day",
    "plays": "counts",
    "explicit": "true and false",
    "release_date": "dates or years",
}


class Verdict(NamedTuple):
    """A column of the file as one of ours."""

    unit: str
    separator: str
    decimal: str
    problem: str  # a warning why the column is not taken; "" if it fits


class Evidence:
    """The first rows of a file."""

    def __init__(self, source_columns: list[str], sample: pd.DataFrame, file: Path):
        """Keep the file's columns in order, and its first rows as texts; their index holds the numbers of the rows."""
        self.source_columns, self.sample, self.file = source_columns, sample, file
        self._texts: dict[str, pa.Array] = {}

    def texts(self, name: str) -> pa.Array:
        """Return a column's texts, null where they mean "not known".

        Raises:
            WorkbookError: the file has two columns of this name.
        """
        if self.source_columns.count(name) > 1:
            places = [str(i) for i, other in enumerate(self.source_columns, 1) if other == name]
            raise WorkbookError(
                f"{self.file}: it has the column {name!r} {len(places)} times (columns {' and '.join(places)}). "
                "Rename all but one of them in the file."
            )
        if name not in self._texts:
            self._texts[name] = cells.present(cells.arrow(self.sample[name]))
        return self._texts[name]

    def judge(self, ours: str, name: str, unit: str, percent: bool, named: bool) -> Verdict:
        """Judge a column as one of ours.

        Args:
            ours: our column.
            name: the file's column.
            unit: its unit; "" to find it.
            percent: the file's other features are from 0 to 100.
            named: the user named the column.

        Raises:
            WorkbookError: the file has two columns of this name; or the user named it and most values do not fit.
        """
        texts, separator, decimal = self.texts(name), "", "."
        wrong = np.zeros(len(texts), dtype=bool)
        if ours in cells.RANGES:
            unit, decimal, wrong = self._best(ours, name, unit, percent)
        elif ours in ("explicit", "release_date"):
            read = cells.date if ours == "release_date" else cells.yes_or_no
            wrong = cells.by_value(texts, lambda text: read(text) is None, pa.bool_()).fill_null(False)
            wrong = wrong.to_numpy(zero_copy_only=False)
        else:
            separator = lists.separators(ours, texts.unique().drop_null().to_pylist())
        share = 1 - wrong.sum() / max(1, _count(texts))
        if named and share < NAMED_FITS:
            raise WorkbookError(self._misfit(ours, name, int(np.argmax(wrong))))
        problem = "" if named else self._problem(ours, name, share, decimal, wrong)
        return Verdict(unit, separator, decimal, problem)

    def unit(self, ours: str, name: str, percent: bool = False, decimal: str = ".") -> str:
        """Return the unit of a column by its name, or else by its values; "" where ours has no unit."""
        if ours not in UNITS:
            return ""
        if (unit := shapes.unit_of(name)) in UNITS[ours]:
            return unit
        texts = self.texts(name)
        values, _ = cells.numbers(ours, texts, decimal)
        values = values[(values > 0) & np.isfinite(values)]
        if ours == "duration_ms":
            if _share(texts, r":[0-5]\d:00$") > FITS and 2 * _share(texts, r"^0*[1-9]\d*:\d\d:") >= 1:
                return "h:mm"
            if not len(values) or 2 * _share(texts, ":") >= 1 or _share(texts, r"^\d\d?[.,][0-5]\d$") > CERTAIN:
                return "m:ss"
            return "ms" if np.median(values) >= 10_000 else "s" if np.median(values) >= 20 else "min"
        signs = pc.sum(pc.ends_with(texts, "%")).as_py()
        fractions = len(values) and (values < 1).any() and (values <= 1).mean() >= FITS
        if ours == "popularity":
            return "0-1" if fractions and not signs else "0-100"
        large = len(values) and np.quantile(values, 0.95) > 10  # 1 to 9 may be a scale of its own
        if signs or (not fractions and (large or percent)):
            return "0-100"
        return "0-1"

    def names_modes(self, name: str) -> bool:
        """Return True if a column of keys says which are minor: "Am", "8A"."""
        return any(cells.key(text)[1] is not None for text in self.texts(name).unique().drop_null().to_pylist())

    def shared_ids(self, found: dict) -> str:
        """Return a warning if many ids belong to several songs: they count within albums, or a program rounded them."""
        names = list(dict.fromkeys(found[ours].name for ours in ("id", "title", "artist") if ours in found))
        songs = self.sample[names].dropna(subset=names[:1]).drop_duplicates()
        shared = songs[names[0]].duplicated()
        if len(names) < 2 or shared.sum() <= (1 - FITS) * len(shared):
            return ""
        return (
            f"id: {names[0]!r} has the same value for several songs, first in row {shared.idxmax()}, so the rows are "
            f"numbered instead. If it is right, name it: columns: {{id: {names[0]}}}."
        )

    def implausible(self, name: str, unit: str, decimal: str) -> list[str]:
        """Return a warning if a column's durations are not those of songs."""
        values = cells.read("duration_ms", self.texts(name), unit, decimal)[0] / 1000
        middle = np.nanmedian(values) if np.isfinite(values).any() else 180
        if 5 <= middle <= 7200:
            return []
        return [
            f"duration_ms: the median of {name!r} is {middle:,.4g} seconds, if its unit is {unit}. "
            f"If it is not, set it: units: {{duration_ms: {'s' if middle < 5 else 'ms'}}}."
        ]

    def _best(self, ours: str, name: str, unit: str, percent: bool) -> tuple[str, str, np.ndarray]:
        """Return the unit and the decimal mark with which most values fit, and true where they still do not."""
        best = None
        for decimal in (".", ","):
            scale = unit or self.unit(ours, name, percent, decimal)
            wrong = cells.read(ours, self.texts(name), scale, decimal)[1]
            if best is None or wrong.sum() < best[2].sum():
                best = (scale, decimal, wrong)
        return best

    def _problem(self, ours: str, name: str, share: float, decimal: str, wrong: np.ndarray) -> str:
        """Return why a column that nobody named is not taken; "" if it is taken."""
        texts = self.texts(name)
        if not _count(texts):
            return ""
        values, _ = cells.numbers("", texts, decimal)
        finite = np.isfinite(values)
        other, values = texts.filter(pa.array(wrong if wrong.any() else ~finite)), values[finite]
        numeric = len(values) >= FITS * max(1, _count(texts))
        span = f"{values.min():.4g} to {values.max():.4g}" if numeric else _examples(other)
        use = f"If it is right, name it: columns: {{{ours}: {name}}}."
        if ours in UNITS:
            unit = list(UNITS[ours])[-1]
            use = f"Rescale it, or name it with its unit: columns: {{{ours}: {name}}}, units: {{{ours}: {unit}}}."
        if numeric and (ours in WORDS or (shapes.plain(name) in AMBIGUOUS and ours in ("title", "artist", "album"))):
            return f"{ours}: {name!r} holds numbers ({span}), so ours is empty. {use}"
        if ours == "description" and _prose(texts, words="comment" in shapes.plain(name)) < 0.5:
            return f"description: {name!r} describes no music ({span}), so ours is empty. {use}"
        plain = shapes.plain(name)
        if (ours == "release_date" and plain in BARE_DATES and _share(texts, r"\d:\d\d") > 0.5) or (
            ours == "duration_ms" and plain in BARE_TIMES and _share(texts, CLOCK) > FITS and _share(texts, LATE) > 0.15
        ):
            return f"{ours}: {name!r} holds times of a day ({span}), as plays have, so ours is empty. {use}"
        positive = ours == "loudness" and 2 * (values < 0).sum() < len(values)
        from_one = ours == "key" and numeric and 12 in values and 0 not in values  # is 1 C or C sharp?
        if ours not in SCALES or (share >= FITS and not positive and not from_one):
            return ""
        return f"{ours}: the values of {name!r} ({span}) do not fit {SCALES[ours]}, so ours is empty. {use}"

    def _misfit(self, ours: str, name: str, place: int) -> str:
        """Return the message for a column that the user named, and whose values do not fit."""
        value, row = self.texts(name)[place].as_py(), self.sample.index[place]
        choice = f"set its unit in `units` (one of {', '.join(UNITS[ours])})" if ours in UNITS else "name another"
        return (
            f"{self.file}: columns: {ours}: most values of {name!r} do not fit {SCALES[ours]}. The first is {value!r} "
            f'in row {row}. Convert the column, {choice}, or leave ours empty: columns: {{{ours}: ""}}.'
        )


def _prose(texts: pa.Array, words: bool) -> float:
    """Return the share of texts without a web address or a long code, and, if `words`, with three words or more."""
    words = pc.match_substring_regex(texts, r"\w\W+\w+\W+\w" if words else "")
    codes = pc.match_substring_regex(texts, r"(?i)https?:|www\.|\.com\b|[0-9a-f]{8}|ripped|encoded|^\d{1,2}[abmd]\b")
    return pc.mean(pc.and_not(words, codes)).as_py() or 0


def _share(texts: pa.Array, pattern: str) -> float:
    """Return the share of texts that match a pattern. Midnight, which dates without a time have, does not count."""
    return pc.mean(pc.match_substring_regex(pc.replace_substring(texts, "00:00:00", ""), pattern)).as_py() or 0


def _count(texts: pa.Array) -> int:
    return len(texts) - texts.null_count


def _examples(texts: pa.Array) -> str:
    return ", ".join(repr(text[:30]) for text in texts.unique().drop_null()[:3].to_pylist())
