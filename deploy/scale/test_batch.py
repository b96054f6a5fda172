"""Batch inference with Ray on this machine."""

import shutil
from pathlib import Path

import pytest
import torch

from deploy.scale import batch
from lib.search import indexing, recommender


@pytest.fixture
def runs_to_index(small_run, tmp_path, monkeypatch):
    """Two copies of a run with damaged vectors; chunks have 64 tracks."""
    monkeypatch.setattr(indexing, "CHUNK", 64)
    for name in ("alone", "pool"):
        for part in ("model", "encoders", "index"):
            shutil.copytree(small_run / part, tmp_path / name / part)
        shutil.copy(small_run / "tracks.parquet", tmp_path / name)
        (tmp_path / name / "index/vectors.npy").write_bytes(b"lost")
    return tmp_path / "alone", tmp_path / "pool"


def test_ray_writes_the_same_index_as_one_process(runs_to_index):
    alone, pool = runs_to_index
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        indexing.reindex(alone)
    finally:
        torch.set_num_threads(before)
    assert batch.main([str(pool), "--encoders", "2"]) == 0
    files, others = (contents(run / "index") for run in (alone, pool))
    assert files == others and any(name.startswith("names/") for name in files)
    assert len(files["vectors.npy"]) > 400 * 384 * 4
    answers = [recommender.open_run(run).recommend("calm piano") for run in (alone, pool)]
    assert answers[0].equals(answers[1])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder, by their paths in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_without_tracks_is_refused(tmp_path, capsys):
    assert batch.main([str(tmp_path)]) == 1
    assert "has no tracks.parquet" in capsys.readouterr().err


def test_an_encoder_that_fits_no_machine_is_refused(small_run, capsys):
    """The job would wait for ever."""
    assert batch.main([str(small_run), "--cpus", "4000"]) == 1
    assert "an encoder needs 4000 CPUs" in capsys.readouterr().err
