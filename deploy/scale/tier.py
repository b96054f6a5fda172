"""The whole tier on this machine: Envoy, Varnish, workers, Redis, Triton, MLflow, kept up by Supervisor.

    python -m deploy.scale.tier up --run outputs/quick
    python -m deploy.scale.tier status
    python -m deploy.scale.tier token
    python -m deploy.scale.tier promote outputs/other
    python -m deploy.scale.tier rollback
    python -m deploy.scale.tier restart

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
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from deploy.scale.client import AUDIENCE, BIN, DRAIN, ISSUER, PORTS, Tier, ports, taken, token
from lib.core.errors import WorkbookError
from lib.core.files import write_json
from lib.core.paths import ROOT, resolve, shown
from lib.core.processes import end_with_parent, only_one
from lib.core.runs import folder
from lib.search.integrity import whole
from lib.serve.contract import BODY_LIMIT

HERE = Path(__file__).parent
QUICK = "outputs/quick"  # what is served where nobody said anything
TEMPLATES = ("supervisord.conf", "default.vcl", "envoy.yaml")
NEEDED = {"redis-server": "redis-server", "varnishd": "varnish varnish-modules"}
PATH = f"{os.environ['PATH']}:/usr/sbin"  # where Debian has varnishd; not everybody's path
TAKEN = "a tier runs in {} already: stop it first (Ctrl-C where it was started)."
BUSY = "a restart, promotion or rollback is at work in {}: wait for it."


def make_key(home: Path) -> None:
    """The key that signs tokens, made once; its public half lies beside it for Envoy."""
    file = home / "keys" / "private.pem"
    if file.exists():
        return
    file.parent.mkdir(exist_ok=True)
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(made.public_key()))
    named = public | {"alg": "RS256", "use": "sig", "kid": "1"}
    (file.parent / "jwks.json").write_text(json.dumps({"keys": [named]}))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.touch(mode=0o600)
    file.write_bytes(made.private_bytes(*form))


def write(home: Path, first: int, replicas: int, encoder: str) -> None:
    """The engines' settings, from the templates beside this file.

    Raises:
        WorkbookError: an engine is not installed.
    """
    if missing := [packages for program, packages in NEEDED.items() if not shutil.which(program, path=PATH)]:
        raise WorkbookError(f"engines are missing: apt-get install {' '.join(missing)}")
    for name in ("varnish", "metrics"):  # what a process that was killed left there would mislead the next
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    make_key(home)
    write_json(home / "tier.json", {"first": first})
    settings = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True)
    values = {"root": ROOT, "home": home, "ports": ports(first), "replicas": replicas, "encoder": encoder}
    values |= {"issuer": ISSUER, "audience": AUDIENCE, "envoy": BIN / "envoy", "drain": DRAIN}
    values |= {"path": PATH, "body_limit": BODY_LIMIT}
    for name in TEMPLATES:
        (home / name).write_text(settings.get_template(f"{name}.j2").render(values))


def up(home: Path, first: int, replicas: int, encoder: str, run: str | None) -> int:
    """Start all, register a run where none is, and stay until Ctrl-C or SIGTERM."""
    known = (home / "served.json").exists()
    if run or not known:
        whole(resolve(run or QUICK))  # or it would be found out when all has started
    if there := taken(first):
        raise WorkbookError(
            f"somebody listens on port {there[0]} already, one of the {PORTS} from {first}: stop it (a tier that was "
            "killed takes ten seconds to end), or make scale PORT=..."
        )
    write(home, first, replicas, encoder)
    tier, started = Tier(home), time.monotonic()
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    # In a session of its own: a Ctrl-C is for this process, which then stops that one in order.
    own = {"start_new_session": True, "preexec_fn": end_with_parent}
    supervisor = subprocess.Popen([BIN / "supervisord", "-c", home / "supervisord.conf"], **own)
    try:
        print("Starting Redis, MLflow, Varnish, Envoy …", flush=True)
        tier.wait(tier.ports.mlflow, "/health", supervisor)
        if (
            tier.registry("serving", stderr=subprocess.DEVNULL).returncode
            and tier.registry("promote", run or QUICK).returncode
        ):
            return 1
        if known and run:
            print(f"Its registry knows what to serve. To serve {run} instead: make scale-promote RUN={run}", flush=True)
        print(f"Starting {replicas} Tritons and {replicas} workers …", flush=True)
        tier.wait(first, process=supervisor)
        if failed := [part for part, state in tier.states().items() if state in ("FATAL", "BACKOFF", "EXITED")]:
            raise WorkbookError(f"{', '.join(failed)} did not start: see the logs in {shown(home)}")
        print(f"Ready on http://127.0.0.1:{first} after {time.monotonic() - started:.0f} s", flush=True)
        return supervisor.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()


def restart(tier: Tier) -> None:
    """Replace every process, one after another: no request is lost while there is another, or a way around it."""
    parts = tqdm(tier.states(), unit="part")
    for part in parts:
        parts.set_description(part)
        tier.restart(part)


def _port(said: str) -> int:
    if not 1 <= int(said) <= 65_536 - PORTS:
        raise argparse.ArgumentTypeError(f"{said} is not between 1 and {65_536 - PORTS}")
    return int(said)


def _replicas(said: str) -> int:
    if not 1 <= int(said) <= 10:  # their ports are ten apart
        raise argparse.ArgumentTypeError(f"{said} is not between 1 and 10")
    return int(said)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when all went well, 1 with one line on what did not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.tier", description=__doc__.split("\n\n")[0])
    parser.add_argument("--home", default="outputs/scale", help="where its files go (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="what runs")
    commands.add_parser("token", help="print a listener's token, good for an hour")
    commands.add_parser("promote", help="register a run and have it served").add_argument("run", help="its folder")
    commands.add_parser("rollback", help="have the version before served again")
    commands.add_parser("restart", help="replace every process, one after another, while it serves")
    start = commands.add_parser("up", help="start all of it, until Ctrl-C")
    start.add_argument("--run", help=f"served until one is promoted (default: {QUICK})")
    start.add_argument("--port", type=_port, default=8080, help="the door's; 49 follow (default: %(default)s)")
    start.add_argument("--replicas", type=_replicas, default=2, help="workers, and Tritons (default: %(default)s)")
    start.add_argument("--encoder", choices=("triton", "local"), default="triton", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        home = folder(args.home)
        if args.command == "up":
            with only_one(home, message=TAKEN):
                return up(home, args.port, args.replicas, args.encoder, args.run)
        if not (home / "keys").exists():
            raise WorkbookError(f"no tier was ever started in {home}: make scale")
        tier = Tier(home)
        if args.command == "token":
            print(token(home))
            return 0
        if not tier.states():
            raise WorkbookError(f"no tier runs in {shown(home)}: make scale")
        if args.command == "status":
            print(tier.ctl("status"), end="")
            return 0
        with only_one(home, ".change.lock", BUSY):
            if args.command == "restart":
                restart(tier)
                return 0
            said = tier.registry(args.command, *([args.run] if args.command == "promote" else []))
            print(said.stdout, end="")
            return said.returncode
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
