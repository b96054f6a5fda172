"""The log and the lake without the rest of the tier, on free ports: for tests and measurements."""

import json
import os
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

from deploy.scale.client import free_ports, ports
from deploy.scale.events.settings import command, settings, write_shipper
from lib.core.paths import ROOT
from lib.core.processes import end_with_parent


class Parts:
    """The running parts: objects, broker, shipper, lake, features. Their files are in `home`."""

    def __init__(self, home: Path, **own: str):
        self.home, self.ports = home, ports(free_ports())
        self.env = os.environ | settings(home, self.ports) | {"PYTHONPATH": str(ROOT)} | own
        self.log, self.running = Path(self.env["EVENTS"]), {}
        write_shipper(home, self.ports)

    def start(self, *parts: str) -> None:
        """Start parts, or start them again."""
        for part in parts:
            with (self.home / f"{part}.log").open("ab") as output:
                own = {"start_new_session": True, "preexec_fn": end_with_parent}
                own |= {"stdout": output, "stderr": subprocess.STDOUT, "env": self.env, "cwd": ROOT}
                self.running[part] = subprocess.Popen(command(part, self.home, self.ports), **own)

    def kill(self, part: str, sign: int = signal.SIGKILL) -> None:
        """Kill a part with all processes that it started."""
        process = self.running.pop(part)
        os.killpg(process.pid, sign)
        process.wait(30)

    def stop(self) -> None:
        """End all parts."""
        for part in reversed(list(self.running)):
            self.kill(part, signal.SIGKILL if part == "lake" else signal.SIGTERM)


class Load(threading.Thread):
    """A writer of the log, as a worker writes it: so many events a second, into a new file every few seconds."""

    def __init__(self, folder: Path, rate: int, seconds: float, rotate: float = 3.0):
        super().__init__(daemon=True)
        self.folder, self.rate, self.seconds, self.rotate = folder, rate, seconds, rotate
        self.ids: list[str] = []
        self.name = uuid4().hex[:8]

    def run(self) -> None:
        began, numbers = time.monotonic(), count()
        file, opened = None, -self.rotate
        while (passed := time.monotonic() - began) < self.seconds:
            if passed - opened >= self.rotate:
                file, opened = (self.folder / f"{time.time_ns()}-{self.name}.jsonl").open("ab", 0), passed
            due = int(passed * self.rate) - len(self.ids)
            ids = [f"{self.name}-{next(numbers)}" for _ in range(due)]
            file.write(b"".join(line(each) for each in ids))
            self.ids += ids
            time.sleep(0.05)


def line(name: str, **values) -> bytes:
    """Return a line of the log, of the present moment."""
    now = datetime.now(UTC).isoformat()
    event = {"id": name, "kind": "played", "track": "trk_00042", "request": "b54d7e6c-3f5c-4b9a-8f0e-2d6d0b6f0a11"}
    return json.dumps(event | {"session": f"s{hash(name) % 997}", "at": now, "received": now} | values).encode() + b"\n"
