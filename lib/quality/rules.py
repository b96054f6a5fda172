"""Rules of data quality (rules.yaml): for each a count of failures and the failing rows."""

import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow.compute as pc
import yaml
from pandera.errors import SchemaErrors
from pyarrow import array as pa_array

from lib.core.errors import WorkbookError
from lib.quality.drift import drift
from lib.tracks.columns import COLUMNS, FEATURES, NUMBERS
from lib.tracks.letters import misread
from lib.tracks.moods import SPLITS
from lib.tracks.songs import groups, plain

RULES = yaml.safe_load(Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8"))
END = 16  # the first and the last letters, in which most texts differ
FIRST = 10  # failing rows of each rule in quality.json; failing_rows.csv has all
TODAY = str(date.today())
DATE = r"(?:18|19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
# The replacement character, control characters, entities and tags of HTML (for RE2).
DAMAGE = r"\x{fffd}|[\x00-\x08\x0b\x0c\x0e-\x1f]|&[a-z]{2,6};|&#\d+;|</?[a-z]+ ?/?>"
# Checks of a column: name in rules.yaml -> function of its argument and the values, True for each good value.
CHECKS = {
    "filled": lambda _, s: s.str.strip() != "",
    "not": lambda value, s: s != value,
    "at_least": lambda least, s: s >= least,
    "between": lambda ends, s: s.between(*ends),
    "one_of": lambda values, s: s.isin(values),
    "unique": lambda _, s: ~_repeated(s, _ends(s)),
    "unique_plain": lambda _, s: ~_repeated(s, _plain_ends(s), plain),
    "min_words": lambda least, s: _words(s) >= least,
    "max_words": lambda most, s: _words(s) <= most,
    "undamaged": lambda _, s: ~_of(s, pc.match_substring_regex(pa_array(s), DAMAGE)),
    "letters": lambda _, s: misread(s) == "",
    "calendar_day": lambda _, s: (
        (s == "") | s.str.fullmatch(DATE) & pd.to_datetime(s, format="%Y-%m-%d", errors="coerce").notna()
    ),
    "not_in_the_future": lambda _, s: ~s.str.fullmatch(DATE) | (s <= TODAY),
}


class Limits(NamedTuple):
    """The thresholds. Each is a parameter of notebook 02."""

    min_per_mood: int = 20  # tracks
    max_missing: float = 0.2  # share of a column
    max_constant: float = 0.5  # share of one value in a column of numbers
    max_artist: float = 0.1  # share of the catalogue by one artist
    max_words: int = 100  # of a text; encoders cut at 128 tokens or later
    max_drift: float = 0.25  # population stability index


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
    cases = pd.concat([_failing_values(tracks, limits), _repeated_songs(tracks)])
    results, tables = [], []
    for rule in (*RULES["columns"], RULES["tables"]["songs"]):
        failing = cases[cases["rule"] == rule["rule"]]
        tables.append(failing.assign(severity=rule["severity"]))
        rows = failing.head(FIRST).drop(columns="rule").to_dict("records")
        rows = [{key: value for key, value in row.items() if value != ""} for row in rows]
        results.append(_result(rule, rows, limits) | {"failures": len(failing)})
    rows_of = {"columns": [{"column": name} for name in absent]}
    rows_of |= _of_tracks(tracks, expected_moods, limits, reference) | _of_splits(tracks, requests)
    results += [_result(RULES["tables"][key], rows, limits) for key, rows in rows_of.items()]
    table = pd.concat(tables)[["rule", "severity", "row", "id", "column", "value"]]
    return results, table.reset_index(drop=True)


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


def _failing_values(tracks: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Validate all columns with one pandera schema. Return rule, row, id, column and value of each failure."""
    checks = {name: [] for name in COLUMNS}
    for rule in RULES["columns"]:
        kind = next(key for key in rule if key in CHECKS)
        argument = getattr(limits, kind) if rule[kind] == "limit" else rule[kind]
        for name in rule["columns"]:
            checks[name].append(pa.Check(partial(CHECKS[kind], argument), name=rule["rule"], ignore_na=True))
    schema = pa.DataFrameSchema({name: pa.Column(checks=of, nullable=True) for name, of in checks.items()})
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
    texts = {name: tracks[name].fillna("") for name in ("title", "artist", "description", "tags")}
    again = groups(tracks.assign(**texts, id=tracks.index)).duplicated()
    rows = tracks.loc[again & (texts["title"] != "") & (texts["artist"] != ""), ["id", "title"]]
    name = RULES["tables"]["songs"]["rule"]
    return pd.DataFrame({"rule": name, "row": rows.index, "id": rows["id"], "column": "title", "value": rows["title"]})


def _of_tracks(tracks: pd.DataFrame, expected_moods: list[str], limits: Limits, reference) -> dict[str, list[dict]]:
    """Return the failing moods, columns and artists of each rule on the catalogue."""
    moods = tracks["mood"].value_counts()
    empty = (tracks.isna() | (tracks == "")).mean().drop(["mood2", "language", "plays"])
    numbers = tracks[[*FEATURES, "tempo", "loudness", "duration_ms"]].dropna(axis=1, how="all")
    common = {c: values.value_counts(normalize=True).head(1) for c, values in numbers.items() if len(tracks) > 1}
    common = [(c, float(share.index[0]), float(share.iloc[0])) for c, share in common.items()]
    common = pd.DataFrame(common, columns=["column", "value", "share"])
    default = common[(common["share"] > limits.max_constant) & (common["share"] < 1)]
    artists = tracks.loc[tracks["artist"] != "", "artist"].value_counts(normalize=True)
    psi = pd.Series(drift(tracks, reference) if reference else {}, dtype=float)
    return {
        "expected_moods": [{"mood": mood} for mood in expected_moods if mood not in moods],
        "rare_moods": _records(moods[(moods < limits.min_per_mood) & (moods.index != "")], "mood", "tracks"),
        "empty": _records(empty[empty > limits.max_missing], "column", "missing"),
        "constant": common.loc[common["share"] == 1, ["column", "value"]].to_dict("records"),
        "common": default.round({"share": 3}).to_dict("records"),
        "artists": _records(artists[(artists > limits.max_artist) & (len(tracks) > 100)], "artist", "share"),
        "drift": _records(psi[psi > limits.max_drift], "column", "drift"),
    }


def _of_splits(tracks: pd.DataFrame, requests: pd.DataFrame) -> dict[str, list[dict]]:
    """Return the failing requests and texts of each rule that keeps the test apart from training."""
    splits = requests.groupby("text")["split"].nunique()
    relevant = requests[["request_id", "track_ids", "split"]].explode("track_ids")
    relevant.columns = ["request", "track", "split"]
    split = tracks[tracks["id"].isin(relevant["track"].unique())].drop_duplicates("id").set_index("id")["split"]
    stray = relevant[relevant["track"].map(split) != relevant["split"]]
    twice = _ends(tracks["text"]).duplicated(keep=False)
    texts = {name: tracks.loc[twice & (tracks["split"] == name), "text"] for name in ("train", "test")}
    trained = pc.is_in(pa_array(texts["test"]), pa_array(texts["train"])).to_numpy(zero_copy_only=False)
    leaked = tracks.loc[texts["test"].index[trained], ["id", "text"]]
    return {
        "two_splits": [{"text": text} for text in splits[splits > 1].index],
        "splits": [{"split": split} for split in SPLITS if split not in set(requests["split"])],
        "other_split": stray[["request"]].assign(track=stray["track"].map(str)).to_dict("records"),
        "no_answer": [{"request": r} for r in requests.loc[requests["track_ids"].str.len() == 0, "request_id"]],
        "leaked": leaked.assign(text=leaked["text"].str[:80]).to_dict("records"),
    }


def _records(values: pd.Series, key: str, value: str) -> list[dict]:
    return [{key: name, value: round(number, 3)} for name, number in values.items()]


def _result(rule: dict, rows: list[dict], limits: Limits) -> dict:
    columns = rule.get("columns", [rule.get("column")])
    result = {"rule": rule["rule"].format(**limits._asdict()), "severity": rule["severity"], "why": rule["why"]}
    result |= {"failures": len(rows), "rows": rows[:FIRST], "passed": not rows}
    return result | {"column": columns[0] if len(columns) == 1 else None}


def _repeated(texts: pd.Series, ends: pd.Series, plain: Callable | None = None) -> pd.Series:
    """Return true for texts that stand earlier. -> (n,).

    Args:
        texts: (n,).
        ends: (n,); where texts are equal, these are equal, so only texts with equal ends are compared.
        plain: compare texts as this shows them, and pass those that stand earlier letter by letter.
    """
    alike = texts[ends.duplicated(keep=False)]
    again = plain(alike).duplicated() & ~alike.duplicated() if plain else alike.duplicated()
    return again.reindex(texts.index, fill_value=False)


def _ends(texts: pd.Series) -> pd.Series:
    return texts.str[:END] + texts.str[-END:]


def _plain_ends(texts: pd.Series) -> pd.Series:
    """Return `_ends` of the plain texts. (n,) -> (n,)."""
    first, last = plain(texts.str[: 2 * END]), plain(texts.str[-2 * END :])
    ends = first.str[:END] + last.str[-END:]
    cut = (first.str.len() < END) | (last.str.len() < END)  # half of it is punctuation
    ends[cut] = _ends(plain(texts[cut]))
    return ends


def _words(texts: pd.Series) -> pd.Series:
    return _of(texts, pc.count_substring(pa_array(texts), " ")) + 1


def _of(texts: pd.Series, values) -> pd.Series:
    """Return Arrow's values for texts as a series with the same index."""
    return pd.Series(values.to_numpy(zero_copy_only=False), texts.index)
