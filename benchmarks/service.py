"""The service beside a plain FastAPI server, with wrk as the client of both; then faults, memory, and its contract."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
from measure import Growth, Row, apart
from tqdm import tqdm

from lib.core.errors import WorkbookError
from lib.core.paths import ROOT
from lib.core.processes import KERNELS, threads
from lib.search.recommender import open_run
from lib.serve import contract as api


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        rounds, seconds: pairs that are measured one after the other, and how long each.
        clients: how many ask at once.
        many: requests in which memory may grow and kernels die.
        every: of these, how many between two kills.
    """

    rounds: int
    seconds: int
    clients: tuple[int, ...]
    many: int
    every: int


FULL, QUICK = Sizes(5, 6, (1, 2, 4, 8, 16, 32, 64), 20_000, 500), Sizes(1, 1, (1, 8), 200, 150)
AT_ONCE = 16  # clients while kernels die
COMPARED = 8  # clients for which the plain server is to be beaten
START = 120  # seconds in which a server must answer
TOKEN = {"Authorization": "Bearer bench"}
LUA = """
local file, bodies, thread_id, sent = io.open(os.getenv("BODIES")), {}, 0, 0
for line in file:lines() do bodies[#bodies + 1] = line end
function setup(thread) thread:set("offset", thread_id); thread_id = thread_id + 1 end
function request()
  sent = sent + 1
  local body = bodies[(2 * sent + offset) % #bodies + 1]
  return wrk.format("POST", "/recommend", {["Content-Type"] = "application/json"}, body)
end
"""


def bodies(run: Path) -> list[str]:
    """Requests that training never saw, each another text."""
    requests = pd.read_parquet(run / "requests.parquet")
    texts = requests.loc[requests["split"] == "test", "text"].drop_duplicates()
    return [json.dumps({"text": text}) for text in texts.sample(frac=1, random_state=7)]


def in_process(run: Path, n: int) -> float:
    """Milliseconds that encoding and searching take in a process like a kernel's, without any server."""
    songs, took = open_run(run), []
    for body in bodies(run)[:n]:
        started = time.perf_counter()
        api.recommend(songs, json.dumps({"body": body}))
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took[n // 8 :])


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: list[str], port: int, log: Path, **environment: str):
    """A server in a process of its own, once it answers; stopped in the end."""
    with log.open("w") as out:
        process = psutil.Popen(command, stdout=out, stderr=out, env=os.environ | environment)
    ends = time.monotonic() + START
    try:
        while (status := post(port, json.dumps({"text": "ready?"}))) != 200:
            if process.poll() is not None or time.monotonic() > ends:
                raise WorkbookError(f"a server did not start; its last answer: {status}; its log:\n{log.read_text()}")
            time.sleep(0.5)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def post(port: int, body: str, timeout: float = 30) -> int:
    """Ask once. -> the status; 0 where there is none."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
            connection.request("POST", "/recommend", body, {"Content-Type": "application/json"} | TOKEN)
            answer = connection.getresponse()
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0


def wrk(port: int, clients: int, script: Path, duration: int) -> tuple[float, float]:
    """-> requests a second, and half the requests' milliseconds. wrk's own words where an answer was not a 200."""
    command = [
        "wrk",
        "-t",
        str(min(2, clients)),
        "-c",
        str(clients),
        "-d",
        f"{duration}s",
        "--latency",
        "--timeout",
        "10s",
    ]
    said = subprocess.run(
        [*command, "-s", script, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True
    )
    assert "Non-2xx" not in said.stdout and "Socket errors" not in said.stdout, said.stdout
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", said.stdout).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said.stdout)[1])
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def memory(process: psutil.Process) -> float:
    """GiB that a process and its children hold, what they share counted once."""
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_full_info().pss for member in family) / 2**30


def latency(port: int, run: Path, script: Path, sizes: Sizes) -> tuple[Row, float]:
    """What the gateway adds to encode and search, one client asking; and what these take alone, in milliseconds."""
    added, alone = [], []
    for _ in range(sizes.rounds):
        alone.append(apart(in_process, run, min(400, sizes.many), threads=threads()))
        added.append(wrk(port, 1, script, sizes.seconds)[1] - alone[-1])
    base = statistics.median(alone)
    ours = f"+{statistics.median(added):.1f} ms"
    return Row("1 client: p50 over encode and search", ours, f"{base:.2g} ms: in process", bar="≤ +10 ms"), base


def asked(clients: int) -> str:
    """What a row of requests a second is called."""
    return f"{clients} client{'s' * (clients > 1)}: requests a second"


def processes(gateway: int, baseline: int, script: Path, sizes: Sizes) -> Row:
    """The same beside the plain server as one who has measured would start it: a process of one thread a core."""
    pairs = []
    for nth in range(sizes.rounds + 1):
        order = (gateway, baseline)[:: (-1) ** nth]
        found = {port: wrk(port, COMPARED, script, sizes.seconds)[0] for port in order}
        pairs.append([found[gateway], found[baseline]])
    pairs = np.array(pairs[1:])  # the first warms up
    ours, theirs = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    return Row(asked(COMPARED), f"{ours:.0f}/s", f"{theirs:.0f}/s: plain server, {KERNELS} processes", ratio)


def throughput(gateway: int, baseline: int, script: Path, sizes: Sizes, alone: float) -> Iterator[Row | Growth]:
    """Requests a second of both and half of them's milliseconds, in turn, by the number of clients."""
    costs = {name: {} for name in ("ours: requests a second", "plain server: requests a second")}
    costs |= {"ours: p50, ms": {}, "plain server: p50, ms": {}}
    at_most = 1000 * min(KERNELS, os.cpu_count() or 1) / alone
    for clients in tqdm(sizes.clients, "clients", leave=False):
        wrk(baseline, clients, script, sizes.seconds)  # ours has answered many already
        pairs = []
        for nth in range(sizes.rounds):
            order = (gateway, baseline)[:: (-1) ** nth]
            found = {port: wrk(port, clients, script, sizes.seconds) for port in order}
            pairs.append([found[gateway], found[baseline]])
        (ours, own), (theirs, other) = np.median(pairs, axis=0)
        for values, value in zip(costs.values(), (ours, theirs, own, other), strict=True):
            values[clients] = float(value)
        yield Row(
            asked(clients),
            f"{ours:.0f}/s, p50 {own:.0f} ms",
            f"{theirs:.0f}/s, p50 {other:.0f} ms: plain server",
            statistics.median(a[0] / b[0] for a, b in pairs),
            f"{ours / at_most:.0%} of {KERNELS} kernels without a gateway",
            "1.5 ×; reach for 2.5 ×" if clients == COMPARED else "",
        )
    yield from (Growth(name, "clients", values) for name, values in costs.items())


def ask_many(port: int, texts: list[str], n: int, sizes: Sizes, every: Callable[[], None] = lambda: None) -> Counter:
    """Ask `n` times with `AT_ONCE` clients, and do something else every so often. -> the statuses, how often each."""
    lock, turn, statuses = (
        threading.Lock(),
        iter(tqdm(range(1, n + 1), "requests", mininterval=1, leave=False)),
        Counter(),
    )

    def client() -> None:
        while True:
            with lock:
                if (i := next(turn, None)) is None:
                    return
                if i % sizes.every == 0:
                    every()
            status = post(port, texts[i % len(texts)], timeout=10)
            with lock:
                statuses[status or "no answer"] += 1

    clients = [threading.Thread(target=client) for _ in range(AT_ONCE)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return statuses


def held(process: psutil.Process, gateway: int, texts: list[str], sizes: Sizes) -> Row:
    """Memory after many requests, over memory after few."""
    after = []
    for n in (sizes.every, sizes.many - sizes.every):
        statuses = ask_many(gateway, texts, n, sizes)
        assert set(statuses) == {200}, statuses
        after.append(memory(process))
    what = f"memory after {sizes.many:,} requests over memory after {sizes.every}"
    return Row(what, f"{after[1] / after[0]:.3f} ({after[1]:.2f} GiB)", f"{after[0]:.2f} GiB", bar="≤ 1.05")


def faults(process: psutil.Process, gateway: int, log: Path, texts: list[str], sizes: Sizes) -> Row:
    """Clients that ask while kernels are killed, and what becomes of their requests."""
    killed = []
    statuses = ask_many(gateway, texts, sizes.many, sizes, lambda: killed.append(kill_one(process)))
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    lost = sum(
        line["requests"] for line in lines if line["event"] == "a kernel was lost" and "within" not in line["why"]
    )
    counts = ", ".join(f"{times:,} × {status}" for status, times in statuses.items())
    value = f"{counts}; {lost} were on a kernel when it was killed ({sum(killed)} of them)"
    what = f"{sizes.many:,} requests, {AT_ONCE} clients, a kernel killed every {sizes.every}"
    return Row(what, value, bar="a 503 for those, 0 hung")


def kill_one(process: psutil.Process) -> bool:
    """Kill the kernel that has served longest, if there is any."""
    kernels = [kernel for child in process.children() for kernel in child.children()]  # forked by one child
    if kernels:
        min(kernels, key=psutil.Process.create_time).kill()
    return bool(kernels)


def contract(port: int, run: Path, scratch: Path) -> Row:
    """Schemathesis against openapi.json, every check, with a token."""
    environment = {"SCHEMATHESIS_HOOKS": str(ROOT / "tests/contract.py"), "TRACKS": str(run / "tracks.parquet")}
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json"]
    options = ["--checks", "all", "--max-examples", "5000", "--workers", "2", "--no-color"]
    options += ["-H", f"Authorization: {TOKEN['Authorization']}"]
    print("schemathesis, about four minutes …", file=sys.stderr)
    ran = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=os.environ | environment, cwd=scratch
    )
    cases = re.search(r"(\d+) generated, .+", ran.stdout)
    if ran.returncode:
        print(ran.stdout, ran.stderr, file=sys.stderr)
    said = "failed: see above" if ran.returncode else cases[0]
    return Row("schemathesis, all checks", said, bar="≥ 5,000 cases, 0 failures")


def measure(run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Both servers, on ports of their own; the contract is left out of the quick form (a test has it)."""
    sizes = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        scratch, texts = Path(folder), apart(bodies, run)
        script = scratch / "wrk.lua"
        script.write_text(LUA)
        (scratch / "bodies").write_text("\n".join(texts))
        os.environ["BODIES"] = str(scratch / "bodies")
        ours, theirs, several, strict = (free_port() for _ in range(4))
        gateway = [sys.executable, "-m", "lib.serve.gateway", "--run", str(run), "--kernels", str(KERNELS), "--port"]
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "benchmarks"), "--log-level", "warning"]
        log = scratch / "gateway.log"
        with server([*gateway, str(ours)], ours, log, KG_AUTH_TOKEN="") as process:
            yield held(process, ours, texts, sizes)  # first: later, all that grows has grown
            with server([*uvicorn, "--port", str(theirs), "baseline:app"], theirs, scratch / "log", RUN=str(run)):
                first, alone = latency(ours, run, script, sizes)
                yield first
                yield from throughput(ours, theirs, script, sizes, alone)
            more = [*uvicorn, "--workers", str(KERNELS), "--port", str(several), "baseline:app"]
            with server(more, several, scratch / "log", RUN=str(run), OMP_NUM_THREADS=str(threads())):
                yield processes(ours, several, script, sizes)
            yield faults(process, ours, log, texts, sizes)
        if not quick:
            with server([*gateway, str(strict)], strict, scratch / "strict.log", KG_AUTH_TOKEN="bench"):
                yield contract(strict, run, scratch)
