"""Sources: the kind of a file by its content, packed files, and the refusals."""

import bz2
import gzip
import io
import lzma
import os
import re
import sqlite3
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.core.errors import WorkbookError
from lib.tracks.readers import archives
from lib.tracks.readers.opening import open_source

TABLE = "title,artist\n" + "".join(f"Song {i},Band {i}\n" for i in range(2000))


def rows(source) -> int:
    return sum(chunk.table.num_rows for chunk in source.read(None))


def save(tmp_path, content: str | bytes, name: str):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(tmp_path, members: dict[str, str], name="c.zip"):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def refusal(path, reading=None) -> str:
    """Return the one line that says why the path is no catalogue."""
    with pytest.raises(WorkbookError) as error:
        list(open_source(str(path), reading or {}).read(None))
    message = str(error.value)
    assert "\n" not in message and archives.FOLDER not in message
    return message


def test_the_content_decides_not_the_ending(tmp_path):
    assert open_source(str(save(tmp_path, '{"title": "A"}\n{"title": "B"}\n', "a.csv")), {}).kind == "JSON Lines"
    pq.write_table(pa.table({"title": ["A"]}), tmp_path / "b.csv")
    assert open_source(str(tmp_path / "b.csv"), {}).kind == "Parquet"
    with sqlite3.connect(tmp_path / "c.txt") as database:
        database.execute("create table songs (title text)")
        database.execute("insert into songs values ('A')")
    assert open_source(str(tmp_path / "c.txt"), {}).kind.startswith("SQLite")
    assert open_source(str(save(tmp_path, TABLE, "d")), {}).kind == "CSV"
    assert open_source(str(save(tmp_path, TABLE, "e.json")), {}).kind == "CSV"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("name", ["c.csv.gz", "c.csv"])
def test_packed_files(tmp_path, pack, name):
    source = open_source(str(save(tmp_path, pack(TABLE.encode()), name)), {})
    assert source.kind.startswith("CSV in a ") and source.file.name == name and rows(source) == 2000


def test_a_zip_with_one_table_and_what_else_zips_have(tmp_path):
    extras = {"__MACOSX/._songs.csv": "x", "README.md": "notes", "cover.png": "x", ".DS_Store": "x", "LICENSE.txt": "x"}
    source = open_source(str(zipped(tmp_path, {"data/songs.csv": TABLE, **extras})), {})
    assert source.kind == "CSV in a zip file" and rows(source) == 2000


def test_a_zip_with_two_tables(tmp_path):
    path = zipped(tmp_path, {"data/songs.csv": TABLE, "plays.tsv": "a\tb\n1\t2\n"})
    message = refusal(path)
    assert "data/songs.csv, plays.tsv" in message and "reading: {table: NAME}" in message
    assert rows(open_source(str(path), {"table": "songs.csv"})) == 2000
    assert open_source(str(path), {"table": "plays.tsv"}).kind == "TSV in a zip file"


def test_a_zip_without_a_table(tmp_path):
    assert "no table" in refusal(zipped(tmp_path, {"a.png": "x"}))


def test_a_gzip_in_a_zip_and_no_deeper(tmp_path):
    once = gzip.compress(TABLE.encode())
    assert rows(open_source(str(zipped(tmp_path, {"c.csv.gz": once})), {})) == 2000
    assert "packed three times" in refusal(zipped(tmp_path, {"c.csv.gz": gzip.compress(once)}))


def test_a_zip_with_a_password(tmp_path):
    path = zipped(tmp_path, {"c.csv": TABLE})
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "has a password" in refusal(path)


def test_a_zip_that_is_cut(tmp_path):
    path = zipped(tmp_path, {"c.csv": TABLE})
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[:-30])
    assert "damaged or cut" in refusal(path)
    whole[whole.rfind(b"PK\1\2") + 6] = 99  # a version of the format that nobody knows
    path.write_bytes(whole)
    assert "zip file version 9.9" in refusal(path)


def test_a_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 1000)
    assert "20 GB" in refusal(zipped(tmp_path, {"c.csv": TABLE}))
    assert "20 GB" in refusal(save(tmp_path, gzip.compress(b"a,b\n" * (1 << 20)), "c.gz"))


def test_a_gzip_that_ends_early_keeps_its_whole_rows(tmp_path):
    packed = gzip.compress(TABLE.encode())
    chunks = list(open_source(str(save(tmp_path, packed[: len(packed) // 2], "c.csv.gz")), {}).read(["title"]))
    kept = [title for chunk in chunks for title in chunk.table["title"].to_pylist()]
    assert 100 < len(kept) < 2000 and kept == [f"Song {i}" for i in range(len(kept))]
    ((row, reason),) = [fault for chunk in chunks for fault in chunk.damaged]
    assert row == len(kept) + 1 and "ends early" in reason


def test_a_gzip_without_a_whole_line(tmp_path):
    assert "Download it again" in refusal(save(tmp_path, gzip.compress(TABLE.encode())[:12], "c.gz"))


def test_a_message_names_the_packed_file(tmp_path):
    path = save(tmp_path, gzip.compress(b"title,artist\n"), "c.csv.gz")
    assert refusal(path).startswith(f"{path}: it has a header and no rows")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "web page"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html></html>", "web page"),
        (b"ID3\x04\0\0\0\0", "folder of your music"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "We read CSV"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "We read CSV"),
        (b"%PDF-1.4\n", "We read CSV"),
    ],
    ids=["empty", "LFS", "HTML", "XHTML", "mp3", "PNG", "HDF5", "PDF"],
)
def test_files_that_are_no_catalogue(tmp_path, content, words):
    path = save(tmp_path, content, "c.csv")
    message = refusal(path)
    assert message.startswith(f"{path}: ") and words in message


def test_a_tar_archive(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(save(tmp_path, TABLE, "c.csv"), "c.csv")
    assert "tar -xf" in refusal(save(tmp_path, packed.getvalue(), "c.tar.gz"))


def test_paths_that_are_no_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "curl -LO https://example.org/c.csv" in refusal("https://example.org/c.csv")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe or a device" in refusal(tmp_path / "pipe")
    assert "pipe or a device" in refusal("/dev/null")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(tmp_path, TABLE, "c.csv")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", denied)
    assert "chmod u+r" in refusal(path)


def test_an_unknown_key_of_reading(tmp_path):
    message = refusal(save(tmp_path, TABLE, "c.csv"), {"seperator": ";"})
    assert re.search("'seperator' is unknown.*separator", message)
