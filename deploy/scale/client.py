"""A running tier from outside: ask it, look at its parts, start one, replace them one after another."""

from __future__ import annotations

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
DRAIN = 2  # seconds in which a door that is to close sends its clients to the other
PORTS = 50  # that are a tier's, counted from the door's
START = 90  # seconds in which a part must answer


def ports(first: int) -> SimpleNamespace:
    """Of each part, counted from the door's, which is the first; of several of a kind, that of the first."""
    named = ("edge", "varnish", "redis", "mlflow")
    return SimpleNamespace(
        **{name: first + n for n, name in enumerate(named)}, admin=first + 5, api=first + 10, triton=first + 20
    )


def taken(first: int) -> list[int]:
    """Those of a tier's ports that somebody listens on."""
    found = []
    for port in range(first, first + PORTS):
        with closing(socket.socket()) as probe:
            found += [] if probe.connect_ex(("127.0.0.1", port)) else [port]
    return found


def free_ports() -> int:
    """The first of a tier's ports, none of which is taken."""
    for first in range(20_000, 30_000, PORTS):
        if not taken(first):
            return first
    raise WorkbookError(f"there are no {PORTS} free ports in a row between 20000 and 30000")


def token(home: Path, seconds: float = 3600, **claims) -> str:
    """A listener's token, as the company's own login would give it. Claims that are None are left out."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "listener", "exp": time.time() + seconds} | claims
    said = {name: value for name, value in said.items() if value is not None}
    key = load_pem_private_key((home / "keys" / "private.pem").read_bytes(), None)
    return jwt.encode(said, key, "RS256", {"kid": "1"})


def answers(url: str) -> bool:
    """Whether an address answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@dataclass
class Tier:
    """A tier whose files are in `home`."""

    home: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))

    def __post_init__(self) -> None:
        self.first = read_json(self.home / "tier.json")["first"]
        self.ports = ports(self.first)

    def ctl(self, *words: str) -> str:
        """What supervisorctl says."""
        command = [BIN / "supervisorctl", "-c", self.home / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True).stdout

    @property
    def model(self) -> str:
        """What Triton calls the encoder that is served."""
        return Version(**read_json(self.home / "served.json")).triton

    def states(self) -> dict[str, str]:
        """What Supervisor says of each part, by its name there, such as redis or api:api-8090: RUNNING, FATAL, ..."""
        lines = [line.split() for line in self.ctl("status").splitlines()]
        return {line[0]: line[1] for line in lines if len(line) > 1 and line[1].isupper()}

    def parts(self) -> dict[str, psutil.Process]:
        """The process of each part that runs."""
        lines = [line.split() for line in self.ctl("status").splitlines()]
        return {line[0]: psutil.Process(int(line[3].strip(","))) for line in lines if line[1] == "RUNNING"}

    def headers(self) -> dict[str, str]:
        """What a listener sends with a request."""
        return {"Authorization": f"Bearer {token(self.home)}"}

    def ask(self, body: dict, port: int | None = None, **headers: str) -> httpx.Response:
        """POST /recommend at the door, with a good token; or at another part, which asks for none."""
        headers = self.headers() | headers if port is None else headers
        return self.http.post(f"http://127.0.0.1:{port or self.first}/recommend", json=body, headers=headers)

    def wait(self, port: int, path: str = "/ready", process: subprocess.Popen | None = None) -> float:
        """Seconds until a part answers.

        Raises:
            WorkbookError: it does not in time, or `process` has ended.
        """
        started = time.monotonic()
        while not answers(f"http://127.0.0.1:{port}{path}"):
            if time.monotonic() - started > START or (process and process.poll() is not None):
                raise WorkbookError(f"port {port} does not answer {path}: see the logs in {self.home}")
            time.sleep(0.1)
        return time.monotonic() - started

    def wait_for(self, part: str) -> float:
        """Seconds until a part answers, by its name in Supervisor.

        Raises:
            WorkbookError: it does not in time.
        """
        kind, _, named = part.partition(":")
        port = int(named.rpartition("-")[2] or getattr(self.ports, kind, 0))
        if kind == "triton":
            return self.wait(port, f"/v2/models/{self.model}/ready")
        if kind == "redis":  # its port speaks another language, and is open at once
            return 0.0
        return self.wait(port, "/health" if kind == "mlflow" else "/ready")

    def restart(self, part: str) -> float:
        """Replace the process of a part without losing a request, as far as there is another. -> seconds it took."""
        started = time.monotonic()
        kind, _, named = part.partition(":")
        if kind == "envoy":  # it closes when it has told those who are connected
            drain = f"http://127.0.0.1:{named.rpartition('-')[2]}/drain_listeners?graceful&skip_exit"
            with suppress(httpx.HTTPError):  # it is dead
                self.http.post(drain)
                time.sleep(DRAIN + 1)
        self.ctl("restart", part)
        self.wait_for(part)
        time.sleep(2)  # in which those before it see that it is there
        return time.monotonic() - started

    def registry(self, *words: str, stderr: int | None = None) -> subprocess.CompletedProcess:
        """The registry's command line; what it says of errors goes on to stderr."""
        env = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports.mlflow}"}
        command = [sys.executable, "-m", "deploy.scale.registry", *words]
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT)


@contextmanager
def started(run: Path, home: Path, first: int):
    """A new tier that serves a run, from the moment on that the cache before it is seen; stopped in the end."""
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "deploy.scale.tier", "--home", str(home), "up", "--run", str(run)]
    process = subprocess.Popen([*command, "--port", str(first)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not (home / "tier.json").exists() and process.poll() is None:
            time.sleep(0.1)
        tier = Tier(home)
        tier.wait(first, process=process)
        with suppress(httpx.HTTPError):
            while "X-Edge" not in tier.ask({"text": "ready?"}).headers:  # Envoy sees it a second after its start
                time.sleep(0.5)
        yield tier
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
