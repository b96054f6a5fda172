"""Listener requests: the splits share no wording, and grades follow the request."""

import re

import numpy as np
import pandas as pd
import pytest

from lib.tracks import listener_requests, moods, synthetic
from lib.tracks.columns import finish


@pytest.fixture(scope="module")
def tracks() -> pd.DataFrame:
    return synthetic.generate(2000, seed=3)


@pytest.fixture(scope="module")
def requests(tracks) -> pd.DataFrame:
    return listener_requests.generate(tracks, 2000, seed=3)


def test_training_contains_no_wording_of_the_test(tracks, requests):
    templates = {split: set(part["template"]) for split, part in requests.groupby("split")}
    assert not templates["train"] & templates["test"] and not templates["train"] & templates["dev"]
    assert not templates["dev"] & templates["test"]
    texts = [*tracks["text"], *tracks["tags"], *requests.loc[requests["split"] == "train", "text"]]
    for mood in moods.MOODS.values():
        for name in ("critics", "listeners", "playlists", "times", "sound"):
            texts += getattr(mood, name)
        for name in ("words", "phrases", "activities"):
            texts += getattr(mood, name)["train"]
    training = " ".join(texts).casefold()
    for mood in moods.MOODS.values():
        for split in ("dev", "test"):
            for word in (*mood.words[split], *mood.phrases[split], *mood.activities[split]):
                assert not re.search(rf"\b{re.escape(word.casefold())}\b", training), word


def literals(text: str) -> str:
    """The words of a template, with a slot as "*"."""
    return re.sub(r"\{\w+\}", " * ", text).casefold()


def test_templates_of_different_splits_share_no_three_words():
    """Three words in a row, of which at most one is a slot."""
    seen: dict[tuple, str] = {}
    for split, groups in listener_requests.TEMPLATES.items():
        for template in (template for some in groups.values() for template in some):
            words = re.findall(r"[\w'*]+", literals(template))
            for three in zip(words, words[1:], words[2:], strict=False):
                if three.count("*") == 0:
                    assert seen.setdefault(three, split) == split, (three, template)


def test_each_split_has_its_own_words():
    for least, split in ((70, "train"), (15, "dev"), (40, "test")):
        assert len(listener_requests.TEMPLATES[split]["plain"]) >= least
    data = moods.load("listener_requests.yaml")
    for some in [*data["needs"].values(), *(dict(zip(data["pools"], pool, strict=True)) for pool in pools(data))]:
        phrases = [phrase.casefold() for split in moods.SPLITS for phrase in some[split]]
        assert len(phrases) == len(set(phrases))
    training = " ".join(need for some in data["needs"].values() for need in some["train"])
    for mood in moods.MOODS.values():
        for word in (*mood.words["dev"], *mood.words["test"]):
            assert not re.search(rf"\b{re.escape(word)}\b", training, re.IGNORECASE), word


def pools(data: dict) -> list[list]:
    """For each pool, its words in train, dev and test."""
    return [[data["pools"][split][name] for split in data["pools"]] for name in data["pools"]["train"]]


def test_requests_have_many_forms(requests):
    for column in ("genre", "genre2", "decade", "instrument", "language", "unwanted", "wants"):
        assert (requests[column] != "").mean() > 0.005, column
    words = requests["text"].str.split().str.len()
    assert words.min() <= 2 and words.max() >= 12
    for part in (r"\bnot |n't ", r"\bno ", r"\?$", "^[^A-Z]*$", "my gran|my dad|my grandpa", r"!|\.\.\."):
        assert requests["text"].str.contains(part).mean() > 0.01, part
    assert not requests["text"].str.contains(r"[{}]|  ").any()
    assert not requests["text"].str.contains(r"\ba [aeio]|\ban (?!ho?u)[^aeiou8]", case=False).mean() > 0.01


def test_a_refused_genre_is_not_that_of_the_track(tracks, requests):
    genre = tracks.set_index("id")["genre"]
    refused = requests[requests["unwanted"] != ""]
    for row in refused.itertuples():
        assert row.unwanted in row.template.replace("{unwanted}", row.unwanted)
        for i in row.track_ids:
            assert row.unwanted not in (genre[i], moods.GENRES[genre[i]].family)


def test_splits_share_no_track(tracks, requests):
    split = tracks.set_index("id")["split"]
    for row in requests.itertuples():
        assert {split[i] for i in row.track_ids} == {row.split}


def grades(**request) -> list[int]:
    """Return the grades of six tracks for one request, which is worded from none of them."""
    near = moods.near("calm")[0]
    rows = [
        ("calm", "folk", 0.9, "1985-01-01", "with banjo"),
        ("calm", "folk", 0.1, "1999-01-01", ""),
        ("calm", "techno", 0.9, "1985-01-01", "with banjo"),
        (near, "folk", 0.9, "1985-01-01", ""),
        (near, "techno", 0.9, "1985-01-01", ""),
        ("angry", "folk", 0.9, "1985-01-01", ""),
    ]
    table = pd.DataFrame(rows, columns=["mood", "genre", "instrumentalness", "release_date", "text"])
    table = table.assign(id=table.index.astype(str), mood2="", energy=0.4, explicit=False, tags="", album="", title="")
    table["tempo"], table["language"] = 100.0, ["", "en", "", "es", "", "en"]
    table["artist"] = [f"Band {i % 2}" for i in range(len(table))]
    table.loc[5, "mood2"] = "dreamy"
    plain = dict.fromkeys(
        ("genre", "genre2", "decade", "instrument", "language", "unwanted", "wants", *listener_requests.NAMES), ""
    )
    plain |= {"mood": "calm", "target": "another"}
    return listener_requests.Judge(table).grade(pd.Series(plain | request)).tolist()


def test_grades_order_mood_genre_and_nearness():
    assert grades() == [3, 3, 3, 1, 1, 0]
    assert grades(genre="folk") == [3, 3, 2, 1, 0, 0]
    assert grades(genre="folk", genre2="techno") == [3, 3, 3, 1, 1, 0]
    assert grades(genre="folk", mood="") == [3, 3, 0, 3, 0, 3]
    assert grades(target="5") == [3, 3, 3, 1, 1, 3]
    assert grades(mood="dreamy", genre="folk")[5] == 1  # the second mood of the track
    assert grades(mood="", target="another") == [0] * 6
    assert grades(mood="", artist="Band 1") == [0, 3, 0, 3, 0, 3]


def test_tracks_of_which_only_names_are_known_are_asked_for_by_name(tracks):
    unknown = dict.fromkeys(("mood", "mood2", "genre", "description", "tags", "release_date"), "")
    bare = finish(tracks.head(600).assign(**unknown), np.random.default_rng(1))
    requests = listener_requests.generate(bare, 300, seed=1)
    assert not (requests[["mood", "genre", "decade"]] != "").any(axis=None)
    assert (requests[["artist", "album", "title"]] != "").any(axis=1).all()
    by_artist = requests[(requests["artist"] != "") & (requests[["album", "title"]] == "").all(axis=1)]
    artist = bare.set_index("id")["artist"]
    for row in by_artist.itertuples():
        assert row.artist.casefold() in row.text.casefold() and {artist[i] for i in row.track_ids} == {row.artist}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"wants": "instrumental"}, [3, 2, 2, 1, 0, 0]),
        ({"wants": "loud"}, [2, 2, 1, 0, 0, 0]),
        ({"decade": "80s"}, [3, 2, 2, 1, 0, 0]),
        ({"language": "en"}, [2, 3, 1, 0, 0, 0]),
        ({"wants": "fast"}, [2, 2, 1, 0, 0, 0]),
        ({"unwanted": "electronic"}, [3, 3, 0, 1, 0, 0]),
        ({"instrument": "banjo"}, [3, 2, 2, 0, 0, 0]),
        ({"instrument": "banjo", "decade": "90s"}, [2, 2, 1, 0, 0, 0]),
    ],
)
def test_each_unmet_condition_costs_a_grade(condition, expected):
    assert grades(genre="folk", **condition) == expected
