"""A client of a running tier: send requests, look at the parts, start a tier, replace parts one by one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import psutil
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.scale.registry import Version
from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import ROOT

ISSUER, AUDIENCE = "music-recommender", "listeners"
BIN = Path(sys.executable).parent
DRAIN = 2  # seconds in which a closing Envoy sends its clients to the other Envoy
PORTS = 50  # ports of a tier, from Envoy's on
START = 180  # seconds for a part to answer; a busy machine needs more than a minute


def ports(first: int) -> SimpleNamespace:
    """Return the port of each part, of the first process if there are several. `first` is Envoy's."""
    offsets = {"edge": 0, "varnish": 1, "redis": 2, "mlflow": 3, "features": 4, "admin": 5, "broker": 7, "objects": 8}
    return SimpleNamespace(**{name: first + n for name, n in {**offsets, "api": 10, "triton": 20}.items()})


def ports_in_use(first: int) -> list[int]:
    """Return a tier's ports that are in use."""
    used = []
    for port in range(first, first + PORTS):
        with closing(socket.socket()) as probe:
            used += [] if probe.connect_ex(("127.0.0.1", port)) else [port]
    return used


def free_ports() -> int:
    """Return the first port of a range of free ports for a tier."""
    for first in range(20_000, 30_000, PORTS):
        if not ports_in_use(first):
            return first
    raise WorkbookError(f"no {PORTS} consecutive ports are free between 20000 and 30000: stop some servers")


def token(home: Path, seconds: float = 3600, **claims) -> str:
    """Return a listener's token, as a login service would issue it. Claims with the value None are left out."""
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "listener", "exp": time.time() + seconds} | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    key = load_pem_private_key((home / "keys" / "private.pem").read_bytes(), None)
    return jwt.encode(payload, key, "RS256", {"kid": "1"})


def answers(url: str) -> bool:
    """Return True if an address answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@dataclass
class Tier:
    """A tier with its files in `home`."""

    home: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))

    def __post_init__(self) -> None:
        self.first = read_json(self.home / "tier.json")["first"]
        self.ports = ports(self.first)

    def ctl(self, *words: str) -> str:
        """Return the output of supervisorctl."""
        command = [BIN / "supervisorctl", "-c", self.home / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True).stdout

    @property
    def model(self) -> str:
        """Triton's name of the served encoder."""
        return Version(**read_json(self.home / "served.json")).triton

    def states(self) -> dict[str, str]:
        """Return Supervisor's state of each part (RUNNING, FATAL, …) by its name, such as redis or api:api-8090."""
        lines = [line.split() for line in self.ctl("status").splitlines()]
        return {line[0]: line[1] for line in lines if len(line) > 1 and line[1].isupper()}

    def parts(self) -> dict[str, psutil.Process]:
        """Return the process of each running part."""
        lines = [line.split() for line in self.ctl("status").splitlines()]
        return {line[0]: psutil.Process(int(line[3].strip(","))) for line in lines if line[1] == "RUNNING"}

    def headers(self) -> dict[str, str]:
        """Return the headers of a listener's request."""
        return {"Authorization": f"Bearer {token(self.home)}"}

    def ask(self, body: dict, port: int | None = None, **headers: str) -> httpx.Response:
        """POST /recommend to Envoy with a valid token, or to the port of another part without one."""
        headers = self.headers() | headers if port is None else headers
        return self.http.post(f"http://127.0.0.1:{port or self.first}/recommend", json=body, headers=headers)

    def wait(self, port: int, path: str = "/ready", process: subprocess.Popen | None = None) -> float:
        """Wait until a part answers. Return the seconds.

        Raises:
            WorkbookError: the part does not answer in time, or `process` has ended.
        """
        started = time.monotonic()
        while not answers(f"http://127.0.0.1:{port}{path}"):
            if time.monotonic() - started > START or (process and process.poll() is not None):
                raise WorkbookError(f"port {port} does not answer {path}: see the logs in {self.home}")
            time.sleep(0.1)
        return time.monotonic() - started

    def wait_for(self, part: str) -> float:
        """Wait until a part answers, by its name in Supervisor. Return the seconds.

        Raises:
            WorkbookError: the part does not answer in time.
        """
        kind, _, named = part.partition(":")
        port = int(named.rpartition("-")[2] or getattr(self.ports, kind, 0))
        if kind == "triton":
            return self.wait(port, f"/v2/models/{self.model}/ready")
        paths = {"api": "/ready", "envoy": "/ready", "mlflow": "/health", "objects": "/", "varnish": "/ready"}
        return self.wait(port, paths[kind]) if kind in paths else 0.0  # the others have no HTTP

    def restart(self, part: str) -> float:
        """Replace the process of a part and return the seconds. No request fails if its kind has another process."""
        started = time.monotonic()
        kind, _, named = part.partition(":")
        if kind == "envoy":  # first it tells its clients to connect again
            drain = f"http://127.0.0.1:{named.rpartition('-')[2]}/drain_listeners?graceful&skip_exit"
            with suppress(httpx.HTTPError):  # it is down already
                self.http.post(drain)
                time.sleep(DRAIN + 1)
        self.ctl("restart", part)
        self.wait_for(part)
        if named:  # the next process of its kind may go when the parts before them have noticed this one
            time.sleep(2)
        return time.monotonic() - started

    def hints(self) -> dict[str, str]:
        """Return the settings for hints to all workers (events/hints.py)."""
        ports = [name.rpartition("-")[2] for name in self.states() if name.startswith("api:")]
        key = self.home / "keys" / "hints.key"
        return {"HINTS": ",".join(f"127.0.0.1:{port}" for port in ports), "HINTS_KEY": str(key)}

    def registry(self, *words: str, stderr: int | None = None) -> subprocess.CompletedProcess:
        """Run the registry's command line; its error messages go to stderr by default."""
        env = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports.mlflow}"} | self.hints()
        command = [sys.executable, "-m", "deploy.scale.registry", *words]
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT)


@contextmanager
def started(run: Path, home: Path, first: int, *options: str):
    """Start a new tier that serves a run, wait until Envoy uses the edge cache, and stop the tier at the end."""
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "deploy.scale.tier", "--home", str(home), "up", "--run", str(run), *options]
    process = subprocess.Popen([*command, "--port", str(first)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not (home / "tier.json").exists() and process.poll() is None:
            time.sleep(0.1)
        tier = Tier(home)
        tier.wait(first, process=process)
        with suppress(httpx.HTTPError):
            while "X-Edge" not in tier.ask({"text": "ready?"}).headers:  # Envoy needs a second to notice Varnish
                time.sleep(0.5)
        yield tier
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
