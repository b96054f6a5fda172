"""The encoder, the debugger and the search."""

import numpy as np
import pandas as pd
import pytest

from lib import debugger, encoder, recommender, runs


@pytest.fixture(scope="module")
def base():
    return encoder.load(encoder.find("all-MiniLM-L6-v2"))


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


# base models


def test_a_model_that_is_not_found_says_where_it_looked():
    with pytest.raises(runs.WorkbookError) as error:
        encoder.find("all-MiniLM-L99")
    for place in ("the folder", "the Hugging Face hub", "the package index", "all-MiniLM-L6-v2"):
        assert place in str(error.value)


def test_weights_that_are_not_upstreams_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(runs.WorkbookError, match="is not the upstream all-MiniLM-L6-v2"):
        encoder.check(tmp_path, "all-MiniLM-L6-v2")


def test_a_folder_is_a_model(small_run):
    assert encoder.find(str(small_run / "model")) == encoder.find(str(small_run)) == small_run / "model"


def test_vectors_are_units_and_a_batch_changes_nothing(base):
    texts = ["sad piano", "a very long description of a loud and happy song with drums", "sad piano"]
    vectors = encoder.embed(base, texts)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[2])
    assert np.allclose(vectors[0], encoder.embed(base, texts[:1])[0], atol=1e-5)


# the search: bands


@pytest.mark.parametrize(
    ("score", "name"),
    [(0.71, "strong"), (0.7, "moderate"), (0.5, "moderate"), (0.4, "borderline"), (0.39, "weak"), (-1, "weak")],
)
def test_bands_are_the_seeds(score, name):
    assert recommender.band(score) == name


# the debugger


def test_health_tells_a_sound_space_from_a_collapsed_one():
    rng = np.random.default_rng(0)
    sound = rng.normal(size=(300, 32))
    sound /= np.linalg.norm(sound, axis=1, keepdims=True)
    collapsed = np.tile(sound[0], (300, 1)) + 1e-3 * sound
    collapsed /= np.linalg.norm(collapsed, axis=1, keepdims=True)
    good, bad = debugger.health(sound), debugger.health(collapsed)
    assert good["effective rank"] > 28 and abs(good["mean cosine"]) < 0.05 and good["dead dimensions"] == 0
    assert bad["mean cosine"] > 0.99
    sound[3, 4] = np.nan
    assert debugger.health(sound)["not finite"] == 1


def test_mood_gap_is_chance_for_noise_and_one_for_moods_apart():
    rng, moods = np.random.default_rng(0), pd.Series(["calm", "sad"] * 100)
    noise = rng.normal(size=(200, 16))
    apart = np.eye(16)[(moods == "sad").astype(int)] + 0.01 * noise
    gaps = [
        debugger.mood_gap(debugger.pair_similarities(v / np.linalg.norm(v, axis=1, keepdims=True), moods, 0))
        for v in (noise, apart)
    ]
    assert abs(gaps[0] - 0.5) < 0.05 and gaps[1] > 0.99
    for mood in ("calm", ""):  # one mood, or none: nothing to tell apart
        assert debugger.mood_gap(debugger.pair_similarities(noise, pd.Series([mood] * 200), 0)) is None


def test_a_mislabelled_track_is_the_first_suspect():
    moods = ["calm"] * 30 + ["sad"] * 30
    vectors = np.repeat(np.eye(8)[:2], 30, axis=0) + 0.05 * np.random.default_rng(0).normal(size=(60, 8))
    table = pd.DataFrame({"id": range(60), "title": "t", "artist": "a", "mood": moods})
    table.loc[5, "mood"] = "sad"
    assert debugger.suspects(vectors, table)["id"].tolist() == [5]


# search


def test_answers_are_best_first_and_scores_are_cosines(songs):
    found = songs.recommend("sad piano", 10)
    vectors = encoder.embed(songs.model, ["sad piano", *songs.tracks.set_index("id").loc[found["id"], "text"]])
    assert found["score"].is_monotonic_decreasing and len(found) == 10
    assert np.allclose(found["score"], vectors[1:] @ vectors[0], atol=1e-3)


def test_a_mood_filter_liked_and_disliked(songs):
    assert set(songs.recommend("music", 10, mood="calm")["mood"]) == {"calm"}
    plain = songs.recommend("music", 10)
    liked, disliked = plain["id"][1], plain["id"][0]
    moved = songs.recommend("music", 10, liked=[liked], disliked=[disliked])
    assert not {liked, disliked} & set(moved["id"]) and moved["id"].tolist() != plain["id"].tolist()
    with pytest.raises(KeyError, match="nobody"):
        songs.recommend("music", liked=["nobody"])


def test_an_index_of_another_model_is_refused(small_run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    (other / "model" / "README.md").write_text("another model")
    with pytest.raises(runs.WorkbookError, match="made with another model"):
        recommender.open_run(other)
