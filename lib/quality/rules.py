"""Rules of data quality, each with a name, a severity, a reason, a count of failures and the failing rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.compute as pc
from pandera.errors import SchemaErrors
from pyarrow import array

from lib.core.errors import WorkbookError
from lib.quality.drift import drift
from lib.tracks.columns import COLUMNS, FEATURES, NUMBERS
from lib.tracks.moods import SPLITS

FIRST = 10  # failing rows of each rule in quality.json; failing_rows.csv has all
TODAY = str(date.today())
DATE = r"(?:18|19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
# UTF-8 that was read as Latin-1, the replacement character, control characters, entities and tags of HTML.
DAMAGE = r"\ufffd|Ã[\x80-\xbf©¨¼¶¤ ]|â€|Â[\xa0-\xbf]|[\x00-\x08\x0b\x0c\x0e-\x1f]|&[a-z]{2,6};|&#\d+;|</?[a-z]+ ?/?>"
VERSION = r" *(?:\(|\[|- )(?:.*\b(?:live|remaster(?:ed)?|acoustic|radio edit|demo|mono|stereo|version|edit|mix)\b).*$"


class Limits(NamedTuple):
    """The thresholds. Each is a parameter of notebook 02."""

    min_per_mood: int = 20  # tracks
    max_missing: float = 0.2  # share of a column
    max_constant: float = 0.5  # share of one value in a column of numbers
    max_artist: float = 0.1  # share of the catalogue by one artist
    max_words: int = 100  # of a text; encoders cut at 128 tokens or later
    max_drift: float = 0.25  # population stability index


class Rule(NamedTuple):
    """A rule on the values of some columns. `passes` returns True for each good value; missing values pass."""

    severity: str
    name: str
    why: str
    columns: tuple[str, ...]
    passes: Callable[[pd.Series], pd.Series]


def column_rules(limits: Limits) -> tuple[Rule, ...]:
    """Return the rules on the values of single columns."""
    error, warning = partial(Rule, "error"), partial(Rule, "warning")
    texts, day, most = ("title", "artist", "album", "description"), ("release_date",), limits.max_words
    alike = "text stands once but for case and punctuation"
    return (
        error("id is there", "Responses name tracks by id.", ("id",), lambda s: s.str.strip() != ""),
        error("id is unique", "Two tracks share an id.", ("id",), lambda s: ~s.duplicated()),
        error("text is there", "No query finds it.", ("text",), lambda s: s.str.strip() != ""),
        error("feature within 0 to 1", "Inference needs this scale.", FEATURES, lambda s: s.between(0, 1)),
        error("split is train, dev or test", "No notebook uses it.", ("split",), lambda s: s.isin(SPLITS)),
        warning("mood is known", "It teaches no mood.", ("mood",), lambda s: s != ""),
        warning("mood is sure", "The inferred mood may be wrong.", ("mood_confidence",), lambda s: s >= 0.5),
        warning("title is there", "Listeners see titles.", ("title",), lambda s: s != ""),
        warning("artist is there", "Listeners see artists.", ("artist",), lambda s: s != ""),
        warning("genre is there", "Requests name genres.", ("genre",), lambda s: s != ""),
        warning("text stands once", "Equal texts have equal scores.", ("text",), lambda s: ~s.duplicated()),
        warning(alike, "Near-duplicates fill a page.", ("text",), lambda s: s.duplicated() | ~_plain(s).duplicated()),
        warning("text has three words", "It describes too little.", ("text",), lambda s: s.str.count(" ") >= 2),
        warning("text is not cut", "The encoder drops the end.", ("text",), lambda s: s.str.count(" ") < most),
        warning("text is undamaged", "Misread letters and markup are noise.", texts, lambda s: ~s.str.contains(DAMAGE)),
        warning("tempo within 30 to 250 BPM", "Misread tempo?", ("tempo",), lambda s: s.between(30, 250)),
        warning("loudness within -60 to 5 dB", "Misread loudness?", ("loudness",), lambda s: s.between(-60, 5)),
        warning("duration within 10 s to 2 h", "Not milliseconds?", ("duration_ms",), lambda s: s.between(1e4, 7.2e6)),
        warning("popularity within 0 to 100", "Another scale?", ("popularity",), lambda s: s.between(0, 100)),
        warning("key within 0 to 11", "Pitch classes are 0 (C) to 11 (B).", ("key",), lambda s: s.isin(range(12))),
        warning("mode is 0 or 1", "Minor is 0, major is 1.", ("mode",), lambda s: s.isin([0, 1])),
        warning("date is a date", "No day of the calendar.", day, _is_day),
        warning("date is not in the future", "Misread?", day, lambda s: ~s.str.fullmatch(DATE) | (s <= TODAY)),
    )


SONGS = Rule("warning", "song stands once", "Versions of one song fill a response.", ("title",), lambda s: s)


def check(
    tracks: pd.DataFrame, requests: pd.DataFrame, expected_moods: list[str], limits: Limits, reference=None
) -> tuple[list[dict], pd.DataFrame]:
    """Check a catalogue and its requests.

    Args:
        expected_moods: moods that must be in the catalogue; [] expects none in particular.
        reference: the `drift.profile` of another catalogue; None measures no drift.

    Returns:
        A dict for each rule: rule, severity, why, failures (count), rows (the first failing ones), passed, column (or
        None). A table of all failing rows: rule, severity, row, id, column, value.
    """
    absent = [name for name in COLUMNS if name not in tracks]
    tracks = tracks.assign(**{name: np.nan if name in NUMBERS else "" for name in absent}).reset_index(drop=True)
    rules = column_rules(limits)
    cases = _failing_values(rules, tracks)
    failing = {rule: cases[cases["rule"] == rule.name].drop(columns="rule") for rule in rules}
    failing[SONGS] = _repeated_songs(tracks)
    results = [_column_result(rule, rows) for rule, rows in failing.items()]
    rows = [{"column": name} for name in absent]
    results.append(_result("error", "columns are there", "Later notebooks read them.", None, rows))
    results += [*_table_results(tracks, expected_moods, limits, reference), *_split_results(tracks, requests)]
    table = pd.concat([rows.assign(rule=rule.name, severity=rule.severity) for rule, rows in failing.items()])
    return results, table[["rule", "severity", "row", "id", "column", "value"]].reset_index(drop=True)


def scorecard(results: list[dict]) -> pd.DataFrame:
    """Return the rules as a table, failures first."""
    table = pd.DataFrame(results)[["rule", "severity", "failures", "passed", "why"]]
    return table.sort_values(["passed", "severity"], kind="stable").reset_index(drop=True)


def stop_on_errors(results: list[dict]) -> None:
    """Raise WorkbookError if a rule of severity error failed; name each with its first failing row."""
    failed = [result for result in results if result["severity"] == "error" and not result["passed"]]
    if failed:
        details = "; ".join(f"{r['rule']}: {r['failures']} failing, first {r['rows'][0]}" for r in failed)
        raise WorkbookError(f"the catalogue is not fit to train on. {details}. Correct the catalogue, then run again.")


def _failing_values(rules: tuple[Rule, ...], tracks: pd.DataFrame) -> pd.DataFrame:
    """Validate all columns with one pandera schema. Return rule, row, id, column and value of each failure."""
    columns = {
        name: [pa.Check(rule.passes, name=rule.name, ignore_na=True) for rule in rules if name in rule.columns]
        for name in COLUMNS
    }
    schema = pa.DataFrameSchema({name: pa.Column(checks=checks, nullable=True) for name, checks in columns.items()})
    cases = pd.DataFrame(columns=["check", "index", "column", "failure_case"])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This pattern is interpreted as a regular expression")
            schema.validate(tracks, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
    row, value = cases["index"].astype(int), cases["failure_case"].astype(str).str[:80]
    ids = tracks["id"].to_numpy()[row]
    return pd.DataFrame({"rule": cases["check"], "row": row, "id": ids, "column": cases["column"], "value": value})


def _repeated_songs(tracks: pd.DataFrame) -> pd.DataFrame:
    """Return titles that an artist has twice, apart from case, punctuation and versions such as "(Live)"."""
    title = tracks["title"].str.replace(VERSION, "", regex=True, case=False)
    again = (tracks["artist"].fillna("") != "") & (_plain(tracks["artist"]) + "\t" + _plain(title)).duplicated()
    rows = tracks.loc[again & (tracks["title"] != ""), ["id", "title"]]
    return pd.DataFrame({"row": rows.index, "id": rows["id"], "column": "title", "value": rows["title"]})


def _table_results(tracks: pd.DataFrame, expected_moods: list[str], limits: Limits, reference: dict | None):
    """Apply the rules on the whole table."""
    error, warning = partial(_result, "error"), partial(_result, "warning")
    moods = tracks["mood"].value_counts()
    rows = [{"mood": mood} for mood in expected_moods if mood not in moods]
    yield error("expected moods are there", "No track teaches it.", "mood", rows)
    rows = _records(moods[(moods < limits.min_per_mood) & (moods.index != "")], "mood", "tracks")
    yield warning(f"moods have {limits.min_per_mood} tracks", "Too few to learn or to test a mood.", "mood", rows)
    empty = (tracks.isna() | (tracks == "")).mean().drop(["mood2", "language"])
    rows = _records(empty[empty > limits.max_missing], "column", "missing")
    yield warning(f"columns are at most {limits.max_missing:.0%} empty", "Missing values teach nothing.", None, rows)
    numbers = tracks[[*FEATURES, "tempo", "loudness", "duration_ms"]].dropna(axis=1, how="all")
    shares = {c: values.value_counts(normalize=True).head(1) for c, values in numbers.items() if len(tracks) > 1}
    common = [(c, float(share.index[0]), float(share.iloc[0])) for c, share in shares.items()]
    rows = [{"column": c, "value": value} for c, value, share in common if share == 1]
    yield warning("columns of numbers vary", "A constant does not distinguish tracks.", None, rows)
    common = [(c, value, round(share, 3)) for c, value, share in common if limits.max_constant < share < 1]
    rows = [{"column": c, "value": value, "share": share} for c, value, share in common]
    yield warning(f"no value has over {limits.max_constant:.0%} of a column", "A filled-in default?", None, rows)
    artists = tracks.loc[tracks["artist"] != "", "artist"].value_counts(normalize=True)
    rows = _records(artists[artists > limits.max_artist], "artist", "share") if len(tracks) > 100 else []
    yield warning(f"no artist has over {limits.max_artist:.0%}", "One artist's wording dominates.", "artist", rows)
    psi = pd.Series(drift(tracks, reference) if reference else {}, dtype=float)
    rows = _records(psi[psi > limits.max_drift], "column", "drift")
    yield warning(f"drift is under {limits.max_drift:g}", "The reference differs.", None, rows)


def _split_results(tracks: pd.DataFrame, requests: pd.DataFrame):
    """Apply the rules that keep the test apart from training."""
    error, warning = partial(_result, "error"), partial(_result, "warning")
    splits = requests.groupby("text")["split"].nunique()
    rows = [{"text": text} for text in splits[splits > 1].index]
    yield error("no request is in two splits", "Training has seen a test request.", None, rows)
    rows = [{"split": split} for split in SPLITS if split not in set(requests["split"])]
    yield error("every split has requests", "Training and test need requests.", None, rows)
    relevant = requests[["request_id", "split", "track_ids"]].explode("track_ids")
    split = tracks[tracks["id"].isin(relevant["track_ids"].unique())].drop_duplicates("id").set_index("id")["split"]
    stray = relevant[relevant["track_ids"].map(split) != relevant["split"]]
    rows = [{"request": r, "track": str(t)} for r, t in zip(stray["request_id"], stray["track_ids"], strict=True)]
    yield error("answers are tracks of the request's split", "Training has seen a test track.", None, rows)
    rows = [{"request": r} for r in requests.loc[requests["track_ids"].str.len() == 0, "request_id"]]
    yield error("every request has an answer", "It measures nothing.", None, rows)
    test, train = (tracks[tracks["split"] == split] for split in ("test", "train"))
    leaked = test[test["text"].isin(train["text"])]
    rows = [{"id": i, "text": text[:80]} for i, text in zip(leaked["id"], leaked["text"], strict=True)]
    yield warning("no test text was trained on", "The encoder has seen it.", "text", rows)


def _records(values: pd.Series, key: str, value: str) -> list[dict]:
    return [{key: name, value: round(number, 3)} for name, number in values.items()]


def _column_result(rule: Rule, failing: pd.DataFrame) -> dict:
    rows = [{k: v for k, v in row.items() if v != ""} for row in failing.head(FIRST).to_dict("records")]
    column = rule.columns[0] if len(rule.columns) == 1 else None
    return _result(rule.severity, rule.name, rule.why, column, rows) | {"failures": len(failing)}


def _result(severity: str, name: str, why: str, column: str | None, rows: list[dict]) -> dict:
    return {
        **{"rule": name, "severity": severity, "why": why, "failures": len(rows)},
        **{"rows": rows[:FIRST], "passed": not rows, "column": column},
    }


def _is_day(dates: pd.Series) -> pd.Series:
    return dates.str.fullmatch(DATE) & pd.to_datetime(dates, format="%Y-%m-%d", errors="coerce").notna()


def _plain(texts: pd.Series) -> pd.Series:
    """Drop case, accents, punctuation and double spaces: "Déjà-vu!" and "deja vu" become the same."""
    plain = pc.utf8_lower(pc.utf8_normalize(array(texts.fillna("")), "NFKD"))
    for pattern, replacement in ((r"\pM+", ""), ("&", " and "), (r"[^\pL\pN]+", " ")):
        plain = pc.replace_substring_regex(plain, pattern, replacement)
    return pd.Series(pc.utf8_trim_whitespace(plain).to_numpy(zero_copy_only=False), texts.index, dtype="str")
