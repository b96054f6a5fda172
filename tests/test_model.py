"""The encoder and the search."""

import numpy as np
import pytest

from lib.core import base_models, encoder, errors
from lib.search import match, recommender
from lib.search.index import Index


@pytest.fixture(scope="module")
def base():
    return encoder.load(base_models.find("all-MiniLM-L6-v2"))


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


# base models


def test_a_model_that_is_not_found_says_where_it_looked():
    with pytest.raises(errors.WorkbookError) as error:
        base_models.find("all-MiniLM-L99")
    for place in ("the folder", "the Hugging Face hub", "the package index", "all-MiniLM-L6-v2"):
        assert place in str(error.value)


def test_weights_that_are_not_upstreams_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(errors.WorkbookError, match="is not the upstream all-MiniLM-L6-v2"):
        base_models.check(tmp_path, "all-MiniLM-L6-v2")


def test_a_folder_is_a_model(small_run):
    assert base_models.find(str(small_run / "model")) == base_models.find(str(small_run)) == small_run / "model"


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
    assert match.band(score) == name


# search


def test_answers_are_best_first_and_scores_are_cosines(songs):
    found = songs.recommend("sad piano", 10)
    asked = encoder.embed(songs.model, ["sad piano"])[0]
    assert found["score"].is_monotonic_decreasing and len(found) == 10
    assert np.allclose(found["score"], songs.vectors[songs.rows(found["id"])] @ asked, atol=1e-4)


def test_full_width_letters_are_read(songs):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in "sad piano")
    assert songs.recommend(wide)["id"].tolist() == songs.recommend("sad piano")["id"].tolist()


def test_an_index_of_vectors_that_are_no_numbers_is_an_error_and_no_empty_answer(songs, monkeypatch):
    nan = np.full((1, songs.vectors.shape[1]), np.nan, np.float32)
    monkeypatch.setattr(type(songs.index), "at", lambda _self, rows: np.repeat(nan, len(rows), axis=0))
    with pytest.raises(errors.WorkbookError, match="make index again"):
        songs.recommend("calm", liked=songs.tracks["id"][:2])


def test_a_mood_filter_liked_and_disliked(songs):
    assert set(songs.recommend("music", 10, mood="calm")["mood"]) == {"calm"}
    plain = songs.recommend("music", 10)
    liked, disliked = plain["id"][1], plain["id"][0]
    moved = songs.recommend("music", 10, liked=[liked], disliked=[disliked])
    assert not {liked, disliked} & set(moved["id"]) and moved["id"].tolist() != plain["id"].tolist()
    with pytest.raises(KeyError, match="nobody"):
        songs.recommend("music", liked=["nobody"])


def test_likes_and_a_neutral_text_are_more_like_these(songs):
    """Most of the answer is among the liked tracks' own neighbours."""
    shares = []
    for row in range(0, 100, 10):
        near = set(songs.tracks["id"].iloc[np.argsort(-(songs.vectors @ songs.vectors[row]))[:21]])
        answer = songs.recommend("music", 10, liked=[songs.tracks["id"].iloc[row]], diversity=0)
        shares.append(len(near & set(answer["id"])) / 10)
    assert np.mean(shares) > 0.6, shares


def test_an_index_of_another_dimension_is_refused(small_run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    np.save(other / "index" / "vectors.npy", np.zeros((400, 7), np.float32))
    with pytest.raises(errors.WorkbookError, match="does not fit its tracks and its model"):
        recommender.open_run(other)


def test_an_index_of_another_model_is_refused(small_run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    (other / "model" / "README.md").write_text("another model")
    with pytest.raises(errors.WorkbookError, match="made with another model"):
        recommender.open_run(other)


def test_one_artist_does_not_fill_the_answer(small_run):
    """A catalogue in which one artist has the twenty nearest tracks."""
    songs = recommender.open_run(small_run)
    query = songs.query("sad piano")
    nearest = np.argsort(-(songs.vectors @ query))
    artists = songs.tracks["artist"].astype("str")
    artists[nearest[:20]] = "Everywhere"
    songs = recommender.Recommender(songs.model, songs.index, songs.tracks.assign(artist=artists), songs.fingerprints)
    answers = [songs.search(query, 10, **how) for how in ({"diversity": 0}, {}, {"diversity": 0.5})]
    filled = [sum(track["artist"] == "Everywhere" for track in tracks) for tracks in answers]
    assert filled[0] == 10 and filled[1] <= 4 and filled[2] == 1, filled
    alone = songs.tracks.iloc[nearest[:20]]  # where there is nobody else, the artist fills it
    only = recommender.Recommender(songs.model, Index(songs.vectors[nearest[:20]]), alone.reset_index(drop=True), {})
    assert len(only.search(query, 10)) == 10


def test_words_that_carry_a_match_add_up_to_it(small_run):
    songs = recommender.open_run(small_run)
    query = songs.query("a rainy night by the sea")
    text = "Acoustic ballad. Rainy, slow guitar for a night drive"
    shares = dict(encoder.contributions(songs.model, [text], query)[0])
    assert {"rainy", "night"} & set(list(shares)[:2]) and "for" not in shares and "ballad" in shares
    assert 0.4 < sum(shares.values()) < 1.0  # the rest lies with stop words, punctuation and the encoder's own marks
    mean = songs.model.encode(text, output_value="token_embeddings").float().cpu().numpy().mean(axis=0)
    cosine = encoder.embed(songs.model, [text])[0] @ query
    assert abs(mean @ query / np.linalg.norm(mean) - cosine) < 1e-5  # so that the tokens' parts add up to the score
    why = songs.explain(query, [track["id"] for track in songs.search(query, 2)])
    assert [len(w["words"]) for w in why] == [3, 3] and all(w["moods"][0]["mood"] in songs.moods for w in why)


def test_requests_encoded_together_are_answered_the_same(small_run):
    songs = recommender.open_run(small_run)
    texts = ["sad piano", "party"]
    alone = [songs.recommend(text) for text in texts]
    for text, vector, expected in zip(texts, songs.encode(texts), alone, strict=True):
        tracks = songs.search(songs.query(text, vector=vector))
        assert [track["id"] for track in tracks] == expected["id"].tolist()
