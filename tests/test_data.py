"""The catalogue, the requests, the importer and the quality rules."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from lib import catalogue, moods, quality, queries, runs, tracks

DESCRIBE = ["mood", "genre", "features"]


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return tracks.generate(2000, seed=3)


@pytest.fixture(scope="module")
def asked(made) -> pd.DataFrame:
    return queries.generate(made, 2000, seed=3)


def read(path, **how):
    defaults = {"columns": {}, "describe_from": DESCRIBE, "duration_unit": "ms", "max_tracks": 0, "seed": 1}
    return catalogue.import_catalogue(str(path), **(defaults | how))


def refused(path, **how) -> str:
    with pytest.raises(runs.WorkbookError) as error:
        read(path, **how)
    return str(error.value)


# moods.yaml


def test_moods_have_their_shape():
    assert {"calm", "energetic", "melancholic"} <= set(moods.MOODS)
    for mood in moods.MOODS.values():
        assert -1 <= mood.valence <= 1 and -1 <= mood.arousal <= 1
        for field in (mood.words, mood.phrases, mood.activities):
            assert list(field) == list(moods.SPLITS) and all(field.values())
    for genre in moods.GENRES.values():
        assert set(genre.moods) <= set(moods.MOODS) and len(genre.instruments) >= 2


def test_no_mood_word_is_in_two_places():
    words = [w.casefold() for m in moods.MOODS.values() for split in m.words.values() for w in split]
    assert len(words) == len(set(words))


def test_mood_is_read_from_words_and_from_features():
    assert moods.from_text("a calm, calm and slightly energetic song") == "calm"
    assert moods.from_text("a song") is None
    loud_and_bright, quiet_and_sad = moods.from_features(np.array([0.8, 0.15]), np.array([0.9, 0.2]))
    assert moods.MOODS[loud_and_bright].arousal > 0.3
    assert moods.MOODS[quiet_and_sad].valence < 0 and moods.MOODS[quiet_and_sad].arousal < 0


# synthetic tracks


def test_the_same_seed_gives_the_same_tracks(made):
    assert made.equals(tracks.generate(2000, seed=3))
    assert not made.equals(tracks.generate(2000, seed=4))


def test_features_follow_moods(made):
    by_mood = made.groupby("mood")[["energy", "valence", "tempo"]].median()
    assert by_mood.loc["energetic", "energy"] > by_mood.loc["calm", "energy"] + 0.3
    assert by_mood.loc["happy", "valence"] > by_mood.loc["sad", "valence"] + 0.3
    assert made[["energy", "loudness"]].corr().iloc[0, 1] > 0.8
    assert made[["energy", "acousticness"]].corr().iloc[0, 1] < -0.1


def test_texts_have_no_empty_slot(made):
    for column in ("title", "artist", "description", "tags", "text"):
        assert made[column].str.len().min() > 1
        assert not made[column].str.contains(r"[{}]|\b(?:nan|None)\b").any()
    assert not made["description"].str.contains(r"\ba [aeio]", flags=re.I).mean() > 0.05


# requests


def test_test_wording_is_never_taught(made, asked):
    templates = {split: set(part["template"]) for split, part in asked.groupby("split")}
    assert not templates["train"] & templates["test"] and not templates["train"] & templates["dev"]
    taught = " ".join([*made["text"], *made["tags"], *asked.loc[asked["split"] == "train", "text"]]).casefold()
    for mood in moods.MOODS.values():
        for word in (*mood.words["test"], *mood.phrases["test"], *mood.activities["test"]):
            assert not re.search(rf"\b{re.escape(word.casefold())}\b", taught), word


def test_splits_share_no_track(made, asked):
    split = made.set_index("id")["split"]
    for row in asked.itertuples():
        assert {split[i] for i in row.track_ids} == {row.split}


def judged(**asked) -> list[int]:
    """Grades of a hand-made catalogue for one request; no track of it is the one that the request was worded from."""
    near = moods.near("calm")[0]
    rows = [
        ("calm", "folk", 0.9),
        ("calm", "folk", 0.1),
        ("calm", "techno", 0.9),
        (near, "folk", 0.9),
        (near, "techno", 0.9),
    ]
    table = pd.DataFrame([*rows, ("angry", "folk", 0.9)], columns=["mood", "genre", "instrumentalness"])
    request = {"mood": "calm", "genre": "", "instrumental": False, "target": "another"} | asked
    return queries.judge(pd.Series(request), table.assign(id=table.index.astype(str))).tolist()


def test_grades_order_mood_genre_and_nearness():
    assert judged() == [3, 3, 3, 1, 1, 0]
    assert judged(genre="folk") == [3, 3, 2, 1, 0, 0]
    assert judged(genre="folk", mood="") == [1, 1, 0, 1, 0, 1]
    assert judged(target="5") == [3, 3, 3, 1, 1, 3]


def test_no_singing_asked_means_less_for_sung_tracks():
    assert judged(genre="folk", instrumental=True) == [3, 2, 2, 1, 0, 0]


# the importer: one defect each


def csv(tmp_path, text: str, name="c.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_missing_file(tmp_path):
    assert "no such file" in refused(tmp_path / "none.csv")


def test_empty_file(tmp_path):
    assert "0 bytes" in refused(csv(tmp_path, ""))


def test_header_only(tmp_path):
    assert "a header and no rows" in refused(csv(tmp_path, "title,artist\n"))


def test_png_named_csv(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    assert str(path) in refused(path) and "not UTF-8" in refused(path)


def test_latin1(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("title,artist\nDéjà vu,Beyoncé\n".encode("latin-1"))
    assert "iconv -f latin1" in refused(path)


def test_unknown_ending(tmp_path):
    assert "'.xlsx'" in refused(csv(tmp_path, "x", "c.xlsx"))


def test_named_column_is_missing(tmp_path):
    said = refused(csv(tmp_path, "track_name,artist\nA,B\n"), columns={"title": "track_nam"})
    assert "'track_nam'" in said and "did you mean 'track_name'" in said


def test_no_text_column(tmp_path):
    assert "none of title, description and tags" in refused(csv(tmp_path, "foo,bar\nA,B\n"))


def test_unknown_column_of_ours(tmp_path):
    assert "did you mean 'title'" in refused(csv(tmp_path, "a\nb\n"), columns={"titel": "a"})


def test_rows_are_left_out_with_reasons(tmp_path):
    text = (
        "id,title,energy,length\n1,A,0.5,200\n1,B,0.5,200\n2,C,7.3,200\n3,D,abc,200\n4,,0.1,200\n5,E,,-3\n6,F,nan,210\n"
    )
    kept, left_out = read(csv(tmp_path, text), columns={"duration_ms": "length"}, duration_unit="s")
    assert kept["id"].tolist() == ["1", "6"] and kept["duration_ms"].tolist() == [200_000, 210_000]
    reasons = dict(zip(left_out["row"], left_out["reason"], strict=True))
    assert "earlier row" in reasons[2] and "energy 7.3 is outside" in reasons[3] and "not a number" in reasons[4]
    assert "no title" in reasons[5] and "duration" in reasons[6]


def test_text_stays_as_it_was_written(tmp_path):
    kept, _ = read(csv(tmp_path, 'id,title,artist\n0012,None,NA\n0013,1999,"a ""b"", c"\n0014,007,null\n'))
    assert kept["id"].tolist() == ["0012", "0013", "0014"] and kept["title"].tolist() == ["None", "1999", "007"]
    assert kept["artist"].tolist() == ["NA", 'a "b", c', "null"]


def test_every_split_has_tracks_however_few_there_are(tmp_path):
    kept, _ = read(csv(tmp_path, "title\n" + "\n".join("abcde")))
    assert kept["split"].value_counts().to_dict() == {"train": 3, "dev": 1, "test": 1}


def test_a_thousand_columns(tmp_path):
    header = ",".join(["title", *(f"c{i}" for i in range(1000))])
    kept, _ = read(csv(tmp_path, header + "\n" + ",".join(["A"] + ["1"] * 1000) + "\n"))
    assert kept["title"].tolist() == ["A"] and list(kept.columns) == list(tracks.COLUMNS)


def test_other_kinds_of_file(tmp_path):
    table = pd.DataFrame(
        {"title": ["Déjà vu", "愛"], "mood": ["Happy", "Chilled out"], "release_date": ["1999", "2001-05-06"]}
    )
    table.to_parquet(tmp_path / "c.parquet")
    table.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    table.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    for name in ("c.parquet", "c.jsonl", "c.tsv", "c.csv.gz"):
        kept, _ = read(tmp_path / name)
        assert kept["title"].tolist() == ["Déjà vu", "愛"] and kept["mood"].tolist() == ["happy", "chilled out"]
        assert kept["release_date"].tolist() == ["1999-01-01", "2001-05-06"]


def test_spotify_moods_import(shared):
    kept, left_out = read(shared / "data/spotify-moods.csv", columns={"title": "name", "duration_ms": "length"})
    assert len(kept) + len(left_out) == 686 and set(kept["mood"]) == {"happy", "sad", "calm", "energetic"}
    assert len(queries.generate(kept, 200, 1)) == 200


def test_musiccaps_import(shared):
    columns = {"id": "ytid", "description": "caption", "tags": "aspect_list"}
    kept, _ = read(shared / "data/musiccaps-dev.csv", columns=columns)
    assert len(kept) == 2663 and not kept["tags"].str.startswith("[").any()
    assert set(kept["mood_source"]) <= {"words", "none"}
    assert queries.generate(kept, 200, 1)["text"].str.len().min() > 5


# quality


def failed(table, requests, rule, **how) -> int:
    defaults = {"expected_moods": ["calm"], "min_per_mood": 5, "max_missing": 0.2}
    results = {r["rule"]: r for r in quality.check(table, requests, **(defaults | how))}
    return next(r["failures"] for name, r in results.items() if name.startswith(rule))


def test_a_clean_catalogue_passes(made, asked):
    results = quality.check(made, asked, ["calm"], 5, 0.2)
    assert [r["rule"] for r in results if not r["passed"]] == []


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("id", "t0000001", "id is unique"),
        ("text", "  ", "text is there"),
        ("energy", 7.0, "feature within"),
        ("mood", "", "mood is known"),
        ("text", "word " * 300, "text is not cut"),
        ("text", "DÃ©jÃ vu", "text is undamaged"),
        ("tempo", 999.0, "tempo within"),
        ("duration_ms", 215, "duration within"),
        ("release_date", "2099-01-01", "date is not in the future"),
    ],
)
def test_each_rule_finds_its_defect(made, asked, column, value, rule):
    broken = made.copy()
    broken.loc[7, column] = value
    assert failed(broken, asked, rule) == 1


def test_table_rules_find_their_defects(made, asked):
    assert failed(made, asked, "expected moods", expected_moods=["calm", "polka"]) == 1
    assert failed(made, asked, "moods have", min_per_mood=10_000) == made["mood"].nunique()
    assert failed(made.assign(tempo=np.nan), asked, "columns are at most") == 1
    assert failed(made, pd.concat([asked, asked.head(1).assign(split="test")]), "no request is in two") == 1
    assert failed(made, asked[asked["split"] != "dev"], "every split") == 1
    assert failed(made.drop(columns="energy"), asked, "feature within") == 1


def test_an_error_stops_and_names_the_row(made, asked):
    broken = made.copy()
    broken.loc[7, "energy"] = 7.0
    with pytest.raises(runs.WorkbookError, match=r"feature within 0 to 1: 1 failing, .*t0000007"):
        quality.stop_on_errors(quality.check(broken, asked, [], 5, 0.2))
