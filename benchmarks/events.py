"""The cost of listeners' events at the door: for those who ask, and events a second. It needs make scale and wrk.

PYTHONPATH=. python benchmarks/events.py outputs/quick --door
"""

import argparse
import json
import re
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import accumulate, count, islice
from pathlib import Path
from random import Random

import httpx
import numpy as np
from measure import machine
from tier import DISTINCT, texts, zipf

from deploy.scale.client import Tier, free_ports, started
from lib.core.paths import resolve
from lib.workbook.runner import revision

# A block has a slot of so many seconds with events and two without, in random order: what else runs on the machine
# disturbs all alike. The second one without shows what chance alone does.
# An arm's texts end in a letter, else the second slot without events would find all answers in the caches.
SLOT, ARMS = 2.0, {"with": " x", "without": " y", "again": " z"}
RATE = 50  # requests a second: two cores answer them without a queue, beside the client
DRAWS = 2000  # of the bootstrap
EVENTS = 200  # events a second, in batches of BATCH
BATCH = 20
DOOR = ("redis", "mlflow", "triton", "api", "varnish", "shown", "envoy", "features")  # parts that answer, and log


class Listeners(threading.Thread):
    """A client that posts events at a constant rate, until `stop` is set."""

    def __init__(self, tier: Tier, http: httpx.Client, track: str):
        super().__init__(daemon=True)
        self.url, self.http, self.track = f"http://127.0.0.1:{tier.first}/events", http, track
        self.stop, self.taken = threading.Event(), 0

    def run(self) -> None:
        began = time.monotonic()
        for n in count(1):
            answer = self.http.post(self.url, json=batch(self.track, BATCH, f"{began}-{n}"))
            self.taken += answer.json().get("accepted", 0)
            if self.stop.wait(max(0, began + n * BATCH / EVENTS - time.monotonic())):
                break


def batch(track: str, size: int, name: str) -> dict:
    """Return a body of events."""
    at = datetime.now(UTC).isoformat()
    event = {"kind": "played", "track": track, "request": "b54d7e6c-3f5c-4b9a-8f0e-2d6d0b6f0a11", "at": at}
    return {"events": [event | {"id": f"{name}-{i}", "session": f"s{i}"} for i in range(size)]}


def ask(tier: Tier, http: httpx.Client, bodies: list[str], rng: Random) -> list[float]:
    """Send requests for a slot, at random moments. Return the latencies (ms) from then on; a failure counts 10 s."""
    began, url = time.monotonic(), f"http://127.0.0.1:{tier.first}/recommend"

    def send(text: str, moment: float) -> float:
        time.sleep(max(0, began + moment - time.monotonic()))
        status = http.post(url, json={"text": text}).status_code
        return 1000 * (time.monotonic() - began - moment) if status == 200 else 10_000

    with ThreadPoolExecutor(32) as clients:
        return [*clients.map(send, bodies, accumulate(rng.expovariate(RATE) for _ in bodies))]


def answers(run: Path, with_events: Tier, without: Tier, blocks: int) -> dict:
    """Print what events do to the latencies of answers, beside what chance does. Return it, for events.json."""
    shared, rng, size = texts(run, DISTINCT, 6), Random(7), int(RATE * SLOT)
    ranks = iter(zipf((blocks + 2) * size, 7))
    track = with_events.ask({"text": "calm"}).json()["tracks"][0]["id"]
    clients = {tier.first: httpx.Client(timeout=10, headers=tier.headers()) for tier in (with_events, without)}
    took: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    events = 0
    for block in range(-2, blocks):  # the first two warm up
        bodies = [shared[rank] for rank in islice(ranks, size)]
        for arm in rng.sample([*ARMS], 3):
            tier = with_events if arm == "with" else without
            listeners = Listeners(tier, clients[tier.first], track)
            if arm == "with":
                listeners.start()
            values = ask(tier, clients[tier.first], [text + ARMS[arm] for text in bodies], rng)
            listeners.stop.set()
            if block >= 0:
                took[arm].append(values)
                events += listeners.taken
    print(f"{blocks * size} requests an arm, {RATE} a second; {events / blocks / SLOT:.0f} events a second; failed: "
          + ", ".join(f"{arm} {sum(values.count(10_000) for values in took[arm])}" for arm in ARMS))  # fmt: skip
    return compare({arm: np.array(values) for arm, values in took.items()})


def compare(took: dict[str, np.ndarray]) -> dict:
    """Print the ratios of percentiles with 95 % intervals, by a bootstrap over blocks. `took`: (blocks, requests)."""
    draws = np.random.default_rng(7).integers(0, len(took["with"]), (DRAWS, len(took["with"])))
    result = {}
    for p in (50, 90, 99):
        every = {arm: [np.percentile(took[arm][rows], p) for rows in draws] for arm in ARMS}
        for name, over, under in (("events", "with", "without"), ("chance", "again", "without")):
            low, high = np.percentile(np.divide(every[over], every[under]), [2.5, 97.5])
            ms = [float(np.percentile(took[arm], p)) for arm in (over, under)]
            result[f"p{p} {name}"] = [round(float(value), 3) for value in (ms[0] / ms[1], low, high)]
            print(
                f"p{p}, {name}: {ms[0]:.1f} / {ms[1]:.1f} ms = {ms[0] / ms[1]:.3f} [{low:.3f}, {high:.3f}]", flush=True
            )
    return result


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
    parser.add_argument("--blocks", type=int, default=60, help="of six seconds (default: %(default)s)")
    args = parser.parse_args()
    run = resolve(args.run)
    print(f"{machine()}; commit {revision()}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tiers = [
            stack.enter_context(started(run, folder / name, free_ports(), *options))
            for name, options in (("with", []), ("without", ["--no-events"]))
        ]
        tiers[0].ctl("stop", *(part for part in tiers[0].parts() if part.partition(":")[0] not in DOOR))
        answers(run, *tiers, args.blocks)
        acknowledged(tiers[0], folder)


if __name__ == "__main__":
    main()
