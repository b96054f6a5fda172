"""The recommender: queries, filters, likes, diversity, explanations, and runs that do not fit together."""

import shutil

import numpy as np
import pytest

from lib.core import errors
from lib.search import match, recommender
from lib.search.fusion import open_fusion
from lib.search.index import Index
from lib.search.names.mentions import write_names
from lib.search.words import write_words


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


@pytest.mark.parametrize(
    ("score", "name"),
    [(0.71, "strong"), (0.7, "moderate"), (0.5, "moderate"), (0.4, "borderline"), (0.39, "weak"), (-1, "weak")],
)
def test_match_bands_have_the_edges_of_the_single_query_check(score, name):
    assert match.band(score) == name


def test_scores_fall_from_the_best_and_stay_between_0_and_1(songs):
    tracks = songs.recommend("sad piano", 10)
    assert tracks["score"].is_monotonic_decreasing and tracks["score"].between(0, 1).all() and len(tracks) == 10


def test_met_conditions_raise_the_scores_that_are_shown(songs):
    tracks = songs.search(songs.query(songs.read("fast music")), 5)
    assert any(track["score"] > track["fused"] + 0.01 for track in tracks)
    assert [t["fused"] for t in tracks] == sorted((t["fused"] for t in tracks), reverse=True)
    assert all(track["parts"][-1] == pytest.approx(track["score"], abs=1e-4) for track in tracks)


def test_an_instrument_of_a_request_counts(songs):
    assert len(songs.query(songs.read("sad piano")).instruments) == 1
    assert not songs.query(songs.read("sad songs")).instruments


def test_full_width_letters_are_read(songs):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in "sad piano")
    assert songs.recommend(wide)["id"].tolist() == songs.recommend("sad piano")["id"].tolist()


def test_queries_encoded_together_return_the_same_tracks(songs):
    texts = ["sad piano", "party"]
    alone = [songs.recommend(text) for text in texts]
    vectors = dict(zip(texts, songs.encode(texts), strict=True))
    for text, expected in zip(texts, alone, strict=True):
        tracks = songs.search(songs.query(songs.read(text), vectors=vectors))
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


def with_tracks(songs, tracks, vectors, folder) -> recommender.Recommender:
    """Return a recommender of other tracks with these vectors."""
    write_words(folder, tracks["text"])
    write_names(folder, tracks.assign(album=""))
    return recommender.Recommender(songs.model, open_fusion(folder, Index(vectors), tracks), tracks, songs.fingerprints)


def test_one_artist_does_not_fill_the_answer_unless_the_request_names_the_artist(songs, tmp_path):
    """One artist has the twenty best tracks."""
    best = songs.rows(track["id"] for track in songs.search(songs.query(songs.read("sad piano")), 20, diversity=0))
    artists = songs.tracks["artist"].astype("str")
    artists[best] = "Everywhere"
    tracks = songs.tracks.assign(artist=artists)
    several = with_tracks(songs, tracks, songs.vectors, tmp_path)
    query = several.query(several.read("sad piano"))
    pages = [several.search(query, 10, **options) for options in ({"diversity": 0}, {}, {"diversity": 0.5})]
    counts = [sum(track["artist"] == "Everywhere" for track in page) for page in pages]
    assert counts[0] == 10 and counts[1] <= 4 and counts[2] == 1, counts
    assert set(several.recommend("sad piano by Everywhere", 10)["artist"]) == {"Everywhere"}
    alone = tracks.iloc[best].reset_index(drop=True)  # a catalogue with no other artist
    only = with_tracks(songs, alone, np.ascontiguousarray(songs.vectors[best]), tmp_path)
    assert len(only.recommend("sad piano", 10)) == 10


def test_an_explanation_has_words_and_moods(songs):
    query = songs.query(songs.read("a rainy night by the sea"))
    why = songs.explain(query, [track["id"] for track in songs.search(query, 2)])
    assert [len(w["words"]) for w in why] == [3, 3] and all(w["moods"][0]["mood"] in songs.moods for w in why)


def test_an_index_of_another_dimension_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    np.save(run / "index" / "vectors.npy", np.full((400, 4), 0.5, np.float32))
    with pytest.raises(errors.WorkbookError, match="does not fit its tracks and its model"):
        recommender.open_run(run)


def test_an_index_of_another_model_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    shutil.rmtree(run / "encoders")
    (run / "model" / "README.md").write_text("another model")
    with pytest.raises(errors.WorkbookError, match="index/ was made with another model"):
        recommender.open_run(run)
