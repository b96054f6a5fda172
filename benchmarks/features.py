"""Measure the memory of features (10,000 tracks, 24 h of minutes), and what sessions and trends cost an answer.

python benchmarks/features.py outputs/quick
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
import timeit
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from measure import machine
from redis import Redis
from redis.exceptions import RedisError

from deploy.scale.events import personal, timeseries
from deploy.scale.events.features import KEPT, Count, open_features
from deploy.scale.events.sessions import Heard, Memory, Sessions, Trends
from lib.core.paths import resolve
from lib.performance import typed_requests
from lib.search.integrity import check_run
from lib.search.recommender import open_run
from lib.serve import contract
from lib.workbook.runner import revision

TRACKS, SHARE = 10_000, 50  # tracks; one of so many is measured, spread evenly over their popularity
PLAYS = 12_000  # a minute, Zipf-distributed; 30 % of the plays are skipped and 5 % liked
CASES = {
    "realistic": "plays by Zipf's law",
    "uniform": "five plays of each track a minute",
    "each played": "by Zipf's law, and each track played each minute",
    "each of all": "each track played, skipped and liked each minute",
}
PORT = 21_990


@contextmanager
def redis(module: bool):
    """Run a redis-server, with RedisTimeSeries or without it; yield its features."""
    command = ["redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", ""]
    with tempfile.TemporaryDirectory() as folder:
        options, environment = timeseries.options(Path(folder)) if module else ([], None)
        process = subprocess.Popen([*command, *options], env=environment, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    Redis(port=PORT).ping()
                    break
                except RedisError:
                    time.sleep(0.05)
            yield open_features(f"redis://127.0.0.1:{PORT}")
        finally:
            process.kill()
            process.wait()


def counts(chance: np.random.Generator, case: str, minute: int) -> dict[Count, int]:
    """Return the counts of a minute, of one of `CASES`."""
    ranks = np.arange(1, TRACKS + 1, SHARE)
    plays = chance.poisson(PLAYS / ranks / np.log(TRACKS))
    if case == "uniform":
        plays = chance.poisson(5, len(ranks))
    if case.startswith("each"):
        plays = np.maximum(plays, 1)
    events = {"played": plays, "skipped": chance.binomial(plays, 0.3), "liked": chance.binomial(plays, 0.05)}
    if case == "each of all":
        events = {kind: np.maximum(n, 1) for kind, n in events.items()}
    return {Count(kind, f"t{row:07}", minute): int(n[row]) for kind, n in events.items() for row in np.flatnonzero(n)}


def memory(module: bool, case: str) -> None:
    """Print the memory that a day of minutes takes. Each minute is written in two transactions, as it comes."""
    with redis(module) as features:
        chance, client, samples, started = np.random.default_rng(7), features.redis, 0, time.perf_counter()
        before, last = client.info("memory")["used_memory"], int(time.time() // 60)
        for minute in range(last - getattr(features, "KEPT", KEPT) + 1, last + 1):
            now = counts(chance, case, minute)
            samples += len(now)
            for _ in range(2):
                with client.pipeline() as pipe:
                    features.add(pipe, now)
                    pipe.execute()
        size, writes = client.info("memory")["used_memory"] - before, 2 * samples / (time.perf_counter() - started)
        name, hours = type(features).__name__, getattr(features, "KEPT", KEPT) // 60
        cells = name, CASES[case], hours, f"{size * SHARE / 1e6:.0f}", f"{size / samples:.1f}", f"{writes:,.0f}"
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def ranking(run: Path) -> None:
    """Print the cost of sessions and trends after the cache, beside that of an answer that is not cached."""
    songs = open_run(run)
    trends, ids = Trends(Sessions("")), songs.tracks["id"].tolist()
    rows = [[track, 0.9, 9, 1, 1] for track in ids[:2000]]
    trends._take({"at": None, "sessions": None, "tracks": rows})
    now, times = time.time(), {}
    heard = Memory([Heard(kind, ids[n], now - 60 * n) for n, kind in enumerate(["liked", "skipped", "played"] * 8)])
    for text in typed_requests.load()["text"]:
        request = personal.RecommendRequest(text=text, top_k=5)
        vectors = dict(zip(read := songs.read(text).texts, songs.encode(read), strict=True))
        _, pool = personal.pool(songs, request, vectors)
        own = request.model_copy(update={"trending": 0.5})
        for name, answer in {
            "the whole search, its text encoded before": partial(contract.answer, songs, request, vectors),
            "a pool": partial(personal.pool, songs, request, vectors),
            "a session": partial(personal.answer, songs, request, pool, heard, trends),
            "trending": partial(personal.answer, songs, own, pool, Memory([]), trends),
            "both": partial(personal.answer, songs, own, pool, heard, trends),
        }.items():
            times.setdefault(name, []).append(min(timeit.repeat(answer, number=1, repeat=3)) * 1000)
    for name, values in times.items():
        print(f"{name}: p50 {statistics.median(values):.2f} ms (the best of 3 of each text)")
    print(f"a pool: {len(pool):,} bytes")


def recall() -> None:
    """Print the seconds that reading a session takes."""
    with redis(False):
        asyncio.run(_recall())


async def _recall() -> None:
    sessions, times = Sessions(f"redis://127.0.0.1:{PORT}"), []
    pipe = sessions.redis.pipeline()
    for n in range(100):
        pipe.lpush("session:s", f'["played", "t{n:07}", 1796036805.5]')
    await pipe.execute()
    for _ in range(500):
        started = time.perf_counter()
        await sessions.recall("s")
        times.append(1000 * (time.perf_counter() - started))
    await sessions.close()
    print(f"reading a session of 100 events: p50 {statistics.median(times):.2f} ms")


def main() -> None:
    """Print the table of the memory, then the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a run to answer from (default: %(default)s)")
    run = resolve(parser.parse_args().run)
    check_run(run)
    print(f"{machine()}; commit {revision()}\n")
    print(f"{TRACKS:,} tracks: each {SHARE}th was written, and its bytes count {SHARE} times.")
    print("Bar: 80 MB in the first two rows.\n")
    print("| features | events | hours | MB | bytes a sample | writes a second |\n|" + " --- |" * 6)
    for case in CASES:
        memory(True, case)
    memory(False, "realistic")
    print()
    ranking(run)
    recall()


if __name__ == "__main__":
    main()
