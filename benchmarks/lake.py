"""The rates from the log to the lake, and into the broker alone, on the parts that make scale starts.

PYTHONPATH=. python benchmarks/lake.py
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from measure import machine

from deploy.scale.events.parts import Load, Parts, line
from deploy.scale.events.store import Store, open_store
from lib.workbook.runner import revision


def broker(parts: Parts, seconds: float) -> None:
    """Print how many events a second the broker acknowledges to one producer, fsync included."""
    servers = {"bootstrap.servers": parts.env["BROKERS"]}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic("measured", 1, 1)])["measured"].result(30)
    producer = Producer({**servers, "acks": "all", "linger.ms": 100})
    failed, sent, began = [], 0, time.monotonic()
    while time.monotonic() - began < seconds:
        if len(producer) < 50_000:
            for _ in range(1000):
                producer.produce(
                    "measured", line(f"m-{sent}"), on_delivery=lambda error, _: error and failed.append(error)
                )
                sent += 1
        producer.poll(0.001)
    left = producer.flush(60)
    took = time.monotonic() - began
    print(
        f"broker alone: {sent - left - len(failed)} of {sent} in {took:.1f} s: {(sent - left) / took:,.0f}/s",
        flush=True,
    )


def ids(store: Store) -> list[str]:
    """Return the ids of all events in the lake."""
    return [name for info in store.parquet(store.events) for name in store.table(info.path, ["id"])["id"].to_pylist()]


def lake(parts: Parts, rate: int, seconds: float) -> None:
    """Print how long after the last line all events are in the lake, and how many."""
    load, store = Load(parts.log, rate, seconds, rotate=30), open_store(parts.env["LAKE"])
    load.start()
    load.join()
    last = time.monotonic()
    while len(found := ids(store)) < len(load.ids) and time.monotonic() - last < 300:
        time.sleep(1)
    took = time.monotonic() - last
    rate = len(load.ids) / seconds
    print(f"log to lake: {len(load.ids)} events written, {rate:,.0f}/s for {seconds:.0f} s", flush=True)
    print(f"in the lake: {len(found)} events, {len(set(found))} ids, {took:.0f} s after the last line", flush=True)


def main() -> None:
    """Measure, with the parts' own settings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rate", type=int, default=1000, help="events a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="of the load (default: %(default)s)")
    args = parser.parse_args()
    print(f"{machine()}, {revision()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder))
        os.environ |= {name: parts.env[name] for name in parts.env if name == "S3" or name.startswith("AWS_")}
        try:
            parts.start("objects", "broker")
            time.sleep(3)
            broker(parts, 20)
            parts.start("shipper", "lake")
            time.sleep(30)  # Spark starts
            lake(parts, args.rate, args.seconds)
        finally:
            parts.stop()


if __name__ == "__main__":
    main()
