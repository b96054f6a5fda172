"""A worker without the other parts: the texts that it encodes, its cache's keys, and personal answers."""

import asyncio
import json
from types import SimpleNamespace

import httpx
import pytest
from fastapi.testclient import TestClient

from deploy.scale import api, registry
from deploy.scale.cache import LEAST, Cache
from deploy.scale.events import drop
from lib.search.recommender import Recommender, open_run
from lib.serve import contract


class Worker:
    """A worker whose Triton is the run's own encoder.

    Attributes:
        batches: the texts of each request to Triton.
    """

    def __init__(self, songs: Recommender):
        self.songs, self.batches = songs, []
        asyncio.set_event_loop(asyncio.new_event_loop())  # gRPC's channels want one; asyncio.run leaves none behind
        api.app.state.tier = tier = api.Tier()
        tier.served = api.Served(registry.Version("1", "model", ""), songs, "prefix")
        tier.cache, tier.vectors = Cache("", 1, 48), self._vectors
        self.http = TestClient(api.app)  # without its lifespan, which follows a registry

    async def _vectors(self, model: str, texts: list[str]) -> dict:
        self.batches.append(texts)
        return dict(zip(texts, self.songs.encode(texts), strict=True))

    def ask(self, **body) -> httpx.Response:
        return self.http.post("/recommend", json=body)


@pytest.fixture(scope="module")
def songs(small_run) -> Recommender:
    return open_run(small_run)


@pytest.fixture
def worker(songs) -> Worker:
    return Worker(songs)


def test_the_request_and_its_history_are_encoded_together(worker):
    """The worker answers with these vectors as the run answers with its own."""
    body = {"text": "but no rock", "history": ["calm piano", "something ｆaster"]}
    answer = worker.ask(**body).json()
    assert worker.batches == [["music", "something faster", "calm piano"]]
    assert answer == json.loads(contract.recommend(worker.songs, json.dumps({"body": body})).body)
    assert answer["understood"]["not"] == {"genre": ["rock"]}


def test_bodies_with_one_wish_share_one_answer(worker):
    first = worker.ask(text="sad  piano", history=["calm jazz", "slow"], liked=["t0000001", "t0000000"])
    same = worker.ask(
        text=" ｓad piano", history=["calm\tjazz", "slow "], liked=["t0000000", "t0000001"] * 2, num_recommendations=5
    )
    assert (first.headers["X-Found"], same.headers["X-Found"]) == ("made", "local")
    assert first.content == same.content


@pytest.mark.parametrize(
    "other",
    [
        {"text": "play Happy"},
        {"text": "play\nhappy"},
        {"text": "play happy", "history": ["slow", "calm"]},
        {"text": "play happy", "history": ["calm"]},
        {"text": "calm", "history": ["play happy", "slow"]},
    ],
)
def test_bodies_with_other_wishes_have_their_own_answers(worker, other):
    worker.ask(text="play happy", history=["calm", "slow"])
    worker.ask(text="play happy")
    assert worker.ask(**other).headers["X-Found"] == "made"


@pytest.mark.parametrize("own", [{"history": ["calm"]}, {"liked": ["t0000000"]}, {"disliked": ["t0000000"]}])
def test_personal_answers_are_not_cached_outside_the_tier(worker, own):
    assert worker.ask(text="piano").headers["Cache-Control"] == "public, max-age=60"
    assert worker.ask(text="piano", **own).headers["Cache-Control"] == "private, no-store"


def test_late_answers_leave_less_room_and_others_more():
    """The room grows from `LEAST` to the given number. Without Redis a worker computes by itself."""

    async def room(seconds: float, answers: int) -> float:
        cache = Cache("redis://127.0.0.1:1", 0.1, 20)
        if seconds:
            cache.room = 20

        async def make() -> bytes:
            await asyncio.sleep(seconds)
            return b"answer"

        for n in range(answers):
            await cache.answer(str(n), make)
        return cache.room

    assert asyncio.run(room(0, 10)) == pytest.approx(LEAST + 1)
    assert asyncio.run(room(0, 50)) == 20
    assert LEAST < asyncio.run(room(0.1, 3)) < 19


def test_it_is_ready(worker):
    assert worker.http.get("/ready").json()["tracks"] == 400
    assert worker.batches == [["ready?"]]


def test_a_dropped_answer_is_the_one_that_the_worker_keeps(worker, tmp_path, monkeypatch):
    """The command computes its key from the request, as the worker does."""
    dropped, first = [], worker.ask(text="sad piano", session="one").headers["X-Key"]
    version = registry.Version("1", "m" * 64, "", "i" * 64)
    prefix = f"{'m' * 16}:{'i' * 16}"
    (tmp_path / "served.json").write_text(json.dumps(version._asdict()))
    monkeypatch.setattr(drop.hints, "tell", lambda kind, value, settings: dropped.append(value))
    tier = SimpleNamespace(home=tmp_path, ports=SimpleNamespace(redis=9), hints=dict)
    drop.drop(tier, '{"text": " sad  piano", "trending": 0.5}')
    assert dropped[0] == first.replace("prefix", prefix) and len(set(dropped)) == 2
