"""The texts of a file's rows -> our columns; the values that do not fit."""

import time
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.tracks import cells, lists, mapping, values
from lib.tracks.columns import FEATURES


def read(columns=None, units=None, decimal="", **texts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Convert a table of these columns, whose rows have the numbers 1, 2, ..."""
    table = pd.DataFrame(texts).astype("str")
    table = table.assign(title=table.get("title", "A")).set_axis(range(1, len(table) + 1))
    found = mapping.match(list(table.columns), table, columns or {}, units or {}, Path("my.csv"))
    return values.convert(table, found, decimal)


def column(ours: str, *texts: str, name: str = "", **how) -> list:
    """Return one of our columns that these texts are read into."""
    return read(**{name or ours: list(texts)}, **how)[0][ours].tolist()


def test_our_columns_keep_the_rows_and_have_one_type_each():
    tracks, faults = read(title=["A", "B"])
    assert list(tracks.columns) == list(mapping.OURS) and list(tracks.index) == [1, 2] and faults.empty
    assert list(faults.columns) == ["row", "column", "value", "reason"]
    assert (tracks[["id", *mapping.TEXTS, "release_date"]] == "").sum().sum() == 2 * 10
    assert tracks["energy"].isna().all() and tracks["plays"].isna().all() and not tracks["explicit"].any()
    assert tracks["title"].dtype == "str" and tracks["explicit"].dtype == bool and tracks["key"].dtype == float


def test_columns_without_values_and_tables_without_rows():
    table = pd.DataFrame({"title": ["A", None], "genre": [None, None], "energy": [None, "0.5"], "date": [None, "1999"]})
    table = table.astype("str").set_axis([3, 7])
    found = mapping.match(list(table.columns), table, {}, {}, Path("my.csv"))
    tracks, faults = values.convert(table, found)
    assert tracks["title"].tolist() == ["A", ""] and tracks["genre"].tolist() == ["", ""] and faults.empty
    assert np.isnan(tracks["energy"][3]) and tracks["release_date"].tolist() == ["", "1999-01-01"]
    tracks, faults = values.convert(table.iloc[:0], found)
    assert tracks.empty and faults.empty and list(tracks.columns) == list(mapping.OURS)


def test_not_known_has_many_spellings():
    spellings = ["", "NA", "n/a", "NaN", "null", "None", r"\N", "?", "-", "#N/A", "nil", " "]
    tracks, faults = read(
        **dict.fromkeys(("title", "artist", "album", "genre", "mood", "tempo", "release_date", "tags"), spellings)
    )
    assert faults.empty and tracks["tempo"].isna().all()
    assert (tracks[["album", "genre", "mood", "release_date", "tags"]] == "").all(axis=None)
    assert tracks["title"].tolist() == ["", "NA", "n/a", "NaN", "null", "None", "", "?", "-", "#N/A", "nil", ""]
    assert tracks["artist"].equals(tracks["title"].rename("artist"))  # a band is called NA, a song None


def test_numbers_for_not_known():
    tracks, faults = read(
        tempo=["0", "120", "0.0"],
        key=["-1", "5", "-1"],
        mode=["1", "0", "-1"],
        duration_ms=["0", "-1", "200000"],
        popularity=["-1", "0", "50"],
        loudness=["-1000", "-5.2", "-60"],
        release_date=["0", "0000-00-00", "1999"],
    )
    assert faults.empty
    assert tracks["tempo"].dropna().tolist() == [120] and tracks["key"].dropna().tolist() == [5]
    assert tracks["duration_ms"].dropna().tolist() == [200_000] and tracks["popularity"].dropna().tolist() == [0, 50]
    assert tracks["loudness"].dropna().tolist() == [-5.2, -60] and tracks["mode"].dropna().tolist() == [1, 0]
    assert tracks["release_date"].tolist() == ["", "", "1999-01-01"]


def test_values_that_do_not_fit_are_empty_and_listed():
    many = 20
    tracks, faults = read(
        energy=["0.5"] * many + ["7.3", "", "0.1"],
        tempo=["120"] * many + ["90", "abc", "1000"],
        duration_ms=["1000"] * many + ["-3", "2000", ""],
        release_date=["1999"] * many + ["soon", "2001", "1999-13-45"],
        explicit=["true"] * many + ["perhaps", "no", "E"],
        key=["C"] * many + ["Z", "Am", "12"],
    )
    rows = [tuple(row) for row in faults.itertuples(index=False)]
    assert rows == [
        (21, "energy", "7.3", "outside 0 to 1"),
        (21, "key", "Z", "not a key"),
        (21, "duration_ms", "-3", "outside 0 to 24 hours"),
        (21, "explicit", "perhaps", "not true or false"),
        (21, "release_date", "soon", "not a date"),
        (22, "tempo", "abc", "not a number"),
        (23, "tempo", "1000", "outside 20 to 400"),
        (23, "key", "12", "outside 0 to 11"),
        (23, "release_date", "1999-13-45", "not a date"),
    ]
    assert np.isnan(tracks["energy"][21]) and tracks["energy"][23] == 0.1 and len(tracks) == 23


def test_units():
    assert column("energy", "31 %", "5%") == pytest.approx([0.31, 0.05])
    assert column("energy", "7.5", "1", units={"energy": "0-10"}) == pytest.approx([0.75, 0.1])
    assert column("tempo", "124 BPM", "98.5") == [124, 98.5]
    assert column("loudness", "-5.2 dB", "−7") == [-5.2, -7]
    assert column("popularity", "0.5", "1") == [50, 100]
    assert column("duration_ms", "3:45", "1:02:03", "PT4M", "3 min 5 s") == [225_000, 3_723_000, 240_000, 185_000]
    assert column("duration_ms", "215", "180", name="length") == [215_000, 180_000]
    assert column("duration_ms", "3.45", "4.05", name="length") == [225_000, 245_000]  # minutes and seconds
    assert column("duration_ms", "3.45", "4.75", name="length") == pytest.approx([207_000, 285_000])
    assert column("duration_ms", "03:45:00", "12:05:00", name="length") == [225_000, 725_000]  # from a spreadsheet
    assert column("duration_ms", "0:03:45", "0 days 00:12:00", name="length") == [225_000, 720_000]
    assert column("duration_ms", "3.5", "4", name="length") == [210_000, 240_000]
    assert column("plays", "1,234,567", "12", name="streams") == [1_234_567, 12]


def test_decimal_commas():
    assert column("energy", "0,31", "0,310", "1") == [0.31, 0.31, 1]
    assert column("tempo", "120,031", "99,5") == [120.031, 99.5]
    assert column("loudness", "-5,2 dB", "-7,25") == [-5.2, -7.25]
    assert column("plays", "1.234.567", "12.000") == [1_234_567, 12_000]
    assert column("plays", "1 234 567", "12'000") == [1_234_567, 12_000]
    assert column("tempo", "120,031", "99,500", decimal=",") == [120.031, 99.5]


def test_keys_and_modes():
    names = {"C#": 1, "Db": 1, "A minor": 9, "Am": 9, "F♯m": 6, "8A": 9, "8B": 0, "1m": 9, "1d": 0, "fis-Moll": 6}
    names |= {"B♭ major": 10, "H": 11, "E flat minor": 3, "C# / Db minor": 1, "La menor": 9, "Ré mineur": 2, "5": 5}
    tracks, faults = read(key=list(names))
    assert tracks["key"].tolist() == list(names.values()) and faults.empty
    assert tracks["mode"].tolist()[2:10] == [0, 0, 0, 0, 1, 0, 1, 0] and tracks["mode"][1] == 1
    assert column("mode", "Minor", "major", "maj", "dur", "moll", "0", "1.0") == [0, 1, 1, 1, 0, 0, 1]
    assert np.isnan(column("mode", "C", "D", name="key")).all()  # nothing says which are minor


@pytest.mark.parametrize(
    ("text", "date"),
    [
        *[("1999", "1999-01-01"), ("1999.0", "1999-01-01"), ("1999-05", "1999-05-01"), ("19990512", "1999-05-12")],
        *[("1999-05-12T10:11:12Z", "1999-05-12"), ("1999-05-12 10:11:12", "1999-05-12"), ("1999-00-00", "1999-01-01")],
        *[("05/12/1999", "1999-01-01"), ("25/12/1999", "1999-12-25"), ("12/25/1999", "1999-12-25")],
        *[("12.05.1999", "1999-05-12"), ("May 12, 1999", "1999-05-12"), ("12 May 1999", "1999-05-12")],
        *[("12 mai 1999", "1999-01-01"), ("1er août 2003", "2003-01-01"), ("May 1999", "1999-05-01")],
        *[("1999年5月12日", "1999-05-12"), ("7/14/2023 0:00", "2023-07-14"), ("5/6/99", "1999-01-01")],
        *[("1180281600007", "2007-05-27"), ("c. 1968", "1968-01-01"), ("1685", "1685-01-01")],
        *[("soon", None), ("1999-13-45", None), ("9999", None), ("99", None), ("3.1415", None), ("12345", None)],
    ],
)
def test_dates(text, date):
    assert cells.date(text) == date


def test_explicit():
    assert column("explicit", "true", "1", "Yes", "explicit", "E", "TRUE", "1.0") == [True] * 7
    assert column("explicit", "false", "0", "no", "", "clean", "notExplicit") == [False] * 6


def test_several_values_in_a_cell():
    tracks, _ = read(
        mood=["['Happy', 'energetic']", "happy; energetic", "happy/energetic", "happy, energetic, calm", "sad"],
        genre=['["rock", "pop"]', "rock;pop", "R&B/Soul", "rock", "Folk, World, & Country"],
        tags=["loud", "pop, Loud", "", "x", "['a', 'b c']"],
    )
    assert tracks["mood"].tolist() == ["happy"] * 4 + ["sad"]
    assert tracks["mood2"].tolist() == ["energetic"] * 4 + [""]
    assert tracks["genre"].tolist() == ["rock", "rock", "R&B/Soul", "rock", "Folk, World, & Country"]
    assert tracks["tags"].tolist() == ["loud, pop", "pop, Loud", "", "x, calm", "a, b c"]


def test_a_second_mood_of_its_own_column_stays():
    tracks, _ = read(mood=["happy, calm", "sad, calm"], mood2=["Dreamy", ""])
    assert tracks["mood2"].tolist() == ["dreamy", "calm"] and tracks["tags"].tolist() == ["calm", ""]


def test_artists():
    texts = ["['Uli', 'Ana']", '["Guns N\' Roses"]', "Uli; Ana", "Uli|Ana", "Earth, Wind & Fire", "AC/DC", "[:SITD:]"]
    assert column("artist", *texts) == ["Uli, Ana", "Guns N' Roses", *["Uli, Ana"] * 2, *texts[4:]]


def test_lists_as_text():
    assert lists.parsed("['pop' 'rock']") == ["pop", "rock"]  # as NumPy writes them
    assert lists.parsed("[{'genre_id': '21', 'genre_title': 'Hip-Hop', 'genre_url': 'x'}]") == ["Hip-Hop"]
    assert lists.parsed('["a", null, 3]') == ["a", "3"] and lists.parsed("[]") == []
    assert lists.parsed("[1,") is None and lists.parsed("[Intro]") is None
    tracks, _ = read(
        genre=["[{'genre_id': '1', 'genre_title': 'Hip-Hop'}, {'genre_id': '2', 'genre_title': 'Punk'}]", "[]"]
    )
    assert tracks["genre"].tolist() == ["Hip-Hop", ""] and tracks["tags"].tolist() == ["Punk", ""]


def test_jamendo_tags_have_prefixes():
    header = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    tags = "genre---rock\tgenre---punkrock\tinstrument---guitar\tmood/theme---happy"
    table = pd.DataFrame([["t1", "a1", "b1", "p", "212.7", tags], ["t2", "a1", "b1", "p", "3", "mood/theme---sad"]])
    table = table.set_axis(header, axis=1).astype("str").set_axis([1, 2])
    found = mapping.match(header, table, {}, {}, Path("autotagging.tsv"))
    tracks, faults = values.convert(table, found)
    assert faults.empty and tracks["genre"].tolist() == ["rock", ""] and tracks["mood"].tolist() == ["happy", "sad"]
    assert tracks["tags"].tolist() == ["guitar, punkrock", "sad"] and tracks["duration_ms"].tolist() == [212_700, 3000]


def test_german_keys():
    assert column("key", "H-Dur", "B-Dur", "b-Moll", "A") == [11, 10, 10, 9]
    assert column("key", "H", "B", "Hm") == [11, 10, 11] and column("key", "B", "Bm", "A") == [11, 11, 9]


def test_errors_and_words_of_spreadsheets():
    tracks, faults = read(tempo=["#DIV/0!", "120"], explicit=["WAHR", "FAUX"], genre=["#REF!", "rock"])
    assert faults.empty and tracks["tempo"].dropna().tolist() == [120] and tracks["genre"].tolist() == ["", "rock"]
    assert tracks["explicit"].tolist() == [True, False]


def test_a_set_keeps_the_order_of_its_text():
    assert column("artist", "{'Zoe', 'Ana', 'Mia', 'Bob'}") == ["Zoe, Ana, Mia, Bob"]


def test_counted_tags():
    assert column("tags", "{'pop': 100, 'night': 23}", "[['pop', 100], ['rain', 7]]") == ["pop, night", "pop, rain"]


def test_bytes_as_python_shows_them():
    assert column("title", "b'Moon'", 'b"Don\'t"', r"b'Caf\xc3\xa9'", "b'é'") == ["Moon", "Don't", "Café", "b'é'"]


def test_the_first_date_of_a_list():
    assert column("release_date", '["2020-03-20", "2021"]') == ["2020-03-20"]


def test_words_of_an_export_are_removed():
    names = {"header": "YouTube Music", "title": "Watched Moon", "titleUrl": "u", "time": "2026-01-01T10:00:00Z"}
    tracks, _ = read(**{name: [text] for name, text in names.items()}, **{"subtitles.name": ['["Kid Cudi - Topic"]']})
    assert tracks["title"].tolist() == ["Moon"] and tracks["artist"].tolist() == ["Kid Cudi"]


def test_languages_have_names():
    assert column("language", "en", "fra", "Portuguese", "zxx") == ["English", "French", "Portuguese", ""]


def test_texts_are_clean():
    texts = {
        "Rock &amp; Roll": "Rock & Roll",
        "It&amp;#39;s": "It's",
        "one<br>two": "one two",
        "<b>Bold</b> move": "Bold move",
        "<a href='x'>Read</a> more": "Read more",
        "I <3 you": "I <3 you",
        "a < b > c": "a < b > c",
        "&lt;b&gt;": "<b>",
        "<i>": "<i>",
        "AT&T": "AT&T",
        "cafe\u0301": "caf\u00e9",
        "\ufeffzero\u200bwidth": "zerowidth",
        " a \u00a0\t b\n": "a b",
        "bell\x07": "bell",
        "1999": "1999",
        "007": "007",
    }
    assert column("title", *texts) == list(texts.values())


def test_ids_keep_their_form():
    assert column("id", "0012", " x ", "1.0", "") == ["0012", "x", "1.0", ""]


CELL = st.one_of(
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", "nan", "0,5", "1999", "[1,", "['a']", "{'a': 1}", "5:00", "8A", "-1", "a;b", "&#0;", "١"]),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(CELL, min_size=9, max_size=9), min_size=1, max_size=8))
def test_any_text_is_read_or_listed(rows):
    names = ["title", "artist", "mood", "tags", "energy", "key", "duration_ms", "release_date", "explicit"]
    table = pd.DataFrame(rows, columns=names).astype("str").set_axis(range(1, len(rows) + 1))
    found = mapping.match(names, table, {}, {}, Path("my.csv"))
    tracks, faults = values.convert(table, found)
    assert len(tracks) == len(rows) and tracks["energy"].dropna().between(0, 1).all()
    assert tracks["key"].dropna().between(0, 11).all() and not (tracks["duration_ms"] <= 0).any()
    assert set(faults["row"]) <= set(table.index) and (faults["reason"] != "").all()
    assert all(unicodedata.is_normalized("NFC", title) for title in tracks["title"])


@pytest.mark.slow
def test_a_million_rows_take_seconds():
    rng = np.random.default_rng(1)
    size = 50_000
    dates = pd.date_range("1960", periods=20_000).astype("str").to_numpy()
    table = {
        **{"id": [f"{i:022}" for i in range(size)], "title": [f"Song {i} é" for i in range(size)]},
        **{"artist": [f"Band {i % 9000}" for i in range(size)], "album": [f"Album {i % 30_000}" for i in range(size)]},
        **{"genre": rng.choice(["rock", "jazz, swing", "pop"], size), "date": rng.choice(dates, size)},
        **{name: [f"{value:.4g}" for value in rng.random(size)] for name in FEATURES},
        **{"tempo": rng.uniform(60, 180, size).round(3), "loudness": rng.uniform(-30, 0, size).round(3)},
        **{"key": rng.integers(-1, 12, size), "mode": rng.integers(0, 2, size)},
        **{"duration_ms": rng.integers(100_000, 400_000, size), "popularity": rng.integers(0, 101, size)},
    }
    table = pd.DataFrame({name: pd.Series(column).astype("str") for name, column in table.items()})
    found = mapping.match(list(table.columns), table.head(10_000), {}, {}, Path("my.csv"))
    start = time.process_time()
    tracks, faults = values.convert(table, found)
    assert 20 * (time.process_time() - start) < 8 and faults.empty and tracks["energy"].notna().all()
