"""The recommender: queries, filters, likes, diversity, explanations, and runs that do not fit together."""

import shutil

import numpy as np
import pytest

from lib.core import encoder, errors
from lib.search import match, recommender
from lib.search.index import Index


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


@pytest.mark.parametrize(
    ("score", "name"),
    [(0.71, "strong"), (0.7, "moderate"), (0.5, "moderate"), (0.4, "borderline"), (0.39, "weak"), (-1, "weak")],
)
def test_match_bands_have_the_edges_of_the_single_query_check(score, name):
    assert match.band(score) == name


def test_tracks_come_best_first_and_scores_are_cosines(songs):
    tracks = songs.recommend("sad piano", 10)
    query = encoder.embed(songs.model, ["sad piano"])[0]
    assert tracks["score"].is_monotonic_decreasing and len(tracks) == 10
    assert np.allclose(tracks["score"], songs.vectors[songs.rows(tracks["id"])] @ query, atol=1e-4)


def test_full_width_letters_are_read(songs):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in "sad piano")
    assert songs.recommend(wide)["id"].tolist() == songs.recommend("sad piano")["id"].tolist()


def test_queries_encoded_together_return_the_same_tracks(songs):
    texts = ["sad piano", "party"]
    alone = [songs.recommend(text) for text in texts]
    for text, vector, expected in zip(texts, songs.encode(texts), alone, strict=True):
        tracks = songs.search(songs.query(text, vector=vector))
        assert [track["id"] for track in tracks] == expected["id"].tolist()


def test_vectors_that_are_not_numbers_are_an_error_and_not_an_empty_answer(songs, monkeypatch):
    nan = np.full((1, songs.vectors.shape[1]), np.nan, np.float32)
    monkeypatch.setattr(type(songs.index), "at", lambda _self, rows: np.repeat(nan, len(rows), axis=0))
    with pytest.raises(errors.WorkbookError, match="make index again"):
        songs.recommend("calm", liked=songs.tracks["id"][:2])


def test_a_mood_filter_and_liked_and_disliked_tracks(songs):
    assert set(songs.recommend("music", 10, mood="calm")["mood"]) == {"calm"}
    plain = songs.recommend("music", 10)
    liked, disliked = plain["id"][1], plain["id"][0]
    moved = songs.recommend("music", 10, liked=[liked], disliked=[disliked])
    assert not {liked, disliked} & set(moved["id"]) and moved["id"].tolist() != plain["id"].tolist()
    with pytest.raises(KeyError, match="nobody"):
        songs.recommend("music", liked=["nobody"])


def test_a_liked_track_and_a_neutral_text_give_its_neighbours(songs):
    shares = []
    for row in range(0, 100, 10):
        near = set(songs.tracks["id"].iloc[np.argsort(-(songs.vectors @ songs.vectors[row]))[:21]])
        tracks = songs.recommend("music", 10, liked=[songs.tracks["id"].iloc[row]], diversity=0)
        shares.append(len(near & set(tracks["id"])) / 10)
    assert np.mean(shares) > 0.6, shares


def test_one_artist_does_not_fill_the_answer(songs):
    """One artist has the twenty nearest tracks."""
    query = songs.query("sad piano")
    nearest = np.argsort(-(songs.vectors @ query))
    artists = songs.tracks["artist"].astype("str")
    artists[nearest[:20]] = "Everywhere"
    tracks = songs.tracks.assign(artist=artists)
    several = recommender.Recommender(songs.model, songs.index, tracks, songs.fingerprints)
    pages = [several.search(query, 10, **options) for options in ({"diversity": 0}, {}, {"diversity": 0.5})]
    counts = [sum(track["artist"] == "Everywhere" for track in page) for page in pages]
    assert counts[0] == 10 and counts[1] <= 4 and counts[2] == 1, counts
    alone = tracks.iloc[nearest[:20]].reset_index(drop=True)  # a catalogue with no other artist
    only = recommender.Recommender(songs.model, Index(songs.vectors[nearest[:20]]), alone, {})
    assert len(only.search(query, 10)) == 10


def test_an_explanation_has_words_and_moods(songs):
    query = songs.query("a rainy night by the sea")
    why = songs.explain(query, [track["id"] for track in songs.search(query, 2)])
    assert [len(w["words"]) for w in why] == [3, 3] and all(w["moods"][0]["mood"] in songs.moods for w in why)


def test_an_index_of_another_dimension_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    np.save(run / "index" / "vectors.npy", np.zeros((400, 7), np.float32))
    with pytest.raises(errors.WorkbookError, match="does not fit its tracks and its model"):
        recommender.open_run(run)


def test_an_index_of_another_model_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    shutil.rmtree(run / "encoders")
    (run / "model" / "README.md").write_text("another model")
    with pytest.raises(errors.WorkbookError, match="index/ was made with another model"):
        recommender.open_run(run)
