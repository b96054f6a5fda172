"""The service and a plain FastAPI server, both with wrk as their client; then memory, faults and the contract."""

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
    """The size of the measurements.

    Attributes:
        rounds, seconds: pairs of measurements, and the duration of each.
        clients: numbers of clients at the same time.
        many: requests during which memory may grow and kernels die.
        every: requests between two kills.
    """

    rounds: int
    seconds: int
    clients: tuple[int, ...]
    many: int
    every: int


FULL, QUICK = Sizes(5, 6, (1, 2, 4, 8, 16, 32, 64), 20_000, 500), Sizes(1, 1, (1, 8), 200, 150)
FAULT_CLIENTS = 16  # clients while kernels die
COMPARED = 8  # clients in the comparison with a bar
START = 120  # seconds until a server must answer
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
    """Return the bodies of requests that training never saw. Each has another text."""
    requests = pd.read_parquet(run / "requests.parquet")
    texts = requests.loc[requests["split"] == "test", "text"].drop_duplicates()
    return [json.dumps({"text": text}) for text in texts.sample(frac=1, random_state=7)]


def in_process(run: Path, n: int) -> float:
    """Return the median milliseconds of an answer in this process, without a server."""
    songs, took = open_run(run), []
    for body in bodies(run)[:n]:
        started = time.perf_counter()
        api.recommend(songs, json.dumps({"body": body}))
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took[n // 8 :])


def free_port() -> int:
    """Return a port that no process listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: list[str], port: int, log: Path, **environment: str):
    """Start a server, wait until it answers, and stop it after the block."""
    with log.open("w") as out:
        process = psutil.Popen(command, stdout=out, stderr=out, env=os.environ | environment)
    ends = time.monotonic() + START
    try:
        while (status := post(port, json.dumps({"text": "ready?"}))) != 200:
            if process.poll() is not None or time.monotonic() > ends:
                raise WorkbookError(f"a server did not start. Its last status: {status}. Its log:\n{log.read_text()}")
            time.sleep(0.5)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def post(port: int, body: str, timeout: float = 30) -> int:
    """Send a request. -> the status; 0 without an answer."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
            connection.request("POST", "/recommend", body, {"Content-Type": "application/json"} | TOKEN)
            answer = connection.getresponse()
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0


def wrk(port: int, clients: int, script: Path, duration: int) -> tuple[float, float]:
    """Return requests a second and the median milliseconds. Show wrk's output if an answer was not a 200."""
    options = {"-t": min(2, clients), "-c": clients, "-d": f"{duration}s", "--timeout": "10s", "-s": script}
    command = ["wrk", "--latency", *(str(part) for option in options.items() for part in option)]
    out = subprocess.run([*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    value, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def memory(process: psutil.Process) -> float:
    """Return the memory of a process and its children in GiB. Shared memory counts once."""
    family = [process, *process.children(recursive=True)]
    return sum(member.memory_full_info().pss for member in family) / 2**30


def latency(port: int, run: Path, script: Path, sizes: Sizes) -> tuple[Row, float]:
    """Measure the milliseconds that the gateway adds for one client. -> a row, and the milliseconds without it."""
    added, alone = [], []
    for _ in range(sizes.rounds):
        alone.append(apart(in_process, run, min(400, sizes.many), threads=threads()))
        added.append(wrk(port, 1, script, sizes.seconds)[1] - alone[-1])
    base = statistics.median(alone)
    ours = f"+{statistics.median(added):.1f} ms"
    return Row("1 client: p50 over encode and search", ours, f"{base:.2g} ms: in process", bar="≤ +10 ms"), base


def rate_of(clients: int) -> str:
    """Return the name of a row of requests a second."""
    return f"{clients} client{'s' * (clients > 1)}: requests a second"


def processes(gateway: int, baseline: int, script: Path, sizes: Sizes) -> Row:
    """Compare with the plain server at its best: one process with one thread for each core."""
    pairs = []
    for nth in range(sizes.rounds + 1):
        order = (gateway, baseline)[:: (-1) ** nth]
        rates = {port: wrk(port, COMPARED, script, sizes.seconds)[0] for port in order}
        pairs.append([rates[gateway], rates[baseline]])
    pairs = np.array(pairs[1:])  # the first warms up
    ours, theirs = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    return Row(rate_of(COMPARED), f"{ours:.0f}/s", f"{theirs:.0f}/s: plain server, {KERNELS} processes", ratio)


def throughput(gateway: int, baseline: int, script: Path, sizes: Sizes, alone: float) -> Iterator[Row | Growth]:
    """Measure requests a second and median milliseconds of both servers, in turn, by the number of clients."""
    costs = {name: {} for name in ("ours: requests a second", "plain server: requests a second")}
    costs |= {"ours: p50, ms": {}, "plain server: p50, ms": {}}
    at_most = 1000 * min(KERNELS, os.cpu_count() or 1) / alone
    for clients in tqdm(sizes.clients, "clients", leave=False):
        wrk(baseline, clients, script, sizes.seconds)  # a warm-up; our service has answered many requests already
        pairs = []
        for nth in range(sizes.rounds):
            order = (gateway, baseline)[:: (-1) ** nth]
            rates = {port: wrk(port, clients, script, sizes.seconds) for port in order}
            pairs.append([rates[gateway], rates[baseline]])
        (ours, own), (theirs, other) = np.median(pairs, axis=0)
        for values, value in zip(costs.values(), (ours, theirs, own, other), strict=True):
            values[clients] = float(value)
        yield Row(
            rate_of(clients),
            f"{ours:.0f}/s, p50 {own:.0f} ms",
            f"{theirs:.0f}/s, p50 {other:.0f} ms: plain server",
            statistics.median(a[0] / b[0] for a, b in pairs),
            f"{ours / at_most:.0%} of {KERNELS} kernels without a gateway",
            "1.5 ×; reach for 2.5 ×" if clients == COMPARED else "",
        )
    yield from (Growth(name, "clients", values) for name, values in costs.items())


def ask_many(port: int, texts: list[str], n: int, sizes: Sizes, every: Callable[[], None] = lambda: None) -> Counter:
    """Send `n` requests from `FAULT_CLIENTS` clients; call `every` now and then. -> how often each status came."""
    lock, statuses = threading.Lock(), Counter()
    turn = iter(tqdm(range(1, n + 1), "requests", mininterval=1, leave=False))

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

    clients = [threading.Thread(target=client) for _ in range(FAULT_CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return statuses


def memory_growth(process: psutil.Process, gateway: int, texts: list[str], sizes: Sizes) -> Row:
    """Compare the memory after many requests with the memory after a few."""
    after = []
    for n in (sizes.every, sizes.many - sizes.every):
        statuses = ask_many(gateway, texts, n, sizes)
        assert set(statuses) == {200}, statuses
        after.append(memory(process))
    name = f"memory after {sizes.many:,} requests over memory after {sizes.every}"
    return Row(name, f"{after[1] / after[0]:.3f} ({after[1]:.2f} GiB)", f"{after[0]:.2f} GiB", bar="≤ 1.05")


def faults(process: psutil.Process, gateway: int, log: Path, texts: list[str], sizes: Sizes) -> Row:
    """Count the statuses of requests while kernels are killed."""
    killed = []
    statuses = ask_many(gateway, texts, sizes.many, sizes, lambda: killed.append(kill_one(process)))
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    lost = sum(
        line["requests"] for line in lines if line["event"] == "a kernel was lost" and "within" not in line["why"]
    )
    counts = ", ".join(f"{times:,} × {status}" for status, times in statuses.items())
    value = f"{counts}; {lost} were with a kernel when it was killed ({sum(killed)} kernels)"
    name = f"{sizes.many:,} requests, {FAULT_CLIENTS} clients, a kernel killed every {sizes.every}"
    return Row(name, value, bar="a 503 for those, 0 hung")


def kill_one(process: psutil.Process) -> bool:
    """Kill the oldest kernel. -> True if there was one."""
    kernels = [kernel for child in process.children() for kernel in child.children()]  # the fork server's children
    if kernels:
        min(kernels, key=psutil.Process.create_time).kill()
    return bool(kernels)


def contract(port: int, run: Path, scratch: Path) -> Row:
    """Run all checks of Schemathesis against openapi.json, with a token."""
    hooks = ROOT / "tests/serve/schema_hooks.py"
    environment = {"SCHEMATHESIS_HOOKS": str(hooks), "TRACKS": str(run / "tracks.parquet")}
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
    result = "failed: see above" if ran.returncode else cases[0]
    return Row("schemathesis, all checks", result, bar="≥ 5,000 cases, 0 failures")


def measure(run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Measure both servers. The quick form leaves out the contract, which a test covers."""
    sizes = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        scratch, texts = Path(folder), apart(bodies, run)
        script = scratch / "wrk.lua"
        script.write_text(LUA)
        (scratch / "bodies").write_text("\n".join(texts))
        os.environ["BODIES"] = str(scratch / "bodies")
        ours, theirs, several, strict = (free_port() for _ in range(4))
        workbook = [sys.executable, "-m", "lib.workbook"]
        gateway = [*workbook, "serve", "--run", str(run), "--kernels", str(KERNELS), "--port"]
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "benchmarks"), "--log-level", "warning"]
        log = scratch / "gateway.log"
        with server([*gateway, str(ours)], ours, log, KG_AUTH_TOKEN="") as process:
            yield memory_growth(process, ours, texts, sizes)  # first, because memory grows at the beginning
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
