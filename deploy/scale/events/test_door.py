"""The door of events and its log: bad input, floods, a full disk, killed processes; last, the whole tier."""

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from deploy.scale import api, client
from deploy.scale.client import Tier
from deploy.scale.events import journal, shown
from deploy.scale.events.door import Door
from deploy.scale.events.journal import Journal, read
from deploy.scale.events.schema import Record
from deploy.scale.test_api import Worker
from lib.core.paths import ROOT
from lib.search.recommender import Recommender, open_run

NUMBERS = count()


def event(**changes) -> dict:
    """A valid event, with changes. Fields with the value None are left out."""
    if isinstance(changes.setdefault("at", timedelta()), timedelta):  # from now on
        changes["at"] = (datetime.now(UTC) + changes["at"]).isoformat()
    fields = {"id": f"e{next(NUMBERS)}", "kind": "played", "track": "t0000000"} | changes
    return {name: value for name, value in fields.items() if value is not None}


def post(http, *events, url: str = "/events", **headers) -> httpx.Response:
    return http.post(url, json={"events": events}, headers=headers)


@pytest.fixture(scope="module")
def songs(small_run) -> Recommender:
    return open_run(small_run)


@contextmanager
def opened(songs: Recommender, folder: Path, **settings):
    """A worker with a log in a folder."""
    worker = Worker(songs)
    door = api.app.state.tier.door = Door(str(folder))
    vars(door.journal).update(settings)
    yield worker
    door.close()


@pytest.fixture
def worker(songs, tmp_path):
    with opened(songs, tmp_path) as worker:
        yield worker


class Disk:
    """A disk that hangs while it is held: os.fsync waits."""

    def __init__(self, monkeypatch):
        self.free, self.syncs, sync = threading.Event(), 0, os.fsync
        self.free.set()

        def fsync(file: int) -> None:
            self.syncs += 1
            self.free.wait(10)
            sync(file)

        monkeypatch.setattr(journal.os, "fsync", fsync)


def test_events_are_on_disk_when_they_are_acknowledged(worker, tmp_path):
    india = timezone(timedelta(hours=5.5))
    sent = [event(request="r-1", session="s-1"), event(kind="liked", at=datetime.now(india).isoformat())]
    answer = post(worker.http, *sent)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    first, second = map(Record.model_validate, read(tmp_path))
    assert (first.id, first.request, first.session, first.position) == (sent[0]["id"], "r-1", "s-1", None)
    assert second.at == datetime.fromisoformat(sent[1]["at"]) and second.at.utcoffset() == timedelta(0)
    assert abs(second.received - datetime.now(UTC)) < timedelta(seconds=5)


def test_an_event_may_come_twice(worker):
    twice = event()
    assert post(worker.http, twice, twice).json() == {"accepted": 2}
    assert post(worker.http, twice).status_code == 202


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "loved"}, "kind"),
        ({"kind": None}, "kind"),
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 10_240}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"session": "x" * 10_240}, "session"),
        ({"session": "a\0b"}, "session"),
        ({"session": "a\x1b[31m"}, "session"),
        ({"session": "a b"}, "session"),
        ({"request": "é"}, "request"),
        ({"position": 1}, "position"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-11-30T10:00:00"}, "at"),  # no zone
        ({"at": timedelta(minutes=6)}, "at"),
        ({"at": timedelta(days=365)}, "at"),
        ({"at": timedelta(days=-8)}, "at"),
        ({"at": "9999-12-31T23:59:59-14:00"}, "at"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"track": "t9999999"}, "track"),
    ],
)
def test_a_wrong_event_is_refused_by_its_index_and_field(worker, tmp_path, changes, field):
    answer = post(worker.http, event(), event(), event(**changes))
    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (400, f"events[2].{field}"), answer.text
    assert set(error) == {"code", "message", "field"} and len(answer.content) < 500
    assert not [*read(tmp_path)]  # all of a body is kept, or none


def test_unknown_tracks_are_named(worker):
    error = post(worker.http, event(), event(track="x1"), event(track="x2"), event(track="x1")).json()["error"]
    assert error == {"code": "unknown_track", "message": "No such track: x1, x2.", "field": "events[1].track"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "not_json"),
        (b"\xff\xfe", 400, "not_json"),
        (b"[]", 400, "invalid_value"),
        (b"null", 400, "invalid_value"),
        (b"{}", 400, "missing_field"),
        (b'{"events": []}', 400, "invalid_value"),
        (b'{"events": [1]}', 400, "invalid_value"),
        (b'{"events": {}, "more": 1}', 400, "invalid_value"),
        (b'{"events":' + b"[" * 5000, 400, "not_json"),
        (json.dumps({"events": [{"id": "a"}] * 501}).encode(), 400, "invalid_value"),
        (b" " * (64 * 1024) + b"{}", 413, "too_large"),
        (b"x" * 10 * 2**20, 413, "too_large"),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused(worker, body, status, code):
    answer = worker.http.post("/events", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_other_types_and_methods_are_refused(worker):
    assert worker.http.post("/events", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert worker.http.get("/events").status_code == 405
    assert set(worker.http.get("/events").json()["error"]) == {"code", "message", "field"}


def test_without_a_log_there_are_no_events(songs):
    worker = Worker(songs)
    answer = post(worker.http, event())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "X-Shown" not in worker.ask(text="calm").headers
    assert "/events" not in worker.http.get("/openapi.json").json()["paths"]


def test_openapi_json_has_the_events(worker):
    document = worker.http.get("/openapi.json").json()
    assert document["paths"]["/events"]["post"]["responses"]["202"]
    assert document["components"]["schemas"]["Batch"]["properties"]["events"]["maxItems"] == 500


def test_a_flood_is_refused(songs, tmp_path, monkeypatch):
    """The disk hangs. Events wait up to the bound; more get 429. Those that waited are acknowledged afterwards."""
    disk = Disk(monkeypatch)
    with opened(songs, tmp_path, most=20) as worker, ThreadPoolExecutor(1) as other:
        disk.free.clear()
        slow = other.submit(post, worker.http, event())
        time.sleep(0.3)  # the thread of the journal hangs with it
        waiting = [threading.Thread(target=post, args=(worker.http, *(event() for _ in range(10)))) for _ in range(2)]
        [thread.start() for thread in waiting]
        time.sleep(0.3)
        answer = post(worker.http, event())
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1"), answer.text
        disk.free.set()
        assert slow.result().status_code == 202
        [thread.join() for thread in waiting]
        assert len([*read(tmp_path)]) == 21 and post(worker.http, event()).status_code == 202


@pytest.fixture(params=["full", "limited"])
def small_disk(request, tmp_path):
    """A folder that takes 64 KiB: a real disk (which root can mount), or a file of that size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limited":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
        yield folder
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_acknowledges_nothing_that_is_not_kept(songs, small_disk):
    sent = Counter()
    with opened(songs, small_disk) as worker:
        kept = []
        for _ in range(20):
            batch = [event(request="r" * 100) for _ in range(40)]
            answer = post(worker.http, *batch)
            sent[answer.status_code] += 1
            kept += [each["id"] for each in batch] if answer.status_code == 202 else []
            if answer.status_code == 503:
                assert (answer.json()["error"]["code"], answer.headers["Retry-After"]) == ("unavailable", "1")
        assert sent[202] and sent[503] and sent.total() == 20, sent
        assert [record["id"] for record in read(small_disk)] == kept
        assert all(file.read_bytes().endswith(b"\n") for file in small_disk.glob("*.jsonl"))  # no half line stays
        next(small_disk.glob("*.jsonl")).unlink()
        assert post(worker.http, event()).status_code == 202


KILLED = """
import asyncio, sys
from pathlib import Path
from deploy.scale.events.journal import Journal
from deploy.scale.events.schema import Record

async def client(journal, name):
    for n in range(10**9):
        ids = [f"{name}-{n}-{i}" for i in range(20)]
        await journal.append([Record(id=id, kind="played", track="t", at="2026-11-30T10:00:00Z") for id in ids])
        print(*ids, flush=True)

async def main():
    journal = Journal(Path(sys.argv[1]))
    await asyncio.gather(*(client(journal, f"{sys.argv[2]}-{n}") for n in range(8)))

asyncio.run(main())
"""


def test_a_killed_process_has_kept_all_that_it_acknowledged(tmp_path):
    acknowledged = []
    for n in range(3):
        command = [sys.executable, "-c", KILLED, tmp_path, str(n)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(50 * (n + 1)):
            acknowledged += process.stdout.readline().split()
        process.kill()
        acknowledged += [id for line in process.stdout if line.endswith("\n") for id in line.split()]
        process.wait()
        with max(tmp_path.glob("*.jsonl")).open("ab") as file:
            file.write(b'{"id": "half')
    files = [*tmp_path.glob("*.jsonl")]
    assert len(files) == 3 and len(acknowledged) >= 6000
    kept = Counter(record["id"] for record in read(tmp_path))
    assert set(acknowledged) <= set(kept) and set(kept.values()) == {1}


def test_simultaneous_batches_share_their_syncs(worker, tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    sync = journal.os.fsync
    monkeypatch.setattr(journal.os, "fsync", lambda file: (time.sleep(0.02), sync(file)))  # a slow disk
    with ThreadPoolExecutor(64) as clients:
        answers = [*clients.map(lambda n: post(worker.http, event(id=f"c{n}")).status_code, range(256))]
    assert set(answers) == {202} and disk.syncs < 128, disk.syncs
    assert {f"c{n}" for n in range(256)} == {record["id"] for record in read(tmp_path)}


def test_an_answer_does_not_wait_for_the_log(songs, tmp_path, monkeypatch):
    """The disk hangs: answers go on, their records wait up to the bound, more are dropped and counted."""
    disk, dropped = Disk(monkeypatch), lambda: REGISTRY.get_sample_value("events_dropped_total")
    with opened(songs, tmp_path, most=10) as worker:
        worker.ask(text="calm")
        time.sleep(0.5)
        before = dropped()
        disk.free.clear()
        worker.ask(text="calm")
        time.sleep(0.5)  # the thread hangs with this answer
        began = time.monotonic()
        assert {worker.ask(text="calm").status_code for _ in range(30)} == {200}
        assert time.monotonic() - began < 2 and dropped() - before == 20
        disk.free.set()
    assert len([*read(tmp_path)]) == 5 * (2 + 10)


def test_answers_are_logged_as_shown(worker, tmp_path):
    """An answer that is computed, and one from the worker's cache."""
    for mood in (None, "sad"):
        answers = [
            worker.http.post("/recommend", json={"text": text, "mood": mood}, headers={"X-Request-Id": asked})
            for text, asked in (("piano", "r"), ("piano ", "not a name"))
        ]
        assert [answer.headers["X-Found"] for answer in answers] == ["made", "local"]
    assert worker.http.post("/recommend", json={"text": ""}).status_code == 400
    api.app.state.tier.door.close()
    records = [Record.model_validate(record) for record in read(tmp_path)]
    assert len(records) == 4 * 5 == len({record.id for record in records})
    tracks = answers[0].json()["tracks"]
    for track, record in zip(tracks, records[10:15], strict=True):
        assert (record.kind, record.track, record.score) == ("shown", track["id"], track["score"])
        assert sum(record.parts.values()) == pytest.approx(record.score, abs=5e-4)
        assert (record.model, record.mood) == (answers[0].json()["model"], "sad")
    assert [record.position for record in records] == [1, 2, 3, 4, 5] * 4
    assert [record.request for record in records[::5]] == ["r", None, "r", None]  # no id that an event could not have
    assert {record.text for record in records} == {None}


def test_the_text_is_logged_only_if_asked_for(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "TEXT", True)
    worker.ask(text="piano 🎹")
    api.app.state.tier.door.close()
    assert {record["text"] for record in read(tmp_path)} == {"piano 🎹"}


def test_an_answer_has_the_ids_of_its_request_to_the_tier(worker, tmp_path):
    """Envoy and Varnish may send a request to another worker; Varnish fetches some answers that it shows later."""
    for serving in ("one", "one", shown.NOWHERE):
        worker.http.post("/recommend", json={"text": "piano"}, headers={shown.SERVING: serving})
    api.app.state.tier.door.close()
    assert [record["id"] for record in read(tmp_path)] == [f"one-{n}" for n in range(1, 6)] * 2


def append(log: Journal, *records: Record) -> None:
    with closing(asyncio.new_event_loop()) as loop:  # asyncio.run would leave the other tests without a loop
        loop.run_until_complete(log.append(records))


def record(id: str = "a") -> Record:
    return Record(id=id, kind="played", track="t", at=datetime.now(UTC))


def test_files_end_by_size_and_by_age_whatever_the_clock_says(tmp_path, monkeypatch):
    log = Journal(tmp_path, size=1000, age=0.5)
    for n in range(20):
        monkeypatch.setattr(time, "time", lambda n=n: (-1) ** n * 1e9)  # the clock jumps
        monkeypatch.setattr(time, "time_ns", lambda n=n: (-1) ** n * 10**18)
        append(log, record(f"{n}"))
    files = len([*tmp_path.glob("*.jsonl")])
    assert files > 1 and max(file.stat().st_size for file in tmp_path.glob("*.jsonl")) < 1500
    time.sleep(1)
    assert log.file is None  # an idle process holds no old file
    append(log, record("last"))
    log.close()
    assert len([*tmp_path.glob("*.jsonl")]) == files + 1
    assert [record["id"] for record in read(tmp_path)] == [*map(str, range(20)), "last"]


def test_a_deleted_file_takes_no_more_events(tmp_path):
    log = Journal(tmp_path / "new")
    append(log, record("a"))
    log.path.unlink()
    log.folder.rmdir()
    append(log, record("b"))
    log.close()
    assert [record["id"] for record in read(log.folder)] == ["b"]


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
    with ThreadPoolExecutor(16) as clients:
        send = lambda _: through(up, event(), sub="flood", **{"X-Client": f"another {next(NUMBERS)}"})  # noqa: E731
        flood = clients.map(send, range(1500))
        calm = [through(up, event(), sub=f"listener {n}").status_code for n in range(20)]
        refused = [answer for answer in flood if answer.status_code != 202]
    assert set(calm) == {202} and len(refused) > 500
    for answer in refused:
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1"), answer.text
        assert answer.json()["error"]["code"] == "too_many_requests"


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
