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


def test_requests_have_many_forms(requests):
    for column in ("genre", "genre2", "decade", "instrument", "wants"):
        assert (requests[column] != "").mean() > 0.02, column
    words = requests["text"].str.split().str.len()
    assert words.min() <= 2 and words.max() >= 12
    assert requests["text"].str.contains("not |anything but").any()
    assert not requests["text"].str.contains(r"[{}]|  ").any()


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
    table["artist"] = [f"Band {i % 2}" for i in range(len(table))]
    table.loc[5, "mood2"] = "dreamy"
    plain = dict.fromkeys(("genre", "genre2", "decade", "instrument", "wants", *listener_requests.NAMES), "")
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
        assert row.artist in row.text and {artist[i] for i in row.track_ids} == {row.artist}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"wants": "instrumental"}, [3, 2, 2, 1, 0, 0]),
        ({"wants": "loud"}, [2, 2, 1, 0, 0, 0]),
        ({"decade": "80s"}, [3, 2, 2, 1, 0, 0]),
        ({"instrument": "banjo"}, [3, 2, 2, 0, 0, 0]),
        ({"instrument": "banjo", "decade": "90s"}, [2, 2, 1, 0, 0, 0]),
    ],
)
def test_each_unmet_condition_costs_a_grade(condition, expected):
    assert grades(genre="folk", **condition) == expected
