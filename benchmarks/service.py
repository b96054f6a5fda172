"""The service beside a plain FastAPI server, with wrk as the client of both; then faults, memory, and its contract.

python benchmarks/service.py [outputs/quick]        (part of make bench; needs wrk: apt-get install wrk)
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd
import psutil
import torch
from tqdm import tqdm

from lib import api
from lib.recommender import open_run
from lib.runs import ROOT, WorkbookError, need, resolve

ROUNDS, SECONDS = 5, 8  # pairs that are measured one after the other, and how long each
MANY, CLIENTS, EVERY = 20_000, 16, 500
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


def in_process(run: str) -> None:
    """Print the milliseconds that encoding and searching take in a process like a kernel's, without any server."""
    songs, took = open_run(Path(run)), []
    for body in bodies(Path(run))[:400]:
        started = time.perf_counter()
        api.recommend(songs, json.dumps({"body": body}))
        took.append(1000 * (time.perf_counter() - started))
    print(statistics.median(took[50:]))


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
    try:
        while post(port, json.dumps({"text": "ready?"})) != 200:
            if process.poll() is not None:
                sys.exit(f"error: a server did not start:\n{log.read_text()}")
            time.sleep(0.5)
        yield process
    finally:
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


def wrk(port: int, clients: int, script: Path, duration: str) -> tuple[float, float]:
    """-> requests a second, and half the requests' milliseconds. wrk's own words where an answer was not a 200."""
    command = ["wrk", "-t", str(min(2, clients)), "-c", str(clients), "-d", duration, "--latency", "--timeout", "10s"]
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


def latency(gateway: int, run: Path, script: Path) -> tuple[str, str, str]:
    """What the gateway adds to encode and search, one client asking."""
    added, alone = [], []
    bound = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)), "OPENBLAS_NUM_THREADS": "1"}
    for _ in tqdm(range(ROUNDS), "latency"):
        command = [sys.executable, __file__, "in-process", run]
        alone.append(float(subprocess.run(command, check=True, capture_output=True, env=os.environ | bound).stdout))
        added.append(wrk(gateway, 1, script, f"{SECONDS}s")[1] - alone[-1])
    value = f"+{statistics.median(added):.1f} ms over {statistics.median(alone):.1f} ms"
    return "1 client: p50 over encode + search in process", value, "≤ +10 ms"


def throughput(gateway: int, baseline: int, script: Path) -> tuple[str, str, str]:
    """Requests a second of both, in turn."""
    pairs = [
        (wrk(gateway, 8, script, f"{SECONDS}s")[0], wrk(baseline, 8, script, f"{SECONDS}s")[0])
        for _ in tqdm(range(ROUNDS), "throughput")
    ]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    value = f"{ratio:.1f} × ({ours:.0f}/s, baseline {theirs:.0f}/s)"
    return "8 clients: requests a second over the baseline's", value, "≥ 1.5 ×, reach for 2.5 ×"


def ask_many(port: int, texts: list[str], n: int, what: str, every: Callable[[], None] = lambda: None) -> Counter:
    """Ask `n` times with `CLIENTS` at once, and do something else every 500. -> the statuses, how often each."""
    lock, turn, statuses = threading.Lock(), iter(tqdm(range(1, n + 1), what, mininterval=1)), Counter()

    def client() -> None:
        while True:
            with lock:
                if (i := next(turn, None)) is None:
                    return
                if i % EVERY == 0:
                    every()
            status = post(port, texts[i % len(texts)], timeout=10)
            with lock:
                statuses[status or "no answer"] += 1

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return statuses


def growth(process: psutil.Process, gateway: int, texts: list[str]) -> tuple[str, str, str]:
    """Memory after many requests over memory after 500."""
    sizes = []
    for n in (EVERY, MANY - EVERY):
        ask_many(gateway, texts, n, "memory")
        sizes.append(memory(process))
    value = f"{sizes[1] / sizes[0]:.3f} ({sizes[0]:.2f} GiB, then {sizes[1]:.2f})"
    return f"memory after {MANY:,} requests over memory after {EVERY}", value, "≤ 1.05"


def faults(process: psutil.Process, gateway: int, log: Path, texts: list[str]) -> tuple[str, str, str]:
    """Clients that ask while kernels are killed, and what becomes of their requests."""
    killed = []
    statuses = ask_many(gateway, texts, MANY, "faults", lambda: killed.append(kill_one(process)))
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    lost = sum(line["requests"] for line in lines if line["event"] == "a kernel was lost")
    counts = ", ".join(f"{times:,} × {status}" for status, times in statuses.items())
    value = f"{counts}; {lost} requests were on the {sum(killed)} kernels that were killed"
    return f"{MANY:,} requests, {CLIENTS} clients, a kernel killed every {EVERY}", value, "a 503 for those, 0 hung"


def kill_one(process: psutil.Process) -> bool:
    """Kill the kernel that has served longest, if there is any."""
    kernels = [child for child in process.children() if "ipykernel_launcher" in " ".join(child.cmdline())]
    if kernels:
        min(kernels, key=psutil.Process.create_time).kill()
    return bool(kernels)


def contract(port: int, run: Path, scratch: Path) -> tuple[str, str, str]:
    """Schemathesis against openapi.json, every check, with a token."""
    environment = {"SCHEMATHESIS_HOOKS": str(ROOT / "tests/contract.py"), "TRACKS": str(run / "tracks.parquet")}
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json"]
    options = ["--checks", "all", "--max-examples", "5000", "--workers", "2", "--no-color"]
    options += ["-H", f"Authorization: {TOKEN['Authorization']}"]
    print("contract: schemathesis, about four minutes …", file=sys.stderr)
    ran = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=os.environ | environment, cwd=scratch
    )
    cases = re.search(r"(\d+) generated, .+", ran.stdout)
    said = cases[0] if ran.returncode == 0 else (ran.stdout + ran.stderr)[-1500:]
    return "schemathesis, all checks", said, "≥ 5,000 cases, 0 failures"


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="the run to serve (default: %(default)s)")
    run = resolve(parser.parse_args().run)
    try:
        need(run, "requests.parquet", "model", "index")
    except WorkbookError as error:
        sys.exit(f"error: {error}")
    if not shutil.which("wrk"):
        sys.exit("error: the client is wrk, which is not here: apt-get install wrk")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch, texts = Path(folder), bodies(run)
        script = scratch / "wrk.lua"
        script.write_text(LUA)
        (scratch / "bodies").write_text("\n".join(texts))
        os.environ["BODIES"] = str(scratch / "bodies")
        ours, theirs, strict = free_port(), free_port(), free_port()
        gateway = [sys.executable, "-m", "lib.gateway", "--run", str(run), "--port"]
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "benchmarks"), "--log-level", "warning"]
        log = scratch / "gateway.log"
        with server([*gateway, str(ours)], ours, log) as process:
            with server([*uvicorn, "--port", str(theirs), "baseline:app"], theirs, scratch / "log", RUN=str(run)):
                rows += [latency(ours, run, script), throughput(ours, theirs, script)]
            rows += [growth(process, ours, texts), faults(process, ours, log, texts)]
        with server([*gateway, str(strict)], strict, scratch / "strict.log", KG_AUTH_TOKEN="bench"):
            rows.append(contract(strict, run, scratch))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    for what, value, bar in rows:
        print(f"{what}\n    {value}    (bar: {bar})")


if __name__ == "__main__":
    in_process(sys.argv[2]) if sys.argv[1:2] == ["in-process"] else main()
