"""The whole tier on this machine: Envoy, Varnish, workers, Redis, Triton, MLflow, kept up by Supervisor.

    python -m deploy.scale.tier up --run outputs/quick
    python -m deploy.scale.tier token

Its files are in outputs/scale: settings, logs, the registry, the key that signs tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib.runs import ROOT, WorkbookError, folder

HERE = Path(__file__).parent
TEMPLATES = ("supervisord.conf", "default.vcl", "envoy.yaml")
NEEDED = {"redis-server": "redis-server", "varnishd": "varnish varnish-modules"}
ISSUER, AUDIENCE = "music-recommender", "listeners"
BIN = Path(sys.executable).parent
PLACES = "/usr/sbin:/usr/bin"
START = 90  # seconds in which all must answer


def ports(first: int) -> SimpleNamespace:
    """Of each part, counted from the first, which is the door's."""
    named = ("edge", "admin", "varnish", "redis", "mlflow")
    return SimpleNamespace(**{name: first + n for n, name in enumerate(named)}, api=first + 10, triton=first + 20)


def key(home: Path) -> rsa.RSAPrivateKey:
    """The key that signs tokens, made at first; its public half lies beside it for Envoy."""
    file = home / "keys" / "private.pem"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(made.public_key()))
        named = public | {"alg": "RS256", "use": "sig", "kid": "1"}
        (file.parent / "jwks.json").write_text(json.dumps({"keys": [named]}))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.touch(mode=0o600)
        file.write_bytes(made.private_bytes(*form))
    return serialization.load_pem_private_key(file.read_bytes(), None)


def token(home: Path, seconds: float = 3600, **claims) -> str:
    """A listener's token, as the company's own login would give it."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "listener", "exp": time.time() + seconds} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key(home), "RS256", {"kid": "1"})


def write(home: Path, first: int, replicas: int, encoder: str) -> None:
    """The engines' settings, from the templates beside this file.

    Raises:
        WorkbookError: an engine is not installed.
    """
    if missing := [packages for program, packages in NEEDED.items() if not shutil.which(program, path=PLACES)]:
        raise WorkbookError(f"engines are missing: apt-get install {' '.join(missing)}")
    for name in ("varnish", "metrics"):  # what a process that was killed left there would mislead the next
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    key(home)
    settings = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True)
    values = {"root": ROOT, "home": home, "ports": ports(first), "replicas": replicas, "encoder": encoder}
    values |= {"issuer": ISSUER, "audience": AUDIENCE, "envoy": BIN / "envoy"}
    for name in TEMPLATES:
        (home / name).write_text(settings.get_template(f"{name}.j2").render(values))


def answers(url: str) -> bool:
    """Whether an address answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait(what: str, url: str, process: subprocess.Popen) -> None:
    """Until it answers.

    Raises:
        WorkbookError: it does not in time, or the tier has ended.
    """
    ends = time.monotonic() + START
    while not answers(url):
        if process.poll() is not None or time.monotonic() > ends:
            raise WorkbookError(f"{what} does not answer: its log is in its folder")
        time.sleep(0.2)


def up(home: Path, first: int, replicas: int, encoder: str, run: str) -> int:
    """Start all, register a run where none is, and stay until Ctrl-C or SIGTERM."""
    write(home, first, replicas, encoder)
    at, started = ports(first), time.monotonic()
    registry = [sys.executable, "-m", "deploy.scale.registry"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{at.mlflow}"}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # In a session of its own: a Ctrl-C is for this process, which then stops that one in order.
    supervisor = subprocess.Popen([BIN / "supervisord", "-c", home / "supervisord.conf"], start_new_session=True)
    try:
        wait("MLflow", f"http://127.0.0.1:{at.mlflow}/health", supervisor)
        if subprocess.run([*registry, "serving"], env=environment, stdout=subprocess.DEVNULL, cwd=ROOT).returncode:
            subprocess.run([*registry, "promote", run], env=environment, check=True, cwd=ROOT)
        wait("the tier", f"http://127.0.0.1:{at.edge}/ready", supervisor)
        print(f"Ready on http://127.0.0.1:{at.edge} after {time.monotonic() - started:.0f} s", flush=True)
        return supervisor.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the tier was stopped, 1 with one line on why it did not start."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.tier", description=__doc__.split("\n\n")[0])
    parser.add_argument("--home", default="outputs/scale", help="where its files go (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("token", help="print a listener's token, good for an hour")
    start = commands.add_parser("up", help="start all of it, until Ctrl-C")
    start.add_argument("--run", default="outputs/quick", help="served until one is promoted (default: %(default)s)")
    start.add_argument("--port", type=int, default=8080, help="the door's; 22 follow (default: %(default)s)")
    start.add_argument("--replicas", type=int, default=2, help="workers (default: %(default)s)")
    start.add_argument("--encoder", choices=("triton", "local"), default="triton", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        home = folder(args.home)
        if args.command == "token":
            print(token(home))
            return 0
        return up(home, args.port, args.replicas, args.encoder, args.run)
    except (WorkbookError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
