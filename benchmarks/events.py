"""The cost of listeners' events at the door: for those who ask, and events a second. It needs make scale and wrk.

PYTHONPATH=. python benchmarks/events.py outputs/quick --door
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import httpx
from measure import machine
from tier import DISTINCT, Client, loaded, texts, zipf

from deploy.scale.client import Tier, free_ports, started
from lib.core.paths import resolve
from lib.workbook.runner import revision

ROUNDS, SECONDS, CLIENTS = 6, 10, 64
RATE = 80  # requests a second: two cores answer them without a queue, beside the client
EVENTS = 200  # events a second, in batches of BATCH
BATCH = 20
DOOR = ("redis", "mlflow", "triton", "api", "varnish", "shown", "envoy")  # parts that answer, and log


class Listeners(threading.Thread):
    """A client that posts events at a constant rate, until `stop` is set."""

    def __init__(self, tier: Tier):
        super().__init__(daemon=True)
        self.tier, self.stop, self.statuses = tier, threading.Event(), []

    def run(self) -> None:
        began, url = time.monotonic(), f"http://127.0.0.1:{self.tier.first}/events"
        track = self.tier.ask({"text": "calm"}).json()["tracks"][0]["id"]
        with httpx.Client(timeout=10, headers=self.tier.headers()) as http:
            for n in count(1):
                self.statuses.append(http.post(url, json=batch(track, BATCH, f"{began}-{n}")).status_code)
                if self.stop.wait(max(0, began + n * BATCH / EVENTS - time.monotonic())):
                    break


def batch(track: str, size: int, name: str) -> dict:
    """Return a body of events."""
    at = datetime.now(UTC).isoformat()
    event = {"kind": "played", "track": track, "request": "b54d7e6c-3f5c-4b9a-8f0e-2d6d0b6f0a11", "at": at}
    return {"events": [event | {"id": f"{name}-{i}", "session": f"s{i}"} for i in range(size)]}


def answers(run: Path, folder: Path, with_events: Tier, without: Tier) -> None:
    """Print the latencies of answers in rounds, with and without events, in turn; then the ratios."""
    shared, ratios = texts(run, DISTINCT, 6), {"p50": [], "p90": [], "p99": [], "cpu": []}
    for n in range(ROUNDS + 1):  # the first one warms up
        loads = {}
        for tier in (with_events, without) if n % 2 else (without, with_events):
            listeners = Listeners(tier)
            if tier is with_events:
                listeners.start()
            bodies = [shared[rank] for rank in zipf(20_000, n)]
            loads[tier is with_events] = load = loaded(
                tier, Client(folder, tier), tier.first, bodies, CLIENTS, SECONDS, RATE
            )
            load["cpu"] = sum(load["cpu"].values())
            listeners.stop.set()
            name = f"{'with' if tier is with_events else 'without'} events, round {n}"
            posted = BATCH * listeners.statuses.count(202) / SECONDS
            print(f"{name}: {load['rate']:.0f}/s, {load['failed']} failed, p50 {load['p50']:.2f} ms, "
                  f"p90 {load['p90']:.1f} ms, p99 {load['p99']:.1f} ms, {load['cpu']:.2f} ms of CPU a request; "
                  f"{posted:.0f} events/s", flush=True)  # fmt: skip
        if n:
            [ratios[name].append(loads[True][name] / loads[False][name]) for name in ratios]
    for name, values in ratios.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name} with events over without: {statistics.median(values):.2f} (rounds: {each})")


def acknowledged(tier: Tier, folder: Path) -> None:
    """Print the events a second that one worker acknowledges, by the size of the batches."""
    track = tier.ask({"text": "calm"}).json()["tracks"][0]["id"]
    for size in (1, 20, 300):
        body = folder / "body.json"
        body.write_text(json.dumps(batch(track, size, "same")))
        load = ["h2load", "--h1", "-c", "32", "-D", "5", "-d", body, "-H", "Content-Type: application/json"]
        output = subprocess.run([*load, f"http://127.0.0.1:{tier.ports.api}/events"], capture_output=True, text=True)
        rate = float(re.search(r"([\d.]+) req/s", output.stdout)[1])
        good, *others = (int(re.search(rf"(\d+) {code}", output.stdout)[1]) for code in ("2xx", "4xx", "5xx"))
        print(f"a worker, batches of {size}: {size * rate:,.0f} events/s ({good} bodies taken, {sum(others)} refused)")


def main() -> None:
    """Start two tiers, with and without events, and measure. Parts after the log are stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick")
    parser.add_argument("--door", action="store_true", required=True, help="the only part so far")
    run = resolve(parser.parse_args().run)
    print(f"{machine()}; commit {revision()}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tiers = [
            stack.enter_context(started(run, folder / name, free_ports(), *options))
            for name, options in (("with", []), ("without", ["--no-events"]))
        ]
        tiers[0].ctl("stop", *(part for part in tiers[0].parts() if part.partition(":")[0] not in DOOR))
        answers(run, folder, *tiers)
        acknowledged(tiers[0], folder)


if __name__ == "__main__":
    main()
