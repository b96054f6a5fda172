"""What listeners do comes back: counts in a Redis with and without RedisTimeSeries, trends, and sessions in answers."""

import json
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from redis import Redis
from redis.exceptions import RedisError

from deploy.scale.events import timeseries, trends
from deploy.scale.events.features import KEPT, Count, Series, Sets, open_features
from deploy.scale.events.trends import Aggregator, Message
from tests.conftest import free_port

NOW = time.time() // 60 * 60 + 40  # the tests' clock: in the middle of Redis' own minute
TRACKS = pd.DataFrame(
    {"mood": ["calm", "calm", "happy", "sad"], "genre": ["jazz", "soul", "jazz", "soul"]}, index=["a", "b", "c", "d"]
)


class Server:
    """A redis-server with a log of its commands (AOF), as the tier has it."""

    def __init__(self, folder: Path, module: bool = False) -> None:
        self.folder, self.port = folder, free_port()
        self.options, self.environment = timeseries.options(folder) if module else ([], None)
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "yes"]
        command = [*map(str, command), "--dir", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)
        client, ends = Redis(port=self.port), time.monotonic() + 20
        while time.monotonic() < ends:
            with suppress(RedisError):
                if client.ping():
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


@pytest.fixture
def module(tmp_path) -> bool:
    return bool(timeseries.options(tmp_path)[0]) or pytest.skip("RedisTimeSeries is not installed: .venv-events")


@pytest.fixture(params=["series", "sets"])
def server(request, tmp_path):
    server = Server(tmp_path, request.param == "series" and request.getfixturevalue("module"))
    yield server
    server.kill()


@pytest.fixture
def plain(tmp_path):
    server = Server(tmp_path)
    yield server
    server.kill()


class Lines:
    """A topic in memory."""

    def __init__(self, *events: dict | bytes) -> None:
        self.log, self.place = [], 0
        self.write(*events)

    def write(self, *events: dict | bytes) -> None:
        self.log += [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]

    def seek(self, offsets: dict[int, int], back: int) -> None:
        self.place = max(0, offsets.get(0, 0) - back)

    def read(self) -> list[Message]:
        first, self.place = self.place, min(len(self.log), self.place + 100)
        return [Message(0, place, self.log[place]) for place in range(first, self.place)]


class Clock:
    """A clock that may jump."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def event(n: int | str, kind: str = "played", track: str = "a", age: float = 0, **more) -> dict:
    """Return an event that is `age` seconds old."""
    at = datetime.fromtimestamp(NOW - age, UTC).isoformat()
    return {"id": f"e{n}", "kind": kind, "track": track, "at": at} | more


def aggregator(server: Server, lines: Lines, clock=None) -> Aggregator:
    """Return an aggregator that has read all lines and published a result."""
    new = Aggregator(open_features(server.address), lines, lambda: TRACKS, clock or Clock())
    new.tracks = TRACKS
    new.load()
    return drained(new)


def drained(one: Aggregator) -> Aggregator:
    while one.source.place < len(one.source.log):
        one.step()
    one.publish()
    return one


def result(one: Aggregator) -> dict:
    """Return what workers read: strength, plays, likes and skips by track."""
    return {track: rest for track, *rest in json.loads(one.redis.hget("trends", "body"))["tracks"]}


def test_the_server_decides_how_counts_are_kept(plain, module, tmp_path):
    assert isinstance(open_features(plain.address), Sets)
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other", module)
    assert isinstance(open_features(other.address), Series)
    other.kill()


def test_counts_of_a_minute_add_up(server):
    features, minute = open_features(server.address), int(NOW // 60)
    for counts in (
        {Count("played", "a", minute): 2, Count("liked", "a", minute): 1},
        {Count("played", "a", minute): 3, Count("played", "b", minute - 7): 1},
        {Count("played", "a", minute - 3): 4},  # a late one
    ):
        with features.redis.pipeline() as pipe:
            features.add(pipe, counts)
            pipe.execute()
    assert features.sums("played", ["b", "a", "never"], minute - 9, minute) == [1, 9, 0]
    assert features.sums("played", ["a"], minute, minute) == [5]
    assert features.sums("skipped", ["a"], minute - 9, minute) == [0]
    history = list(features.history(minute - 60, minute + 5))
    assert sum(n for count, n in history if count.kind == "played") == 10
    assert {count.track for count, _ in history if count.kind == "liked"} == {"a"}


def test_old_counts_expire_by_rule(server):
    features, minute = open_features(server.address), int(time.time() // 60)
    for ago in (KEPT + 10, 0):
        with features.redis.pipeline() as pipe:
            features.add(pipe, {Count("played", "a", minute - ago): 1})
            pipe.execute()
    assert features.sums("played", ["a"], minute - KEPT - 10, minute) == [1]


def test_an_event_that_comes_twice_counts_once(server):
    one = aggregator(server, Lines(*(event(n // 2) for n in range(20)), event("x", "liked", "c")))
    assert result(one)["a"][1:] == [10, 0, 0] and result(one)["c"][1:] == [0, 1, 0]
    one.source.write(event(3), event("new"))
    assert result(drained(one))["a"][1:] == [11, 0, 0]


def test_what_is_no_event_of_today_is_ignored(server):
    day = 24 * 3600
    lines = [event(n, age=age) for n, age in enumerate((-400, -day, day + 100, 365 * day))]
    junk = [b"", b"{", b"3", b'{"id": 1}', b"\xff\xfe", json.dumps(event(8)).encode()[:-9]]
    odd = [event(9, track="unknown"), event(10, "bought"), event(11, "shown"), event(12, track=["a"]), event(13, at=4)]
    odd += [event(16, session=["a"]), event(17, session=3), event(["a"]) | {"id": ["a"]}]
    one = aggregator(server, Lines(*lines, *junk, *odd, event(14, age=-200), event(15, age=3000)))
    assert {track: rest[1:] for track, rest in result(one).items()} == {"a": [2, 0, 0]}
    assert one.offsets == {0: 20} and not one.redis.keys("*unknown*")


def test_a_new_play_is_hotter_than_an_old_one(server):
    old = [event(f"old{n}", track="b", age=3300) for n in range(10)]  # 55 minutes: less than a third
    one = aggregator(server, Lines(*old, *(event(n, track="a") for n in range(5)), event("s", "skipped", "c")))
    hot = result(one)
    assert list(hot) == ["a", "b"] and hot["b"][1:] == [10, 0, 0]  # a track that is skipped only is not trending
    assert 1 > hot["a"][0] > hot["b"][0] > 0  # few plays make no track fully trending
    again = aggregator(server, one.source)  # after a restart the weights are the same, but for minutes
    assert result(again)["b"][0] == pytest.approx(hot["b"][0], rel=0.1)
    one.clock.now += 12 * 3600
    one.publish()
    assert result(one) == {}


def test_each_mood_and_genre_has_its_tracks(server, monkeypatch):
    monkeypatch.setattr(trends, "EACH", 1)
    plays = {"a": 9, "b": 7, "c": 3, "d": 1}
    lines = [event(f"{track}{n}", track=track) for track, plays in plays.items() for n in range(plays)]
    assert list(result(aggregator(server, Lines(*lines)))) == ["a", "b", "c", "d"]


def test_sessions_are_counted(server):
    lines = [event(n, session=f"s{n % 4}", age=90) for n in range(12)] + [event("other")]
    body = json.loads(aggregator(server, Lines(*lines)).redis.hget("trends", "body"))
    assert body["sessions"] == {"active": 4, "a_minute": 4, "events_a_session": 3.0}


def test_a_clock_that_jumps(server):
    lines = Lines(*(event(n) for n in range(8)))
    one = aggregator(server, lines)
    one.clock.now += 3 * 24 * 3600  # ahead: all is old
    assert result(drained(one)) == {}
    lines.write(event("lost"))
    drained(one)
    one.clock.now = NOW  # right again
    with pytest.raises(RedisError, match="clock"):
        one.publish()
    one.load()  # as `run` does
    lines.write(event("new"))
    assert result(drained(one))["a"][1] == 9
    one.clock.now -= 7200  # behind: events seem to be of the future
    one.load()
    lines.write(event("future"))
    assert result(drained(one)) == {}


def test_two_aggregators_count_nothing_twice(server):
    lines, other = Lines(), Lines()
    first, second = aggregator(server, lines), aggregator(server, other)
    for topic in (lines, other):  # the same topic
        topic.write(*(event(n) for n in range(10)))
    first.step()
    with pytest.raises(RedisError):
        second.step()
    second.load()
    assert result(drained(second))["a"][1] == 10


def test_redis_that_lost_its_last_second_is_counted_again(plain):
    """A Redis that comes back without its last transactions has the place before them, too."""
    lines = Lines(*(event(n) for n in range(10)))
    one = aggregator(plain, lines)
    raw = Redis(port=plain.port)
    kept = {key: raw.dump(key) for key in raw.scan_iter()}
    lines.write(*(event(f"x{n}") for n in range(5)))
    drained(one)
    assert result(one)["a"][1] == 15
    for key, value in kept.items():
        raw.restore(key, 0, value, replace=True)
    lines.write(event("last"))
    with pytest.raises(RedisError):
        one.step()
    one.load()
    assert result(drained(one))["a"][1] == 16
