"""The tier beside a plain server, and the cost of each of its parts: the figures behind notebook 07.

The full benchmark, not the quick one, writes them to tier.json beside this file; the notebook reads it.
"""

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
from lib.core.encoder import embed
from lib.core.encoder import load as load_encoder
from lib.core.errors import WorkbookError
from lib.core.files import read_json, write_json
from lib.core.paths import ROOT
from lib.search.encoders import open_form
from lib.search.integrity import forms
from lib.search.recommender import open_run
from lib.workbook.runner import revision
from tests.conftest import untuned

RESULT = Path(__file__).with_name("tier.json")
DISTINCT = 100_000  # requests that listeners share
CLIENTS = 64
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DELAYS = (0, 2000, 8000)  # microseconds that Triton may wait to collect a batch
WAIT = 2.0  # milliseconds, its default
LOADS = (0.2, 0.32, 0.44, 0.56, 0.68)  # of the saturating rate; the simulation is compared with their latencies
ROUNDS = 3  # measurements of each load: minutes later its p99 may be half as large again
SCRIPT = Path(__file__).with_name("tier.lua")
KINDS = ("envoy", "varnish", "api", "redis", "triton")


class Sizes(NamedTuple):
    """Sizes of the measurements: seconds of a load, single requests, repetitions of a call."""

    seconds: int
    single: int
    calls: int


FULL, QUICK = Sizes(15, 1000, 30), Sizes(2, 100, 2)


def texts(run: Path, n: int, seed: int) -> list[str]:
    """Return `n` distinct requests: of the test split, each with the title of a song that it should resemble."""
    requests, tracks = (pd.read_parquet(run / f"{name}.parquet") for name in ("requests", "tracks"))
    unseen = requests.loc[requests["split"] == "test", "text"].drop_duplicates().to_numpy()
    titles, draw = tracks["title"].unique(), np.random.default_rng(seed)
    pairs = draw.choice(len(unseen) * len(titles), n, replace=False)
    return [f"{unseen[pair % len(unseen)]}, like {titles[pair // len(unseen)]}" for pair in pairs]


def zipf(n: int, seed: int) -> np.ndarray:
    """Return `n` ranks of requests by Zipf's law with exponent 1, 0 for the most frequent: (n,) int."""
    return np.random.default_rng(seed).choice(DISTINCT, n, p=shares(DISTINCT, 1.0))


class Client:
    """wrk with files of requests."""

    def __init__(self, folder: Path, tier: Tier) -> None:
        self.folder, self.envoy, self.token = folder, tier.first, tier.headers()["Authorization"]

    def ask(self, port: int, bodies: list[str], clients: int, duration: float, rate: float = 0) -> dict:
        """Send a load. Return requests, seconds, failed (not 200, or no answer), rate (a second), p50, p90, p99 (ms).

        Args:
            rate: requests a second; 0 for as many as the server answers.
        """
        file = self.folder / "bodies"
        file.write_text("\n".join(json.dumps({"text": text}) for text in bodies))
        settings = {
            "BODIES": str(file),
            "TOKEN": self.token if port == self.envoy else "",
            "THINK": str(1000 * clients / rate if rate else 0),
        }
        command = ["wrk", "-t", str(min(2, clients)), "-c", str(clients), "-d", f"{duration}s", "--timeout", "10s"]
        process = subprocess.run(
            [*command, "--latency", "-s", SCRIPT, f"http://127.0.0.1:{port}"],
            env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        load = json.loads(process.stderr)
        return load | {"rate": load["requests"] / load["seconds"]}


def families(tier: Tier) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Yield the kind of each part on a request's path, and its process with all processes that it started."""
    for part, process in tier.parts().items():
        if (kind := part.partition(":")[0]) in KINDS:
            yield kind, [process, *process.children(recursive=True)]


def spent(tier: Tier) -> dict[str, float]:
    """Return the seconds of processor time that each kind of part has used so far."""
    used = dict.fromkeys(KINDS, 0.0)
    for kind, family in families(tier):
        used[kind] += sum(sum(process.cpu_times()[:2]) for process in family)
    return used


@contextmanager
def costs(tier: Tier, load: dict):
    """Set load["cpu"]: milliseconds of processor time a request of each kind of part, for the work inside."""
    before = spent(tier)
    yield
    after = spent(tier)
    load["cpu"] = {kind: 1000 * (after[kind] - before[kind]) / load["requests"] for kind in KINDS}


def loaded(tier: Tier, client: Client, *args, **kwargs) -> dict:
    """Send a load. Return it with the cost of each part."""
    load: dict = {}
    with costs(tier, load):
        load |= client.ask(*args, **kwargs)
    return load


def memory(tier: Tier) -> dict[str, float]:
    """Return the GiB (proportional set size) of the largest process of each kind."""
    sizes = dict.fromkeys(KINDS, 0.0)
    for kind, family in families(tier):
        sizes[kind] = max(sizes[kind], sum(process.memory_full_info().pss for process in family) / 2**30)
    return sizes


def from_redis(tier: Tier, requests: list[str]) -> dict:
    """Return the cost of answers from Redis: the other worker has computed them."""
    load = {"requests": len(requests)}
    for text in requests:
        assert tier.ask({"text": text}, tier.ports.api).status_code == 200
    with costs(tier, load):
        sources = [tier.ask({"text": text}, tier.ports.api + 1).headers["X-Found"] for text in requests]
    assert sources.count("redis") > 0.9 * len(requests), sources
    return load


def restarts(tier: Tier, client: Client, bodies: list[str], rate: float) -> dict[str, dict]:
    """Replace each part, one after another, under a load. Return requests, failed, load (s) and seconds by kind."""
    results = {}
    for part in tqdm(tier.parts(), "restarts", leave=False):
        load: dict = {}
        asking = threading.Thread(target=lambda load=load: load.update(client.ask(tier.first, bodies, 32, 25, rate)))
        asking.start()
        time.sleep(2)
        took = tier.restart(part)
        asking.join()
        load["load"] = load["seconds"]
        kind = part.partition(":")[0]
        before = results.get(kind, {"requests": 0, "failed": 0, "load": 0.0, "seconds": 0.0})
        results[kind] = {name: before[name] + load[name] for name in ("requests", "failed", "load")}
        results[kind]["seconds"] = max(before["seconds"], took)
    return results


def cold(tier: Tier, text: str) -> float:
    """Stop workers and Tritons. Return the seconds from their start to the first computed answer."""
    tier.ctl("stop", "api:*", "triton:*")
    began = time.monotonic()
    threading.Thread(target=tier.ctl, args=("start", "triton:*", "api:*")).start()
    while tier.ask({"text": text}).status_code != 200:
        time.sleep(0.2)
    return time.monotonic() - began


def moved(tier: Tier, *words: str) -> float:
    """Run a command of the registry. Return the seconds until Envoy answers with another model."""
    before, began = tier.ask({"text": "which?"}).json()["model"], time.monotonic()
    assert tier.registry(*words).returncode == 0
    while tier.ask({"text": f"{time.time()}"}).json()["model"] == before:
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def triton(tier: Tier, port: int, **environment: str):
    """Start a separate Triton with other settings. Yield the name of its model."""
    environment = (
        os.environ
        | environment
        | {"SERVED": str(tier.home / "served.json"), "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    )
    command = [ROOT / ".venv-triton/bin/python", "-m", "deploy.scale.triton", str(port)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tier.wait(port, f"/v2/models/{tier.model}/ready", process)
        yield tier.model
    finally:
        process.terminate()
        process.wait(20)


async def infer(server: InferenceServerClient, model: str, batch: list[str]) -> float:
    """Return the milliseconds until Triton has answered a batch."""
    tensor = InferInput("text", [len(batch), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in batch], dtype=object))
    began = time.perf_counter()
    await server.infer(model, [tensor])
    return 1000 * (time.perf_counter() - began)


async def flood(port: int, model: str, requests: list[str], clients: int) -> dict:
    """Send texts from several clients, each without a pause. Return rate (texts a second) and p50 (ms)."""
    server, waiting, took = InferenceServerClient(f"127.0.0.1:{port + 10}"), iter(requests), []

    async def send() -> None:
        for text in waiting:
            took.append(await infer(server, model, [text]))

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(clients)))
    seconds = time.perf_counter() - began
    await server.close()
    return {"rate": len(requests) / seconds, "p50": statistics.median(took)}


async def by_batch(port: int, model: str, requests: list[str], calls: int) -> dict[str, float]:
    """Return the median milliseconds of a single batch by its size."""
    server, medians = InferenceServerClient(f"127.0.0.1:{port + 10}"), {}
    for size in tqdm(BATCHES, "batches", leave=False):
        took = [await infer(server, model, requests[i : i + size]) for i in range(calls)]
        medians[str(size)] = statistics.median(took)
    await server.close()
    return medians


def encoders(run: Path, calls: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds a text of each form on one thread: alone, and batched among 64."""
    requests, times = texts(run, 64 + calls, 3), {}
    models = {form: partial(open_form, run, form) for form in forms(run)}
    with suppress(WorkbookError):  # if it can be downloaded
        models["mpnet"] = partial(load_encoder, find("all-mpnet-base-v2"))
    for form, opened in tqdm(models.items(), "encoders", leave=False):
        model = opened().to("cpu")
        embed(model, requests[:64])  # warms up
        alone = statistics.median(seconds(embed, model, [text]) for text in requests[64:])
        batched = min(seconds(embed, model, requests[:64]) for _ in range(3))
        times[form] = {"alone": 1000 * alone, "batched": 1000 * batched / 64}
    return times


def searches(run: Path, calls: int) -> float:
    """Return the milliseconds of a worker's search and choice for a vector."""
    songs = open_run(run)
    queries = [songs.query(songs.read(text)) for text in texts(run, calls, 4)]
    return 1000 * statistics.median(seconds(songs.search, query) for query in queries)


@contextmanager
def static_worker(run: Path, folder: Path, port: int):
    """Start one worker that encodes requests itself with the run's static encoder."""
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
    environment = {
        "ENCODER": "local",
        "SERVED": str(folder / "served.json"),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "OMP_NUM_THREADS": "1",
    }
    with server(command, port, folder / "log", **environment):
        yield


def constant(port: int, duration: float) -> float:
    """Return the requests a second of /health, whose answer is constant."""
    command = ["wrk", "-t", "2", "-c", str(CLIENTS), "-d", f"{duration}s", f"http://127.0.0.1:{port}/health"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split("Requests/sec:")[1].split()[0])


def beside_a_plain_server(tier: Tier, client: Client, run: Path, sizes: Sizes, results: dict) -> Iterator[Row]:
    """Send the same requests to the tier and to a plain server, one after the other."""
    port, single = free_ports(), [texts(run, 1, 5)[0]]
    shared = texts(run, DISTINCT, 6)
    many = [shared[rank] for rank in zipf(200_000, 7)]
    plain = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "benchmarks"), "--log-level", "warning"]
    with server([*plain, "--port", str(port), "baseline:app"], port, client.folder / "log", RUN=str(run)):
        client.ask(port, single, 8, sizes.seconds)  # warms up
        results["plain"] = client.ask(port, many, 8, sizes.seconds)
    base = results["plain"]["rate"]
    baseline = f"{base:.0f}/s: plain server"
    for name, title, at, bar in (
        ("worker", "from a worker's own memory", tier.ports.api, "≥ 10 ×"),
        ("varnish", "from Varnish alone", tier.ports.varnish, "≥ 50 ×"),
        ("envoy", "through Envoy and Varnish", tier.first, ""),
    ):
        client.ask(at, single, CLIENTS, 2)
        hit = results[f"hit_{name}"] = loaded(tier, client, at, single, CLIENTS, sizes.seconds)
        yield Row(f"cached answer, {title}", f"{hit['rate']:,.0f}/s", baseline, hit["rate"] / base, bar=bar)
    client.ask(tier.first, many[100_000:], CLIENTS, 2 * sizes.seconds)  # fills the caches
    busy = results["zipf"] = loaded(tier, client, tier.first, many, CLIENTS, 2 * sizes.seconds)
    results["layers"] = layers(tier, client, many, sizes)
    mix = ", ".join(f"{share:.0%} {name}" for name, share in results["layers"].items() if name != "rate")
    yield Row("Zipf traffic, 64 clients", f"{busy['rate']:,.0f}/s ({mix})", baseline, busy["rate"] / base, bar="≥ 5 ×")
    calm = results["zipf_calm"] = client.ask(tier.first, many, 128, 2 * sizes.seconds, 0.7 * busy["rate"])
    yield Row(
        f"Zipf traffic at {calm['rate'] / busy['rate']:.0%} of that",
        f"p50 {calm['p50']:.1f} ms, p99 {calm['p99']:.0f} ms",
        bar="p99 ≤ 250 ms",
    )  # fmt: skip


def layers(tier: Tier, client: Client, many: list[str], sizes: Sizes) -> dict[str, float]:
    """Return the rate with warm caches, and the shares of the answers by source: the edge, and the workers' counts."""
    before = counts(tier)
    load = client.ask(tier.first, many[50_000:], CLIENTS, sizes.seconds)
    after = counts(tier)
    shares = {name: (after[name] - before.get(name, 0)) / load["requests"] for name in after}
    return {"rate": load["rate"], "edge": 1 - sum(shares.values())} | shares


def counts(tier: Tier) -> dict[str, float]:
    """Return the workers' answers by source since their start."""
    metrics = tier.http.get(f"http://127.0.0.1:{tier.ports.api}/metrics").text
    pairs = re.findall(r'recommend_answers_total\{found="(\w+)"\} (\S+)', metrics)
    return {source: float(value) for source, value in pairs}


def typical(rounds: list[dict]) -> dict:
    """Return the medians of a load that was measured several times; `span` holds the least and the most latencies."""
    load = {name: statistics.median(each[name] for each in rounds) for name in ("rate", "p50", "p90", "p99")}
    load["cpu"] = {kind: statistics.median(each["cpu"][kind] for each in rounds) for kind in KINDS}
    spans = {name: [each[name] for each in rounds] for name in ("p50", "p99")}
    return load | {"span": {name: [min(values), max(values)] for name, values in spans.items()}}


def of_parts(tier: Tier, client: Client, run: Path, sizes: Sizes, results: dict) -> Iterator[Row]:
    """Measure uncached requests: the saturating rate, the cost of each part, latencies at lower loads."""
    results["redis"] = from_redis(tier, texts(run, sizes.single, 8))
    saturating, *fresh = np.array_split(np.array(texts(run, 100_000, 9)), 1 + ROUNDS * len(LOADS))
    busy = results["uncached"] = loaded(tier, client, tier.first, list(saturating), CLIENTS, sizes.seconds)
    yield Row("uncached, 64 clients", f"{busy['rate']:.0f}/s, {busy['failed']} of {busy['requests']:,} refused")
    cpu = ", ".join(f"{kind} {ms:.2f}" for kind, ms in busy["cpu"].items())
    yield Row("uncached, 64 clients: processor time a request, ms", cpu)
    rounds: dict[float, list[dict]] = {share: [] for share in LOADS}
    for share, requests in zip(tqdm(LOADS * ROUNDS, "loads", leave=False), fresh, strict=True):
        rate = share * busy["rate"]
        rounds[share].append(loaded(tier, client, tier.first, list(requests), 128, 3 * sizes.seconds, rate))
    results["loads"] = [typical(loads) for loads in rounds.values()]
    for load in results["loads"]:
        span = [f"{name} {load[name]:.1f} ({least:.1f} to {most:.1f})" for name, (least, most) in load["span"].items()]
        yield Row(f"uncached, {load['rate']:.0f}/s", f"{', '.join(span)} ms")
    results["memory"] = memory(tier)
    yield Row("memory of a process, GiB", ", ".join(f"{kind} {size:.2f}" for kind, size in results["memory"].items()))


def of_the_encoder(tier: Tier, client: Client, run: Path, sizes: Sizes, results: dict) -> Iterator[Row]:
    """Measure Triton alone with each delay, and a worker with the static encoder."""
    requests, port = texts(run, 4 * sizes.single, 10), free_ports()
    one_by_one, *delays = [{"MOST": "1"}, *({"QUEUE_DELAY_US": str(delay)} for delay in DELAYS)]
    results["delays"] = {}
    with triton(tier, port, **one_by_one) as model:
        asyncio.run(flood(port, model, requests[: sizes.single], CLIENTS))
        single = results["one_by_one"] = asyncio.run(flood(port, model, requests[sizes.single :], CLIENTS))
    for setting, delay in zip(delays, DELAYS, strict=True):
        with triton(tier, port, **setting) as model:
            asyncio.run(flood(port, model, requests[: sizes.single], CLIENTS))
            flooded = asyncio.run(flood(port, model, requests[sizes.single :], CLIENTS))
            few = asyncio.run(flood(port, model, requests[: sizes.single], 4))
            results["delays"][str(delay)] = {"rate": flooded["rate"], "p50": flooded["p50"], "p50_of_4": few["p50"]}
            if delay == 0:
                results["batches"] = asyncio.run(by_batch(port, model, requests, sizes.calls))
        yield Row(
            f"Triton, 64 clients, {delay / 1000:g} ms to collect a batch",
            f"{flooded['rate']:.0f}/s; with 4 clients p50 {few['p50']:.1f} ms",
            f"{single['rate']:.0f}/s: one text at a time",
            flooded["rate"] / single["rate"],
            bar="≥ 2 ×",
        )
    if "static" in forms(run):
        fresh = texts(run, 100_000, 11)
        with static_worker(run, client.folder, port):
            client.ask(port, fresh[:10_000], CLIENTS, 2)
            results["static"] = client.ask(port, fresh[10_000:], CLIENTS, sizes.seconds)
            results["constant"] = constant(port, sizes.seconds)
        ours, ceiling = results["static"]["rate"], results["constant"]
        baseline = f"{ceiling:.0f}/s: the same server returns a constant"
        yield Row("static encoder in one worker, uncached", f"{ours:.0f}/s", baseline, ours / ceiling, bar="≥ 0.5 ×")


def of_changes(tier: Tier, client: Client, run: Path, sizes: Sizes, results: dict) -> Iterator[Row]:
    """Measure restarts of parts, a cold start, a promotion and a rollback under load."""
    shared = texts(run, DISTINCT, 6)
    many = [shared[rank] for rank in zipf(200_000, 12)]
    results["restarts"] = restarts(tier, client, many, results["zipf"]["rate"] / 2)
    for kind, load in results["restarts"].items():
        outcome = f"{load['failed']} of {load['requests']:,} failed; {load['seconds']:.0f} s"
        bar = "none" if kind in ("api", "triton") else "< 0.1 % in all"
        yield Row(f"restart of {kind} at half load", outcome, bar=bar)
    results["cold_start"] = cold(tier, f"cold {time.time()}")
    yield Row("workers and Tritons from nothing to the first answer", f"{results['cold_start']:.0f} s", bar="≤ 30 s")
    other = untuned(run, ROOT / "outputs/scale/untuned")
    results["promote"] = moved(tier, "promote", str(other))
    results["rollback"] = moved(tier, "rollback")
    times = f"{results['promote']:.1f} s; {results['rollback']:.1f} s"
    yield Row("promote; rollback, until Envoy answers with the model", times, bar="≤ 10 s each")


def measure(run: Path, quick: bool) -> Iterator[Row]:
    """Start a tier and measure all of it."""
    sizes = QUICK if quick else FULL
    results = {"machine": machine(), "commit": revision(), "cores": os.cpu_count(), "wait": WAIT}
    results["encoders"] = apart(encoders, run, sizes.calls, threads=1)
    results["search"] = apart(searches, run, sizes.calls, threads=1)
    results["tracks"] = len(pd.read_parquet(run / "tracks.parquet", columns=["id"]))
    home = ROOT / "outputs/scale/bench"
    first = free_ports()
    with tempfile.TemporaryDirectory() as name, started(run, home, first) as tier:
        folder = Path(name)
        client = Client(folder, tier)
        yield from beside_a_plain_server(tier, client, run, sizes, results)
        yield from of_parts(tier, client, run, sizes, results)
        yield from of_the_encoder(tier, client, run, sizes, results)
        yield from of_changes(tier, client, run, sizes, results)
    if not quick:
        write_json(RESULT, results)
