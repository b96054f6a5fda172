"""Requests as people type them, and requests for artists and titles: their conditions, answers and figures."""

import numpy as np
import pandas as pd
import pytest

from lib.performance import named_requests, typed_requests
from lib.tracks import moods, synthetic

TRACKS = pd.DataFrame(
    [
        ("a", "trap", "1991-05-02", "en", "sad", "dark", 0.1, 80.0, False),
        ("b", "K-pop", "2004", "ko", "happy", "", 0.2, 130.0, True),
        ("c", "techno", "", "", "dark", "", 0.9, 128.0, False),
        ("d", "", "1999-01-01", "", "", "", np.nan, np.nan, False),
        ("e", "Folk Rock", "1969", "fr", "calm", "sad", 0.49, 100.0, False),
    ],
    columns=["id", "genre", "release_date", "language", "mood", "mood2", "instrumentalness", "tempo", "explicit"],
).assign(tags=["grand Pianos", "a harp", "a harpsichord", "", ""])


@pytest.mark.parametrize(
    ("wanted", "unwanted", "expected"),
    [
        ({"genre": ["hip hop"]}, {}, "a"),
        ({"genre": ["pop", "techno"]}, {}, "bc"),
        ({}, {"genre": ["rock"]}, "abc"),
        ({"decade": ["1990s"]}, {}, "ad"),
        ({"language": ["fr"]}, {}, "e"),
        ({}, {"language": ["en"]}, "bce"),
        ({"voice": ["instrumental"]}, {}, "c"),
        ({"voice": ["sung"]}, {"tempo": ["slow"]}, "be"),
        ({"mood": ["sad"]}, {}, "ae"),
        ({"explicit": ["clean"]}, {"mood": ["sad"]}, "c"),
        ({}, {"explicit": ["explicit"]}, "acde"),
        ({"instrument": ["piano", "harp"]}, {}, "ab"),
    ],
)
def test_conditions_read_the_columns(wanted, unwanted, expected):
    fits, _ = typed_requests.conditions(TRACKS, wanted, unwanted)
    assert "".join(TRACKS["id"][fits]) == expected
    bare = TRACKS[["id"]]
    assert not np.any(typed_requests.conditions(bare, wanted, unwanted))


def test_each_kind_has_enough_requests_with_known_conditions():
    """A misspelt value in the YAML file would leave its request out without a word."""
    requests, tracks = typed_requests.load(), synthetic.generate(3000, seed=1)
    sizes, tuned = requests["kind"].value_counts(), requests.groupby("kind")["tuned"].sum()
    assert sizes.pop("turns") == 30 and (sizes == 15).all() and requests["text"].is_unique
    assert tuned.pop("turns") == 15 and tuned.between(7, 8).all() and requests["tuned"].sum() == 83
    genres = {*moods.GENRES, *(genre.family for genre in moods.GENRES.values()), "punk"}
    known_conditions = {"genre", "decade", "language", "voice", "explicit", "tempo", "mood", "instrument"}
    for request in requests.itertuples():
        for conditions in (request.wanted, request.unwanted):
            assert set(conditions) <= known_conditions
            assert set(conditions.get("genre", ())) <= genres and set(conditions.get("mood", ())) <= set(moods.MOODS)
        fits, known = typed_requests.conditions(tracks, request.wanted, request.unwanted)
        assert fits.sum() >= typed_requests.FIRST and known.mean() > 0.5, request.text


def test_a_perfect_and_a_useless_search_are_judged():
    tracks = synthetic.generate(3000, seed=1)
    requests = typed_requests.load().set_index("text")

    def oracle(text, k, history=()):
        return tracks["id"][typed_requests.conditions(tracks, *requests.loc[text, ["wanted", "unwanted"]])[0]][:k]

    table = typed_requests.by_kind(typed_requests.judge(oracle, tracks))
    assert list(table.index[[0, -1]]) == ["genre", "all"] and table.loc["all", "requests"] == 165
    assert (table[["share", "low", "high"]] == 1).all(axis=None) and table["chance"].between(0, 0.6).all()
    table = typed_requests.by_kind(typed_requests.judge(lambda text, k, history=(): [], tracks))
    assert (table["share"] == 0).all()


def test_requests_that_a_catalogue_cannot_answer_are_left_out():
    """A column that is empty for most tracks cannot judge an answer."""
    tracks = synthetic.generate(400, seed=1).assign(genre="")
    tracks.loc[tracks.index[100:], "mood"] = ""
    judged = typed_requests.judge(lambda text, k, history=(): tracks["id"][:k], tracks)
    table = typed_requests.by_kind(judged)
    assert table.loc["genre", "left_out"] == table.loc["mood", "left_out"] == 15 and np.isnan(
        table.loc["mood", "share"]
    )
    assert table.loc["era", "requests"] > 0 and table.loc["all", ["requests", "left_out"]].sum() == 165


NAMES = pd.DataFrame(
    [
        ("1", "Réunion (Live)", "Zoë Kravets; The Lanterns"),
        ("2", "Paper Boats - 2011 Remaster", "The Lanterns"),
        ("3", "The Lanterns", "The Lanterns"),
        ("4", "…", ""),
        ("5", "밤하늘", "Ö"),
    ],
    columns=["id", "title", "artist"],
)


def test_names_are_drawn_as_people_type_them():
    requests = named_requests.draw(NAMES, 10)
    assert set(requests.query("kind == 'artist'")["name"]) == {"Zoë Kravets", "The Lanterns", "Ö"}
    assert set(requests.query("kind == 'title'")["name"]) == {"Réunion", "Paper Boats", "밤하늘"}
    assert requests["misspelt"].sum() == 2 and requests.equals(named_requests.draw(NAMES, 10))
    for request in requests.itertuples():
        assert (request.name in request.text) != request.misspelt
    assert len(named_requests.draw(synthetic.generate(300, seed=1), 30, seed=2)) == 60


def test_a_misspelt_name_is_new_and_keeps_its_first_letters():
    rng = np.random.default_rng(0)
    typed = {named_requests.misspell("Béla Tóth", rng, {"bella toth"}) for _ in range(200)}
    assert not typed & {"bela toth", "bella toth"} and all(name.isascii() and name.islower() for name in typed)
    assert all(name[0] == "b" and " t" in name and 8 <= len(name) <= 10 for name in typed) and len(typed) > 50
    assert named_requests.misspell("Ö", rng) == "o"


def test_the_first_track_of_an_answer_must_have_the_name():
    requests = named_requests.draw(NAMES, 10)
    right = {"Zoë Kravets": "1", "The Lanterns": "1", "Ö": "5", "Réunion": "1", "Paper Boats": "2", "밤하늘": "5"}
    answers = dict(zip(requests["text"], requests["name"].map(right), strict=True))
    table = named_requests.by_kind(named_requests.judge(lambda text, k: [answers[text]], NAMES, requests))
    assert list(table.index) == ["artist", "artist misspelt", "title", "title misspelt"] and (table["share"] == 1).all()
    judged = named_requests.judge(lambda text, k, history=(): [], NAMES, requests)
    assert named_requests.by_kind(judged)["share"].eq(0).all() and named_requests.by_kind(judged[:0]).empty
