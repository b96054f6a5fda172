"""The contract of POST /recommend, without a server."""

import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lib.search import fusion, recommender
from lib.serve import contract


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


def test_a_text_that_was_encoded_together_with_others_is_not_encoded_again(songs, monkeypatch):
    """An invalid body has no vector: `recommend` refuses it. A text is encoded without its negated parts."""
    bodies = [{"text": "sad piano"}, {"text": ""}, {"text": "party "}, {"text": "no rock", "history": ["sad piano"]}]
    requests = [json.dumps({"body": body}) for body in bodies]
    expected = [contract.recommend(songs, request) for request in requests]
    vectors = contract.encode_together(songs, requests)
    assert list(vectors) == ["sad piano", "party", "music"]
    monkeypatch.setattr(songs, "encode", None)
    assert [contract.recommend(songs, request, vectors) for request in requests] == expected


def ask(songs, **body) -> dict:
    answer = contract.recommend(songs, json.dumps({"body": body}))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_history_counts_in_its_order(songs):
    turns = ["sad piano", "party songs for dancing"]
    answers = [ask(songs, text="something like that", history=history) for history in ([], turns, turns[::-1])]
    scores = [[(track["id"], track["score"]) for track in answer["tracks"]] for answer in answers]
    assert scores[0] != scores[1] != scores[2] != scores[0]
    assert ask(songs, text="something like that", history=[]) == answers[0]


def test_a_later_turn_overrides_conditions(songs):
    history = ["90s jazz", "no jazz"]
    assert ask(songs, text="more", history=history[:1])["understood"] == {"decade": ["1990s"], "genre": ["jazz"]}
    assert ask(songs, text="more", history=history)["understood"] == {"decade": ["1990s"], "not": {"genre": ["jazz"]}}


def test_the_history_has_at_most_twenty_texts_of_a_thousand_characters(songs):
    assert ask(songs, text="piano", history=["x" * 1000] * 20)["tracks"]
    items = json.loads(contract.openapi([]).body)["components"]["schemas"]["RecommendRequest"]["properties"]["history"]
    assert items["maxItems"] == 20 and items["items"]["pattern"] == contract.TRIMMED


def test_an_answer_names_the_conditions_and_the_artist_that_were_read(songs):
    artist = songs.tracks["artist"].value_counts().index[0]
    answer = ask(songs, text=f"fast songs by {artist}, no rock")
    assert answer["understood"] == {"tempo": ["fast"], "artist": [artist], "not": {"genre": ["rock"]}}
    assert answer["tracks"][0]["artist"] == artist


@pytest.mark.parametrize(
    ("text", "close", "note"),
    [
        ("piano", 1.1, "Nothing here comes close."),
        ("songs from the 1880s", 0, 'No track here fits "1880s".'),
        ("songs from the 1880s", 1.1, 'Nothing here comes close; no track here fits "1880s".'),
        ("songs by Somebody Unheard", 0, "There is nothing by Somebody Unheard."),
        ("piano", 0, None),
    ],
)
def test_a_note_says_that_tracks_do_not_fit(songs, monkeypatch, text, close, note):
    monkeypatch.setattr(fusion, "CLOSE", close)  # the best score, below which nothing comes close
    answer = ask(songs, text=text)
    assert answer.get("note") == note and ("note" in answer) == bool(note)


def test_tracks_have_genre_year_and_language(songs, small_run):
    """An empty release date has no year."""
    tracks = pd.read_parquet(small_run / "tracks.parquet").set_index("id")
    for track in ask(songs, text="music", top_k=10)["tracks"]:
        row = tracks.loc[track["id"]]
        assert (track["genre"], track["language"]) == (row["genre"], row["language"])
        assert track["year"] == int(row["release_date"][:4])
    fields = dict.fromkeys(("id", "title", "artist", "mood", "genre", "language", "match"), "x") | {"score": 0.5}
    assert contract.Track(year="", **fields).year is None


@given(st.text(alphabet=st.sampled_from(" \t\n\v\f\r\x1c\x85\xa0\u200b\u2003\u2028\u3000\ufeffa🎵"), max_size=20))
def test_the_pattern_in_the_schema_is_the_rule_that_validates(text):
    """For texts of the maximum length, too, with and without white space around them."""
    for whole in (text, text + "x" * 998 + text, text + "x" * 1001):
        assert bool(re.search(contract.TRIMMED, whole)) == is_valid(whole)


def is_valid(text: str) -> bool:
    try:
        return bool(contract.RecommendRequest.model_validate_json(json.dumps({"text": text})))
    except ValidationError:
        return False


def test_long_quotes_in_an_error_are_cut():
    message = json.loads(contract.failure(400, "x" * 5000).body)["error"]["message"]
    assert len(message) == contract.QUOTE_LIMIT and message.endswith("…")


def test_openapi_json_has_the_models_the_moods_and_the_token():
    document = json.loads(contract.openapi(["calm", "sad"], "secret").body)
    schemas = document["components"]["schemas"]
    assert set(schemas["RecommendRequest"]["properties"]) == set(contract.RecommendRequest.model_fields)
    assert schemas["RecommendRequest"]["properties"]["mood"]["anyOf"][0] == {"enum": ["calm", "sad"]}
    assert document["security"] == [{"token": []}] and "secret" not in json.dumps(document)
    references = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(document)))
    assert all(name in document["components"][kind] for kind, name in references)
