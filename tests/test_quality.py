"""The rules of data quality: a clean catalogue passes, and each rule finds its own defect."""

import numpy as np
import pandas as pd
import pytest

from lib.core import errors
from lib.quality import drift, faults, pictures, rules
from lib.tracks import completing, importing, listener_requests, synthetic


@pytest.fixture(scope="module")
def tracks() -> pd.DataFrame:
    return synthetic.generate(2000, seed=3)


@pytest.fixture(scope="module")
def requests(tracks) -> pd.DataFrame:
    return listener_requests.generate(tracks, 2000, seed=3)


def failed(tracks, requests, expected_moods=("calm",), reference=None, **limits) -> dict[str, dict]:
    """Return the results of the failed rules."""
    results, failing = rules.check(tracks, requests, list(expected_moods), rules.Limits(**limits), reference)
    by_rule = failing.groupby("rule").size()
    assert all(r["failures"] == by_rule[r["rule"]] for r in results if r["rows"] and "row" in r["rows"][0])
    return {r["rule"]: r for r in results if not r["passed"]}


def test_a_clean_catalogue_passes(tracks, requests):
    assert failed(tracks, requests) == {}


DEFECTS = [
    ("id", "", "id is there"),
    ("id", "t0000001", "id is unique"),
    ("text", "  ", "text is there"),
    ("energy", 7.0, "feature within 0 to 1"),
    ("danceability", -0.1, "feature within 0 to 1"),
    ("speechiness", 1.01, "feature within 0 to 1"),
    ("split", "validation", "split is train, dev or test"),
    ("mood", "", "mood is known"),
    ("mood_confidence", 0.3, "mood is sure"),
    ("title", "", "title is there"),
    ("artist", "", "artist is there"),
    ("genre", "", "genre is there"),
    ("text", "COPY", "text stands once"),
    ("text", "SHOUTED", "text stands once but for case and punctuation"),
    ("text", "two words", "text has three words"),
    ("text", "word " * 300, "text is not cut"),
    ("description", "DÃ©jÃ vu", "letters are read in their encoding"),
    ("title", "Itâ€™s over", "letters are read in their encoding"),
    ("artist", "Ãðóïïà êðîâè", "letters are read in their encoding"),
    ("artist", "Beyonc\ufffd", "text is undamaged"),
    ("title", "Rock &amp; Roll", "text is undamaged"),
    ("description", "line<br>break", "text is undamaged"),
    ("album", "bell\x07", "text is undamaged"),
    ("tempo", 999.0, "tempo within 30 to 250 BPM"),
    ("tempo", 0.0, "tempo within 30 to 250 BPM"),
    ("loudness", 40.0, "loudness within -60 to 5 dB"),
    ("duration_ms", 215, "duration within 10 s to 2 h"),
    ("duration_ms", 9_000_000, "duration within 10 s to 2 h"),
    ("popularity", 4000, "popularity within 0 to 100"),
    ("key", 12, "key within 0 to 11"),
    ("mode", 2, "mode is 0 or 1"),
    ("release_date", "1999-13-45", "date is a date"),
    ("release_date", "2023-02-30", "date is a date"),
    ("release_date", "1066-10-14", "date is a date"),
    ("release_date", "2099-01-01", "date is not in the future"),
    ("title", "VERSION", "song stands once"),
]


@pytest.mark.parametrize(("column", "value", "rule"), DEFECTS)
def test_each_rule_finds_its_defect_and_no_other_rule_does(tracks, requests, column, value, rule):
    broken = tracks.copy()
    if value in ("COPY", "SHOUTED"):
        value = tracks["text"][3] if value == "COPY" else tracks["text"][3].upper() + "!!"
    if value == "VERSION":
        value, broken.loc[7, "artist"] = tracks["title"][3].upper() + " (Live at Home)", tracks["artist"][3]
    broken.loc[7, column] = value
    rules_failed = failed(broken, requests.head(0) if column in ("id", "split") else requests)
    rules_failed.pop("every split has requests", None)
    assert rules_failed.pop(rule)["failures"] == 1
    allowed = {"moods have 20 tracks", "no test text was trained on"}  # a copy may be in another split
    assert set(rules_failed) <= allowed | ({"text has three words"} if rule == "text is there" else set())


TABLE_DEFECTS = [
    ("expected moods are there", lambda t, q: (t, q), {"expected_moods": ["calm", "polka"]}, 1),
    ("moods have 10000 tracks", lambda t, q: (t, q), {"min_per_mood": 10_000}, 18),
    ("columns are at most 20% empty", lambda t, q: (t.assign(tempo=np.nan), q), {}, 1),
    ("columns are at most 20% empty", lambda t, q: (t.assign(tags=""), q), {}, 1),
    ("columns of numbers vary", lambda t, q: (t.assign(loudness=-7.0), q), {}, 1),
    ("no value has over 50% of a column", lambda t, q: (t.assign(tempo=t["tempo"].where(t.index > 1200, 9)), q), {}, 1),
    ("no artist has over 10%", lambda t, q: (t.assign(artist=t["artist"].where(t.index > 300, "One")), q), {}, 1),
    ("columns are there", lambda t, q: (t.drop(columns=["energy", "artist"]), q), {}, 2),
    ("no request is in two splits", lambda t, q: (t, pd.concat([q, q.head(1).assign(split="test")])), {}, 1),
    ("every split has requests", lambda t, q: (t, q[q["split"] != "dev"]), {}, 1),
    ("answers are tracks of the request's split", lambda t, q: (t.assign(split="train"), q), {}, None),
    ("every request has an answer", lambda t, q: (t, q.assign(track_ids=[[], *q["track_ids"][1:]])), {}, 1),
    ("no test text was trained on", lambda t, q: (with_leak(t), q), {}, 1),
    ("drift is under 0.25", lambda t, q: (t.assign(tempo=t["tempo"] / 2), q), {}, 1),
    ("drift is under 0.25", lambda t, q: (t.assign(mood="calm"), q), {}, 1),
]


def with_leak(tracks: pd.DataFrame) -> pd.DataFrame:
    """Give one test track the text of a training track."""
    train, test = (tracks.index[tracks["split"] == split][0] for split in ("train", "test"))
    return tracks.assign(text=tracks["text"].where(tracks.index != test, tracks["text"][train]))


@pytest.mark.parametrize(("rule", "spoil", "how", "failures"), TABLE_DEFECTS)
def test_rules_on_tables_find_their_defects(tracks, requests, rule, spoil, how, failures):
    result = failed(*spoil(tracks, requests), reference=drift.profile(tracks), **how)[rule]
    assert result["failures"] == failures or (failures is None and result["failures"] > 1)


def test_dates_of_an_import_pass_the_date_rule_or_are_listed(tmp_path):
    dates = ["12.05.1984", "not yet", "1999-05-06T10:00", "1984.0", "", *["2001"] * 20]
    rows = "".join(f"Song {i},{date}\n" for i, date in enumerate(dates))
    (tmp_path / "c.csv").write_text("title,release_date\n" + rows)
    catalogue = importing.import_catalogue(str(tmp_path / "c.csv"), {}, {}, {}, {}, 0, 1)
    assert catalogue.left_out_values[["row", "value"]].to_numpy().tolist() == [[2, "not yet"]]
    tracks = completing.complete(catalogue.tracks, ["decade"], [], ["words"], None, 1)
    assert tracks["release_date"].tolist()[:5] == ["1984-05-12", "", "1999-05-06", "1984-01-01", ""]
    failing = rules.check(tracks, listener_requests.generate(tracks, 10, 1), [], rules.Limits())[1]
    assert "date is a date" not in set(failing["rule"])


def test_a_profile_does_not_drift_from_itself(tracks):
    assert max(drift.drift(tracks, drift.profile(tracks)).values()) < 1e-3
    assert max(drift.drift(synthetic.generate(2000, seed=9), drift.profile(tracks)).values()) < 0.25


def test_a_named_reference_without_a_profile_is_an_error(tmp_path):
    (tmp_path / "quality.json").write_text("[]")
    assert drift.reference_profile(tmp_path, named=False) is None
    with pytest.raises(errors.WorkbookError, match=r"has no quality\.json with a profile"):
        drift.reference_profile(tmp_path, named=True)


def test_an_error_stops_the_run_and_names_the_row(tracks, requests):
    broken = tracks.copy()
    broken.loc[7, "energy"] = 7.0
    with pytest.raises(errors.WorkbookError, match=r"feature within 0 to 1: 1 failing, .*t0000007"):
        rules.stop_on_errors(rules.check(broken, requests, [], rules.Limits())[0])


@pytest.mark.parametrize(("n", "planted"), [(2000, 12), (250, 5)])
def test_each_rule_fails_in_a_copy_with_planted_faults(tracks, requests, n, planted):
    sample = tracks.sample(n, random_state=1)
    before = sample.copy()
    broken, asked = faults.plant(sample, requests, 12, seed=1)
    results, failing = rules.check(broken, asked, ["calm"], rules.Limits(), drift.profile(sample))
    assert [result["rule"] for result in results if result["passed"]] == [] and len(results) == 38
    counts = {result["rule"]: result["failures"] for result in results}
    assert all(counts[rule] == planted for rule in ("tempo within 30 to 250 BPM", "mood is sure", "text is not cut"))
    assert sample.equals(before) and len(pictures.failing_values(results, failing, broken).axes) >= 15
    bare, _ = faults.plant(sample.head(9).assign(tempo=np.nan, mood="", genre=""), requests, 12, seed=1)
    assert len(bare) == 9  # too small for a fault in each column


def titles(figure) -> str:
    return "; ".join(" ".join(axes.get_title(loc="left").split()) for axes in figure.axes)


def test_a_failed_rule_has_a_panel_where_its_rows_differ(tracks, requests):
    broken = tracks.assign(tempo=tracks["tempo"].where(tracks.index > 5, 999.0), loudness=-7.0, mood="")
    broken.loc[9, "text"] = "two words"
    results, failing = rules.check(broken, requests, ["calm"], rules.Limits())
    shown = titles(pictures.failing_values(results, failing, broken))
    assert all(rule in shown for rule in ("mood is known", "tempo within", "text has three words"))
    assert "expected moods" not in shown and "columns of numbers vary" not in shown  # a single bar each
    bare = broken.assign(genre="")
    shown = titles(pictures.failing_values(*rules.check(bare, requests, [], rules.Limits()), bare))
    assert "mood is known" not in shown and "genre is there" not in shown and "tempo within" in shown
    assert pictures.failing_values(*rules.check(tracks, requests, [], rules.Limits()), tracks) is None
