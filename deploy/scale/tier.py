"""The tier on this machine: Supervisor runs Envoy, Varnish, workers, Redis, Triton, MLflow, and the parts for events.

    python -m deploy.scale.tier up --run outputs/quick
    python -m deploy.scale.tier status
    python -m deploy.scale.tier token
    python -m deploy.scale.tier promote outputs/other
    python -m deploy.scale.tier rollback
    python -m deploy.scale.tier restart
    python -m deploy.scale.tier drop '{"text": "sad piano"}'
    python -m deploy.scale.tier lake
    python -m deploy.scale.tier forget SESSION

Its files are in outputs/scale: settings, logs, the registry, and the key that signs tokens.
"""

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

from deploy.scale.alone import end_session
from deploy.scale.client import AUDIENCE, BIN, DRAIN, ISSUER, PORTS, Tier, ports, ports_in_use, token
from deploy.scale.events import drop, hints
from deploy.scale.events import settings as events
from lib.core.errors import WorkbookError
from lib.core.files import write_json
from lib.core.paths import ROOT, resolve, shown
from lib.core.processes import end_with_parent, only_one
from lib.core.runs import folder
from lib.search.integrity import check_run
from lib.serve.contract import BODY_LIMIT, failure

HERE = Path(__file__).parent
QUICK = "outputs/quick"  # the run to serve by default
REPLICAS = 10  # at most: the ports of each kind are ten apart
TEMPLATES = ("supervisord.conf", "default.vcl", "envoy.yaml")
ENGINES = {"redis-server": "redis-server", "varnishd": "varnish varnish-modules"}
PATH = f"{os.environ['PATH']}:/usr/sbin"  # Debian's folder of varnishd, not in every user's path
RUNNING = "a tier runs in {} already: stop it first (Ctrl-C where you started it)."
LAKE = "an earlier `make lake` still writes from {}: the next one writes what it leaves."
BUSY = "a restart, promotion or rollback is running in {}: wait for it."


def make_key(home: Path) -> None:
    """Make the key that signs tokens, once, and its public key for Envoy."""
    file = home / "keys" / "private.pem"
    if file.exists():
        return
    file.parent.mkdir(exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    public |= {"alg": "RS256", "use": "sig", "kid": "1"}
    (file.parent / "jwks.json").write_text(json.dumps({"keys": [public]}))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(*form))


def write(home: Path, args: argparse.Namespace) -> None:
    """Write the engines' settings from the templates beside this file.

    Args:
        args: the command line of `up`.

    Raises:
        WorkbookError: an engine is not installed.
    """
    if missing := [packages for program, packages in ENGINES.items() if not shutil.which(program, path=PATH)]:
        raise WorkbookError(f"engines are missing: apt-get install {' '.join(missing)}")
    for name in ("varnish", "metrics"):  # files of a killed process would mislead the next one
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
    make_key(home)
    hints.make_key(home / "keys" / "hints.key")
    write_json(home / "tier.json", {"first": args.port})
    settings = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True)
    each = ports(args.port)
    values = {"root": ROOT, "home": home, "ports": each, "replicas": args.replicas, "encoder": args.encoder}
    values |= {"issuer": ISSUER, "audience": AUDIENCE, "envoy": BIN / "envoy", "drain": DRAIN}
    values |= {"path": PATH, "body_limit": BODY_LIMIT, "failure": failure}
    values["waiting"] = int(os.environ.get("WAITING", "48"))
    values |= {"events": {}, "engines": {}, "hourly": args.hourly}
    if args.events:
        own = events.settings(home, each) | {"LOG_TEXT": "1" if args.log_text else ""}
        values["events"] = {name: value for name, value in own.items() if name not in os.environ}
        values["engines"] = {part: events.command(part, home, each) for part in events.engines()}
        events.write_shipper(home, each)
    for name in TEMPLATES:
        (home / name).write_text(settings.get_template(f"{name}.j2").render(values))


def up(home: Path, args: argparse.Namespace) -> int:
    """Start all parts, register a run if there is none, and stay until Ctrl-C or SIGTERM."""
    first, run = args.port, args.run
    registered = (home / "served.json").exists()
    if run or not registered:
        check_run(resolve(run or QUICK))  # an error is raised before the parts start
    if used := ports_in_use(first):
        raise WorkbookError(
            f"port {used[0]} is in use, one of the {PORTS} from {first} on: stop its server (a killed tier takes ten "
            "seconds to end), or make scale PORT=..."
        )
    if args.events and (lack := events.missing(PATH)):
        print(f"Without events: engines are missing. {lack}", flush=True)
        args.events = False
    write(home, args)
    tier, started = Tier(home), time.monotonic()
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    # A session of its own: Ctrl-C reaches this process only, which then stops Supervisor in order.
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
        if registered and run:
            print(f"The tier serves its registry's version. To serve {run}: make scale-promote RUN={run}", flush=True)
        print(f"Starting {args.replicas} Tritons and {args.replicas} workers …", flush=True)
        tier.wait(first, process=supervisor)
        failed = [part for part, state in tier.states().items() if state in ("FATAL", "BACKOFF", "EXITED")]
        lines = f"{', '.join(failed)} did not start: see the logs in {shown(home)}"
        if set(failed) - set(events.ENGINES):
            raise WorkbookError(lines)
        if failed:
            print(f"Events are not complete: {lines}", flush=True)
        print(f"Ready on http://127.0.0.1:{first} after {time.monotonic() - started:.0f} s", flush=True)
        return supervisor.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        end_session(supervisor.pid)  # if it or a part was killed, processes are left that keep memory and ports


def restart(tier: Tier) -> None:
    """Replace every process, one after another. No request fails: another process takes over meanwhile."""
    parts = tqdm(tier.states(), unit="part")
    for part in parts:
        parts.set_description(part)
        tier.restart(part)


def run_events(tier: Tier, module: str, *words: str, python: Path | str = sys.executable) -> int:
    """Run a command of the events with the settings of the tier. Return its exit code."""
    env = os.environ | events.settings(tier.home, tier.ports) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([python, "-m", f"{events.NAME}.{module}", *words], env=env, cwd=ROOT).returncode


def _between(least: int, most: int):
    """Return a check of a number on the command line."""

    def number(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return int(text)

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.tier", description=__doc__.split("\n\n")[0])
    parser.add_argument("--home", default="outputs/scale", help="folder of its files (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="list the running parts")
    commands.add_parser("token", help="print a listener's token, valid for an hour")
    commands.add_parser("promote", help="register a run and serve it").add_argument("run", help="the run's folder")
    commands.add_parser("rollback", help="serve the previous version again")
    commands.add_parser("restart", help="replace every process, one after another, while the tier serves")
    commands.add_parser("drop", help="drop the answer to one request from all caches").add_argument("body", help="JSON")
    commands.add_parser("lake", help="write all new events into the lake once: for a tier that is up with --hourly")
    commands.add_parser("forget", help="remove a session's events from log, lake and features").add_argument("session")
    defaults = argparse.ArgumentDefaultsHelpFormatter
    start = commands.add_parser("up", help="start all parts, until Ctrl-C", formatter_class=defaults)
    start.add_argument("--run", help=f"the run to serve if the registry is empty; without it {QUICK}")
    start.add_argument("--port", type=_between(1, 65_536 - PORTS), default=8080, help="Envoy's port; 49 more follow")
    start.add_argument("--replicas", type=_between(1, REPLICAS), default=2, help="workers, and Tritons")
    start.add_argument("--encoder", choices=("triton", "local"), default="triton", help="processes that encode")
    start.add_argument("--no-events", dest="events", action="store_false", help="no POST /events, log, lake, features")
    start.add_argument("--log-text", action="store_true", help="keep the text of requests in the log and the lake")
    start.add_argument("--hourly", action="store_true", help="no standing job of the lake: a timer runs `lake`")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Return 0 if it worked, 1 after an error in one line."""
    args = _parser().parse_args(argv)
    try:
        home = folder(args.home)
        if args.command == "up":
            with only_one(home, message=RUNNING):
                return up(home, args)
        if not (home / "keys").exists():
            raise WorkbookError(f"no tier was started in {shown(home)}: make scale")
        tier = Tier(home)
        if args.command == "token":
            print(token(home))
            return 0
        if not tier.states():
            raise WorkbookError(f"no tier runs in {shown(home)}: make scale")
        if args.command == "drop":
            print(drop.drop(tier, args.body))
            return 0
        if args.command == "status":
            print(tier.ctl("status"), end="")
            return 0
        if args.command in ("lake", "forget"):
            states = tier.states()
            if "lake" not in states:
                raise WorkbookError(f"the tier in {shown(home)} was started without events")
            if args.command == "forget":
                return run_events(tier, "forget", args.session)
            if states["lake"] == "RUNNING":
                raise WorkbookError("the tier's own job writes the lake: start the tier with --hourly")
            with only_one(home, ".lake.lock", LAKE):
                return run_events(tier, "lake", "--once", python=events.PYTHON)
        with only_one(home, ".change.lock", BUSY):
            if args.command == "restart":
                restart(tier)
                return 0
            process = tier.registry(args.command, *([args.run] if args.command == "promote" else []))
            print(process.stdout, end="")
            return process.returncode
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
