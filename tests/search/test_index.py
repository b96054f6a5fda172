"""The nearest vectors: exact, from lists, and with a filter."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import lib
from lib.search import index


def vectors(n: int, seed: int = 0, d: int = 64) -> np.ndarray:
    """Return unit vectors with neighbours: 200 centres, jittered."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((200, d))
    near = centres[chance.integers(0, 200, n)] / np.sqrt(d) + 0.05 * chance.standard_normal((n, d))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


def write(folder, values: np.ndarray, kind: str) -> index.Index:
    """Write an index of vectors and open it."""
    folder.mkdir(exist_ok=True)
    np.save(folder / index.VECTORS, values)
    index.write_lists(folder, kind)
    return index.open_index(folder)


def recall(opened: index.Index, values: np.ndarray, mask=None) -> float:
    """Return recall@10 over 50 queries."""
    shares, allowed = [], None if mask is None else opened.only(mask)
    for query in vectors(50, seed=1):
        scores = values @ query if mask is None else np.where(mask, values @ query, -9)
        rows, similarity = opened.nearest(query, 10, allowed)
        assert np.allclose(similarity, values[rows] @ query, atol=1e-6) and (np.diff(similarity) <= 0).all()
        shares.append(len(set(rows) & set(np.argsort(-scores)[:10])) / 10)
    return np.mean(shares)


def test_faiss_multiplies_with_the_kernels_of_this_processor():
    """FAISS has an OpenBLAS of its own, which is older than many processors: it takes the kernels that numpy finds."""
    cores = {info["filepath"]: info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    of_numpy = next((core for file, core in cores.items() if "numpy.libs" in file), None)
    if not of_numpy:
        pytest.skip("numpy has no OpenBLAS here")
    assert [core for file, core in cores.items() if "faiss" in file] == [lib.OLDER_NAME.get(of_numpy, of_numpy)]


def test_exact_search_is_exact(tmp_path):
    values = vectors(3_000)
    opened = write(tmp_path, values, "auto")
    assert opened.lists is None and recall(opened, values) == 1.0
    assert recall(opened, values, np.random.default_rng(2).random(3_000) < 0.05) == 1.0


def test_a_small_index_returns_all_rows_and_equal_scores_keep_their_order(tmp_path):
    values = np.repeat(np.eye(1, 64, dtype=np.float32), 5, axis=0)  # their products are not rounded
    opened = write(tmp_path, values, "exact")
    assert opened.nearest(values[0], 10)[0].tolist() == [0, 1, 2, 3, 4]
    assert opened.nearest(values[0], 3, opened.only(np.arange(5) == 4))[0].tolist() == [4]
    assert not len(opened.nearest(values[0], 3, opened.only(np.zeros(5, bool)))[0])


def test_lists_keep_recall_with_and_without_a_filter(tmp_path):
    values = vectors(40_000)
    opened = write(tmp_path, values, "lists")
    assert opened.lists.nlist == 512 and (tmp_path / index.LISTS).stat().st_size < values.nbytes / 3
    assert recall(opened, values) >= 0.95
    mask = np.random.default_rng(2).random(len(values)) < 0.05
    assert recall(opened, values, mask) >= 0.9
    assert mask[opened.nearest(values[0], 50, opened.only(mask))[0]].all()


def test_a_filter_finds_rows_that_are_far_from_the_query(tmp_path):
    """The rows of a mood are far from a text of another mood."""
    values = vectors(40_000)
    opened = write(tmp_path, values, "lists")
    together = values @ values[0] > 0.7  # the rows around one of the 200 centres
    assert 50 < together.sum() < 500 and recall(opened, values, together) >= 0.95
    few = np.arange(len(values)) % 13_000 == 7
    assert sorted(opened.nearest(-values[0], 10, opened.only(few))[0]) == [7, 13_007, 26_007, 39_007]
    assert not len(opened.nearest(values[0], 10, opened.only(np.zeros(len(values), bool)))[0])


def test_rebuilt_lists_find_new_rows_and_no_removed_ones(tmp_path):
    values, new = vectors(20_000), vectors(300, seed=5)
    write(tmp_path, values, "lists")
    kept = np.random.default_rng(3).permutation(20_000)[:19_800]
    changed = np.concatenate([new[:150], values[kept], new[150:]])
    opened = write(tmp_path, changed, "lists")
    assert opened.lists.ntotal == len(changed) and recall(opened, changed) >= 0.95
    for row in (0, 149, 150, 10_000, len(changed) - 1):
        assert opened.nearest(changed[row], 1)[0][0] == row
    larger = np.vstack([changed, vectors(60_000, seed=8)])
    opened = write(tmp_path, larger, "lists")
    assert opened.lists.nlist == 1024 and recall(opened, larger) >= 0.95
    assert write(tmp_path, larger, "exact").lists is None and not (tmp_path / index.LISTS).exists()
