"""The tier, whole and real: every engine is started, asked, killed and replaced. make scale-test"""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import httpx
import jwt
import psutil
import pytest

from deploy.scale import client
from deploy.scale.client import Tier
from deploy.scale.tier import main, restart
from lib.core import files, paths, processes
from lib.search.forms import open_form
from lib.search.recommender import open_run
from tests.conftest import untuned

SEED = {"text": "Uplifting EDM track with hype vocals and a build-up structure"}


@pytest.fixture(scope="session")
def second(small_run) -> Path:
    """Another model."""
    return untuned(small_run, paths.ROOT / "outputs" / "test" / "untuned")


@pytest.fixture(scope="session")
def up(small_run):
    """The tier on free ports, serving the first run."""
    with client.started(small_run, paths.ROOT / "outputs" / "test" / "tier", client.free_ports()) as one:
        yield one


def test_it_answers_as_the_contract_says(up, small_run):
    found = up.ask(SEED)
    assert found.status_code == 200
    assert len(found.json()["tracks"]) == 5
    assert found.json()["model"] == files.read_json(small_run / "index/index.json")["model"]


def test_it_answers_what_the_run_itself_answers(up, small_run):
    """The encoder in Triton and the workbook's own find the same songs with the same scores."""
    songs = replace(open_run(small_run), model=open_form(small_run, "onnx"))
    for text in ("Jazzy lo-fi beats for studying", "Ｈeartbroken at  two in the MORNING", "x" * 1000):
        expected = songs.recommend(text)
        found = up.ask({"text": text}).json()["tracks"]
        assert [track["id"] for track in found] == expected["id"].tolist()
        assert [track["score"] for track in found] == pytest.approx(expected["score"].tolist(), abs=2e-4)


@pytest.mark.parametrize(
    "changed",
    [{"exp": 1}, {"exp": 0}, {"exp": None}, {"aud": "others"}, {"iss": "somebody"}],
    ids=["expired", "at no time", "never expires", "audience", "issuer"],
)
def test_a_token_that_is_not_for_us_is_401(up, changed):
    assert up.ask(SEED, Authorization=f"Bearer {client.token(up.home, **changed)}").status_code == 401


def test_a_forged_token_is_401(up):
    claims = jwt.decode(client.token(up.home), options={"verify_signature": False})
    none = jwt.encode(claims, None, "none")
    head, body, signature = client.token(up.home).split(".")
    tampered = jwt.utils.base64url_encode(json.dumps(claims | {"sub": "admin"}).encode()).decode()
    for wrong in (none, f"{head}.{body}.", f"{head}.{tampered}.{signature}", jwt.encode(claims, "secret" * 8, "HS256")):
        assert up.ask(SEED, Authorization=f"Bearer {wrong}").status_code == 401
    assert up.http.post(f"http://127.0.0.1:{up.first}/recommend", json=SEED).status_code == 401


def test_http2_at_the_door(up):
    """Prior knowledge, as a load balancer speaks to it."""
    body = up.home / "body.json"
    body.write_text(json.dumps(SEED))
    headers = ["-H", f"authorization: Bearer {client.token(up.home)}", "-H", "content-type: application/json"]
    load = ["h2load", "-n", "20", "-c", "2", *headers, "-d", body, f"http://127.0.0.1:{up.first}/recommend"]
    said = subprocess.run(load, capture_output=True, text=True)
    assert "20 succeeded" in said.stdout and "h2c" in said.stdout, said.stdout


def test_where_an_answer_was_found(up):
    """Made once; then from this worker, from Redis by the other worker, from the edge."""
    text = f"something that nobody asked before {time.time()}"
    one, other = up.ports.api, up.ports.api + 1
    assert up.ask({"text": text}, one).headers["X-Found"] == "made"
    assert up.ask({"text": text}, one).headers["X-Found"] == "local"
    assert up.ask({"text": f"  {text.upper()} "}, other).headers["X-Found"] == "redis"
    assert up.ask({"text": text}).headers["X-Edge"] == "0"
    found = up.ask({"text": text}).headers
    assert (found["X-Edge"], found["X-Found"]) == ("1", "edge")


def test_what_somebody_likes_is_not_kept_at_the_edge(up):
    liked = {"text": "calm", "liked": [up.ask(SEED).json()["tracks"][0]["id"]]}
    for _ in range(2):
        found = up.ask(liked)
        assert found.headers["X-Edge"] == "0" and found.headers["Cache-Control"] == "private, no-store"


def test_a_stampede_is_one_call(up):
    """64 clients of both workers with one request: the encoder is asked once."""
    text = f"a song that became famous a minute ago {time.time()}"
    with ThreadPoolExecutor(64) as many:
        found = many.map(lambda n: up.ask({"text": text}, up.ports.api + n % 2).headers["X-Found"], range(64))
        counted = Counter(found)
    assert counted["made"] == 1, counted


def test_errors_are_in_the_contracts_form(up):
    base = f"http://127.0.0.1:{up.first}"
    said = {"Authorization": f"Bearer {client.token(up.home)}"}
    cases = [
        (up.http.post(f"{base}/recommend", content="{", headers=said | {"Content-Type": "application/json"}), 400),
        (up.http.post(f"{base}/recommend", content="{}", headers=said), 415),
        (up.ask({"text": "x", "mod": "calm"}), 400),
        (up.ask({"text": "x" * 70_000}), 413),
        (up.http.get(f"{base}/nowhere", headers=said), 404),
        (up.http.post(f"{base}/recommend/", json=SEED, headers=said), 404),
        (up.http.get(f"{base}/recommend", headers=said), 405),
        (up.http.post(f"{base}/recommend?access_token={client.token(up.home)}", json=SEED), 401),
        (up.http.request("BREW", f"{base}/recommend", headers=said), 400),
        (up.http.get(f"{base}/health", headers={"X-Long": "x" * 70_000}), 431),
    ]
    for found, status in cases:
        assert found.status_code == status
        assert set(found.json()["error"]) == {"code", "message", "field"}, found.text


def test_who_has_no_token_makes_triton_work_once_a_second_at_most(up):
    def encoded() -> float:
        """How often both workers have asked Triton so far."""
        lines = up.http.get(f"http://127.0.0.1:{up.ports.api}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("recommend_encoder_seconds_count")).split()[1])

    before, began = encoded(), time.monotonic()
    with ThreadPoolExecutor(32) as many:
        answers = list(many.map(lambda _: up.http.get(f"http://127.0.0.1:{up.first}/ready").status_code, range(500)))
    assert set(answers) == {200}
    assert encoded() - before <= 2 * (time.monotonic() - began + 1)


def test_an_answer_is_given_whole(up):
    for _ in range(2):  # made, and kept
        found = up.ask({"text": "a part of an answer"}, Range="bytes=0-10")
        assert found.status_code == 200 and len(found.json()["tracks"]) == 5


def test_a_request_has_an_id(up):
    """The client's, or a new one; in the log of what failed too."""
    assert up.ask(SEED, **{"X-Request-Id": "of the client"}).headers["X-Request-Id"] == "of the client"
    refused = up.ask({"text": ""})
    deadline = time.monotonic() + 15  # it is written every ten seconds
    while not any(refused.headers["X-Request-Id"] in log.read_text() for log in up.home.glob("envoy-*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_body_in_pieces_is_a_body(up):
    def pieces():
        yield from (b'{"text": ', b'"in pieces"}')

    headers = up.headers() | {"Content-Type": "application/json"}
    assert up.http.post(f"http://127.0.0.1:{up.first}/recommend", content=pieces(), headers=headers).status_code == 200


def test_the_edge_tells_kinds_of_bodies_apart(up):
    """What was answered as JSON is no answer to the same bytes as text."""
    url, body = f"http://127.0.0.1:{up.first}/recommend", json.dumps({"text": f"kinds {time.time()}"})
    for kind, status in (("application/json", 200), ("text/plain", 415)) * 2:
        assert up.http.post(url, content=body, headers=up.headers() | {"Content-Type": kind}).status_code == status


class Load:
    """Clients that ask without end while something happens, each time another text unless some are given."""

    def __init__(self, up: Tier, clients: int = 2, texts=None):
        self.statuses, self.answers, self.stop = Counter(), [], threading.Event()
        self.url, self.headers, self.texts = f"http://127.0.0.1:{up.first}/recommend", up.headers(), texts
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def _ask(self, n: int):
        with httpx.Client(timeout=5, headers=self.headers) as http:
            for count in itertools.count():
                if self.stop.is_set():
                    break
                text = self.texts[count % len(self.texts)] if self.texts else f"{n} {count} {time.time()}"
                try:
                    found = http.post(self.url, json={"text": text})
                    self.statuses[200 if found.status_code == 200 else found.text] += 1
                    if found.status_code == 200:
                        self.answers.append((text, found.json()))
                except httpx.HTTPError as error:
                    self.statuses[repr(error)] += 1
                time.sleep(0.02)

    def __enter__(self):
        [thread.start() for thread in self.threads]
        time.sleep(1)
        return self

    def __exit__(self, *_):
        time.sleep(1)
        self.stop.set()
        [thread.join() for thread in self.threads]


def kill(up: Tier, part: str) -> None:
    """A part and all that it started, by their process ids, without a word before."""
    process = up.parts()[part]
    for one in (process, *process.children(recursive=True)):
        one.kill()


@pytest.mark.parametrize("part", ["redis", "varnish", "mlflow"])
def test_what_is_not_needed_may_be_killed(up, part):
    """Slower, perhaps, but no request fails: not in the first second either."""
    with Load(up) as load:
        kill(up, part)
        time.sleep(3)
        assert up.ask({"text": f"without {part} {time.time()}"}).status_code == 200
    up.wait_for(part)
    assert set(load.statuses) == {200} and load.statuses[200] > 50, load.statuses


@pytest.mark.parametrize("kind", ["api", "triton"])
def test_one_of_two_may_be_killed(up, kind):
    for part in [name for name in up.parts() if name.startswith(kind)]:
        with Load(up) as load:
            kill(up, part)
            time.sleep(2)
        up.wait_for(part)
        time.sleep(2)  # until those before it see that it is there
        assert set(load.statuses) == {200} and load.statuses[200] > 50, load.statuses


@pytest.mark.parametrize("kind", ["redis", "varnish", "mlflow", "api", "triton"])
def test_one_that_hangs_is_left_alone(up, kind):
    """It closes no connection and says nothing. Those who have asked it are told so in time; soon nobody asks it."""
    process = up.parts()[next(name for name in up.parts() if name.startswith(kind))]
    stopped = [process, *process.children(recursive=True)]
    with Load(up, clients=4) as load:
        try:
            [one.suspend() for one in stopped]
            time.sleep(4)
            failed = sum(load.statuses.values()) - load.statuses[200]
            time.sleep(2)
        finally:
            [one.resume() for one in stopped]
        time.sleep(6)  # Triton ends when it was away for so long, and is started again
    up.wait_for(next(name for name in up.parts() if name.startswith(kind)))
    assert failed <= {"redis": 0, "mlflow": 0}.get(kind, 16), load.statuses  # of each client one a second
    assert sum(load.statuses.values()) - load.statuses[200] == failed, load.statuses


def test_a_triton_whose_server_has_ended_is_started_again(up):
    """As the kernel ends it when memory runs out: the process that Supervisor knows is still there."""
    part = next(name for name in up.parts() if name.startswith("triton"))
    before = up.parts()[part]
    with Load(up) as load:
        [one.kill() for one in before.children(recursive=True) if one.name() == "tritonserver"]
        before.wait(20)
        time.sleep(1)
    up.wait_for(part)
    assert up.parts()[part].pid != before.pid and set(load.statuses) == {200}, load.statuses


def test_more_than_it_can_do_is_refused_and_the_rest_answered(up):
    """Of the first burst, for which connections are opened, up to 15 % were late here; of later ones up to 7 %.

    Without a limit 30 to 64 % were, first or later.
    """
    headers = {"Content-Type": "application/json", **up.headers()}

    def ask(client: int) -> list[int]:  # with what costs the cores least: they are the tier's, too
        statuses = []
        with closing(HTTPConnection("127.0.0.1", up.first, timeout=5)) as door:
            for n in range(4):
                body = json.dumps({"text": f"all at once {client} {n} {time.time()}"})
                door.request("POST", "/recommend", body, headers)
                answer = door.getresponse()
                statuses.append(answer.status)
                assert answer.read()  # whole, or it raises
        return statuses

    for in_time in (640, 720):  # of 800
        with ThreadPoolExecutor(200) as many:
            found = Counter(itertools.chain.from_iterable(many.map(ask, range(200))))
        assert found[200] >= 80 and found[429] > 0 and found[200] + found[429] >= in_time, found
    assert up.ask({"text": f"a moment later {time.time()}"}).status_code == 200


def test_what_a_killed_mlflow_left_is_ended(up):
    """Its server is a process of its own, which lives on and has the port."""
    left = up.parts()["mlflow"].children(recursive=True)
    up.parts()["mlflow"].kill()
    psutil.wait_procs(left, 20)
    up.wait_for("mlflow")
    assert not any(one.is_running() for one in left) and up.states()["mlflow"] == "RUNNING"


def test_without_triton_what_is_known_is_answered_and_the_rest_refused_in_time(up):
    assert up.ask(SEED).status_code == 200
    for part in [name for name in up.parts() if name.startswith("triton")]:
        kill(up, part)
        up.ctl("stop", part)
    assert up.ask(SEED, up.ports.api).status_code == 200  # it is kept
    for n in range(8):
        started = time.monotonic()
        refused = up.ask({"text": f"never asked {n} {time.time()}"}, up.ports.api)
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
        assert time.monotonic() - started < 1.5
    assert time.monotonic() - started < 0.2  # the circuit is open: nobody waits
    up.ctl("start", "triton:*")
    [up.wait(up.ports.api + n) for n in range(2)]
    assert up.ask({"text": f"asked again {time.time()}"}).status_code == 200


def test_workers_start_while_mlflow_is_gone(up):
    """They serve what was served last."""
    up.ctl("stop", "mlflow")
    up.ctl("restart", "api:*", "triton:*")
    [up.wait_for(part) for part in up.parts()]
    time.sleep(2)  # until those before them see that they are there
    assert up.ask({"text": f"without MLflow {time.time()}"}).status_code == 200
    up.ctl("start", "mlflow")
    up.wait_for("mlflow")


def test_every_part_is_replaced_while_it_serves(up):
    """One after another, as for a new version of all: no request fails."""
    with Load(up) as load:
        before = {part: process.pid for part, process in up.parts().items()}
        restart(up)
        after = {part: process.pid for part, process in up.parts().items()}
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())
    assert set(load.statuses) == {200} and load.statuses[200] > 500, load.statuses


def test_one_change_at_a_time(up):
    with processes.only_one(up.home, ".change.lock"):
        assert main(["--home", str(up.home), "restart"]) == 1


def test_where_no_tier_runs_that_is_said(tmp_path, capsys):
    (tmp_path / "keys").mkdir()
    (tmp_path / "tier.json").write_text('{"first": 9}')
    for command in (["status"], ["restart"], ["rollback"], ["promote", "outputs/quick"]):
        assert main(["--home", str(tmp_path), *command]) == 1
        assert "no tier runs in" in capsys.readouterr().err


def test_what_is_served_already_is_not_promoted(up, small_run):
    """There would be nothing to go back to."""
    assert up.registry("promote", str(small_run), stderr=subprocess.DEVNULL).returncode == 1


def test_promotion_and_rollback_under_load(up, small_run, second):
    """Each within ten seconds, no failed request, and every answer wholly of one model."""
    texts = ["Jazzy lo-fi beats for studying", "something epic", "sad piano at night"]
    expected = {}
    for run in (small_run, second):
        songs = replace(open_run(run), model=open_form(run, "onnx"))
        for text in texts:
            expected[songs.fingerprints["model"], text] = songs.recommend(text)["id"].tolist()
    old, new = (files.read_json(run / "index/index.json")["model"] for run in (small_run, second))
    for words, wanted in ((("promote", str(second)), new), (("rollback",), old)):
        with Load(up, texts=texts) as load:
            started = time.monotonic()
            assert up.registry(*words).returncode == 0
            while any(up.ask({"text": "x"}, up.ports.api + n).json()["model"] != wanted for n in range(2)):
                assert time.monotonic() - started < 30
                time.sleep(0.1)
            took = time.monotonic() - started
            time.sleep(4)
            edge = up.ask({"text": texts[0]}).json()["model"]
        print(f"{words[0]}: {took:.1f} s, {load.statuses}")
        assert edge == wanted
        assert set(load.statuses) == {200}, load.statuses
        for text, answer in load.answers:
            assert [track["id"] for track in answer["tracks"]] == expected[answer["model"], text]
        assert took < 10
