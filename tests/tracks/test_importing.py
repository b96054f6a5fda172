"""The import of a catalogue: formats, units, and one defect at a time."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.core import errors
from lib.tracks import columns, importing


def read(path, describe_from=("mood", "genre", "decade", "features"), infer_from=("features", "words"), **how):
    defaults = {"columns": {}, "units": {}, "rename_moods": {}, "max_tracks": 0, "seed": 1}
    table, left_out = importing.import_catalogue(str(path), **(defaults | how))
    return importing.complete(table, list(describe_from), [], list(infer_from), None, 1), left_out


def message(path, **how) -> str:
    """Return the message of the error that the import raises."""
    with pytest.raises(errors.WorkbookError) as error:
        read(path, **how)
    return str(error.value)


def csv(tmp_path, text: str, name="c.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_missing_file(tmp_path):
    assert "no such file" in message(tmp_path / "none.csv")


def test_empty_file(tmp_path):
    assert "0 bytes" in message(csv(tmp_path, ""))


def test_header_only(tmp_path):
    assert "a header and no rows" in message(csv(tmp_path, "title,artist\n"))


def test_png_named_csv(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    assert str(path) in message(path) and "not UTF-8" in message(path)


def test_latin1(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("title,artist\nDéjà vu,Beyoncé\n".encode("latin-1"))
    assert "iconv -f latin1" in message(path)


def test_unknown_ending(tmp_path):
    assert "'.xlsx'" in message(csv(tmp_path, "x", "c.xlsx"))


def test_a_named_column_is_missing(tmp_path):
    text = message(csv(tmp_path, "track_name,artist\nA,B\n"), columns={"title": "track_nam"})
    assert "'track_nam'" in text and "did you mean 'track_name'" in text


def test_no_text_column(tmp_path):
    assert "none of title, description and tags" in message(csv(tmp_path, "foo,bar\nA,B\n"))


def test_unknown_column_of_ours(tmp_path):
    assert "did you mean 'title'" in message(csv(tmp_path, "a\nb\n"), columns={"titel": "a"})


def test_a_column_that_stands_twice(tmp_path):
    pd.DataFrame([["A", "B"]], columns=["title", "x"]).to_parquet(tmp_path / "c.parquet")
    table = pd.DataFrame([["A", "B"]], columns=["title", "title"])
    with pytest.raises(errors.WorkbookError, match="the column 'title' twice"):
        importing._mapped(table, {}, tmp_path / "c.parquet")


def test_rejected_rows_have_reasons(tmp_path):
    text = (
        "id,title,energy,length\n1,A,0.5,200\n1,B,0.5,200\n2,C,7.3,200\n3,D,abc,200\n4,,0.1,200\n5,E,,-3\n6,F,nan,210\n"
    )
    kept, left_out = read(csv(tmp_path, text), columns={"duration_ms": "length"}, units={"duration_ms": "s"})
    assert kept["id"].tolist() == ["1", "6"] and kept["duration_ms"].tolist() == [200_000, 210_000]
    reasons = dict(zip(left_out["row"], left_out["reason"], strict=True))
    assert "earlier row" in reasons[2] and "energy 7.3 is outside" in reasons[3] and "not a number" in reasons[4]
    assert "no title" in reasons[5] and "duration" in reasons[6]


def test_a_file_of_rejected_rows_only(tmp_path):
    assert "every row was rejected. The first reason: row 1, no title" in message(csv(tmp_path, "title,id\n,1\n,2\n"))


def test_texts_keep_their_form(tmp_path):
    kept, _ = read(csv(tmp_path, 'id,title,artist\n0012,None,NA\n0013,1999,"a ""b"", c"\n0014,007,null\n'))
    assert kept["id"].tolist() == ["0012", "0013", "0014"] and kept["title"].tolist() == ["None", "1999", "007"]
    assert kept["artist"].tolist() == ["NA", 'a "b", c', "null"]


def test_a_small_catalogue_has_every_split(tmp_path):
    kept, _ = read(csv(tmp_path, "title\n" + "\n".join("abcde")))
    assert kept["split"].value_counts().to_dict() == {"train": 3, "dev": 1, "test": 1}


def test_a_thousand_columns(tmp_path):
    header = ",".join(["title", *(f"c{i}" for i in range(1000))])
    kept, _ = read(csv(tmp_path, header + "\n" + ",".join(["A"] + ["1"] * 1000) + "\n"))
    assert kept["title"].tolist() == ["A"] and list(kept.columns) == list(columns.COLUMNS)


def test_other_kinds_of_file(tmp_path):
    table = pd.DataFrame(
        {"title": ["Déjà vu", "愛"], "mood": ["Happy", "Chilled out"], "release_date": ["1999", "2001-05-06"]}
    )
    table.to_parquet(tmp_path / "c.parquet")
    table.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    table.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    for name in ("c.csv.gz", "c.jsonl.gz"):
        text = table.to_csv(index=False) if "csv" in name else (tmp_path / "c.jsonl").read_text()
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    for name in ("c.parquet", "c.jsonl", "c.tsv", "c.csv.gz", "c.jsonl.gz"):
        kept, _ = read(tmp_path / name)
        assert kept["title"].tolist() == ["Déjà vu", "愛"] and kept["mood"].tolist() == ["happy", "chilled out"]
        assert kept["release_date"].tolist() == ["1999-01-01", "2001-05-06"]


def test_other_units(tmp_path):
    text = "title,energy,valence,length,popularity\nA,70,20,3:45,0.5\nB,7.5,101,4:00,1\nC,50,50,3:99x,1\n"
    units = {"energy": "0-100", "valence": "0-100", "duration_ms": "m:ss", "popularity": "0-1"}
    kept, left_out = read(csv(tmp_path, text), columns={"duration_ms": "length"}, units=units)
    values = kept[["energy", "valence", "duration_ms", "popularity"]].to_numpy()
    assert np.allclose(values, [[0.7, 0.2, 225_000, 50]])
    assert "valence 101 is outside 0 to 100" in left_out["reason"][0]
    assert "3:99x is not a number" in left_out["reason"][1]
    assert "units: energy: '0-10' is unknown" in message(csv(tmp_path, text), units={"energy": "0-10"})


def test_moods_are_renamed_or_kept(tmp_path):
    kept, _ = read(csv(tmp_path, "title,mood\nA,Chilled\nB,Party\n"), rename_moods={"chilled": "calm"})
    assert kept["mood"].tolist() == ["calm", "party"] and set(kept["mood_source"]) == {"given"}


def test_a_column_can_be_left_out_of_the_text(tmp_path):
    file = csv(tmp_path, "title,genre,mood,release_date\nA,funk,happy,1984\n")
    assert read(file)[0]["text"].tolist() == ["A. happy funk, 80s"]
    assert read(file, describe_from=["genre"])[0]["text"].tolist() == ["A. funk"]
    assert "describe_from: colour is not one of" in message(file, describe_from=["colour"])
    assert read(file, columns={"mood": ""})[0]["mood_source"].tolist() == ["none"]


def test_key_and_language_can_describe_a_track(tmp_path):
    file = csv(tmp_path, "title,key,mode,language\nA,9,0,French\nB,0,1,\nC,,,\n")
    texts = read(file, describe_from=["key", "language"])[0]["text"].tolist()
    assert texts == ["A. in French, A minor", "B. C major", "C"]


def test_a_file_of_many_chunks_is_one_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "CHUNK", 7)
    rows = "".join(f"{i % 30},T{i}\n" for i in range(40))
    kept, left_out = read(csv(tmp_path, "id,title\n" + rows))
    assert kept["id"].tolist() == [str(i) for i in range(30)] and left_out["row"].tolist() == list(range(31, 41))
    sample, _ = read(csv(tmp_path, "id,title\n" + rows), max_tracks=12)
    assert len(sample) == 12 and sample["id"].astype(int).is_monotonic_increasing
    assert sample.equals(read(csv(tmp_path, "id,title\n" + rows), max_tracks=12)[0])


def test_truncated_files(tmp_path):
    whole = gzip.compress(b"title\n" + b"some title\n" * 1000)
    (tmp_path / "c.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as .csv" in message(tmp_path / "c.csv.gz")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really")
    assert "cannot be read as .parquet" in message(tmp_path / "c.parquet")


def test_tags_alone_are_a_text(tmp_path):
    kept, _ = read(csv(tmp_path, 'tags\n"piano, rain"\n"drums, loud"\n'))
    assert kept["text"].tolist() == ["piano, rain", "drums, loud"]


@pytest.mark.filterwarnings("ignore:Length of header or names")
def test_a_trailing_comma_shifts_no_column(tmp_path):
    kept, _ = read(csv(tmp_path, "title,artist,genre\nA,B,rock,\nC,D,folk,\n"))
    assert kept["title"].tolist() == ["A", "C"] and kept["genre"].tolist() == ["rock", "folk"]


def test_numbers_and_lists_of_json_and_parquet_keep_their_form(tmp_path):
    lines = ['{"id": 7, "title": 1980, "artist": ["X", "Y"], "tags": ["a", null, "b c"]}', '{"id": null, "title": "T"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    table = pd.DataFrame({"id": pd.array([7, None], "Int64"), "title": ["1980", "T"], "artist": [["X", "Y"], None]})
    table.assign(tags=[["a", "b c"], None]).set_index("title").to_parquet(tmp_path / "c.parquet")
    for name in ("c.jsonl", "c.parquet"):
        kept, _ = read(tmp_path / name)
        assert kept["id"].tolist() == ["7", "row2"] and kept["title"].tolist() == ["1980", "T"]
        assert kept["artist"][0] == "X, Y" and kept["tags"][0] == "a, b c"
    (tmp_path / "c.jsonl").write_text("[1, 2]\n")
    assert "each line must be one {…}" in message(tmp_path / "c.jsonl")


def test_an_empty_or_unknown_mood_is_missing(tmp_path):
    kept, _ = read(csv(tmp_path, "title,mood\nA calm song,N/A\nB,Unknown\nC,party\n"))
    assert kept["mood"].tolist() == ["calm", "", "party"] and kept["mood_source"].tolist() == ["words", "none", "given"]


def test_other_mistakes(tmp_path):
    file = csv(tmp_path, "title,mood\nA,calm\n")
    assert "has no mood 'clam' (did you mean 'calm'?)" in message(file, rename_moods={"clam": "sad"})
    sample, _ = read(
        csv(tmp_path, "title,mood\nA,calm\nB,odd\n"), rename_moods={"calm": "sad", "odd": "eerie"}, max_tracks=1
    )
    assert len(sample) == 1  # the other mood is in the file, though not in the sample
    assert "infer_from: word is not one of" in message(file, infer_from=["word"])
    assert "separated by ';'" in message(csv(tmp_path, "title;artist\nA;B\n"))


def test_an_upper_case_ending_and_hours(tmp_path):
    (tmp_path / "C.CSV").write_text("title,length\nA,1:02:03\n")
    kept, _ = read(tmp_path / "C.CSV", columns={"duration_ms": "length"}, units={"duration_ms": "m:ss"})
    assert kept["duration_ms"].tolist() == [3_723_000]


ANY_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
CELL = st.one_of(
    ANY_TEXT, st.floats().map(str), st.integers().map(str), st.sampled_from(["", "nan", "0.5", "1999", "[1,"])
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@example([["", "0", "", "", "INF"]])  # pandas reads it as a number
@given(st.lists(st.lists(CELL, min_size=5, max_size=5), min_size=1, max_size=8))
def test_any_table_of_text_is_read_or_rejected_with_reasons(tmp_path_factory, rows):
    """No content of a CSV crashes the importer or loses a row without a reason."""
    path = tmp_path_factory.mktemp("any") / "c.csv"
    names = ["id", "title", "energy", "duration_ms", "release_date"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    try:
        kept, left_out = read(path)
    except errors.WorkbookError as error:
        assert "every row was rejected" in str(error)
        return
    assert len(kept) + len(left_out) == len(rows)
    assert kept["id"].is_unique and (kept["text"] != "").all() and (left_out["reason"].str.len() > 5).all()
    assert kept["energy"].dropna().between(0, 1).all() and not (kept["duration_ms"] <= 0).any()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(ANY_TEXT.filter(lambda t: t.strip()), min_size=1, max_size=6, unique_by=lambda t: " ".join(t.split())))
def test_an_exported_table_imports_again(tmp_path_factory, titles):
    path = tmp_path_factory.mktemp("again") / "c.parquet"
    pd.DataFrame({"title": titles, "energy": np.linspace(0, 1, len(titles))}).to_parquet(path)
    kept, left_out = read(path)
    assert kept["title"].tolist() == [" ".join(t.split()) for t in titles] and left_out.empty
    assert np.allclose(kept["energy"], np.linspace(0, 1, len(titles)))
