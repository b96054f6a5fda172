"""The batch inferencer: real Ray, on this machine."""

import shutil

import pytest
import torch

from deploy.scale import batch
from lib.search import embedding, indexing, recommender


@pytest.fixture
def runs_to_index(small_run, tmp_path, monkeypatch):
    """Two copies of a run whose vectors were lost, in chunks of 64 tracks."""
    monkeypatch.setattr(embedding, "CHUNK", 64)
    for name in ("one", "several"):
        for part in ("model", "encoders", "index"):
            shutil.copytree(small_run / part, tmp_path / name / part)
        shutil.copy(small_run / "tracks.parquet", tmp_path / name)
        (tmp_path / name / "index/vectors.npy").write_bytes(b"lost")
    return tmp_path / "one", tmp_path / "several"


def test_ray_leaves_the_index_of_one_process_byte_for_byte(runs_to_index):
    one, several = runs_to_index
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        indexing.reindex(one)
    finally:
        torch.set_num_threads(before)
    assert batch.main([str(several), "--encoders", "2"]) == 0
    files = {file.name: file.read_bytes() for file in (one / "index").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (several / "index").iterdir()}
    assert len(files["vectors.npy"]) > 400 * 384 * 4
    assert (
        recommender.open_run(several).recommend("calm piano").equals(recommender.open_run(one).recommend("calm piano"))
    )


def test_a_run_that_has_none_is_refused(tmp_path, capsys):
    assert batch.main([str(tmp_path)]) == 1
    assert "has no tracks.parquet" in capsys.readouterr().err


def test_an_encoder_that_no_machine_has_room_for_is_refused(small_run, capsys):
    """It would wait for ever."""
    assert batch.main([str(small_run), "--cpus", "4000"]) == 1
    assert "an encoder wants 4000 CPUs" in capsys.readouterr().err
