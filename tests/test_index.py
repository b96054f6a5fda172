"""The nearest vectors: exact and approximate, filtered, kept up to date; and the catalogue embedded to be searched."""

import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

import lib
from lib.core import base_models, encoder, errors, files, processes
from lib.search import embedding, index, indexing, recommender


def vectors(n: int, seed: int = 0, d: int = 64) -> np.ndarray:
    """Unit vectors with neighbours: 200 of them, jittered."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((200, d))
    near = centres[chance.integers(0, 200, n)] / np.sqrt(d) + 0.05 * chance.standard_normal((n, d))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


def written(folder, values: np.ndarray, kind: str, **more) -> index.Index:
    folder.mkdir(exist_ok=True)
    np.save(folder / index.VECTORS, values)
    index.write_lists(folder, kind, **more)
    return index.open_index(folder)


def recall(found: index.Index, values: np.ndarray, mask=None) -> float:
    """Of the true first ten of 50 queries, the share that is found."""
    shares, allowed = [], None if mask is None else found.only(mask)
    for query in vectors(50, seed=1):
        scores = values @ query if mask is None else np.where(mask, values @ query, -9)
        rows, similarity = found.nearest(query, 10, allowed)
        assert np.allclose(similarity, values[rows] @ query, atol=1e-6) and (np.diff(similarity) <= 0).all()
        shares.append(len(set(rows) & set(np.argsort(-scores)[:10])) / 10)
    return np.mean(shares)


def test_faiss_multiplies_with_the_kernels_that_this_processor_has():
    """Those for the processor that numpy finds: its own OpenBLAS is older than many processors."""
    found = {info["filepath"]: info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    of_numpy = next((core for file, core in found.items() if "numpy.libs" in file), None)
    if not of_numpy:
        pytest.skip("numpy has no OpenBLAS here")
    assert [core for file, core in found.items() if "faiss" in file] == [lib.SINCE.get(of_numpy, of_numpy)]


def test_exact_search_is_exact(tmp_path):
    values = vectors(3_000)
    found = written(tmp_path, values, "auto")
    assert found.lists is None and recall(found, values) == 1.0
    assert recall(found, values, np.random.default_rng(2).random(3_000) < 0.05) == 1.0


def test_few_are_enough_and_equals_keep_their_order(tmp_path):
    values = np.repeat(np.eye(1, 64, dtype=np.float32), 5, axis=0)  # no product of these is rounded
    found = written(tmp_path, values, "exact")
    assert found.nearest(values[0], 10)[0].tolist() == [0, 1, 2, 3, 4]
    assert found.nearest(values[0], 3, found.only(np.arange(5) == 4))[0].tolist() == [4]
    assert not len(found.nearest(values[0], 3, found.only(np.zeros(5, bool)))[0])


def test_lists_find_nearly_all_and_a_filter_keeps_it_so(tmp_path):
    values = vectors(40_000)
    found = written(tmp_path, values, "lists")
    assert found.lists.nlist == 512 and (tmp_path / index.LISTS).stat().st_size < values.nbytes / 3
    assert recall(found, values) >= 0.95
    mask = np.random.default_rng(2).random(len(values)) < 0.05
    assert recall(found, values, mask) >= 0.9
    assert mask[found.nearest(values[0], 50, found.only(mask))[0]].all()


def test_a_filter_whose_rows_lie_far_from_the_query_finds_them(tmp_path):
    """As those of a mood do when the text says another."""
    values = vectors(40_000)
    found = written(tmp_path, values, "lists")
    together = values @ values[0] > 0.7  # of one of the 200 places around which they lie
    assert 50 < together.sum() < 500 and recall(found, values, together) >= 0.95
    few = np.arange(len(values)) % 13_000 == 7
    assert sorted(found.nearest(-values[0], 10, found.only(few))[0]) == [7, 13_007, 26_007, 39_007]
    assert not len(found.nearest(values[0], 10, found.only(np.zeros(len(values), bool)))[0])


def test_what_is_gone_is_not_found_and_what_is_new_is(tmp_path):
    """Lists that are moved to the rows of now, with nothing trained or filed again but what is new."""
    values, new = vectors(20_000), vectors(300, seed=5)
    written(tmp_path / "before", values, "lists")
    stays = np.random.default_rng(3).permutation(20_000)[:19_800]
    old = np.concatenate([np.full(150, -1), stays, np.full(150, -1)])
    now = np.concatenate([new[:150], values[stays], new[150:]])
    found = written(tmp_path / "now", now, "lists", before=tmp_path / "before", old=old)
    assert found.lists.ntotal == len(now) and recall(found, now) >= 0.95
    for row in (0, 149, 150, 10_000, len(now) - 1):
        assert found.nearest(now[row], 1)[0][0] == row
    bigger = np.vstack([now, vectors(60_000, seed=8)])  # for which other lists are made
    old = np.concatenate([np.arange(len(now)), np.full(60_000, -1)])
    found = written(tmp_path / "bigger", bigger, "lists", before=tmp_path / "now", old=old)
    assert found.lists.nlist == 1024 and recall(found, bigger) >= 0.95


# embedding the catalogue


@pytest.fixture
def texts() -> pd.Series:
    different = [f"song number {i}, {'slow and sad' * (i % 7)}" for i in range(60)]
    return pd.Series([*different, *different[:5]])


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The texts that were encoded, in chunks of 16."""
    seen, real = [], embedding.embed
    monkeypatch.setattr(embedding, "CHUNK", 16)
    monkeypatch.setattr(embedding, "embed", lambda model, some: (seen.extend(some), real(model, some))[1])
    return seen


@pytest.fixture(scope="module")
def model():
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))


def test_a_catalogue_is_embedded_as_sentence_transformers_does(model, texts, counted, tmp_path):
    file = tmp_path / "vectors.npy"
    embedding.embed_catalogue(embedding.here(model), 384, texts, file, "this model", np.full(len(texts), -1), None)
    assert np.abs(np.load(file) - model.encode(texts.tolist(), show_progress_bar=False)).max() < 1e-5
    assert counted == texts.tolist()[:60]  # each once


def test_a_killed_embedding_goes_on(model, texts, counted, tmp_path, monkeypatch):
    file, nothing = tmp_path / "vectors.npy", np.full(len(texts), -1)
    whole, real = tmp_path / "whole.npy", embedding.embed
    embedding.embed_catalogue(embedding.here(model), 384, texts, whole, "this model", nothing, None)

    def killed(model, some):
        if len(counted) >= 32:
            raise KeyboardInterrupt
        return real(model, some)

    counted.clear()
    monkeypatch.setattr(embedding, "embed", killed)
    with pytest.raises(KeyboardInterrupt):
        embedding.embed_catalogue(embedding.here(model), 384, texts, file, "this model", nothing, None)
    with file.open("ab") as out:
        out.write(b"half a vector")
    monkeypatch.setattr(embedding, "embed", real)
    counted.clear()
    embedding.embed_catalogue(embedding.here(model), 384, texts, file, "this model", nothing, None)
    assert counted == texts.tolist()[32:60] and np.array_equal(np.load(file), np.load(whole))
    # Other texts: from the beginning.
    embedding.embed_catalogue(embedding.here(model), 384, texts[::-1], file, "this model", nothing, None)
    assert np.allclose(np.load(file), np.load(whole)[::-1], atol=1e-5)


def test_one_that_was_killed_as_it_began_is_not_taken_for_the_one_before(model, texts, counted, tmp_path, monkeypatch):
    file = tmp_path / "vectors.npy"
    embedding.embed_catalogue(embedding.here(model), 384, texts, file, "this model", np.full(len(texts), -1), None)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        embedding.embed_catalogue(embedding.here(model), 384, texts[:9], file, "this model", np.full(9, -1), None)
    embedding.embed_catalogue(embedding.here(model), 384, texts, file, "this model", np.full(len(texts), -1), None)
    assert np.load(file).shape == (len(texts), 384)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux swaps two names in one step")
def test_a_folder_that_is_replaced_is_never_missing(tmp_path):
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


def test_what_a_killed_replacement_left_is_put_right(tmp_path):
    path, gone = tmp_path / "index", 2**22 + 1  # no process has such a number
    (tmp_path / f".index.{gone}.old").mkdir()
    for kept in (os.getppid(), "note"):  # another process's, and somebody's own
        (tmp_path / f".index.{kept}.tmp").mkdir()
    with pytest.raises(KeyError), files.atomic(path):
        (tmp_path / f".index.{gone}.tmp").mkdir()
        raise KeyError
    assert path.is_dir() and not (tmp_path / f".index.{gone}.old").exists()
    with files.atomic(path) as temporary:
        temporary.mkdir()
    assert {file.name for file in tmp_path.iterdir()} == {"index", f".index.{os.getppid()}.tmp", ".index.note.tmp"}


def test_two_do_not_build_one_index(small_run, tmp_path):
    run, tracks = tmp_path / "run", pd.read_parquet(small_run / "tracks.parquet")
    shutil.copytree(small_run, run)
    with processes.only_one(run, ".index.lock"), pytest.raises(errors.WorkbookError, match="at work in"):
        indexing.build_index(run, tracks)


def test_an_index_is_not_built_for_what_could_not_be_served(small_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    for spoilt in ("{", "[]", '{"encoder": "torch", "kind": "none"}'):
        (run / "index" / "index.json").write_text(spoilt)
        assert indexing.main([str(run)]) == 1 and "run is damaged" in capsys.readouterr().err
    shutil.copyfile(small_run / "index" / "index.json", run / "index" / "index.json")
    (run / "model" / "README.md").write_text("another model")
    assert indexing.main([str(run)]) == 1 and "encoders/ was made with another model" in capsys.readouterr().err


def test_only_what_is_new_is_embedded(small_run, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    before, seen, real = recommender.open_run(run), [], embedding.embed
    monkeypatch.setattr(embedding, "embed", lambda model, some: (seen.extend(some), real(model, some))[1])
    tracks = pd.read_parquet(run / "tracks.parquet")
    new = tracks.iloc[:3].assign(id=["n1", "n2", "n3"], text=["an ode to rain", "an ode to snow", "an ode to rain"])
    pd.concat([tracks.iloc[5:].sample(frac=1, random_state=1), new]).to_parquet(run / "tracks.parquet")
    assert indexing.main([str(run)]) == 0
    now = recommender.open_run(run)
    assert sorted(set(seen)) == ["an ode to rain", "an ode to snow"] and len(now.tracks) == len(before.tracks) - 2
    assert now.fingerprints["index"] != before.fingerprints["index"]
    assert set(now.recommend("an ode to rain", 2)["id"]) == {"n1", "n3"}
    with pytest.raises(KeyError):
        now.rows([tracks["id"][0]])
    row = now.rows([tracks["id"][9]])
    assert np.array_equal(now.vectors[row], before.vectors[before.rows([tracks["id"][9]])])
    assert indexing.main([str(run), "--index", "lists"]) == 0 and indexing.main([str(run)]) == 0
    assert recommender.open_run(run).index.lists is not None  # as it was told before
    assert indexing.main([str(tmp_path / "none")]) == 1 and "has no tracks.parquet" in capsys.readouterr().err
