"""Data quality: named rules on pandera, each with a severity, a reason, a count and the failing rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.compute as pc
from pandera.errors import SchemaErrors
from pyarrow import array as pa_array

from lib.core.errors import WorkbookError
from lib.quality.drift import drift
from lib.tracks.columns import COLUMNS, FEATURES, NUMBERS

FIRST = 10  # failing rows kept for each rule in quality.json; all of them are in failing_rows.csv
TODAY = str(date.today())
DATE = r"(?:18|19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
# What UTF-8 read as Latin-1 leaves, the replacement character, control characters, entities and tags of HTML.
DAMAGE = r"\ufffd|Ã[\x80-\xbf©¨¼¶¤ ]|â€|Â[\xa0-\xbf]|[\x00-\x08\x0b\x0c\x0e-\x1f]|&[a-z]{2,6};|&#\d+;|</?[a-z]+ ?/?>"
VERSION = r" *(?:\(|\[|- )(?:.*\b(?:live|remaster(?:ed)?|acoustic|radio edit|demo|mono|stereo|version|edit|mix)\b).*$"


class Rule(NamedTuple):
    """A rule on single columns: `passes` takes a column and gives True for each good row; missing values pass."""

    name: str
    severity: str
    why: str
    columns: tuple[str, ...]
    passes: Callable[[pd.Series], pd.Series]


class Limits(NamedTuple):
    """The thresholds; each is a parameter of notebook 02."""

    min_per_mood: int = 20  # tracks
    max_missing: float = 0.2  # share of a column
    max_constant: float = 0.5  # share of one value in a column of numbers
    max_artist: float = 0.1  # share of the catalogue by one artist
    max_words: int = 100  # of a text; encoders cut at 128 tokens or later
    max_drift: float = 0.25  # population stability index


def rules(limits: Limits) -> tuple[Rule, ...]:
    """The rules on single columns."""
    return (
        Rule("id is there", "error", "Answers name tracks by id.", ("id",), lambda s: s.str.strip() != ""),
        Rule("id is unique", "error", "Two tracks of one id cannot be told apart.", ("id",), lambda s: ~s.duplicated()),
        Rule("text is there", "error", "No text, not to be found.", ("text",), lambda s: s.str.strip() != ""),
        Rule("feature within 0 to 1", "error", "Moods are read from this scale.", FEATURES, lambda s: s.between(0, 1)),
        Rule("split is train, dev or test", "error", "A track in no split is never used.", ("split",),
             lambda s: s.isin(["train", "dev", "test"])),
        Rule("mood is known", "warning", "Tracks without a mood teach no mood.", ("mood",), lambda s: s != ""),
        Rule("mood is sure", "warning", "A guessed mood teaches a guess.", ("mood_confidence",), lambda s: s >= 0.5),
        Rule("title is there", "warning", "Listeners see titles.", ("title",), lambda s: s != ""),
        Rule("artist is there", "warning", "Listeners see artists.", ("artist",), lambda s: s != ""),
        Rule("genre is there", "warning", "Requests ask for genres.", ("genre",), lambda s: s != ""),
        Rule("text stands once", "warning", "Equal texts cannot be ranked.", ("text",), lambda s: ~s.duplicated()),
        Rule("text stands once but for case and punctuation", "warning", "Near-duplicates fill an answer.",
             ("text",), lambda s: s.duplicated() | ~_plain(s).duplicated()),
        Rule("text has three words", "warning", "Too short to say what it is.", ("text",),
             lambda s: s.str.count(" ") >= 2),
        Rule("text is not cut", "warning", "The encoder does not read the end.", ("text",),
             lambda s: s.str.count(" ") < limits.max_words),
        Rule("text is undamaged", "warning", "Misread letters and markup are noise.",
             ("title", "artist", "album", "description"), lambda s: ~s.str.contains(DAMAGE)),
        Rule("tempo within 30 to 250 BPM", "warning", "Misread tempo?", ("tempo",), lambda s: s.between(30, 250)),
        Rule("loudness within -60 to 5 dB", "warning", "Misread loudness?", ("loudness",), lambda s: s.between(-60, 5)),
        Rule("duration within 10 s to 2 h", "warning", "Not milliseconds?", ("duration_ms",),
             lambda s: s.between(1e4, 7.2e6)),
        Rule("popularity within 0 to 100", "warning", "Another scale?", ("popularity",), lambda s: s.between(0, 100)),
        Rule("key within 0 to 11", "warning", "Pitch classes are 0 (C) to 11 (B).", ("key",),
             lambda s: s.isin(range(12))),
        Rule("mode is 0 or 1", "warning", "Minor is 0, major 1.", ("mode",), lambda s: s.isin([0, 1])),
        Rule("date is a date", "warning", "Not a day of a calendar.", ("release_date",),
             lambda s: s.str.fullmatch(DATE) & _is_day(s)),
        Rule("date is not in the future", "warning", "Misread?", ("release_date",),
             lambda s: ~s.str.fullmatch(DATE) | (s <= TODAY)),
    )  # fmt: skip


def check(
    tracks: pd.DataFrame,
    requests: pd.DataFrame,
    expected_moods: list[str],
    limits: Limits,
    reference: dict | None = None,
) -> tuple[list[dict], pd.DataFrame]:
    """Check a catalogue and its requests.

    Args:
        expected_moods: moods that must be there; [] asks for none in particular.
        reference: the `profile` of another catalogue, for drift; None compares with nothing.

    Returns:
        A dict a rule: rule, severity, why, failures (count), rows (the first failing ones), passed, column (or None).
        All failing rows: columns rule, severity, row, id, column, value.
    """
    absent = [name for name in COLUMNS if name not in tracks]
    tracks = tracks.assign(**{name: np.nan if name in NUMBERS else "" for name in absent}).reset_index(drop=True)
    found = [*(_row_rule(rule, tracks) for rule in rules(limits)), _song_rule(tracks)]
    results = [_result(rule, failing) for rule, failing in found]
    columns = ("columns are there", "error", "Later notebooks read them.", None, [{"column": name} for name in absent])
    for name, severity, why, column, rows in (columns, *_table_rules(tracks, expected_moods, limits, reference),
                                              *_split_rules(tracks, requests)):  # fmt: skip
        results.append({"rule": name, "severity": severity, "why": why, "failures": len(rows), "rows": rows[:FIRST],
                        "passed": not rows, "column": column})  # fmt: skip
    failing = pd.concat(
        [rows.assign(rule=rule.name, severity=rule.severity) for rule, rows in found], ignore_index=True
    )
    return results, failing[["rule", "severity", "row", "id", "column", "value"]]


def scorecard(results: list[dict]) -> pd.DataFrame:
    """The rules as a table to show, failures first."""
    table = pd.DataFrame(results)[["rule", "severity", "failures", "passed", "why"]]
    return table.sort_values(["passed", "severity"], kind="stable").reset_index(drop=True)


def stop_on_errors(results: list[dict]) -> None:
    """Raise WorkbookError if a rule of severity error failed; it names the rules and the first failing rows."""
    failed = [r for r in results if r["severity"] == "error" and not r["passed"]]
    if failed:
        said = "; ".join(f"{r['rule']}: {r['failures']} failing, first {r['rows'][0]}" for r in failed)
        raise WorkbookError(f"the catalogue is not fit to train on. {said}. Mend the catalogue, then run again.")


def _row_rule(rule: Rule, tracks: pd.DataFrame) -> tuple[Rule, pd.DataFrame]:
    """The rule and its failing rows: row, id, column, value."""
    check = pa.Check(rule.passes, name=rule.name, ignore_na=True)
    schema = pa.DataFrameSchema({name: pa.Column(checks=check, nullable=True) for name in rule.columns})
    rows = pd.DataFrame({"row": [], "id": [], "column": [], "value": []})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This pattern is interpreted as a regular expression")
            schema.validate(tracks, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        row, value = cases["index"].astype(int), cases["failure_case"].astype(str).str[:80]
        rows = pd.DataFrame({"row": row, "id": tracks["id"].to_numpy()[row], "column": cases["column"], "value": value})
    return rule, rows


def _song_rule(tracks: pd.DataFrame) -> tuple[Rule, pd.DataFrame]:
    """One artist's song twice, alike but for case, punctuation and a version such as "(Live)"."""
    rule = Rule("song stands once", "warning", "Versions of one song fill an answer.", ("title",), lambda s: s)
    title = tracks["title"].str.replace(VERSION, "", regex=True, case=False)
    again = (tracks["artist"].fillna("") != "") & (_plain(tracks["artist"]) + "\t" + _plain(title)).duplicated()
    rows = tracks.loc[again & (tracks["title"] != ""), ["id", "title"]]
    return rule, pd.DataFrame({"row": rows.index, "id": rows["id"], "column": "title", "value": rows["title"]})


def _table_rules(tracks: pd.DataFrame, expected_moods: list[str], limits: Limits, reference: dict | None):
    """Rules on the whole table: name, severity, why, column, failing things."""
    counts = tracks["mood"].value_counts()
    missing = (tracks.isna() | (tracks == "")).mean()
    artists = tracks.loc[tracks["artist"] != "", "artist"].value_counts(normalize=True)
    numbers = [name for name in (*FEATURES, "tempo", "loudness", "duration_ms") if tracks[name].notna().any()]
    common = {name: tracks[name].value_counts(normalize=True).head(1) for name in numbers}
    moved = drift(tracks, reference) if reference else {}
    yield ("expected moods are there", "error", "A mood that is absent cannot be learnt.", "mood",
           [{"mood": m} for m in expected_moods if m not in counts])  # fmt: skip
    yield (f"moods have {limits.min_per_mood} tracks", "warning", "Too few tracks to learn or to test a mood.", "mood",
           [{"mood": m, "tracks": int(k)} for m, k in counts.items() if m and k < limits.min_per_mood])  # fmt: skip
    yield (f"columns are at most {limits.max_missing:.0%} empty", "warning", "What is missing cannot be used.", None,
           [{"column": c, "missing": round(float(v), 3)} for c, v in missing.items()
            if v > limits.max_missing and c not in ("mood2", "language")])  # fmt: skip
    yield ("columns of numbers vary", "warning", "A constant tells no track from another.", None,
           [{"column": c, "value": float(v.index[0])} for c, v in common.items()
            if v.iloc[0] == 1 and len(tracks) > 1])  # fmt: skip
    yield (f"no value has over {limits.max_constant:.0%} of a column", "warning", "A default, filled in?", None,
           [{"column": c, "value": float(v.index[0]), "share": round(float(v.iloc[0]), 3)} for c, v in common.items()
            if limits.max_constant < v.iloc[0] < 1])  # fmt: skip
    yield (f"no artist has over {limits.max_artist:.0%}", "warning", "One artist's wording is learnt.", "artist",
           [{"artist": a, "share": round(float(v), 3)} for a, v in artists.items()
            if v > limits.max_artist and len(tracks) > 100])  # fmt: skip
    yield (f"drift is under {limits.max_drift:g}", "warning", "Not the catalogue that came before.", None,
           [{"column": c, "drift": round(v, 3)} for c, v in moved.items() if v > limits.max_drift])  # fmt: skip


def _split_rules(tracks: pd.DataFrame, requests: pd.DataFrame):
    """Rules that keep the test honest: name, severity, why, column, failing things."""
    heard = requests.groupby("text")["split"].nunique()
    unseen = tracks[tracks["split"] == "test"]
    leaked = unseen[unseen["text"].isin(tracks.loc[tracks["split"] == "train", "text"])]
    answers = requests[["request_id", "split", "track_ids"]].explode("track_ids")
    split = tracks[tracks["id"].isin(answers["track_ids"].unique())].drop_duplicates("id").set_index("id")["split"]
    astray = answers[answers["track_ids"].map(split) != answers["split"]]
    unanswered = requests.loc[requests["track_ids"].str.len() == 0, "request_id"]
    yield ("no request is in two splits", "error", "A test seen in training flatters.", None,
           [{"text": t} for t in heard[heard > 1].index])  # fmt: skip
    yield ("every split has requests", "error", "Nothing to train on, or to test with.", None,
           [{"split": s} for s in ("train", "dev", "test") if s not in set(requests["split"])])  # fmt: skip
    yield ("answers are tracks of the request's split", "error", "A test answered from training flatters.", None,
           [{"request": r, "track": str(t)}
            for r, t in zip(astray["request_id"], astray["track_ids"], strict=True)])  # fmt: skip
    yield ("every request has an answer", "error", "A request that nothing answers measures nothing.", None,
           [{"request": r} for r in unanswered])  # fmt: skip
    yield ("no test text was trained on", "warning", "The encoder has seen it.", "text",
           [{"id": i, "text": t[:80]} for i, t in zip(leaked["id"], leaked["text"], strict=True)])  # fmt: skip


def _result(rule: Rule, failing: pd.DataFrame) -> dict:
    rows = [{k: v for k, v in row.items() if v != ""} for row in failing.head(FIRST).to_dict("records")]
    return {"rule": rule.name, "severity": rule.severity, "why": rule.why, "failures": len(failing), "rows": rows,
            "passed": failing.empty, "column": rule.columns[0] if len(rule.columns) == 1 else None}  # fmt: skip


def _is_day(dates: pd.Series) -> pd.Series:
    return pd.to_datetime(dates, format="%Y-%m-%d", errors="coerce").notna()


def _plain(texts: pd.Series) -> pd.Series:
    """Without case, accents, punctuation and double spaces: "Déjà-vu!" and "deja vu" are the same."""
    bare = pc.utf8_lower(pc.utf8_normalize(pa_array(texts.fillna("")), "NFKD"))
    for pattern, by in ((r"\pM+", ""), ("&", " and "), (r"[^\pL\pN]+", " ")):
        bare = pc.replace_substring_regex(bare, pattern, by)
    return pd.Series(pc.utf8_trim_whitespace(bare).to_numpy(zero_copy_only=False), texts.index, dtype="str")
