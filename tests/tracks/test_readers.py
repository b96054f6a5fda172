"""The readers of nested kinds, spreadsheets, databases, libraries and music: values read back, and damage."""

import datetime
import decimal
import gzip
import json
import os
import sqlite3
import zipfile

import audio_files
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spreadsheet_files as sheets

from lib.core.errors import WorkbookError
from lib.tracks.readers import playlists
from lib.tracks.readers.opening import open_source


def write(path, content):
    """Write text as UTF-8, bytes unchanged, and other values as JSON."""
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path, columns=None, **reading) -> list[dict]:
    """Return a file's rows without their empty values."""
    tables = [chunk.table for chunk in open_source(str(path), reading).read(columns)]
    assert all(field.type == pa.string() for table in tables for field in table.schema)
    return [{k: v for k, v in row.items() if v is not None} for table in tables for row in table.to_pylist()]


def damaged(path, **reading) -> list[tuple[int, str]]:
    return [row for chunk in open_source(str(path), reading).read(None) for row in chunk.damaged]


def numbers(path, **reading) -> list[int]:
    return [number for chunk in open_source(str(path), reading).read(None) for number in chunk.rows.tolist()]


def message(path, **reading) -> str:
    """Return the message of the error, which is one line and names the file."""
    with pytest.raises(WorkbookError) as error:
        list(open_source(str(path), reading).read(None))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


# JSON


def test_json_lines(tmp_path):
    track = '{"id": 7, "album": {"name": "L"}, "artists": [{"id": "a", "name": "Uli"}, {"id": "b", "name": "Ana"}], '
    file = write(
        tmp_path / "c.jsonl", track + '"energy": 0.50, "ok": true}\n\n{"id": null, "genre": ["rock", "pop"]}\n'
    )
    first = {"id": "7", "album.name": "L", "artists.id": '["a", "b"]', "artists.name": '["Uli", "Ana"]'}
    assert rows(file) == [first | {"energy": "0.50", "ok": "true"}, {"genre": '["rock", "pop"]'}]
    assert rows(file, ["album.name", "absent"]) == [{"album.name": "L"}, {}]
    assert open_source(str(file), {}).kind == "JSON Lines"


def test_counts_in_lists_are_no_values(tmp_path):
    song = {"title": "A", "tags": [["pop", "100"], ["rain", 7]]}
    assert rows(write(tmp_path / "c.json", [song] * 2))[0]["tags"] == '["pop", "rain"]'


def test_damaged_json_lines(tmp_path):
    lines = '{"title": "A"}\nnot JSON\n["B"]\n{"title": "\\ud83d"}\n{"title": "C", "al'
    file = write(tmp_path / "c.jsonl", lines)
    assert rows(file) == [{"title": "A"}, {"title": "\ufffd"}]
    assert numbers(file) == [1, 4]
    assert [number for number, _ in damaged(file)] == [2, 3, 5]
    assert "line 5 is no JSON" in damaged(file)[2][1]


def test_a_byte_that_is_no_utf8_damages_its_line(tmp_path):
    file = write(tmp_path / "c.jsonl", '{"title": "Ä"}\n'.encode() * 3 + b'{"title": "\xe4"}\n')
    assert len(rows(file)) == 3 and "0xe4" in damaged(file)[0][1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_json(tmp_path, encoding):
    text = '{"title": "Söng"}\n{"title": "愛"}\n'
    assert rows(write(tmp_path / "c.jsonl", text.encode(encoding))) == [{"title": "Söng"}, {"title": "愛"}]
    assert rows(write(tmp_path / "c.json", '[{"title": "愛"}]'.encode(encoding))) == [{"title": "愛"}]


def test_json_in_an_encoding_that_is_named(tmp_path):
    file = write(tmp_path / "c.json", '[{"title": "Söng"}]'.encode("cp1252"))
    assert rows(file, encoding="cp1252") == [{"title": "Söng"}]
    assert "is not utf-8 text" in message(file, encoding="utf-8") and "is not nope text" in message(
        file, encoding="nope"
    )


def track(number: int) -> dict:
    """Return a track as the Web API of Spotify has it, with more pictures and artists than tracks."""
    album = {"name": "L", "release_date": "1999", "images": [{"url": "u", "height": 1, "width": 1}] * 3}
    return {"id": f"t{number}", "name": f"T{number}", "artists": [{"name": "A"}, {"name": "B"}], "album": album}


FEATURES = [{"id": f"t{i}", **{f"feature{k}": 0.5 for k in range(12)}} for i in range(3)]


@pytest.mark.parametrize(
    ("document", "place", "name"),
    [
        ([track(0), track(1)], "the whole file (2 objects)", "name"),
        ({"items": [{"added_at": "2020", "track": track(i)} for i in range(3)]}, "items (3 objects)", "track.name"),
        ({"tracks": {"items": [track(0), track(1)], "limit": 50}}, "tracks.items (2 objects)", "name"),
        (
            {"name": "Mine", "description": "d", "tracks": {"items": [{"track": track(0)}]}},
            "tracks.items",
            "track.name",
        ),
        ({"audio_features": FEATURES, "tracks": [track(i) for i in range(3)]}, "tracks (3 objects)", "name"),
        ({"songs": [{"name": "T0", "ar": [{"name": "x"}] * 3, "al": {"name": "L"}, "dt": 5}]}, "songs", "name"),
        ({"result": {"name": "n", "tracks": [track(0), track(1)]}}, "result.tracks (2 objects)", "name"),
        (
            [{"artist": "A", "album": "L", "tracks": [{"name": f"T{i}"} for i in range(6)]}],
            "tracks (6 objects)",
            "name",
        ),
        ({"name": "T0", "artists": [{"name": "A"}]}, "the whole file (1 objects)", "name"),
        ({"columns": ["name", "year"], "index": [0], "data": [["T0", 1]]}, "the whole file (1 objects)", "name"),
        ({"a": {"name": "T0", "year": 1}, "b": {"name": "T1", "year": 2}}, "the whole file (2 objects)", "name"),
        ({"name": {"0": "T0", "1": "T1"}, "year": {"0": 1, "1": 2}}, "the whole file (2 objects)", "name"),
        ({"name": ["T0", "T1"], "year": [1, 2]}, "the whole file (2 objects)", "name"),
    ],
)
def test_the_list_of_tracks_in_a_document(tmp_path, document, place, name):
    file = write(tmp_path / "c.json", document)
    assert open_source(str(file), {}).facts["list"].startswith(place)
    assert rows(file)[0][name] == "T0"


def test_playlists_with_tracks(tmp_path):
    song = {"pos": 0, "artist_name": "A", "track_name": "T", "album_name": "L", "duration_ms": 5}
    file = write(
        tmp_path / "mpd.json", {"info": {"v": 1}, "playlists": [{"name": "P", "pid": 0, "tracks": [song] * 2}]}
    )
    expected = {"playlists.name": "P", "playlists.pid": "0", **{name: str(value) for name, value in song.items()}}
    assert rows(file) == [expected, expected]
    assert rows(file, table="playlists")[0]["name"] == "P"
    assert "playlists.tracks (2 objects)" in message(file, table="songs")


def test_audio_features_join_their_tracks(tmp_path):
    file = write(tmp_path / "c.json", {"audio_features": FEATURES, "items": [{"track": track(1)}, {"track": track(2)}]})
    assert rows(file)[1]["feature3"] == "0.5" and rows(file)[1]["track.name"] == "T2"
    assert "other lists" not in open_source(str(file), {}).facts


def test_another_list_is_named(tmp_path):
    file = write(tmp_path / "c.json", {"tracks": [track(0), track(1)], "users": [{"id": "u"}]})
    assert open_source(str(file), {}).facts["other lists"] == "users (1 objects)"


def test_the_watch_history_of_youtube(tmp_path):
    entry = {"header": "YouTube Music", "title": "Watched X", "subtitles": [{"name": "Artist - Topic", "url": "u"}]}
    read = rows(write(tmp_path / "watch-history.json", [entry, {"header": "YouTube", "title": "Watched Y"}]))
    assert read[0]["subtitles.name"] == '["Artist - Topic"]' and read[1]["title"] == "Watched Y"


def test_an_array_that_ends_early_keeps_its_objects(tmp_path):
    file = write(tmp_path / "c.json", json.dumps([track(0), track(1), track(2)], indent=1)[:-60])
    assert [row["name"] for row in rows(file)] == ["T0", "T1"]
    assert damaged(file) == [(3, "the file ends early, after 2 objects")]


def test_json_that_is_damaged_in_its_middle(tmp_path):
    text = json.dumps([track(i) for i in range(40)], indent=1).replace('"T3"', '"T3" "x"')
    assert "damaged at line" in message(write(tmp_path / "c.json", text))
    assert "damaged at line 1" in message(write(tmp_path / "d.json", '{"tracks": [{"name": "A"}, {"na'))


@pytest.mark.parametrize("text", ["[]", "{}", '["a", "b"]', "[[1, 2]]", '{"items": []}', "[" * 5000, '{"a":' * 5000])
def test_json_without_tracks(tmp_path, text):
    assert "JSON" in message(write(tmp_path / "c.json", text))


# Parquet


def test_parquet(tmp_path):
    table = pa.table(
        {
            "id": pa.array([7, None]),
            "tempo": [120.5, float("nan")],
            "count": [3.0, None],
            "album": [{"name": "L", "release": datetime.date(1999, 1, 2)}, None],
            "artists": [[{"id": 1, "name": "Uli"}, {"id": 2, "name": "Ana"}], []],
            "genre": [["rock"], None],
            "mood": pa.array(["happy", None]).dictionary_encode(),
            "added": [datetime.datetime(2020, 1, 2, 3, 4, 5), None],
            "price": [decimal.Decimal("1.50"), None],
            "title": pa.array(["Söng", "B"], pa.large_string()),
            "raw": [b"\xff", b"ok"],
            "ok": [True, False],
            "long": [datetime.timedelta(seconds=225), None],
            "nothing": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    first, second = rows(tmp_path / "c.parquet")
    added = first.pop("added")
    assert added.startswith("2020-01-02 03:04:05")
    assert first == {
        "id": "7",
        "tempo": "120.5",
        "count": "3",
        "album.name": "L",
        "album.release": "1999-01-02",
        "artists.id": '["1", "2"]',
        "artists.name": '["Uli", "Ana"]',
        "genre": '["rock"]',
        "mood": "happy",
        "price": "1.50",
        "title": "Söng",
        "raw": "\ufffd",
        "ok": "true",
        "long": "0:03:45",
    }
    assert second == {"title": "B", "raw": "ok", "ok": "false"}
    assert rows(tmp_path / "c.parquet", ["artists.name", "title"])[1] == {"title": "B"}


def test_a_small_parquet_file_cannot_fill_the_memory(tmp_path):
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4096, np.int32)), pa.array(["a" * 1_000_000]))
    pq.write_table(pa.table({"title": repeated}), tmp_path / "c.parquet", compression="zstd")
    assert (tmp_path / "c.parquet").stat().st_size < 1000
    with pytest.raises(WorkbookError, match=r"4,096 values of 'title' take 3\.8 GiB"):
        list(open_source(str(tmp_path / "c.parquet"), {}).read(["title"]))


@pytest.mark.parametrize(
    "column", [pa.nulls(1 << 25, pa.string()), pa.array([["x"] * (1 << 25)]), pa.array(["x" * (1 << 28)])]
)
def test_a_parquet_file_far_larger_unpacked_is_refused(tmp_path, column):
    options = {"compression": "zstd", "use_dictionary": pa.types.is_list(column.type), "row_group_size": 1 << 25}
    pq.write_table(pa.table({"title": column}), file := tmp_path / "c.parquet", **options)
    assert file.stat().st_size < 200_000
    with pytest.raises(WorkbookError, match="far more than its size"):
        open_source(str(file), {})


def test_parquet_in_several_chunks(tmp_path):
    pq.write_table(pa.table({"title": [f"T{i}" for i in range(120_000)]}), tmp_path / "c.parquet")
    chunks = list(open_source(str(tmp_path / "c.parquet"), {}).read(["title"]))
    assert len(chunks) > 2 and chunks[-1].rows[-1] == 120_000 and chunks[-1].table["title"][-1].as_py() == "T119999"


def test_damaged_parquet(tmp_path):
    pq.write_table(pa.table({"title": [str(i) * 9 for i in range(5000)]}), tmp_path / "c.parquet")
    content = (tmp_path / "c.parquet").read_bytes()
    assert "damaged or cut" in message(write(tmp_path / "cut.parquet", content[:-20]))
    middle = content[:200] + bytes(2000) + content[2200:]
    assert "damaged or cut" in message(write(tmp_path / "middle.parquet", middle))
    name = content.replace(b"title", b"\x84itle")  # no UTF-8
    assert "damaged or cut" in message(write(tmp_path / "name.parquet", name))


def test_parquet_without_rows(tmp_path):
    pq.write_table(pa.table({"title": pa.array([], pa.string())}), tmp_path / "c.parquet")
    assert rows(tmp_path / "c.parquet") == [] and open_source(str(tmp_path / "c.parquet"), {}).columns == ["title"]


# Spreadsheets


def test_excel(tmp_path):
    songs = [
        ["My songs, exported in 2024"],
        [],
        ["Title", "Artist", "Year", "Length", "Long", "Added", "BPM", "Ok", ""],
        [
            1979,
            "Pumpkins",
            1995.0,
            (225 / 86400, sheets.TIME),
            (3785 / 86400, sheets.LONG),
            (43832, sheets.DATE),
            120.5,
            True,
        ],
        ["B", None, None, (240 / 86400, sheets.TIME), None, (43832.5, sheets.DATE), None, False, "x"],
        [],
        ["C", None, 3],
    ]
    sheets.xlsx(tmp_path / "c.xlsx", {"Notes": [["Read me"]], "Songs": songs})
    assert rows(tmp_path / "c.xlsx") == [
        {"Title": "1979", "Artist": "Pumpkins", "Year": "1995", "Length": "0:03:45", "Long": "1:03:05"}
        | {"Added": "2020-01-02", "BPM": "120.5", "Ok": "true"},
        {"Title": "B", "Length": "0:04:00", "Added": "2020-01-02 12:00:00", "Ok": "false", "column 9": "x"},
        {"Title": "C", "Year": "3"},
    ]
    assert numbers(tmp_path / "c.xlsx") == [1, 2, 4]
    facts = open_source(str(tmp_path / "c.xlsx"), {}).facts
    assert facts == {"sheet": "Songs", "other sheets": "Notes", "header": "row 3"}


def test_minutes_that_excel_took_for_hours(tmp_path):
    cells = [
        [name, ((minutes * 60 + seconds) / 1440, sheets.TIME)]
        for name, minutes, seconds in [("A", 3, 45), ("B", 25, 10)]
    ]
    sheets.xlsx(tmp_path / "c.xlsx", {"S": [["Title", "Time"], *cells]})
    assert [row["Time"] for row in rows(tmp_path / "c.xlsx")] == ["0:03:45", "0:25:10"]
    assert "Time" in open_source(str(tmp_path / "c.xlsx"), {}).facts["times"]


def test_a_named_sheet(tmp_path):
    sheets.xlsx(tmp_path / "c.xlsx", {"A": [["Title"], ["x"], ["y"]], "B": [["Title"], ["z"]]})
    assert rows(tmp_path / "c.xlsx", table="B") == [{"Title": "z"}]
    assert "one of: A, B" in message(tmp_path / "c.xlsx", table="C")


def test_a_column_that_a_sheet_has_twice(tmp_path):
    sheets.xlsx(tmp_path / "c.xlsx", {"A": [["Title", "Title"], ["x", "y"]]})
    source = open_source(str(tmp_path / "c.xlsx"), {})
    assert source.columns == ["Title", "Title"]
    assert [column.to_pylist() for column in next(source.read(None)).table.columns] == [["x"], ["y"]]


def test_other_spreadsheets(tmp_path):
    sheets.ods(tmp_path / "c.ods", [["Title", "Artist"], ["Ä & B", "C"]])
    assert rows(tmp_path / "c.ods") == [{"Title": "Ä & B", "Artist": "C"}]
    read = rows(write(tmp_path / "c.xls", sheets.XLS))
    assert read == [{"Title": "Ä", "Artist": "B", "Plays": "3"}, {"Title": "C", "Artist": "D", "Plays": "7.5"}]


def test_spreadsheets_that_cannot_be_read(tmp_path):
    assert "password" in message(write(tmp_path / "locked.xlsx", sheets.LOCKED))
    assert "damaged" in message(write(tmp_path / "cut.xls", sheets.XLS[:3000]))
    sheets.xlsx(tmp_path / "empty.xlsx", {"A": []})
    assert "sheets are empty" in message(tmp_path / "empty.xlsx")
    sheets.xlsx(tmp_path / "whole.xlsx", {"A": [["Title"], ["x"]]})
    assert "cut" in message(write(tmp_path / "cut.xlsx", (tmp_path / "whole.xlsx").read_bytes()[:-30]))
    with zipfile.ZipFile(tmp_path / "c.docx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    assert "another kind" in message(tmp_path / "c.docx")


# SQLite


def database(path, script: str):
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    return path


BEETS = """CREATE TABLE items (id INTEGER, title TEXT, path BLOB, length REAL); CREATE TABLE albums (id);
CREATE TABLE item_attributes (id); INSERT INTO albums VALUES (1), (2);
INSERT INTO items VALUES (1, 'Söng', x'c3a4ff', 225.5), (2, CAST(x'ff41' AS TEXT), NULL, 240.0);"""


def test_the_library_of_beets(tmp_path):
    file = database(tmp_path / "library.db", BEETS)
    first = {"id": "1", "title": "Söng", "path": "ä\ufffd", "length": "225.5"}
    assert rows(file) == [first, {"id": "2", "title": "\ufffdA", "length": "240"}]
    assert rows(file, ["title"])[0] == {"title": "Söng"} and rows(file, table="albums") == [{"id": "1"}, {"id": "2"}]
    assert open_source(str(file), {}).facts["table"] == "items (2 rows)"


def test_tables_with_odd_names(tmp_path):
    script = """CREATE TABLE "we""ird; DROP" ("a b", "c""d"); INSERT INTO "we""ird; DROP" VALUES (1, 2);
    CREATE VIEW best AS SELECT "a b" AS title FROM "we""ird; DROP"; CREATE VIEW gone AS SELECT * FROM lost;"""
    file = database(tmp_path / "a ?#%.db", script)
    assert rows(file, table='we"ird; DROP') == [{"a b": "1", 'c"d': "2"}]
    assert rows(file, table="best") == [{"title": "1"}]
    assert "no such table" in message(file, table="gone")


def test_several_tables(tmp_path):
    file = database(tmp_path / "c.db", "CREATE TABLE a (x); CREATE TABLE b (x); INSERT INTO a VALUES (1), (2);")
    assert rows(file) == [{"x": "1"}, {"x": "2"}]
    database(file, "INSERT INTO b VALUES (1)")
    assert "a (2 rows), b (1 rows)" in message(file)
    assert "no table 'c'" in message(file, table="c")


def test_rows_in_the_log_of_a_database(tmp_path):
    connection = sqlite3.connect(tmp_path / "c.db")
    connection.executescript("PRAGMA journal_mode = wal; CREATE TABLE t (title); INSERT INTO t VALUES ('new');")
    before = (tmp_path / "c.db").read_bytes(), (tmp_path / "c.db-wal").read_bytes()
    assert rows(tmp_path / "c.db") == [{"title": "new"}]
    assert before == ((tmp_path / "c.db").read_bytes(), (tmp_path / "c.db-wal").read_bytes())
    connection.close()


def test_databases_that_cannot_be_read(tmp_path):
    assert "SQLite cannot read it" in message(write(tmp_path / "no.db", b"SQLite format 3\0" + b"x" * 2000))
    script = "CREATE TABLE t (title);" + "INSERT INTO t VALUES (hex(randomblob(1000)));" * 100
    content = database(tmp_path / "whole.db", script).read_bytes()
    assert "malformed" in message(write(tmp_path / "cut.db", content[: len(content) // 2]))
    database(tmp_path / "empty.db", "PRAGMA user_version = 1")
    assert "no table" in message(tmp_path / "empty.db")


# Libraries of players

PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>Major Version</key><integer>1</integer><key>Tracks</key><dict>
<key>1</key><dict><key>Name</key><string>A &amp; B</string><key>Total Time</key><integer>225000</integer>
<key>Kind</key><string>MPEG audio file</string><key>Explicit</key><true/></dict>
<key>2</key><dict><key>Name</key><string>Talk</string><key>Podcast</key><true/></dict>
<key>3</key><dict><key>Name</key><string>Film</string><key>Kind</key><string>MPEG-4 video file</string></dict>
<key>4</key><dict><key>Name</key><string>Söng</string><key>Artist</key><string>C</string></dict>
</dict><key>Playlists</key><array><dict><key>Name</key><string>Best</string><key>Playlist Items</key><array>
<dict><key>Track ID</key><integer>1</integer></dict></array></dict></array></dict></plist>"""
REKORDBOX = """<?xml version="1.0" encoding="UTF-8"?>
<DJ_PLAYLISTS Version="1.0.0"><PRODUCT Name="rekordbox"/><COLLECTION Entries="2">
<TRACK TrackID="1" Name="A &amp; B" Artist="C" AverageBpm="120.00" Tonality="Am"><TEMPO Inizio="0.1"/></TRACK>
<TRACK TrackID="2" Name="Söng"/></COLLECTION>
<PLAYLISTS><NODE Name="ROOT"><TRACK Key="1"/></NODE></PLAYLISTS></DJ_PLAYLISTS>"""
TRAKTOR = """<?xml version="1.0" encoding="UTF-8" standalone="no" ?>
<NML VERSION="19"><COLLECTION ENTRIES="1"><ENTRY TITLE="A" ARTIST="C"><LOCATION FILE="a.mp3"/><ALBUM TITLE="L"/>
<INFO GENRE="House" PLAYTIME="225"/><TEMPO BPM="120.0"/><MUSICAL_KEY VALUE="21"/><CUE_V2 NAME="x"/><CUE_V2/></ENTRY>
</COLLECTION><PLAYLISTS><NODE><PLAYLIST><ENTRY><PRIMARYKEY KEY="a.mp3"/></ENTRY></PLAYLIST></NODE></PLAYLISTS></NML>"""


def test_itunes(tmp_path):
    file = write(tmp_path / "Library.xml", PLIST)
    first = {"Name": "A & B", "Total Time": "225000", "Kind": "MPEG audio file", "Explicit": "true"}
    assert rows(file) == [first, {"Name": "Söng", "Artist": "C"}]
    assert numbers(file) == [1, 4]
    assert open_source(str(file), {}).facts == {"skipped": "2 podcasts, videos and audiobooks"}


def test_rekordbox(tmp_path):
    file = write(tmp_path / "rekordbox.xml", REKORDBOX)
    first = {"TrackID": "1", "Name": "A & B", "Artist": "C", "AverageBpm": "120.00", "Tonality": "Am"}
    assert rows(file) == [first, {"TrackID": "2", "Name": "Söng"}]
    assert open_source(str(file), {}).kind == "Rekordbox XML"


def test_traktor(tmp_path):
    first = {"TITLE": "A", "ARTIST": "C", "LOCATION.FILE": "a.mp3", "ALBUM.TITLE": "L", "INFO.GENRE": "House"}
    expected = first | {"INFO.PLAYTIME": "225", "TEMPO.BPM": "120.0", "MUSICAL_KEY.VALUE": "Am"}
    assert rows(write(tmp_path / "collection.nml", TRAKTOR)) == [expected]


def test_a_library_that_ends_early_keeps_its_tracks(tmp_path):
    file = write(tmp_path / "c.xml", PLIST[: PLIST.index("Söng")])
    assert [row["Name"] for row in rows(file)] == ["A & B"]
    ((number, reason),) = damaged(file)
    assert number == 4 and "ends early at line 8" in reason and "line 8" in open_source(str(file), {}).facts["damaged"]


def test_libraries_that_are_refused(tmp_path):
    bomb = '<!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + PLIST.partition('.dtd">')[2].replace(
        "Talk", "&b;"
    )
    assert "entities" in message(write(tmp_path / "bomb.xml", bomb))
    outside = '<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><dict/></plist>'
    assert "entities" in message(write(tmp_path / "outside.xml", outside))
    assert "root <rss> is unknown" in message(write(tmp_path / "feed.xml", "<rss><item/></rss>"))
    assert "no track" in message(write(tmp_path / "none.xml", "<NML><COLLECTION></COLLECTION></NML>"))
    assert "XML" in message(write(tmp_path / "broken.xml", "<?xml version='1.0'?><<"))


# Playlists


def test_a_playlist_with_titles(tmp_path):
    text = '#EXTM3U\n#EXTINF:225,Uli - Söng - Live\n/m/a.mp3\n#EXTALB:L\n#EXTINF:-1 tvg-id="a,b",Only\nhttp://x/y.mp3\n'
    first = {"title": "Söng - Live", "artist": "Uli", "duration_s": "225", "location": "/m/a.mp3"}
    second = {"title": "Only", "duration_s": "-1", "location": "http://x/y.mp3"}
    read = rows(write(tmp_path / "c.m3u8", text))
    assert read[0] == first and read[1].items() >= second.items()


def test_a_playlist_of_paths(tmp_path):
    read = rows(write(tmp_path / "c.m3u", "Uli - Söng.mp3\nAna/Best of/01 Hey.mp3\nx.mp3\n"))
    assert [(row.get("artist"), row.get("album"), row["title"]) for row in read] == [
        ("Uli", None, "Söng"),
        ("Ana", "Best of", "Hey"),
        (None, None, "x"),
    ]
    read = rows(
        write(tmp_path / "w.m3u", "C:\\M\\Ana\\L\\01 A.mp3\r\nC:\\M\\Ana\\K\\02 B.mp3\r\nC:\\M\\Eva\\J\\B.mp3\r\n")
    )
    assert [(row["artist"], row["album"], row["title"]) for row in read] == [
        ("Ana", "L", "A"),
        ("Ana", "K", "B"),
        ("Eva", "J", "B"),
    ]


def test_a_playlist_in_latin1(tmp_path):
    text = "#EXTM3U\n" + "".join(
        f"#EXTINF:9,{name}\na.mp3\n" for name in ("Motörhead - Für Elise", "Beyoncé - Déjà vu")
    )
    read = rows(write(tmp_path / "c.m3u", text.encode("latin-1")))
    assert [row["title"] for row in read] == ["Für Elise", "Déjà vu"]


def test_playlists_that_are_refused(tmp_path):
    assert "no song" in message(write(tmp_path / "none.m3u", "#EXTM3U\n"))
    assert "HLS" in message(write(tmp_path / "live.m3u8", "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:9,\na.ts\n"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("03 - Artist - Title", ("Artist", "Title")),
        ("Artist - Album - 03 - Title", ("Artist", "Title")),
        ("01 Title", (None, "Title")),
        ("1-03 Title", (None, "Title")),
        ("Artist_Name_-_Title", ("Artist Name", "Title")),
        ("99 Problems", (None, "99 Problems")),
        ("21 Savage - A Lot", ("21 Savage", "A Lot")),
        ("1979", (None, "1979")),
    ],
)
def test_names_of_files(name, expected):
    assert playlists.artist_and_title(name) == expected


# A folder of music

TAGS = {"title": "Söng", "artist": ["Uli", "Ana"], "album": "L", "genre": "Rock", "date": "1999-02-03", "bpm": "120"}
TAGS |= {"initialkey": "Am", "mood": "happy", "language": "eng", "comment": "nice"}


@pytest.mark.parametrize("kind", audio_files.KINDS)
def test_the_tags_of_a_file(tmp_path, kind):
    (tmp_path / "a").mkdir()
    audio_files.KINDS[kind](tmp_path / "a" / f"x.{kind}", **TAGS)
    (row,) = rows(tmp_path)
    duration = row.pop("duration_ms", None)
    assert kind == "wma" or 950 < int(duration) < 1100
    expected = TAGS | {"id": f"a/x.{kind}", "artist": '["Uli", "Ana"]', "key": "Am"}
    assert row == {name: value for name, value in expected.items() if name != "initialkey"}


def test_a_folder_of_music(tmp_path):
    audio_files.mp3(tmp_path / "b.mp3", title="B")
    audio_files.mp3(tmp_path / "03 - Uli - A.mp3")
    (tmp_path / "empty.mp3").touch()
    write(tmp_path / "page.mp3", "<html>" * 99)
    write(tmp_path / "cut.mp3", (tmp_path / "b.mp3").read_bytes()[:60])
    write(tmp_path / "._b.mp3", "of macOS")
    write(tmp_path / "cover.jpg", "a picture")
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "loop").symlink_to(tmp_path)
    read = rows(tmp_path)
    assert [(row["id"], row.get("artist"), row["title"]) for row in read] == [
        ("03 - Uli - A.mp3", "Uli", "A"),
        ("b.mp3", None, "B"),
    ]
    bad = damaged(tmp_path)
    assert [reason.split()[0] for _, reason in bad] == ["cut.mp3", "empty.mp3", "page.mp3", "pipe.mp3"]
    assert sorted(numbers(tmp_path) + [number for number, _ in bad]) == [1, 2, 3, 4, 5, 6]
    facts = open_source(str(tmp_path), {}).facts
    assert facts["files"] == "6 mp3" and facts["damaged"] == "4 files" and facts["not music"].startswith("1 ")
    assert "linked folders" in facts and facts["titled by file name"].startswith("1 ")


def test_names_that_are_no_utf8(tmp_path):
    for name in (b"Caf\xe9.mp3", b"Caf\xe8.mp3"):
        audio_files.mp3(tmp_path / os.fsdecode(name))
    read = rows(tmp_path)
    assert [(row["id"], row["title"]) for row in read] == [("Caf\\xe8.mp3", "Caf\ufffd"), ("Caf\\xe9.mp3", "Caf\ufffd")]


def test_folders_without_music(tmp_path):
    assert "mp3, flac" in message(tmp_path)
    (tmp_path / "a.mp3").touch()
    assert "a.mp3 is empty" in message(tmp_path)


# Kinds under another name


def test_the_content_decides_the_kind(tmp_path):
    pq.write_table(pa.table({"title": ["A"]}), tmp_path / "parquet.csv")
    sheets.xlsx(tmp_path / "excel.csv", {"A": [["title"], ["A"]]})
    database(tmp_path / "sqlite.json", "CREATE TABLE t (title); INSERT INTO t VALUES ('A')")
    write(tmp_path / "json.xlsx", [{"title": "A"}])
    write(tmp_path / "lines.parquet", '{"title": "A"}\n{"title": "A"}\n')
    write(tmp_path / "table.xlsx", "title,artist\nA,B\n")
    write(tmp_path / "list.txt", "#EXTM3U\n#EXTINF:1,A\na.mp3\n")
    write(tmp_path / "packed.json", gzip.compress(b'[{"title": "A"}]'))
    for file in tmp_path.iterdir():
        assert rows(file)[0]["title"] == "A", file


@pytest.mark.parametrize("name", ["c.parquet", "c.xlsx", "c.db", "c.json", "c.xml", "c.m3u", "c.mp3"])
def test_bytes_of_no_kind(tmp_path, name):
    message(write(tmp_path / name, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9))
    message(write(tmp_path / name, b""))
