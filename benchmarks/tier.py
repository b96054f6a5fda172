"""The scaled-out tier beside the seed-shaped server, and what each part of it costs: the figures behind notebook 07.

The full form, not the quick one, writes them to tier.json beside this file, which the notebook reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
from measure import Row, apart, machine, seconds
from service import server
from tqdm import tqdm
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from deploy.scale.capacity.plan import shares
from deploy.scale.client import Tier, free_ports, started
from lib.core.base_models import find
from lib.core.encoder import embed, load
from lib.core.errors import WorkbookError
from lib.core.files import read_json, write_json
from lib.core.paths import ROOT
from lib.search.forms import open_form
from lib.search.integrity import forms
from lib.search.recommender import open_run
from lib.workbook.runner import revision
from tests.conftest import untuned

RESULT = Path(__file__).with_name("tier.json")
DISTINCT = 100_000  # requests that listeners share
CLIENTS = 64
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DELAYS = (0, 2000, 8000)  # microseconds that Triton may keep a text waiting for company
WAIT = 2.0  # milliseconds that it does, unless it is told otherwise
LOADS = (0.2, 0.32, 0.44, 0.56, 0.68)  # shares of what saturates, at which latencies are measured for the simulation
ROUNDS = 3  # times that each of these is measured: the same one, minutes later, may have a p99 half as large again
# Requests from a file, one after another. If THINK says how long (ms), each connection pauses in between, for times of
# an exponential distribution, as many listeners do that know nothing of each other.
LUA = """
local file, bodies, number = io.open(os.getenv("BODIES")), {}, 0
for line in file:lines() do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/json", ["Authorization"] = os.getenv("TOKEN")}
-- Behind the door there is none, or Varnish would keep nothing.
if headers.Authorization == "" then headers.Authorization = nil end
local pause = tonumber(os.getenv("THINK") or "0")
function setup(thread) thread:set("offset", number); number = number + 1 end
function init() sent = 0; math.randomseed(7 + offset) end
function request()
  sent = sent + 1
  return wrk.format("POST", "/recommend", headers, bodies[(2 * sent + offset) % #bodies + 1])
end
if pause > 0 then
  function delay() return math.floor(-pause * math.log(1 - math.random()) + 0.5) end
end
function done(summary, latency)
  local e, ms = summary.errors, function(p) return latency:percentile(p) / 1000 end
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.stderr:write(string.format('{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p90": %f, "p99": %f}',
    summary.requests, summary.duration / 1e6, failed, ms(50), ms(90), ms(99)))
end
"""
KINDS = ("envoy", "varnish", "api", "redis", "triton")


class Sizes(NamedTuple):
    """How much is measured: seconds a load, requests that are counted one by one, repetitions of a call."""

    seconds: int
    counted: int
    calls: int


FULL, QUICK = Sizes(15, 1000, 30), Sizes(2, 100, 2)


def texts(run: Path, n: int, seed: int) -> list[str]:
    """So many distinct requests: those that training never saw, each with the title of a song that it is to be like."""
    requests, tracks = (pd.read_parquet(run / f"{name}.parquet") for name in ("requests", "tracks"))
    asked = requests.loc[requests["split"] == "test", "text"].drop_duplicates().to_numpy()
    titles, draw = tracks["title"].unique(), np.random.default_rng(seed)
    pairs = draw.choice(len(asked) * len(titles), n, replace=False)
    return [f"{asked[pair % len(asked)]}, like {titles[pair // len(asked)]}" for pair in pairs]


def zipf(n: int, seed: int) -> np.ndarray:
    """Ranks of requests as listeners ask them, 0 the commonest: shares fall as the inverse. -> (n,) of int."""
    return np.random.default_rng(seed).choice(DISTINCT, n, p=shares(DISTINCT, 1.0))


class Client:
    """wrk, with files of requests."""

    def __init__(self, folder: Path, tier: Tier) -> None:
        self.folder, self.door, self.token = folder, tier.first, tier.headers()["Authorization"]
        self.script = folder / "wrk.lua"
        self.script.write_text(LUA)

    def ask(self, port: int, bodies: list[str], clients: int, duration: float, rate: float = 0) -> dict:
        """A load. -> requests, seconds, failed (not 200, or none), rate (a second), p50, p90, p99 (ms)

        Args:
            rate: requests a second that are asked; 0 for as many as are answered.
        """
        file = self.folder / "bodies"
        file.write_text("\n".join(json.dumps({"text": text}) for text in bodies))
        given = {
            "BODIES": str(file),
            "TOKEN": self.token if port == self.door else "",
            "THINK": str(1000 * clients / rate if rate else 0),
        }
        command = ["wrk", "-t", str(min(2, clients)), "-c", str(clients), "-d", f"{duration}s", "--timeout", "10s"]
        ran = subprocess.run(
            [*command, "--latency", "-s", self.script, f"http://127.0.0.1:{port}"],
            env=os.environ | given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        found = json.loads(ran.stderr)
        return found | {"rate": found["requests"] / found["seconds"]}


def families(tier: Tier) -> Iterator[tuple[str, list[psutil.Process]]]:
    """The processes that are in a request's way, each with all that it started, and of which kind it is."""
    for part, process in tier.parts().items():
        if (kind := part.partition(":")[0]) in KINDS:
            yield kind, [process, *process.children(recursive=True)]


def spent(tier: Tier) -> dict[str, float]:
    """Seconds of processor time that each kind of part has used so far."""
    used = dict.fromkeys(KINDS, 0.0)
    for kind, family in families(tier):
        used[kind] += sum(sum(one.cpu_times()[:2]) for one in family)
    return used


@contextmanager
def costs(tier: Tier, found: dict):
    """What is done inside is charged to each kind of part: found["cpu"], milliseconds of processor time a request."""
    before = spent(tier)
    yield
    after = spent(tier)
    found["cpu"] = {kind: 1000 * (after[kind] - before[kind]) / found["requests"] for kind in KINDS}


def loaded(tier: Tier, client: Client, *args, **kwargs) -> dict:
    """A load, with what it cost each part."""
    found: dict = {}
    with costs(tier, found):
        found |= client.ask(*args, **kwargs)
    return found


def memory(tier: Tier) -> dict[str, float]:
    """GiB that each process holds, what it shares with others counted in part; the largest of each kind."""
    held = dict.fromkeys(KINDS, 0.0)
    for kind, family in families(tier):
        held[kind] = max(held[kind], sum(one.memory_full_info().pss for one in family) / 2**30)
    return held


def from_redis(tier: Tier, asked: list[str]) -> dict:
    """Requests that another worker has answered: what it costs to find them in Redis."""
    found = {"requests": len(asked)}
    for text in asked:
        assert tier.ask({"text": text}, tier.ports.api).status_code == 200
    with costs(tier, found):
        where = [tier.ask({"text": text}, tier.ports.api + 1).headers["X-Found"] for text in asked]
    assert where.count("redis") > 0.9 * len(asked), where
    return found


def restarts(tier: Tier, client: Client, bodies: list[str], rate: float) -> dict[str, dict]:
    """Each part replaced, one after another, at a rate of requests. -> requests and failed by part"""
    found = {}
    for part in tqdm(tier.parts(), "restarts", leave=False):
        load: dict = {}
        asking = threading.Thread(target=lambda load=load: load.update(client.ask(tier.first, bodies, 32, 25, rate)))
        asking.start()
        time.sleep(2)
        took = tier.restart(part)
        asking.join()
        load["load"] = load["seconds"]
        kind = part.partition(":")[0]
        before = found.get(kind, {"requests": 0, "failed": 0, "load": 0.0, "seconds": 0.0})
        found[kind] = {name: before[name] + load[name] for name in ("requests", "failed", "load")}
        found[kind]["seconds"] = max(before["seconds"], took)
    return found


def cold(tier: Tier, text: str) -> float:
    """Seconds from starting workers and Tritons, none of which runs, to the first answer that they compute."""
    tier.ctl("stop", "api:*", "triton:*")
    began = time.monotonic()
    threading.Thread(target=tier.ctl, args=("start", "triton:*", "api:*")).start()
    while tier.ask({"text": text}).status_code != 200:
        time.sleep(0.2)
    return time.monotonic() - began


def moved(tier: Tier, *words: str) -> float:
    """Seconds from a word to the registry until the door answers with another model."""
    before, began = tier.ask({"text": "which?"}).json()["model"], time.monotonic()
    assert tier.registry(*words).returncode == 0
    while tier.ask({"text": f"{time.time()}"}).json()["model"] == before:
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def triton(tier: Tier, port: int, **environment: str):
    """A Triton of its own, beside those of the tier, with another setting. -> the name of its model"""
    given = (
        os.environ
        | environment
        | {"SERVED": str(tier.home / "served.json"), "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    )
    command = [ROOT / ".venv-triton/bin/python", "-m", "deploy.scale.triton", str(port)]
    process = subprocess.Popen(command, env=given, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tier.wait(port, f"/v2/models/{tier.model}/ready", process)
        yield tier.model
    finally:
        process.terminate()
        process.wait(20)


async def infer(server: InferenceServerClient, model: str, batch: list[str]) -> float:
    """Milliseconds until Triton has answered a batch."""
    asked = InferInput("text", [len(batch), 1], "BYTES")
    asked.set_data_from_numpy(np.array([[text.encode()] for text in batch], dtype=object))
    began = time.perf_counter()
    await server.infer(model, [asked])
    return 1000 * (time.perf_counter() - began)


async def flood(port: int, model: str, asked: list[str], clients: int) -> dict:
    """Clients that each wait for an answer before they ask again. -> rate (texts a second), p50 (ms)"""
    server, waiting, took = InferenceServerClient(f"127.0.0.1:{port + 10}"), iter(asked), []

    async def one() -> None:
        for text in waiting:
            took.append(await infer(server, model, [text]))

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    seconds = time.perf_counter() - began
    await server.close()
    return {"rate": len(asked) / seconds, "p50": statistics.median(took)}


async def by_batch(port: int, model: str, asked: list[str], calls: int) -> dict[str, float]:
    """Milliseconds of a batch that comes alone, the median, by its size."""
    server, found = InferenceServerClient(f"127.0.0.1:{port + 10}"), {}
    for size in tqdm(BATCHES, "batches", leave=False):
        took = [await infer(server, model, asked[i : i + size]) for i in range(calls)]
        found[str(size)] = statistics.median(took)
    await server.close()
    return found


def encoders(run: Path, calls: int) -> dict[str, dict[str, float]]:
    """Milliseconds a text of each form on one thread: alone, and among 64."""
    asked, found = texts(run, 64 + calls, 3), {}
    models = {form: partial(open_form, run, form) for form in forms(run)}
    with suppress(WorkbookError):  # where it can be had
        models["mpnet"] = partial(load, find("all-mpnet-base-v2"))
    for form, opened in tqdm(models.items(), "encoders", leave=False):
        model = opened().to("cpu")
        embed(model, asked[:64])  # warms up
        alone = statistics.median(seconds(embed, model, [text]) for text in asked[64:])
        among = min(seconds(embed, model, asked[:64]) for _ in range(3))
        found[form] = {"alone": 1000 * alone, "among": 1000 * among / 64}
    return found


def searches(run: Path, calls: int) -> float:
    """Milliseconds that a worker takes to search and to choose, once it has the vector."""
    songs = open_run(run)
    queries = [songs.query(text) for text in texts(run, calls, 4)]
    return 1000 * statistics.median(seconds(songs.search, query) for query in queries)


@contextmanager
def static_worker(run: Path, folder: Path, port: int):
    """One worker that encodes requests itself, by the run's static encoder."""
    about = read_json(run / "index/index.json")
    version = {"number": "0", "model": about["model"], "source": str(folder / "run")}
    (folder / "run").mkdir()
    for name in ("model", "encoders"):
        (folder / "run" / name).symlink_to(run / name)
    shutil.copytree(run / "index", folder / "run/index", copy_function=os.link)
    (folder / "run/index/index.json").unlink()
    write_json(folder / "run/index/index.json", about | {"encoder": "static"})
    write_json(folder / "served.json", version)
    (folder / "metrics").mkdir()
    command = [sys.executable, "-m", "uvicorn", "deploy.scale.api:app", "--no-access-log", "--port", str(port)]
    given = {
        "ENCODER": "local",
        "SERVED": str(folder / "served.json"),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "OMP_NUM_THREADS": "1",
    }
    with server(command, port, folder / "log", **given):
        yield


def constant(port: int, duration: float) -> float:
    """Requests a second of an address that always says the same."""
    command = ["wrk", "-t", "2", "-c", str(CLIENTS), "-d", f"{duration}s", f"http://127.0.0.1:{port}/health"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(said.split("Requests/sec:")[1].split()[0])


def beside_the_seed(tier: Tier, client: Client, run: Path, sizes: Sizes, found: dict) -> Iterator[Row]:
    """The same requests to the tier and to a plain server, one after the other."""
    port, one = free_ports(), [texts(run, 1, 5)[0]]
    shared = texts(run, DISTINCT, 6)
    many = [shared[rank] for rank in zipf(200_000, 7)]
    plain = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "benchmarks"), "--log-level", "warning"]
    with server([*plain, "--port", str(port), "baseline:app"], port, client.folder / "log", RUN=str(run)):
        client.ask(port, one, 8, sizes.seconds)  # warms up
        found["plain"] = client.ask(port, many, 8, sizes.seconds)
    base = found["plain"]["rate"]
    said = f"{base:.0f}/s: plain server"
    for where, at, bar in (("worker", tier.ports.api, "≥ 10 ×"), ("Varnish", tier.ports.varnish, "≥ 50 ×")):
        client.ask(at, one, CLIENTS, 2)
        hit = found[f"hit_{where.lower()}"] = loaded(tier, client, at, one, CLIENTS, sizes.seconds)
        yield Row(f"cached answer at {where}", f"{hit['rate']:,.0f}/s", said, hit["rate"] / base, bar=bar)
    hit = found["hit_door"] = loaded(tier, client, tier.first, one, CLIENTS, sizes.seconds)
    yield Row("cached answer at the door (Envoy, Varnish)", f"{hit['rate']:,.0f}/s", said, hit["rate"] / base)
    client.ask(tier.first, many[100_000:], CLIENTS, 2 * sizes.seconds)  # fills the caches
    busy = found["zipf"] = loaded(tier, client, tier.first, many, CLIENTS, 2 * sizes.seconds)
    found["layers"] = layers(tier, client, many, sizes)
    about = ", ".join(f"{share:.0%} {name}" for name, share in found["layers"].items() if name != "rate")
    yield Row("Zipf traffic, 64 clients", f"{busy['rate']:,.0f}/s ({about})", said, busy["rate"] / base, bar="≥ 5 ×")
    calm = found["zipf_calm"] = client.ask(tier.first, many, 128, 2 * sizes.seconds, 0.7 * busy["rate"])
    yield Row(
        f"Zipf traffic at {calm['rate'] / busy['rate']:.0%} of that",
        f"p50 {calm['p50']:.1f} ms, p99 {calm['p99']:.0f} ms",
        bar="p99 ≤ 250 ms",
    )  # fmt: skip


def layers(tier: Tier, client: Client, many: list[str], sizes: Sizes) -> dict[str, float]:
    """Where answers are found while caches are warm. -> rate; the shares of the edge, and of what the workers count"""
    before = counted(tier)
    asked = client.ask(tier.first, many[50_000:], CLIENTS, sizes.seconds)
    after = counted(tier)
    shares = {name: (after[name] - before.get(name, 0)) / asked["requests"] for name in after}
    return {"rate": asked["rate"], "edge": 1 - sum(shares.values())} | shares


def counted(tier: Tier) -> dict[str, float]:
    """Answers by where the workers found them, since they started."""
    figures = tier.http.get(f"http://127.0.0.1:{tier.ports.api}/metrics").text
    return {
        found: float(value) for found, value in re.findall(r'recommend_answers_total\{found="(\w+)"\} (\S+)', figures)
    }


def typical(rounds: list[dict]) -> dict:
    """A load that was measured several times: the medians; of latencies the least and the most, too, as span."""
    found = {name: statistics.median(one[name] for one in rounds) for name in ("rate", "p50", "p90", "p99")}
    found["cpu"] = {kind: statistics.median(one["cpu"][kind] for one in rounds) for kind in KINDS}
    spans = {name: [one[name] for one in rounds] for name in ("p50", "p99")}
    return found | {"span": {name: [min(values), max(values)] for name, values in spans.items()}}


def of_parts(tier: Tier, client: Client, run: Path, sizes: Sizes, found: dict) -> Iterator[Row]:
    """What nobody has asked before: what saturates, what each part works for it, how long it takes at lower loads."""
    found["redis"] = from_redis(tier, texts(run, sizes.counted, 8))
    busy_with, *fresh = np.array_split(np.array(texts(run, 100_000, 9)), 1 + ROUNDS * len(LOADS))
    busy = found["made"] = loaded(tier, client, tier.first, list(busy_with), CLIENTS, sizes.seconds)
    cpu = ", ".join(f"{kind} {ms:.2f}" for kind, ms in busy["cpu"].items())
    yield Row(
        "uncached, 64 clients",
        f"{busy['rate']:.0f}/s, {busy['failed']} of {busy['requests']:,} refused; ms of processor time: {cpu}",
    )
    seen: dict[float, list[dict]] = {share: [] for share in LOADS}
    for share, asked in zip(tqdm(LOADS * ROUNDS, "loads", leave=False), fresh, strict=True):
        rate = share * busy["rate"]
        seen[share].append(loaded(tier, client, tier.first, list(asked), 128, 3 * sizes.seconds, rate))
    found["loads"] = [typical(rounds) for rounds in seen.values()]
    for one in found["loads"]:
        said = [f"{name} {one[name]:.1f} ({least:.1f} to {most:.1f})" for name, (least, most) in one["span"].items()]
        yield Row(f"uncached, {one['rate']:.0f}/s", f"{', '.join(said)} ms")
    found["memory"] = memory(tier)
    yield Row("memory of a process", ", ".join(f"{kind} {held:.2f} GiB" for kind, held in found["memory"].items()))


def of_the_encoder(tier: Tier, client: Client, run: Path, sizes: Sizes, found: dict) -> Iterator[Row]:
    """Triton asked directly; and a worker that encodes by itself, statically."""
    asked, port = texts(run, 4 * sizes.counted, 10), free_ports()
    one_by_one, *delays = [{"MOST": "1"}, *({"QUEUE_DELAY_US": str(delay)} for delay in DELAYS)]
    found["delays"] = {}
    with triton(tier, port, **one_by_one) as model:
        asyncio.run(flood(port, model, asked[: sizes.counted], CLIENTS))
        single = found["one_by_one"] = asyncio.run(flood(port, model, asked[sizes.counted :], CLIENTS))
    for setting, delay in zip(delays, DELAYS, strict=True):
        with triton(tier, port, **setting) as model:
            asyncio.run(flood(port, model, asked[: sizes.counted], CLIENTS))
            flooded = asyncio.run(flood(port, model, asked[sizes.counted :], CLIENTS))
            few = asyncio.run(flood(port, model, asked[: sizes.counted], 4))
            found["delays"][str(delay)] = {"rate": flooded["rate"], "p50": flooded["p50"], "p50_of_4": few["p50"]}
            if delay == 0:
                found["batches"] = asyncio.run(by_batch(port, model, asked, sizes.calls))
        yield Row(
            f"Triton, 64 clients, a text waits {delay / 1000:g} ms for company",
            f"{flooded['rate']:.0f}/s; of 4 clients p50 {few['p50']:.1f} ms",
            f"{single['rate']:.0f}/s: one text at a time",
            flooded["rate"] / single["rate"],
            bar="≥ 2 ×",
        )
    if "static" in forms(run):
        fresh = texts(run, 100_000, 11)
        with static_worker(run, client.folder, port):
            client.ask(port, fresh[:10_000], CLIENTS, 2)
            found["static"] = client.ask(port, fresh[10_000:], CLIENTS, sizes.seconds)
            found["constant"] = constant(port, sizes.seconds)
        ours, ceiling = found["static"]["rate"], found["constant"]
        yield Row(
            "static encoder in one worker, uncached", f"{ours:.0f}/s", f"{ceiling:.0f}/s: it says a constant",
            ours / ceiling, bar="≥ 0.5 ×",
        )  # fmt: skip


def of_changes(tier: Tier, client: Client, run: Path, sizes: Sizes, found: dict) -> Iterator[Row]:
    """Parts replaced, models replaced, all started: while requests come."""
    shared = texts(run, DISTINCT, 6)
    many = [shared[rank] for rank in zipf(200_000, 12)]
    found["restarts"] = restarts(tier, client, many, found["zipf"]["rate"] / 2)
    for kind, seen in found["restarts"].items():
        said = f"{seen['failed']} of {seen['requests']:,} failed; {seen['seconds']:.0f} s"
        yield Row(
            f"restart of {kind} at half load", said, bar="none" if kind in ("api", "triton") else "< 0.1 % in all"
        )
    found["cold_start"] = cold(tier, f"cold {time.time()}")
    yield Row("cold start of workers and Tritons", f"{found['cold_start']:.0f} s to the first answer", bar="≤ 30 s")
    other = untuned(run, ROOT / "outputs/scale/untuned")
    found["promote"] = moved(tier, "promote", str(other))
    found["rollback"] = moved(tier, "rollback")
    said = f"{found['promote']:.1f} s; {found['rollback']:.1f} s"
    yield Row("promote, and rollback, until the door answers with it", said, bar="≤ 10 s each")


def measure(run: Path, quick: bool) -> Iterator[Row]:
    """All of it, on a tier of its own."""
    sizes, found = (
        QUICK if quick else FULL,
        {"machine": machine(), "commit": revision(), "cores": os.cpu_count(), "wait": WAIT},
    )
    found["encoders"] = apart(encoders, run, sizes.calls, threads=1)
    found["search"] = apart(searches, run, sizes.calls, threads=1)
    found["tracks"] = len(pd.read_parquet(run / "tracks.parquet", columns=["id"]))
    home = ROOT / "outputs/scale/bench"
    first = free_ports()
    with tempfile.TemporaryDirectory() as name, started(run, home, first) as tier:
        folder = Path(name)
        client = Client(folder, tier)
        yield from beside_the_seed(tier, client, run, sizes, found)
        yield from of_parts(tier, client, run, sizes, found)
        yield from of_the_encoder(tier, client, run, sizes, found)
        yield from of_changes(tier, client, run, sizes, found)
    if not quick:
        write_json(RESULT, found)
