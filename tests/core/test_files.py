"""Atomic writes: a folder that is replaced is never missing, and the rest of a killed write is cleared away."""

import os
import sys
import threading

import pandas as pd
import pytest

from lib.core import files


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two names in one step")
def test_a_replaced_folder_is_never_missing(tmp_path):
    path, missing, done = tmp_path / "index", [], threading.Event()
    path.mkdir()

    def look():
        while not done.is_set():
            missing.extend([] if path.exists() else [1])

    watcher = threading.Thread(target=look)
    watcher.start()
    for i in range(300):
        with files.atomic(path) as temporary:
            temporary.mkdir()
            (temporary / str(i)).touch()
    done.set()
    watcher.join()
    assert not missing and [file.name for file in path.iterdir()] == ["299"] and list(tmp_path.iterdir()) == [path]


def test_the_rest_of_a_killed_replacement_is_cleared_away(tmp_path):
    path, dead = tmp_path / "index", 2**22 + 1  # no process has such a number
    (tmp_path / f".index.{dead}.old").mkdir()
    for kept in (os.getppid(), "note"):  # of another process, and of a user
        (tmp_path / f".index.{kept}.tmp").mkdir()
    with pytest.raises(KeyError), files.atomic(path):
        (tmp_path / f".index.{dead}.tmp").mkdir()
        raise KeyError
    assert path.is_dir() and not (tmp_path / f".index.{dead}.old").exists()
    with files.atomic(path) as temporary:
        temporary.mkdir()
    assert {file.name for file in tmp_path.iterdir()} == {"index", f".index.{os.getppid()}.tmp", ".index.note.tmp"}


@pytest.mark.parametrize("kind", ["str", "object", "category"])
def test_a_csv_file_runs_no_formula_in_a_spreadsheet(tmp_path, kind):
    texts = ["=cmd|' /C calc'!A0", "@SUM(A1)", "-1+cmd|x!A0", "- a dash", None]
    files.write_csv(tmp_path / "t.csv", pd.DataFrame({"mood": pd.Series(texts, dtype=kind), "year": range(5)}))
    written = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert written["mood"].tolist() == [f"'{text}" for text in texts[:3]] + ["- a dash", ""]
    assert written["year"].tolist() == [*range(5)]
