"""Events through the whole tier: what Varnish shows, clients that flood, and killed parts (make scale-test)."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from jinja2 import Environment
from pydantic_core import to_json

from deploy.scale import client
from deploy.scale.client import Tier
from deploy.scale.events import shown
from deploy.scale.events.journal import read
from deploy.scale.events.schema import Record
from deploy.scale.events.test_door import event, post
from deploy.scale.tier import HERE, PATH
from lib.core.paths import ROOT
from lib.serve.contract import failure

# The longest note: ten tracks with the longest ids, and the longest text.
TRACKS = [[f"{n}{'x' * 127}", 0.1234, [0.1234] * 4] for n in range(10)]
NOTE = {"tracks": TRACKS, "model": "m" * 64, "mood": "sad", "text": "🎹" * 1000}


class FakeWorker(BaseHTTPRequestHandler):
    """A worker whose answers are fresh for three seconds. It keeps the headers of its requests."""

    protocol_version, requests = "HTTP/1.1", []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append(self.headers)
        self.do_GET()

    def do_GET(self) -> None:  # the probe
        self.send_response(200)
        self.send_header("Cache-Control", "public, max-age=3")
        self.send_header(shown.HEADER, base64.b64encode(to_json(NOTE)).decode())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def varnish(tmp_path):
    """Varnish with a fake worker, and the process that reads its log. Yields its port, and the folder of the log."""
    first = client.free_ports()
    ports = client.ports(first)
    settings = {"ports": ports, "replicas": 1, "failure": failure}
    vcl = (HERE / "default.vcl.j2").read_text()
    (tmp_path / "vcl").write_text(Environment(trim_blocks=True).from_string(vcl).render(settings))
    options = " ".join(re.findall(r"-p \S+", (HERE / "supervisord.conf.j2").read_text())).split()
    command = ["varnishd", "-F", "-j", "none", "-n", tmp_path / "varnish", "-a", f"127.0.0.1:{ports.varnish}"]
    own = {"env": os.environ | {"PATH": PATH, "EVENTS": str(tmp_path / "events")}, "cwd": ROOT}
    with ThreadingHTTPServer(("127.0.0.1", ports.api), FakeWorker) as server, ExitStack() as stack:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        edge = [sys.executable, "-m", "deploy.scale.events.edge", tmp_path / "varnish"]
        for process in ([*command, "-f", tmp_path / "vcl", *options], edge):
            running = stack.enter_context(subprocess.Popen(process, **own))
            stack.callback(running.terminate)
        while not client.answers(f"http://127.0.0.1:{ports.varnish}/health"):
            time.sleep(0.1)
        yield ports.varnish, tmp_path / "events"


def test_an_answer_that_varnish_fetches_for_later_is_not_shown(varnish):
    """An old answer is shown while Varnish fetches a fresh one, which nobody sees."""
    port, folder = varnish
    ask = lambda name: httpx.post(f"http://127.0.0.1:{port}/recommend", json={}, headers={"X-Serving": name})  # noqa: E731
    made, hit = ask("made"), ask("hit")
    time.sleep(3.5)
    old = ask("old")
    assert [answer.headers["X-Edge"] for answer in (made, hit, old)] == ["0", "1", "2"]
    deadline = time.monotonic() + 20
    while len(records := {record["id"]: record for record in read(folder)}) < 20 or len(FakeWorker.requests) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [headers["X-Serving"] for headers in FakeWorker.requests] == ["made", "none"]
    assert [*records] == [f"{name}-{n}" for name in ("hit", "old") for n in range(1, 11)]
    assert records["old-10"]["track"] == TRACKS[9][0] and records["old-10"]["text"] == NOTE["text"]


def through(up: Tier, *events, sub: str = "listener", **headers) -> httpx.Response:
    """POST /events to Envoy."""
    token = {"Authorization": f"Bearer {client.token(up.home, sub=sub)}"}
    return post(up.http, *events, url=f"http://127.0.0.1:{up.first}/events", **token, **headers)


def logged(up: Tier, requests: list[str], timeout: float = 10) -> list[dict]:
    """Wait until something is logged for each of some requests. Return their records."""
    deadline = time.monotonic() + timeout
    while True:
        records = [record for record in read(up.home / "events") if record.get("request") in requests]
        if {record["request"] for record in records} == set(requests) or time.monotonic() > deadline:
            time.sleep(0.5)  # what comes twice may come later
            return [record for record in read(up.home / "events") if record.get("request") in requests]
        time.sleep(0.1)


def test_the_tier_logs_each_answer_once_whoever_sends_it(up):
    """A worker, Varnish, and a worker without Varnish. Clients may send the same request id again."""
    text, names = f"piano {time.time()}", [f"request-{n}-{time.time()}" for n in range(6)]
    answers = [up.ask({"text": text}, **{"X-Request-Id": name, "X-Serving": "mine"}) for name in [*names, names[-1]]]
    assert [answer.headers["X-Edge"] for answer in answers] == [*map(str, range(7))]
    assert not any("X-Shown" in answer.headers for answer in answers)
    records = logged(up, names)
    tracks = [track["id"] for track in answers[0].json()["tracks"]]
    assert Counter(record["request"] for record in records) == dict.fromkeys(names[:-1], 5) | {names[-1]: 10}
    assert [record["track"] for record in records if record["request"] == names[1]] == tracks
    assert len({record["id"] for record in records}) == 35 and "mine-1" not in {record["id"] for record in records}
    for record in map(Record.model_validate, records):
        assert abs(record.at - datetime.now(UTC)) < timedelta(seconds=15) and record.model and record.parts


@pytest.mark.parametrize("part", ["varnish", "shown"])
def test_answers_are_logged_after_a_part_was_killed(up, part):
    text, names = f"{part} {time.time()}", [f"{part}-{n}-{time.time()}" for n in range(3)]
    up.ask({"text": text})
    up.parts()[part].kill()
    assert up.ask({"text": text}, **{"X-Request-Id": names[0]}).status_code == 200  # by Varnish without its reader
    up.wait_for(part)
    while up.states()[part] != "RUNNING" or "X-Edge" not in up.ask({"text": text}).headers:
        time.sleep(0.2)
    assert up.ask({"text": text}, **{"X-Request-Id": names[1]}).headers["X-Edge"] != "0"
    assert "X-Shown" not in up.ask({"text": text}, **{"X-Request-Id": names[2]}).headers
    records = logged(up, names)
    assert Counter(
        record["request"] for record in {record["id"]: record for record in records}.values()
    ) == dict.fromkeys(names, 5)


def test_a_client_that_floods_is_refused_and_others_are_not(up):
    """Both Envoys take a burst of 100 bodies of a client, and 50 a second, however it writes path and headers."""
    headers = {"Authorization": f"Bearer {client.token(up.home, sub='flood')}", "Content-Type": "application/json"}

    def flood(n: int) -> Counter:  # with the cheapest client
        statuses = Counter()
        with closing(HTTPConnection("127.0.0.1", up.first, timeout=5)) as connection:
            for i in range(150):
                body = json.dumps({"events": [event()]})
                connection.request(
                    "POST", ("/events", "/%65vents")[i % 2], body, headers | {"X-Client": f"another {n} {i}"}
                )
                response = connection.getresponse()
                statuses[response.status, response.headers["Retry-After"], b"too_many_requests" in response.read()] += 1
        return statuses

    with ThreadPoolExecutor(16) as clients:
        floods = clients.map(flood, range(16))
        calm = [through(up, event(), sub=f"listener {n}").status_code for n in range(20)]
        statuses = sum(floods, Counter())
    assert set(calm) == {202} and statuses.keys() == {(202, None, False), (429, "1", True)}, statuses
    assert statuses[429, "1", True] > 500, statuses


def test_the_tier_refuses_wrong_events(up):
    url, kind = f"http://127.0.0.1:{up.first}/events", {"Content-Type": "application/json"}
    assert post(up.http, event(), url=url).status_code == 401
    assert through(up, event(kind="loved")).json()["error"]["field"] == "events[0].kind"
    for body in (b"x" * 70_000, b"x" * 10 * 2**20):
        answer = up.http.post(url, content=body, headers=up.headers() | kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert through(up, *(event() for _ in range(300))).json() == {"accepted": 300}


def test_no_acknowledged_event_is_lost_when_workers_are_killed(up):
    acknowledged, statuses, stop = [], Counter(), threading.Event()

    def send(name: str) -> None:
        with httpx.Client(timeout=10) as http:
            while not stop.is_set():
                batch = [event() for _ in range(20)]
                answer = post(http, *batch, url=f"http://127.0.0.1:{up.first}/events", **up.headers())
                statuses[answer.status_code] += 1
                acknowledged.extend(each["id"] for each in batch if answer.status_code == 202)
                time.sleep(0.1)

    threads = [threading.Thread(target=send, args=(f"{n}",)) for n in range(4)]
    [thread.start() for thread in threads]
    for part in [name for name in up.parts() if name.startswith("api")]:
        time.sleep(1)
        up.parts()[part].kill()
        time.sleep(1)
        up.wait_for(part)
        time.sleep(2)
    stop.set()
    [thread.join() for thread in threads]
    assert statuses[202] > 50 and statuses[202] >= 0.95 * statuses.total(), statuses
    assert set(acknowledged) <= {record["id"] for record in read(up.home / "events")}
