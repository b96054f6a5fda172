"""The tier, whole and real: every engine is started, asked, killed and replaced. make scale-test"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import psutil
import pytest

from deploy.scale import tier
from lib import runs, workbook
from lib.query_encoders import open_form
from lib.recommender import open_run
from tests.conftest import SMALL

SEED = {"text": "Uplifting EDM track with hype vocals and a build-up structure"}
OTHER = [value for value in SMALL if not value.startswith("n_pairs")] + ["n_pairs=64", "seed=8"]


class Tier(SimpleNamespace):
    """A running tier: its ports, its token, its parts."""

    def ctl(self, *words: str) -> str:
        """What supervisorctl says."""
        command = [tier.BIN / "supervisorctl", "-c", self.home / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True).stdout

    def pid(self, part: str) -> int:
        return int(self.ctl("pid", part))

    def ask(self, body: dict | None = None, port: int | None = None, **headers) -> httpx.Response:
        """POST /recommend at the door, with a good token; or at another part, which asks for none."""
        headers = {"Authorization": f"Bearer {self.token}"} | headers if port is None else headers
        url = f"http://127.0.0.1:{port or self.ports.edge}/recommend"
        return self.client.post(url, json=body or SEED, headers=headers)

    def wait(self, port: int, path: str = "/ready", seconds: float = 60) -> float:
        """Seconds until a part answers."""
        started = time.monotonic()
        while not tier.answers(f"http://127.0.0.1:{port}{path}"):
            assert time.monotonic() - started < seconds, f"{port}{path} does not answer"
            time.sleep(0.1)
        return time.monotonic() - started

    def registry(self, *words: str) -> str:
        """What the registry's command line says."""
        env = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports.mlflow}"}
        command = [sys.executable, "-m", "deploy.scale.registry", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=runs.ROOT).stdout


def free_block(size: int = 30) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(20_000, 30_000, size):
        with closing(socket.socket()) as probe:
            if all(probe.connect_ex(("127.0.0.1", first + n)) for n in range(size)):
                return first
    raise RuntimeError("no free ports")


def small(name: str, values: list[str]) -> Path:
    """A run of the workbook, made once."""
    where = runs.ROOT / "outputs" / "test" / name
    assert workbook.main([str(runs.ROOT / "params/quick.yaml"), "--set", f"run_dir={where}", *values]) == 0
    return where


@pytest.fixture(scope="session")
def first() -> Path:
    return small("small", SMALL)


@pytest.fixture(scope="session")
def second() -> Path:
    """Another model on another catalogue."""
    return small("other", OTHER)


@pytest.fixture(scope="session")
def up(first):
    """The tier on free ports, serving the first run."""
    home, port = runs.ROOT / "outputs" / "test" / "tier", free_block()
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "deploy.scale.tier", "--home", str(home), "up", "--run", str(first)]
    process = subprocess.Popen([*command, "--port", str(port)], cwd=runs.ROOT, stdout=subprocess.DEVNULL)
    one = Tier(home=home, ports=tier.ports(port), client=httpx.Client(timeout=10))
    try:
        one.wait(port, seconds=180)
        one.token = tier.token(home)
        while "X-Edge" not in one.ask().headers:  # Envoy sees a second later that Varnish is there
            time.sleep(0.5)
        yield one
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_it_answers_as_the_contract_says(up, first):
    found = up.ask()
    assert found.status_code == 200
    assert len(found.json()["tracks"]) == 5
    assert found.json()["model"] == runs.read_json(first / "index/index.json")["model"]


def test_it_answers_what_the_run_itself_answers(up, first):
    """The encoder in Triton and the workbook's own find the same songs with the same scores."""
    songs = replace(open_run(first), model=open_form(first, "onnx"))
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
    assert up.ask(Authorization=f"Bearer {tier.token(up.home, **changed)}").status_code == 401


def test_a_forged_token_is_401(up):
    claims = jwt.decode(up.token, options={"verify_signature": False})
    none = jwt.encode(claims, None, "none")
    head, body, signature = up.token.split(".")
    tampered = jwt.utils.base64url_encode(json.dumps(claims | {"sub": "admin"}).encode()).decode()
    for wrong in (none, f"{head}.{body}.", f"{head}.{tampered}.{signature}", jwt.encode(claims, "secret" * 8, "HS256")):
        assert up.ask(Authorization=f"Bearer {wrong}").status_code == 401
    assert up.client.post(f"http://127.0.0.1:{up.ports.edge}/recommend", json=SEED).status_code == 401


def test_http2_at_the_door(up):
    """Prior knowledge, as a load balancer speaks to it."""
    body = up.home / "body.json"
    body.write_text(json.dumps(SEED))
    headers = ["-H", f"authorization: Bearer {up.token}", "-H", "content-type: application/json"]
    load = ["h2load", "-n", "20", "-c", "2", *headers, "-d", body, f"http://127.0.0.1:{up.ports.edge}/recommend"]
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
    assert up.ask({"text": text}).headers["X-Edge"] == "1"


def test_what_somebody_likes_is_not_kept_at_the_edge(up):
    liked = {"text": "calm", "liked": [up.ask().json()["tracks"][0]["id"]]}
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
    base = f"http://127.0.0.1:{up.ports.edge}"
    said = {"Authorization": f"Bearer {up.token}"}
    cases = [
        (up.client.post(f"{base}/recommend", content="{", headers=said | {"Content-Type": "application/json"}), 400),
        (up.client.post(f"{base}/recommend", content="{}", headers=said), 415),
        (up.ask({"text": "x", "mod": "calm"}), 400),
        (up.ask({"text": "x" * 70_000}), 413),
        (up.client.get(f"{base}/nowhere", headers=said), 404),
        (up.client.get(f"{base}/recommend", headers=said), 405),
    ]
    for found, status in cases:
        assert found.status_code == status
        assert set(found.json()["error"]) == {"code", "message", "field"}


class Load:
    """Clients that ask without a pause while something happens, each request another text unless it is said."""

    def __init__(self, up: Tier, clients: int = 4, texts=None):
        self.up, self.statuses, self.answers, self.stop = up, Counter(), [], threading.Event()
        self.texts = texts
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def _ask(self, n: int):
        with httpx.Client(timeout=5) as client:
            count = 0
            while not self.stop.is_set():
                text = self.texts[count % len(self.texts)] if self.texts else f"{n} {count} {time.time()}"
                count += 1
                url = f"http://127.0.0.1:{self.up.ports.edge}/recommend"
                try:
                    found = client.post(url, json={"text": text}, headers={"Authorization": f"Bearer {self.up.token}"})
                    self.statuses[200 if found.status_code == 200 else found.text] += 1
                    if found.status_code == 200:
                        self.answers.append((text, found.json()))
                except httpx.HTTPError as error:
                    self.statuses[type(error).__name__] += 1
                time.sleep(0.02)

    def __enter__(self):
        [thread.start() for thread in self.threads]
        time.sleep(1)
        return self

    def __exit__(self, *_):
        time.sleep(1)
        self.stop.set()
        [thread.join() for thread in self.threads]


def test_without_redis_nothing_fails(up):
    with Load(up) as load:
        up.ctl("stop", "redis")
        time.sleep(3)
        assert up.ask({"text": f"without redis {time.time()}"}).status_code == 200
        up.ctl("start", "redis")
    assert set(load.statuses) == {200}, load.statuses


def test_without_varnish_the_workers_are_asked(up):
    """Once Envoy has seen that it is gone: what is asked in the second before may fail."""
    with Load(up) as load:
        up.ctl("stop", "varnish")
        time.sleep(2)
        before = load.statuses.copy()
        time.sleep(2)
        up.ctl("start", "varnish")
        up.wait(up.ports.varnish)
    assert (load.statuses - before).keys() == {200}, load.statuses
    assert load.statuses[200] > 50


def test_without_triton_what_is_known_is_answered_and_the_rest_refused_in_time(up):
    assert up.ask().status_code == 200
    for process in psutil.process_iter(["cmdline"]):
        if f"--http-port {up.ports.triton}" in " ".join(process.info["cmdline"]):
            process.kill()
    os.kill(up.pid("triton"), signal.SIGKILL)
    up.ctl("stop", "triton")
    assert up.ask(SEED, up.ports.api).status_code == 200  # it is kept
    for n in range(8):
        started = time.monotonic()
        refused = up.ask({"text": f"never asked {n} {time.time()}"}, up.ports.api)
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
        assert time.monotonic() - started < 1.5
    assert time.monotonic() - started < 0.2  # the circuit is open: nobody waits
    up.ctl("start", "triton")
    [up.wait(up.ports.api + n) for n in range(2)]
    assert up.ask({"text": f"asked again {time.time()}"}).status_code == 200


def test_without_mlflow_what_is_served_is_served(up):
    os.kill(up.pid("mlflow"), signal.SIGKILL)
    with Load(up) as load:
        time.sleep(3)
    assert set(load.statuses) == {200}, load.statuses
    up.wait(up.ports.mlflow, "/health")


def test_a_killed_worker_costs_nothing(up):
    for n in range(2):
        with Load(up) as load:
            os.kill(up.pid(f"api:api-{up.ports.api + n}"), signal.SIGKILL)
            time.sleep(2)
        up.wait(up.ports.api + n)
        assert set(load.statuses) == {200}, load.statuses


def test_promotion_and_rollback_under_load(up, first, second):
    """Each within ten seconds, no failed request, and every answer wholly of one model."""
    texts = ["Jazzy lo-fi beats for studying", "something epic", "sad piano at night"]
    expected = {}
    for run in (first, second):
        songs = replace(open_run(run), model=open_form(run, "onnx"))
        for text in texts:
            expected[songs.fingerprints["model"], text] = songs.recommend(text)["id"].tolist()
    old, new = (runs.read_json(run / "index/index.json")["model"] for run in (first, second))
    for words, wanted in ((("promote", str(second)), new), (("rollback",), old)):
        with Load(up, texts=texts) as load:
            started = time.monotonic()
            up.registry(*words)
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
