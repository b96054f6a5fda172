"""The similarity of every two tracks: counts, figures, errors, memory."""

import subprocess

import numpy as np
import pandas as pd
import pytest
from spaces import D, unit

from lib.debug import pictures, similarity


def test_blocks_count_every_pair_once(healthy, tracks, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 37)
    moods = tracks["mood"].where(tracks.index % 10 != 0, "")
    pairs = similarity.all_pairs(healthy, moods)
    labelled = (moods != "").to_numpy()
    cosine, names = healthy[labelled] @ healthy[labelled].T, moods[labelled].to_numpy()
    first, second = np.triu_indices(labelled.sum(), 1)
    same = names[first] == names[second]
    assert pairs.within.sum() == same.sum() and pairs.between.sum() == (~same).sum()
    assert pairs.counts[0, 1].sum() == pairs.tracks[0] * pairs.tracks[1] == pairs.counts[1, 0].sum()
    figures = similarity.figures(pairs)
    assert abs(figures["mean within a mood"] - cosine[first, second][same].mean()) < 0.005
    assert abs(figures["mean"] - cosine[first, second].mean()) < 0.005


def test_overlap_and_closer_reach_their_limits():
    near, far = np.zeros(similarity.BINS), np.zeros(similarity.BINS)
    near[190], far[20] = 5, 9
    assert (similarity.overlap(near, far), similarity.closer(near, far)) == (0, 1)
    assert (similarity.overlap(near, near), similarity.closer(near, near)) == (1, 0.5)
    assert similarity.overlap(near, 0 * far) is similarity.closer(near, 0 * far) is similarity.mean(0 * far) is None


def test_the_error_of_a_sample_covers_the_whole(rng):
    whole = unit(rng.normal(size=(4000, D)) + np.eye(4, D)[np.arange(4000) % 4])
    moods = pd.Series([f"mood{i % 4}" for i in range(4000)])
    rows = rng.choice(4000, 500, replace=False)
    exact = similarity.figures(similarity.all_pairs(whole, moods))
    sampled = similarity.figures(similarity.all_pairs(whole[rows], moods.iloc[rows]))
    error = similarity.error(whole[rows], moods.iloc[rows])
    for name, value in exact.items():
        assert 0 < error[name] < 0.1 and abs(sampled[name] - value) < 4 * error[name], name


def test_moods_that_most_tracks_lack_are_not_compared(healthy, tracks):
    bare = tracks["mood"].where(tracks.index < 60, "")
    assert similarity.obstacle(bare) == "Moods are not measured: 60 of 600 tracks have one; this needs half of them."
    assert "0 of 10 tracks" in similarity.obstacle(pd.Series([""] * 10))
    assert "calm (10)" in similarity.obstacle(pd.Series(["calm"] * 10))
    assert similarity.obstacle(tracks["mood"]) == "" and similarity.grouped(tracks["mood"]).nunique() == 6
    pairs = similarity.all_pairs(healthy, similarity.grouped(bare))
    measured = {name for name, value in similarity.figures(pairs).items() if value is not None}
    assert pairs.moods == ["any"] and measured == {"mean"} and similarity.by_moods(pairs).empty
    figure = pictures.similarity({"base": pairs, "tuned": pairs})
    assert len(figure.axes) == 1 and "Mean of all pairs" in figure.axes[0].get_title("left")
    tables = dict.fromkeys(("base", "tuned"), similarity.by_moods(pairs))
    assert pictures.mood_pairs(tables, []) is pictures.most_overlapping(pairs, tables["tuned"]) is None


@pytest.mark.slow
def test_all_pairs_of_20000_tracks_take_under_a_gibibyte(python):
    code = """
import numpy as np, pandas as pd
from lib.debug import similarity
def peak(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**20
vectors = np.random.default_rng(0).normal(size=(20_000, 384)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
before = peak()
assert similarity.all_pairs(vectors, pd.Series(["a", "b"] * 10_000)).counts.trace().sum() == 2 * 10_000 * 9_999 // 2
print(peak() - before)
"""
    assert float(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout) < 1
