"""The contract of POST /recommend, without a server."""

import json

import pytest

from lib.search import recommender
from lib.serve import contract


@pytest.fixture(scope="module")
def songs(small_run) -> recommender.Recommender:
    return recommender.open_run(small_run)


def test_a_text_that_was_encoded_together_with_others_is_not_encoded_again(songs, monkeypatch):
    """An invalid body has no vector: `recommend` refuses it."""
    requests = [json.dumps({"body": body}) for body in ({"text": "sad piano"}, {"text": ""}, {"text": "party "})]
    expected = [contract.recommend(songs, request) for request in requests]
    vectors = contract.encode_together(songs, requests)
    assert list(vectors) == ["sad piano", "party"]
    monkeypatch.setattr(songs, "encode", None)
    assert [contract.recommend(songs, request, vectors) for request in requests] == expected
