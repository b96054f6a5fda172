"""The door of events: bad input, floods, a full disk, and what answers showed, with a worker but no other part."""

import json
import os
import resource
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from deploy.scale import api
from deploy.scale.events import journal, shown
from deploy.scale.events.door import Door
from deploy.scale.events.journal import read
from deploy.scale.events.schema import Record
from deploy.scale.test_api import Worker
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
