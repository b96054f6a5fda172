"""The contract of POST /recommend, without a server."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

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
