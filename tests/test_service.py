"""The real gateway over HTTP: the seed's two examples, every rule of the contract, and how it starts and stops."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lib.core import paths
from lib.serve import contract

START = 120  # seconds for a start, or for its failure: six where nothing else runs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(python: str, run, port: int, out=subprocess.PIPE) -> subprocess.Popen:
    command = [python, "-m", "lib.serve.gateway", "--run", str(run), "--port", str(port)]
    return subprocess.Popen(command, cwd="/", stdout=out, stderr=out, text=True)


class Service:
    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"

    def __call__(self, path="/recommend", body=None, method=None, kind="application/json"):
        """Status, parsed body and headers of a request."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind} if data is not None else {}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text, answer.headers

    def raw(self, path, method, body=None, headers=None):
        """Status, bytes and headers of a request with any method and any body."""
        with contextlib.closing(http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers


@pytest.fixture(scope="module")
def service(small_run, tmp_path_factory):
    port = free_port()
    started = time.monotonic()
    log = tmp_path_factory.mktemp("service") / "log"
    process = start(sys.executable, small_run, port, log.open("w"))  # a pipe that nobody reads would fill and block it
    ask = Service(port)
    while time.monotonic() - started < START:
        try:
            if ask("/ready")[0] == 200:
                break
        except OSError:
            pass
        assert process.poll() is None, log.read_text()
        time.sleep(0.3)
    else:
        process.kill()
        pytest.fail(f"not ready within {START} s: {log.read_text()}")
    yield ask
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def check_tracks(answer: dict, n: int) -> None:
    assert [list(t) for t in answer["tracks"]] == [["id", "title", "artist", "mood", "score", "match"]] * n
    scores = [t["score"] for t in answer["tracks"]]
    assert scores == sorted(scores, reverse=True) and all(-1 <= s <= 1 for s in scores)
    assert len(answer["model"]) == 64


def test_the_seeds_first_example(service):
    status, answer, headers = service(body={"text": "Uplifting EDM track with hype vocals and a build-up structure"})
    assert status == 200 and headers["Content-Type"] == "application/json"
    check_tracks(answer, 5)


def test_the_seeds_second_example(service):
    status, answer, _ = service(body={"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3})
    assert status == 200
    check_tracks(answer, 3)


def test_songs_fit_the_request(service, small_run):
    """Opposite requests get tracks from opposite sides of the valence–arousal plane."""
    import pandas as pd

    tracks = pd.read_parquet(small_run / "tracks.parquet").set_index("id")
    energy = {}
    for text in ("high-energy pumping workout music", "calm relaxing music to fall asleep"):
        _, answer, _ = service(body={"text": text, "top_k": 10})
        energy[text] = tracks.loc[[t["id"] for t in answer["tracks"]], "energy"].mean()
    loud, quiet = energy.values()
    assert loud > quiet + 0.2, energy


@pytest.mark.parametrize(
    "text", ["  trimmed  ", "悲しいピアノ", "أغنية هادئة", "🎵🔥", "'; print(1) #\n\"\\", "x" * 1000]
)
def test_any_text_is_answered(service, text):
    status, answer, _ = service(body={"text": text})
    assert status == 200
    check_tracks(answer, 5)


def test_charset_is_understood(service):
    assert service(body={"text": "sad piano", "top_k": 1}, kind="application/json; charset=utf-8")[0] == 200


def test_mood_liked_and_disliked(service):
    _, answer, _ = service(body={"text": "music", "mood": "calm"})
    assert {t["mood"] for t in answer["tracks"]} == {"calm"}
    first, second = (t["id"] for t in answer["tracks"][:2])
    status, moved, _ = service(body={"text": "music", "mood": "calm", "liked": [first], "disliked": [second]})
    assert status == 200 and not {first, second} & {t["id"] for t in moved["tracks"]}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "missing_field", "text"),
        ({"text": "   "}, "invalid_value", "text"),
        ({"text": "x" * 1001}, "invalid_value", "text"),
        ({"text": 3}, "invalid_value", "text"),
        ({"text": "\ud800"}, "not_json", None),
        ({"text": "a", "top_k": 0}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 11}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": "3"}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 3.0}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": True}, "invalid_value", "top_k"),
        ({"text": "a", "top_k": 3, "num_recommendations": 4}, "invalid_value", "top_k"),
        ({"text": "a", "mood": "polka"}, "unknown_mood", "mood"),
        ({"text": "a", "liked": ["nobody"]}, "unknown_track", "liked"),
        ({"text": "a", "topk": 3}, "unknown_field", "topk"),
        ({"text": "a", "diversity": 1.1}, "invalid_value", "diversity"),
        (b'{"text": "a", "diversity": NaN}', "invalid_value", "diversity"),
        ({"text": "a", "diversity": True}, "invalid_value", "diversity"),
        ({"text": "a", "explain": 1}, "invalid_value", "explain"),
        (["a"], "not_an_object", None),
        (b"{not json", "not_json", None),
        (b"", "not_json", None),
        (b"[" * 10_000 + b"]" * 10_000, "not_json", None),
        (b'{"text": "\xff"}', "not_json", None),
    ],
)
def test_bad_requests_are_400_and_say_why(service, body, code, field):
    status, answer, headers = service(body=body)
    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert list(answer) == ["error"] and list(answer["error"]) == ["code", "message", "field"]
    assert (answer["error"]["code"], answer["error"]["field"]) == (code, field), answer


def test_an_answer_may_be_empty(service, small_run):
    """Where everything of a mood was liked already; with and without reasons."""
    import pandas as pd

    tracks = pd.read_parquet(small_run / "tracks.parquet")
    every = list(tracks.loc[tracks["mood"] == "calm", "id"])
    for explain in (False, True):
        status, answer, _ = service(body={"text": "music", "mood": "calm", "liked": every, "explain": explain})
        assert status == 200 and answer["tracks"] == []


def test_reasons_and_diversity(service):
    _, answer, _ = service(body={"text": "sad piano", "explain": True, "diversity": 0, "top_k": 2})
    assert [list(track["why"]) for track in answer["tracks"]] == [["words", "moods"]] * 2


def test_both_counts_may_agree(service):
    assert len(service(body={"text": "a", "top_k": 2, "num_recommendations": 2})[1]["tracks"]) == 2


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"path": "/nothing"}, 404, "not_found"),
        ({"path": "/recommend"}, 405, "method_not_allowed"),
        ({"body": b"text=a", "kind": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ({"body": {"text": "a" * 70_000}}, 413, "too_large"),
    ],
)
def test_other_errors_are_json_too(service, how, status, code):
    got, answer, headers = service(**how)
    assert got == status and answer["error"]["code"] == code and headers["Content-Type"] == "application/json"


def test_a_refused_method_says_which_are_allowed(service):
    assert service("/recommend")[2]["Allow"] == "POST, OPTIONS"


def test_health_ready_metrics_and_openapi(service):
    assert service("/health")[1] == {"status": "alive"}
    _, ready, _ = service("/ready")
    assert ready["status"] == "ready" and ready["tracks"] == 400 and len(ready["model"]) == len(ready["index"]) == 64
    assert "recommend_requests_total{" in service("/metrics")[1]
    _, document, _ = service("/openapi.json")
    assert document["openapi"] == "3.1.0" and document["security"] == []
    asked = document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert set(asked) == set(contract.RecommendRequest.model_fields)
    assert "calm" in asked["mood"]["anyOf"][0]["enum"]


def test_schemathesis_finds_nothing(service, small_run, tmp_path):
    """What openapi.json says is what the service does; `make bench` asks 5,000 times and more."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{service.url}/openapi.json"]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("contract.py"))}
    environment = os.environ | hooks | {"TRACKS": str(small_run / "tracks.parquet")}
    options = ["--checks", "all", "--max-examples", "100", "--seed", "1", "--no-color"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) generated, \1 passed", ran.stdout)[1]) > 300


@given(st.text(alphabet=st.sampled_from(" \t\n\v\f\r\x1c\x85\xa0\u200b\u2003\u2028\u3000\ufeffa🎵"), max_size=20))
def test_the_pattern_in_the_schema_is_the_rule_that_validates(text):
    """Of texts as long as may be, too, with and without white space around them."""
    for whole in (text, text + "x" * 998 + text, text + "x" * 1001):
        assert bool(re.search(contract.TRIMMED, whole)) == _is_valid(whole)


def _is_valid(text: str) -> bool:
    try:
        return bool(contract.RecommendRequest.model_validate_json(json.dumps({"text": text})))
    except ValidationError:
        return False


def test_a_taken_port_is_said(python, small_run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _out, said = (process := start(python, small_run, taken.getsockname()[1])).communicate(timeout=START)
    assert process.returncode == 1 and "Address already in use" in said and "make serve PORT=" in said


def test_a_port_that_is_none_is_said(python, small_run):
    _out, said = (process := start(python, small_run, 99999)).communicate(timeout=START)
    assert process.returncode == 2 and "'99999' is not a port: a whole number from 1 to 65535" in said


def test_a_run_that_is_not_there_is_said(python, tmp_path):
    _out, said = (process := start(python, tmp_path, free_port())).communicate(timeout=START)
    assert process.returncode == 1 and "has no model" in said and "Traceback" not in said


def test_a_notebook_that_fails_at_start_ends_the_process(python, small_run, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(small_run, broken)
    (broken / "index" / "vectors.npy").write_bytes(b"half")
    process = start(python, broken, free_port())
    _out, said = process.communicate(timeout=START)
    assert process.returncode == 1 and "could not be started on" in said and "is damaged" in said, said


def test_stock_kernel_gateway_serves_the_notebook_too(python, small_run):
    import papermill

    seeded = small_run / "stock.ipynb"
    papermill.execute_notebook(
        str(paths.ROOT / "notebooks/08_serve.ipynb"), str(seeded), {"run_dir": str(small_run)}, prepare_only=True
    )
    port = free_port()
    options = [
        "--KernelGatewayApp.api=kernel_gateway.notebook_http",
        f"--KernelGatewayApp.seed_uri={seeded}",
        "--KernelGatewayApp.ip=127.0.0.1",
    ]
    process = subprocess.Popen(
        [python, "-m", "kernel_gateway", *options, f"--KernelGatewayApp.port={port}"], stderr=subprocess.DEVNULL
    )
    try:
        ask, deadline = Service(port), time.monotonic() + START
        while time.monotonic() < deadline:
            try:
                status, answer, _ = ask(body={"text": "Jazzy lo-fi beats for studying", "num_recommendations": 3})
                break
            except OSError:
                time.sleep(0.5)
        assert status == 200
        check_tracks(answer, 3)
    finally:
        process.terminate()
        process.wait(timeout=15)
