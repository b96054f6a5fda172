"""The import as a whole: rows and values left out, repeats, versions, samples, moods; and the completed tracks."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.core import errors
from lib.tracks import columns, completing, importing

PARAMETERS = {"columns": {}, "units": {}, "reading": {}, "rename_moods": {}, "max_tracks": 0, "seed": 1}


def load(path, **parameters):
    return importing.import_catalogue(str(path), **(PARAMETERS | parameters))


def read(path, describe_from=("mood", "genre", "decade", "features"), infer_from=("features", "words"), **parameters):
    """Return the completed tracks and the rows left out."""
    catalogue = load(path, **parameters)
    tracks = completing.complete(catalogue.tracks, list(describe_from), [], list(infer_from), None, 1)
    return tracks, catalogue.left_out


def message(path, **parameters) -> str:
    """Return the message of the error that the import raises."""
    with pytest.raises(errors.WorkbookError) as error:
        read(path, **parameters)
    return str(error.value)


def csv(tmp_path, text: str, name="c.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_named_column_is_missing(tmp_path):
    text = message(csv(tmp_path, "track_name,artist\nA,B\n"), columns={"title": "track_nam"})
    assert "'track_nam'" in text and "did you mean 'track_name'" in text


def test_no_text_column(tmp_path):
    assert "none of title, description and tags" in message(csv(tmp_path, "foo,bar\nA,B\n"))


def test_rows_and_values_left_out_have_reasons(tmp_path):
    """A row is left out only where it cannot be used; a value that does not fit leaves the track."""
    rows = ["1,A,0.5,200", "1,B,0.5,200", "2,C,7.3,200", "3,D,abc,200", "4,,0.1,200", "5,E,,-3", "6,F,nan,210"]
    rows += [f"{i},T{i},0.4,180" for i in range(10, 50)]
    text = "id,title,energy,length\n" + "\n".join(rows) + "\n"
    catalogue = load(csv(tmp_path, text), columns={"duration_ms": "length"}, units={"duration_ms": "s"})
    assert catalogue.tracks["id"].tolist()[:6] == ["1", "2", "3", "5", "6", "10"]
    assert catalogue.tracks["duration_ms"].tolist()[0] == 200_000 and np.isnan(catalogue.tracks["energy"][1])
    reasons = dict(zip(catalogue.left_out["row"], catalogue.left_out["reason"], strict=True))
    assert set(reasons) == {2, 5} and "earlier row" in reasons[2] and "no title" in reasons[5]
    values = catalogue.left_out_values
    assert list(zip(values["row"], values["column"], strict=True)) == [
        (3, "energy"),
        (4, "energy"),
        (6, "duration_ms"),
    ]
    assert values["value"].tolist() == ["7.3", "abc", "-3"] and "outside 0 to 1" in values["reason"][0]
    assert (
        "energy: 2 values are left empty, the first in row 3: '7.3' is outside 0 to 1." in catalogue.record["warnings"]
    )
    assert catalogue.record["rows"] == 47 and catalogue.record["tracks"] == 45 and not catalogue.record["notices"]


def test_a_file_of_rows_without_use(tmp_path):
    assert "no row can be used. The first reason: row 1: no title" in message(csv(tmp_path, "title,id\n,1\n,2\n"))


def test_more_than_half_left_out_stops_the_run(tmp_path):
    text = "title,id\n" + "".join(f"T{i},{i % 4}\n" for i in range(10))
    record = load(csv(tmp_path, text), columns={"id": "id"}).record
    assert record["left_out"] == 6 and record["notices"][0].startswith("6 of 10 rows (60%) of c.csv are left out.")
    assert "row 5: an earlier row has the same id" in record["notices"][0]
    with pytest.raises(errors.WorkbookError, match="set max_left_out=1"):
        importing.stop_if_most_is_left_out(record, 0.5)
    importing.stop_if_most_is_left_out(record, 1)
    with pytest.raises(errors.WorkbookError, match="1 of 100 rows"):  # also where no notice was due
        importing.stop_if_most_is_left_out({"left_out": 1, "rows": 100, "notices": []}, 0)
    importing.stop_if_most_is_left_out({}, 0.5)  # synthetic tracks


def test_plays_become_songs_with_a_count(tmp_path):
    text = "artist,album,track,uts\n" + "".join(
        f"B{i % 3},L,S{i % 3},{1_600_000_000 + i}\n" for i in (0, 1, 0, 2, 0, 1)
    )
    catalogue = load(csv(tmp_path, text), columns={"title": "track"})
    assert catalogue.tracks["title"].tolist() == ["S0", "S1", "S2"] and catalogue.left_out.empty
    assert catalogue.tracks["plays"].tolist() == [3, 2, 1] and catalogue.record["repeats"] == 3
    assert catalogue.tracks["popularity"].is_monotonic_decreasing and catalogue.tracks["popularity"][0] == 100


def test_repeats_are_merged_across_chunks(tmp_path):
    rows = "".join(f'{{"title": "S{i % 70_000}", "artist": "B"}}\n' for i in range(120_000))
    catalogue = load(csv(tmp_path, rows, "c.jsonl"))
    assert len(catalogue.tracks) == 70_000 and catalogue.tracks["plays"].sum() == 120_000


def test_versions_of_a_song_share_a_group_and_a_split(tmp_path):
    versions = ["", " - 2011 Remaster", " (Live)", " [Deluxe Edition]", " (feat. Ana)"]
    text = "title,artist\n" + "".join(f"Song {i}{version},Band\n" for i in range(40) for version in versions)
    tracks, _ = read(csv(tmp_path, text))
    assert tracks["song"].nunique() == 40 and len(tracks) == 200
    assert (tracks.groupby("song")["split"].nunique() == 1).all() and set(tracks["split"]) == {"train", "dev", "test"}


def test_several_moods_and_genres_in_a_cell(tmp_path):
    text = "title,genre,mood\nA,\"rock, pop\",\"['happy', 'energetic', 'warm']\"\nB,rock,calm;sad\nC,pop,happy/calm\n"
    tracks = load(csv(tmp_path, text)).tracks
    assert tracks["mood"].tolist() == ["happy", "calm", "happy"]
    assert tracks["mood2"].tolist() == ["energetic", "sad", "calm"]
    assert tracks["genre"].tolist() == ["rock", "rock", "pop"] and tracks["tags"][0] == "pop, warm"


def test_a_header_within_the_file_is_left_out(tmp_path):
    catalogue = load(csv(tmp_path, "title,artist\nA,B\ntitle,artist\nC,D\n"))
    assert catalogue.tracks["title"].tolist() == ["A", "C"] and catalogue.record["rows"] == 3
    assert catalogue.left_out[["row", "reason"]].values.tolist() == [[2, "the header again"]]


def test_a_small_catalogue_has_every_split(tmp_path):
    tracks, _ = read(csv(tmp_path, "title\n" + "\n".join("abcde")))
    assert tracks["split"].value_counts().to_dict() == {"train": 3, "dev": 1, "test": 1}


def test_a_thousand_columns(tmp_path):
    header = ",".join(["title", *(f"c{i}" for i in range(1000))])
    tracks, _ = read(csv(tmp_path, header + "\n" + ",".join(["A"] + ["1"] * 1000) + "\n"))
    assert tracks["title"].tolist() == ["A"] and list(tracks.columns) == list(columns.COLUMNS)


def test_moods_are_renamed_or_kept(tmp_path):
    file = csv(tmp_path, "title,mood\nA,Chilled\nB,Party\n")
    tracks, _ = read(file, rename_moods={"chilled": "calm"})
    assert tracks["mood"].tolist() == ["calm", "party"] and set(tracks["mood_source"]) == {"given"}
    assert "has no mood 'chiled' (did you mean 'chilled'?)" in message(file, rename_moods={"chiled": "sad"})
    sample, _ = read(file, rename_moods={"chilled": "sad", "party": "happy"}, max_tracks=1)
    assert len(sample) == 1  # the other mood is in the file, though not in the sample


def test_a_column_can_be_left_out_of_the_text(tmp_path):
    file = csv(tmp_path, "title,genre,mood,release_date\nA,funk,happy,1984\n")
    assert read(file)[0]["text"].tolist() == ["A. happy funk, 80s"]
    assert read(file, describe_from=["genre"])[0]["text"].tolist() == ["A. funk"]
    assert "describe_from: colour is not one of" in message(file, describe_from=["colour"])
    assert "infer_from: word is not one of" in message(file, infer_from=["word"])
    assert read(file, columns={"mood": ""})[0]["mood_source"].tolist() == ["none"]


def test_key_and_language_can_describe_a_track(tmp_path):
    file = csv(tmp_path, "title,key,mode,language\nA,9,0,French\nB,0,1,\nC,,,\n")
    texts = read(file, describe_from=["key", "language"])[0]["text"].tolist()
    assert texts == ["A. in French, A minor", "B. C major", "C"]


def test_a_sample_is_drawn_at_random_and_repeats(tmp_path):
    file = csv(tmp_path, "id,title\n" + "".join(f"{i},T{i}\n" for i in range(40)))
    catalogue = load(file, max_tracks=12)
    assert len(catalogue.tracks) == 12 and catalogue.tracks["id"].astype(int).is_monotonic_increasing
    assert catalogue.tracks.equals(load(file, max_tracks=12).tracks) and catalogue.record["not_in_the_sample"] == 28


def test_tags_alone_are_a_text(tmp_path):
    tracks, _ = read(csv(tmp_path, 'tags\n"piano, rain"\n"drums, loud"\n'))
    assert tracks["text"].tolist() == ["piano, rain", "drums, loud"]


def test_an_empty_or_unknown_mood_is_missing(tmp_path):
    tracks, _ = read(csv(tmp_path, "title,mood\nA calm song,N/A\nB,Unknown\nC,party\n"))
    assert tracks["mood"].tolist() == ["calm", "", "party"]
    assert tracks["mood_source"].tolist() == ["words", "none", "given"]


def test_the_record_is_json(tmp_path):
    record = load(csv(tmp_path, "title,energy\nA,0.5\nB,1\n")).record
    assert json.loads(json.dumps(record)) == record and record["columns"]["energy"]["unit"] == "0-1"


ANY_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Cf")), max_size=20)
TITLE = ANY_TEXT.filter(lambda t: t.strip() not in ("", r"\N"))
CELL = st.one_of(
    ANY_TEXT, st.floats().map(str), st.integers().map(str), st.sampled_from(["", "nan", "0.5", "1999", "[1,"])
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@example([["", "0", "", "", "INF"]])  # pandas reads it as a number
@given(st.lists(st.lists(CELL, min_size=5, max_size=5), min_size=1, max_size=8))
def test_any_table_of_text_is_read_or_left_out_with_reasons(tmp_path_factory, rows):
    """No content of a CSV crashes the import or loses a row without a reason."""
    path = tmp_path_factory.mktemp("any") / "c.csv"
    names = ["id", "title", "energy", "duration_ms", "release_date"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    try:
        catalogue = load(path)
    except errors.WorkbookError as error:
        assert re.search("no row can be used|a header and no rows", str(error))
        return
    tracks, record = catalogue.tracks, catalogue.record
    written = sum(any(row) for row in rows)  # a line of commas only is an empty line, not a row
    assert len(tracks) + len(catalogue.left_out) + record["repeats"] == record["rows"] == written
    assert (
        tracks["id"].is_unique and (tracks["title"] != "").all() and (catalogue.left_out["reason"].str.len() > 5).all()
    )
    assert tracks["energy"].dropna().between(0, 1).all() and not (tracks["duration_ms"] <= 0).any()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(TITLE, min_size=1, max_size=6, unique_by=lambda t: " ".join(t.split())))
def test_an_exported_table_imports_again(tmp_path_factory, titles):
    path = tmp_path_factory.mktemp("again") / "c.parquet"
    pd.DataFrame({"title": titles, "energy": np.linspace(0, 1, len(titles))}).to_parquet(path)
    catalogue = load(path)
    assert len(catalogue.tracks) + catalogue.record["repeats"] == len(titles) and catalogue.left_out.empty
