"""Answers of the whole tier with its real engines (make scale-test)."""

import json
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jwt
import pytest

from deploy.scale import client
from lib.core import files
from lib.search.encoders import open_form
from lib.search.recommender import open_run

REQUEST = {"text": "Uplifting EDM track with hype vocals and a build-up structure"}


def test_it_answers_as_the_contract_says(up, small_run):
    response = up.ask(REQUEST)
    assert response.status_code == 200
    assert len(response.json()["tracks"]) == 5
    assert response.json()["model"] == files.read_json(small_run / "index/index.json")["model"]


def test_it_answers_as_the_run_itself_answers(up, small_run):
    """Triton's encoder and the workbook's own return the same songs with the same scores."""
    songs = replace(open_run(small_run), model=open_form(small_run, "onnx"))
    for text, history in (
        ("Jazzy lo-fi beats for studying", []),
        ("Ｈeartbroken at  two in the MORNING", []),
        ("x" * 1000, []),
        ("but no rock", ["calm piano", "something faster"]),
        ("x" * 1000, [f"turn {n} of a long conversation" for n in range(20)]),
    ):
        expected = songs.recommend(text, history=history)
        tracks = up.ask({"text": text, "history": history}).json()["tracks"]
        assert [track["id"] for track in tracks] == expected["id"].tolist()
        assert [track["score"] for track in tracks] == pytest.approx(expected["score"].tolist(), abs=2e-4)


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1}, {"exp": 0}, {"exp": None}, {"aud": "others"}, {"iss": "somebody"}],
    ids=["expired", "expires at 0", "no expiry", "audience", "issuer"],
)
def test_a_token_with_wrong_claims_is_401(up, claims):
    assert up.ask(REQUEST, Authorization=f"Bearer {client.token(up.home, **claims)}").status_code == 401


def test_a_forged_token_is_401(up):
    claims = jwt.decode(client.token(up.home), options={"verify_signature": False})
    none = jwt.encode(claims, None, "none")
    head, body, signature = client.token(up.home).split(".")
    tampered = jwt.utils.base64url_encode(json.dumps(claims | {"sub": "admin"}).encode()).decode()
    for wrong in (none, f"{head}.{body}.", f"{head}.{tampered}.{signature}", jwt.encode(claims, "secret" * 8, "HS256")):
        assert up.ask(REQUEST, Authorization=f"Bearer {wrong}").status_code == 401
    assert up.http.post(f"http://127.0.0.1:{up.first}/recommend", json=REQUEST).status_code == 401


def test_envoy_speaks_http2(up):
    """With prior knowledge, as a load balancer uses it."""
    body = up.home / "body.json"
    body.write_text(json.dumps(REQUEST))
    headers = ["-H", f"authorization: Bearer {client.token(up.home)}", "-H", "content-type: application/json"]
    load = ["h2load", "-n", "20", "-c", "2", *headers, "-d", body, f"http://127.0.0.1:{up.first}/recommend"]
    output = subprocess.run(load, capture_output=True, text=True).stdout
    assert "20 succeeded" in output and "h2c" in output, output


def test_an_answer_names_its_source(up):
    """Computed once; then from this worker, from Redis through the other worker, from the edge cache."""
    text = f"a new request {time.time()}"
    one, other = up.ports.api, up.ports.api + 1
    assert up.ask({"text": text}, one).headers["X-Found"] == "made"
    assert up.ask({"text": text}, one).headers["X-Found"] == "local"
    assert up.ask({"text": f"  {text.replace(' ', '  ')} "}, other).headers["X-Found"] == "redis"
    assert up.ask({"text": text}).headers["X-Edge"] == "0"
    headers = up.ask({"text": text}).headers
    assert (headers["X-Edge"], headers["X-Found"]) == ("1", "edge")


@pytest.mark.parametrize("field", ["history", "liked"])
def test_the_edge_keeps_no_personal_answers(up, field):
    value = {"history": "slow piano", "liked": up.ask(REQUEST).json()["tracks"][0]["id"]}[field]
    for _ in range(2):
        headers = up.ask({"text": "calm", field: [value]}).headers
        assert headers["X-Edge"] == "0" and headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("own", [{"session": "s1"}, {"trending": 0.5}], ids=["session", "trending"])
def test_the_edge_keeps_no_answers_of_sessions_and_trends(up, own):
    for _ in range(2):
        headers = up.ask({"text": "calm"} | own).headers
        assert headers["X-Edge"] == "0" and headers["Cache-Control"] == "private, no-store"


def test_simultaneous_equal_requests_are_computed_once(up):
    """64 clients send one request to both workers."""
    text = f"a song that became famous a minute ago {time.time()}"
    with ThreadPoolExecutor(64) as clients:
        sources = clients.map(lambda n: up.ask({"text": text}, up.ports.api + n % 2).headers["X-Found"], range(64))
        counts = Counter(sources)
    assert counts["made"] == 1, counts


def test_errors_are_in_the_contracts_form(up):
    base = f"http://127.0.0.1:{up.first}"
    token = {"Authorization": f"Bearer {client.token(up.home)}"}
    cases = [
        (up.http.post(f"{base}/recommend", content="{", headers=token | {"Content-Type": "application/json"}), 400),
        (up.http.post(f"{base}/recommend", content="{}", headers=token), 415),
        (up.ask({"text": "x", "mod": "calm"}), 400),
        (up.ask({"text": "x" * 70_000}), 413),
        (up.http.get(f"{base}/nowhere", headers=token), 404),
        (up.http.post(f"{base}/recommend/", json=REQUEST, headers=token), 404),
        (up.http.get(f"{base}/recommend", headers=token), 405),
        (up.http.post(f"{base}/recommend?access_token={client.token(up.home)}", json=REQUEST), 401),
        (up.http.request("BREW", f"{base}/recommend", headers=token), 400),
        (up.http.get(f"{base}/health", headers={"X-Long": "x" * 70_000}), 431),
    ]
    for response, status in cases:
        assert response.status_code == status
        assert set(response.json()["error"]) == {"code", "message", "field"}, response.text
    assert "over 64 KiB" in up.ask({"text": "x" * 70_000}).json()["error"]["message"]  # the door's own words


def test_clients_without_a_token_cause_one_inference_a_second_at_most(up):
    def encoded() -> float:
        """Return the number of inferences of both workers so far."""
        lines = up.http.get(f"http://127.0.0.1:{up.ports.api}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("recommend_encoder_seconds_count")).split()[1])

    before, began, ready = encoded(), time.monotonic(), f"http://127.0.0.1:{up.first}/ready"
    with ThreadPoolExecutor(32) as clients:
        statuses = list(clients.map(lambda _: up.http.get(ready).status_code, range(500)))
    assert set(statuses) == {200}
    assert encoded() - before <= 2 * (time.monotonic() - began + 1)


def test_a_range_header_gets_the_whole_answer(up):
    for _ in range(2):  # computed, then cached
        response = up.ask({"text": "a part of an answer"}, Range="bytes=0-10")
        assert response.status_code == 200 and len(response.json()["tracks"]) == 5


def test_a_request_has_an_id(up):
    """The client's id or a new one; the log of failed requests has it, too."""
    assert up.ask(REQUEST, **{"X-Request-Id": "of the client"}).headers["X-Request-Id"] == "of the client"
    refused = up.ask({"text": ""})
    deadline = time.monotonic() + 15  # Envoy writes its log every ten seconds
    while not any(refused.headers["X-Request-Id"] in log.read_text() for log in up.home.glob("envoy-*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_chunked_body_is_accepted(up):
    def pieces():
        yield from (b'{"text": ', b'"in pieces"}')

    headers = up.headers() | {"Content-Type": "application/json"}
    assert up.http.post(f"http://127.0.0.1:{up.first}/recommend", content=pieces(), headers=headers).status_code == 200


def test_the_edge_distinguishes_content_types(up):
    """An answer to JSON does not answer the same bytes sent as text."""
    url, body = f"http://127.0.0.1:{up.first}/recommend", json.dumps({"text": f"kinds {time.time()}"})
    for kind, status in (("application/json", 200), ("text/plain", 415)) * 2:
        assert up.http.post(url, content=body, headers=up.headers() | {"Content-Type": kind}).status_code == status
