"""Data quality: named rules on pandera, each with a severity, a reason, a count and the first failing rows."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from lib.runs import WorkbookError
from lib.tracks import FEATURES

FIRST = 10  # failing rows kept for each rule


class Rule(NamedTuple):
    """A rule on one column: `passes` takes the column and gives True for each good row; missing values pass."""

    name: str
    severity: str
    why: str
    columns: tuple[str, ...]
    passes: object


RULES = (
    Rule("id is unique", "error", "Answers name tracks by id.", ("id",), lambda s: ~s.duplicated()),
    Rule("text is there", "error", "No text, not to be found.", ("text",), lambda s: s.str.strip() != ""),
    Rule("feature within 0 to 1", "error", "Moods need this scale.", FEATURES, lambda s: s.between(0, 1)),
    Rule("mood is known", "warning", "Tracks without a mood teach no mood.", ("mood",), lambda s: s != ""),
    Rule("text stands once", "warning", "Equals cannot be ranked.", ("text",), lambda s: ~s.duplicated(keep=False)),
    Rule("text is not cut", "warning", "Encoders read about 200 words.", ("text",), lambda s: s.str.count(" ") < 200),
    Rule("text is undamaged", "warning", "Misread letters.", ("text",), lambda s: ~s.str.contains("\ufffd|Ã©|â€™")),
    Rule("tempo within 30 to 250 BPM", "warning", "Misread tempo?", ("tempo",), lambda s: s.between(30, 250)),
    Rule("duration within 10 s to 2 h", "warning", "Not ms?", ("duration_ms",), lambda s: s.between(1e4, 7.2e6)),
    Rule("date is not in the future", "warning", "Misread?", ("release_date",), lambda s: s <= str(date.today())),
)


def check(
    tracks: pd.DataFrame, requests: pd.DataFrame, expected_moods: list[str], min_per_mood: int, max_missing: float
) -> list[dict]:
    """Check a catalogue and its requests.

    Args:
        expected_moods: moods that must be there; [] asks for none in particular.
        min_per_mood: fewer tracks of a mood than this is a warning.
        max_missing: largest share of missing values in a column, between 0 and 1.

    Returns:
        A dict a rule: rule, severity, why, failures (count), rows (the first failing ones), passed.
    """
    found = [_row_rule(rule, tracks) for rule in RULES]
    counts = tracks["mood"].value_counts()
    missing = (tracks.isna() | (tracks == "")).mean()
    heard = requests.groupby("text")["split"].nunique()
    tables = (
        ("expected moods are there", "error", "A mood that is absent cannot be learnt.",
         [{"mood": m} for m in expected_moods if m not in counts]),
        (f"moods have {min_per_mood} tracks", "warning", "Too few tracks to learn or to test a mood.",
         [{"mood": m, "tracks": int(k)} for m, k in counts.items() if m and k < min_per_mood]),
        (f"columns are at most {max_missing:.0%} empty", "warning", "What is mostly missing cannot be used.",
         [{"column": c, "missing": round(float(v), 3)} for c, v in missing.items() if v > max_missing]),
        ("no request is in two splits", "error", "A test seen in training flatters.",
         [{"text": t} for t in heard[heard > 1].index]),
        ("every split has requests", "error", "Nothing to train on, or to test with.",
         [{"split": s} for s in ("train", "dev", "test") if s not in set(requests["split"])]),
    )  # fmt: skip
    return found + [_result(name, severity, why, len(rows), rows[:FIRST]) for name, severity, why, rows in tables]


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


def _row_rule(rule: Rule, tracks: pd.DataFrame) -> dict:
    check = pa.Check(rule.passes, name=rule.name, ignore_na=True)
    schema = pa.DataFrameSchema({name: pa.Column(checks=check, nullable=True) for name in rule.columns})
    try:
        schema.validate(tracks, lazy=True)
        return _result(rule.name, rule.severity, rule.why, 0, [])
    except SchemaErrors as errors:
        cases = errors.failure_cases
    missing = cases[cases["index"].isna()]
    rows = [
        {"column": str(c), "problem": str(p)} for c, p in zip(missing["failure_case"], missing["check"], strict=True)
    ]
    cases = cases[cases["index"].notna()]
    for case in cases.head(FIRST).itertuples():
        row = int(case.index)
        rows.append(
            {"row": row, "id": str(tracks["id"].iloc[row]), "column": case.column, "value": str(case.failure_case)[:80]}
        )
    return _result(rule.name, rule.severity, rule.why, len(missing) + len(cases), rows)


def _result(name: str, severity: str, why: str, failures: int, rows: list) -> dict:
    return {"rule": name, "severity": severity, "why": why, "failures": failures, "rows": rows, "passed": failures == 0}
