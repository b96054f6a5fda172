"""The catalogue's vectors and index: written in chunks, resumed, written again."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.core import base_models, encoder, errors, processes
from lib.search import indexing, recommender


@pytest.fixture
def texts() -> pd.Series:
    different = [f"song number {i}, {'slow and sad' * (i % 7)}" for i in range(60)]
    return pd.Series([*different, *different[:5]])


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """The texts that were embedded, in chunks of 16."""
    seen, embed = [], indexing.embed
    monkeypatch.setattr(indexing, "CHUNK", 16)
    monkeypatch.setattr(indexing, "embed", lambda model, chunk: (seen.extend(chunk), embed(model, chunk))[1])
    return seen


@pytest.fixture(scope="module")
def model():
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))


@pytest.fixture
def run(small_run, tmp_path) -> Path:
    """A copy of the small run."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


@pytest.fixture
def short(run) -> Path:
    """A copy of the small run with the first 64 tracks, which are embedded again in a second."""
    pd.read_parquet(run / "tracks.parquet").head(64).to_parquet(run / "tracks.parquet")
    indexing.reindex(run)
    return run


def write(model, texts: pd.Series, file: Path) -> np.ndarray:
    """Embed texts into a file, and read it."""
    encode = lambda chunks: (indexing.embed(model, chunk) for chunk in chunks)  # noqa: E731
    indexing.embed_catalogue(encode, (len(texts), 384), texts, file, {}, None)
    return np.load(file)


def test_vectors_equal_those_of_sentence_transformers(model, texts, embedded, tmp_path):
    vectors = write(model, texts, tmp_path / "vectors.npy")
    assert np.abs(vectors - model.encode(texts.tolist(), show_progress_bar=False)).max() < 1e-5
    assert embedded == texts.tolist()[:60]  # each text once


def test_a_killed_embedding_resumes(model, texts, embedded, tmp_path, monkeypatch):
    file, embed = tmp_path / "vectors.npy", indexing.embed
    expected = write(model, texts, tmp_path / "expected.npy")

    def killed(model, chunk):
        if len(embedded) >= 32:
            raise KeyboardInterrupt
        return embed(model, chunk)

    embedded.clear()
    monkeypatch.setattr(indexing, "embed", killed)
    with pytest.raises(KeyboardInterrupt):
        write(model, texts, file)
    with file.open("ab") as out:
        out.write(b"half a vector")
    monkeypatch.setattr(indexing, "embed", embed)
    embedded.clear()
    assert np.array_equal(write(model, texts, file), expected) and embedded == texts.tolist()[32:60]


def test_an_embedding_killed_at_its_start_begins_again(model, texts, embedded, tmp_path):
    (tmp_path / "vectors.npy").write_bytes(b"half a header")
    assert write(model, texts, tmp_path / "vectors.npy").shape == (len(texts), 384)


def test_a_killed_index_resumes_for_the_same_texts_only(short, embedded, monkeypatch):
    tracks, embed, file = pd.read_parquet(short / "tracks.parquet"), indexing.embed, short / "index" / "vectors.npy"
    expected = np.load(file)

    def killed(model, chunk):
        if len(embedded) >= 32:
            raise KeyboardInterrupt
        return embed(model, chunk)

    for table, vectors, resumed in ((tracks, expected, 32), (tracks[::-1], expected[::-1], 0)):
        file.write_bytes(b"lost")
        embedded.clear()
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(indexing, "embed", killed)
            indexing.build_index(short, tracks)
        embedded.clear()
        indexing.build_index(short, table)
        assert len(embedded) == len(tracks) - resumed and np.allclose(np.load(file), vectors, atol=1e-5)
        assert not list(short.glob(".index.unfinished*"))


def test_two_processes_do_not_build_one_index(run):
    tracks = pd.read_parquet(run / "tracks.parquet")
    with processes.only_one(run, ".index.lock"), pytest.raises(errors.WorkbookError, match=str(run)):
        indexing.build_index(run, tracks)


def test_an_index_that_could_not_serve_is_not_built(small_run, run):
    for damage in ("{", "[]", '{"encoder": "torch", "kind": "none"}'):
        (run / "index" / "index.json").write_text(damage)
        with pytest.raises(errors.WorkbookError, match="run is damaged"):
            indexing.reindex(run)
    shutil.copyfile(small_run / "index" / "index.json", run / "index" / "index.json")
    with pytest.raises(errors.WorkbookError, match="index is 'flat', but must be one of auto, exact, lists"):
        indexing.reindex(run, "flat")
    (run / "model" / "README.md").write_text("another model")
    with pytest.raises(errors.WorkbookError, match="encoders/ was made with another model"):
        indexing.reindex(run)
    with pytest.raises(errors.WorkbookError, match=r"there is no .*none"):
        indexing.reindex(run.parent / "none")


def test_a_reindex_embeds_only_new_texts(run, embedded):
    before, tracks = recommender.open_run(run), pd.read_parquet(run / "tracks.parquet")
    new = tracks.iloc[:3].assign(id=["n1", "n2", "n3"], text=["an ode to rain", "an ode to snow", "an ode to rain"])
    pd.concat([tracks.iloc[5:].sample(frac=1, random_state=1), new]).to_parquet(run / "tracks.parquet")
    assert indexing.reindex(run) == len(tracks) - 2
    after = recommender.open_run(run)
    assert sorted(set(embedded)) == ["an ode to rain", "an ode to snow"] and len(after.tracks) == len(tracks) - 2
    assert after.fingerprints["index"] != before.fingerprints["index"]
    assert set(after.recommend("an ode to rain", 2)["id"]) == {"n1", "n3"}
    with pytest.raises(KeyError):
        after.rows([tracks["id"][0]])
    kept = tracks["id"][5:]
    assert np.array_equal(after.vectors[after.rows(kept)], before.vectors[before.rows(kept)])


def test_tags_are_found_by_their_words(run):
    tracks = pd.read_parquet(run / "tracks.parquet")
    tracks.loc[3, "tags"] = "nyckelharpa"
    tracks.to_parquet(run / "tracks.parquet")
    indexing.reindex(run)
    words = recommender.open_run(run).fusion.words
    assert words.score(words.find(["nyckelharpa"]), np.arange(len(tracks))).nonzero()[0].tolist() == [3]


def test_a_reindex_keeps_the_kind_of_index(run, embedded):
    indexing.reindex(run, "lists")
    indexing.reindex(run)
    songs = recommender.open_run(run)
    assert songs.index.lists.ntotal == len(songs.tracks) and not embedded
    assert all(songs.index.nearest(songs.vectors[row], 1)[1] > 0.999 for row in range(20))


def test_a_damaged_index_is_embedded_anew(short, embedded):
    before = np.load(short / "index" / "vectors.npy")
    (short / "index" / "vectors.npy").write_bytes(b"lost")
    indexing.reindex(short)
    assert len(embedded) == len(set(pd.read_parquet(short / "tracks.parquet")["text"]))
    assert np.allclose(np.load(short / "index" / "vectors.npy"), before, atol=1e-5)


def test_a_full_disk_is_reported_in_a_line(run, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(indexing, "build_index", full)
    with pytest.raises(errors.WorkbookError, match=r"No space left on device\. Free some space.* index is unchanged"):
        indexing.reindex(run)
