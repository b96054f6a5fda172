"""Serve notebook 08 with Jupyter Kernel Gateway, and keep it alive: its cells are the service, this is what guards it.

python -m lib.serve.gateway --run outputs/current --port 8080
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import papermill
from kernel_gateway.gatewayapp import KernelGatewayApp
from kernel_gateway.notebook_http import NotebookHTTPPersonality
from kernel_gateway.notebook_http.handlers import NotebookAPIHandler
from traitlets.config import Config

from lib.core.errors import WorkbookError
from lib.core.paths import NOTEBOOKS, ROOT, shown
from lib.core.runs import need
from lib.serve.handlers import TOKEN, CellHandler, Handler, HealthHandler, MetricsHandler, NotFound, ReadyHandler
from lib.serve.kernels import Broken, Endpoint, Target
from lib.serve.pool import Limits, Pool

NOTEBOOK = NOTEBOOKS / "08_serve.ipynb"
CANARY = ("POST /recommend", json.dumps({"body": json.dumps({"text": "Jazzy lo-fi beats for studying"})}))
DRAIN = 8.0  # seconds that requests under way have to finish after SIGTERM
TRIES = 3  # of a run whose kernels are lost while they load it
LOOK = 0.5  # seconds between two looks at whether another run is to be served
log = logging.getLogger(__name__)


class Personality(NotebookHTTPPersonality):
    """The stock personality with the handlers above and a pool that replaces kernels.

    Attributes:
        ready: whether the kernels have been seeded.
        stopping: whether SIGTERM was received.
        under_way: the requests that are being answered.
        error: why the service could not start.
    """

    ready = stopping = log_text = False
    error: Exception | None = None
    folder: Path
    pool: Pool

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.under_way: set[Handler] = set()
        self.task: asyncio.Task | None = None  # that seeds the kernels, then the one that follows the folder

    async def init_configurables(self):
        """Seed the kernels, then follow the folder; called when the server listens."""
        self.task = asyncio.current_task()
        try:
            await self.pool.start(target(self.folder))
        except Exception as error:  # whatever it is, a service that cannot start must end
            self.error = error
            self.parent.io_loop.stop()
            return
        self.ready = True
        self.task = asyncio.create_task(self._follow())
        print(f"Ready on http://{self.parent.ip}:{self.parent.port} — POST /recommend", flush=True)

    def create_request_handlers(self):
        """An address for each cell that names one. -> tornado's handlers"""
        rows = []
        for pattern, kind, *how in super().create_request_handlers():
            if kind is NotebookAPIHandler:
                ours = ReadyHandler if pattern == "/ready" else CellHandler
                rows.append((pattern, ours, {"sources": how[0]["sources"], "name": pattern}))
        return [("/health", HealthHandler), ("/metrics", MetricsHandler), *rows, (".*", NotFound)]

    async def shutdown(self):
        """Let the requests under way finish, then end the kernels."""
        self.stopping = True
        ends = time.monotonic() + DRAIN
        while self.under_way and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        if self.task:
            self.task.cancel()
            await asyncio.wait({self.task})
        await self.pool.stop()

    async def _follow(self):
        """Serve what the folder points at, when it points at another run or its run was made anew."""
        tried, told = Counter(), ""
        while True:
            await asyncio.sleep(LOOK)
            try:
                wanted = target(self.folder)
                if wanted == self.pool.target:
                    tried, told = Counter(), ""  # one that was refused is tried again when it is wanted again
                    continue
                if tried[wanted] == TRIES:
                    continue
                tried[wanted] += 1
                started = time.monotonic()
                log.warning("switching", extra={"to": shown(wanted.run)})
                await self.pool.switch(wanted)
                seconds = round(time.monotonic() - started, 1)
                log.warning("switched", extra={"to": shown(wanted.run), "seconds": seconds})
                tried, told = Counter(), ""
            except Exception as error:  # whatever it is, the next promotion is to be followed
                if isinstance(error, Broken):
                    tried[wanted] = TRIES  # it would be so again
                if told != str(error):  # a link to nowhere is looked at twice a second
                    kept = shown(self.pool.target.run)
                    log.error("not switched: the old run is kept", extra={"why": str(error), "run": kept})
                told = str(error)


def create_personality(*args, **kwargs) -> Personality:
    """What Kernel Gateway calls (`KernelGatewayApp.api`)."""
    return Personality(*args, **kwargs)


class JSONLines(logging.Formatter):
    """A JSON object a line: time, level, event, and whatever the record has besides."""

    USUAL = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        told |= {name: value for name, value in vars(record).items() if name not in self.USUAL}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def target(folder: Path) -> Target:
    """The run that a folder (or a link to one) is, and when its index was written."""
    run = folder.resolve()
    need(run, "model", "index")
    return Target(run, (run / "index" / "index.json").stat().st_mtime_ns)


def sources(run: Path) -> tuple[dict[str, Endpoint], list[str]]:
    """Notebook 08 for a run: the cells behind each address, and those that run first.

    `# Together POST /recommend` marks a cell that prepares requests that wait at the same time.
    """
    notebook = papermill.execute_notebook(str(NOTEBOOK), None, {"run_dir": str(run)}, prepare_only=True)
    marked: dict[str, dict[str, str]] = {"": {}, "ResponseInfo ": {}, "Together ": {}}
    seeds = []
    for source in (cell.source for cell in notebook.cells if cell.cell_type == "code"):
        if found := re.match(r"#\s+(ResponseInfo |Together |)((?:GET|PUT|POST|DELETE) /\S*)", source):
            marked[found[1]][found[2]] = source
        else:
            seeds.append(source)
    cells, info, together = marked.values()
    return {a: Endpoint(cell, info.get(a), together.get(a)) for a, cell in cells.items()}, seeds


def serve(folder: str, ip: str, port: int, limits: Limits, no_token: bool = False, log_text: bool = False) -> None:
    """Serve a run until SIGTERM or Ctrl-C.

    Raises:
        WorkbookError: the run is not complete, the address is taken or open to anybody, or the notebook cannot serve.
    """
    path = ROOT / Path(folder).expanduser()  # not resolved: a link is followed while it is served
    if not path.exists():
        raise WorkbookError(f"there is no {shown(path)}. Name a run: make promote RUN=…, or make serve RUN=…")
    need(path, "model", "index")
    _check_address(ip, port, no_token)
    endpoints, _ = sources(path)
    print(f"Loading {shown(path.resolve())} …", flush=True)
    app = KernelGatewayApp.instance(
        config=Config(), api=__name__, ip=ip, port=port, port_retries=0, seed_uri=str(NOTEBOOK), log_level="WARN"
    )
    app.initialize([])
    _log_as_json(app.log)
    personality = app.personality
    personality.folder, personality.log_text = path, log_text
    personality.pool = Pool(endpoints, lambda run: sources(run)[1], CANARY, limits)
    signal.signal(signal.SIGINT, app._signal_stop)  # the stock one asks whether it is meant
    app.start()
    if error := personality.error:
        raise WorkbookError(f"{shown(NOTEBOOK)} could not be started on {shown(path)}: {error}")


def _check_address(ip: str, port: int, no_token: bool) -> None:
    """That the address is free, and that not anybody can ask it without a token unless that is meant."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        advice = "Choose another: make serve PORT=8081"
        raise WorkbookError(f"cannot listen on {ip}:{port}: {error.strerror}. {advice}") from error
    if not (os.environ.get(TOKEN) or no_token or ipaddress.ip_address(where[0]).is_loopback):
        raise WorkbookError(
            f"on {ip} anybody could ask. Set a token that clients send (export {TOKEN}=$(openssl rand -hex 32)), "
            "or say that none is wanted: make serve IP=… NO_TOKEN=1"
        )


def _log_as_json(app: logging.Logger) -> None:
    """One format for all that is logged, on stderr; of the libraries only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JSONLines())
    app.handlers, app.propagate = [], True
    app.setLevel(logging.WARNING)
    logging.getLogger().handlers = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("lib").setLevel(logging.INFO)
    log.setLevel(logging.INFO)  # as a program this module is not lib.serve.gateway but __main__


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 1 to 65535")
    return int(text)


def _positive(kind: type) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number above 0")
        return value

    return read


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 after a clean stop, 1 with one line on what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.serve.gateway", description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    usual = Limits()
    parser.add_argument("--run", default="outputs/current", help="the run to serve; a link is followed when it moves")
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on")
    parser.add_argument("--kernels", type=_positive(int), default=usual.kernels, help="processes, each with its model")
    parser.add_argument("--queue", type=_positive(int), default=usual.queue, help="requests that may wait: then 429")
    parser.add_argument(
        "--batch", type=_positive(int), default=usual.batch, help="requests that a kernel takes at once"
    )
    parser.add_argument(
        "--time-limit", type=_positive(float), default=usual.time, help="seconds for an answer: then 503, a new kernel"
    )
    parser.add_argument(
        "--start-limit", type=_positive(float), default=usual.start, help="seconds for a kernel to start"
    )
    parser.add_argument("--no-token", action="store_true", help=f"serve other machines without {TOKEN}")
    parser.add_argument("--log-text", action="store_true", help="log what listeners ask, too")
    args = parser.parse_args(argv)
    limits = Limits(args.kernels, args.queue, args.batch, args.time_limit, args.start_limit)
    try:
        serve(args.run, args.ip, args.port, limits, args.no_token, args.log_text)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
