"""Sessions and trends in a worker's answers, and the way of an event from the topic to them, with a real Redis."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Coroutine
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from deploy.scale import api, registry
from deploy.scale.cache import Cache
from deploy.scale.events import personal
from deploy.scale.events.door import Door
from deploy.scale.events.schema import Event
from deploy.scale.events.sessions import HALF, MOST, Heard, Memory, Sessions, Trends
from deploy.scale.events.test_features import module, plain
from lib.search.recommender import Recommender, open_run
from lib.serve import contract

__all__ = ["module", "plain"]


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


def test_a_like_that_the_door_takes_changes_the_next_answer(songs, plain, tmp_path):
    """And the log has the tracks of both answers, with the session."""

    async def scenario():
        worker = Worker(songs, plain.address)
        worker.tier.door = door = Door(str(tmp_path / "log"))
        liked = songs.tracks["id"].iloc[250]
        before = await worker.tracks(session="s")
        event = {"id": "e1", "kind": "liked", "track": liked, "session": "s", "at": datetime.now(UTC).isoformat()}
        assert (await worker.http.post("/events", json={"events": [event]})).status_code == 202
        now = await worker.tracks(session="s", trending=0.5)
        assert now != before
        await asyncio.to_thread(door.close)
        records = [json.loads(line) for file in (tmp_path / "log").iterdir() for line in file.open()]
        shown = [record for record in records if record["kind"] == "shown"]
        assert [record["track"] for record in shown] == before + now and {r["session"] for r in records} == {"s"}
        assert all(sum(record["parts"].values()) == pytest.approx(record["score"], abs=1e-3) for record in shown)

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
        assert error.code == "unknown_field" and error.field == field and "docs/listeners.md" in error.message


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
