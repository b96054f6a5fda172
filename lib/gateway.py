"""Serve notebook 08 with Jupyter Kernel Gateway: the stock notebook-HTTP personality, with JSON errors throughout.

python -m lib.gateway --run outputs/quick --port 8080
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys

import papermill
from kernel_gateway.base.handlers import NotFoundHandler
from kernel_gateway.gatewayapp import KernelGatewayApp
from kernel_gateway.notebook_http import NotebookHTTPPersonality
from kernel_gateway.notebook_http.errors import CodeExecutionError
from kernel_gateway.notebook_http.handlers import NotebookAPIHandler
from kernel_gateway.notebook_http.request_utils import format_request, headers_to_dict, parse_args
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from tornado.web import RequestHandler
from traitlets.config import Config

from lib.runs import ROOT, WorkbookError, atomic, need, resolve, shown

NOTEBOOK = ROOT / "notebooks" / "08_serve.ipynb"
BODY_LIMIT = 64 * 1024
TIME_LIMIT = 5.0  # seconds that a request may take in its kernel
CODES = {
    400: "not_json",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    503: "busy",
}
REQUESTS = Counter("recommend_requests", "Requests by path and status.", ["path", "status"])
SECONDS = Histogram("recommend_request_seconds", "Seconds from request to answer.", ["path"])


class JSONErrors(RequestHandler):
    """Every error in the contract's form, whoever raised it."""

    def write_error(self, status_code, **kwargs):
        """Answer an error as {"error": {"code", "message", "field"}}; what broke is in the log, not in the answer."""
        message = kwargs.get("message") or self._reason
        error = {"code": CODES.get(status_code, "internal"), "message": message, "field": None}
        for name, value in {"Content-Type": "application/json", **kwargs.get("headers", {})}.items():
            self.set_header(name, value)
        self.finish(json.dumps({"error": error}))


class CellHandler(JSONErrors, NotebookAPIHandler):
    """Runs a notebook cell for a request: one execution for request and cell together, and a time limit."""

    async def _handle_request(self):
        refused = self._refusal()
        if refused:
            status, message, headers = refused
            return self.send_error(status, message=message, headers=headers)
        client, kernel = await self.kernel_pool.acquire()
        try:
            answer, info = await asyncio.wait_for(self._run_cells(client, kernel), TIME_LIMIT)
        except TimeoutError:
            await self.settings["kernel_manager"].interrupt_kernel(kernel)
            return self.send_error(503, message=f"No answer within {TIME_LIMIT:g} s.", headers={"Retry-After": "1"})
        except CodeExecutionError as error:
            logging.error("%s %s: the cell raised %s", self.request.method, self.request.path, str(error).strip())
            return self.send_error(500, message="The service failed to answer; its log says why.")
        finally:
            self.kernel_pool.release(kernel)
        for name, value in info.get("headers", {}).items():
            self.set_header(name, value)
        self.set_status(info.get("status", 200))
        self.finish(answer)

    def _refusal(self) -> tuple[int, str, dict] | None:
        """What can be refused without a kernel: status, message, headers."""
        request = self.request
        if request.method not in self.sources:
            methods = ", ".join(self.sources)
            return 405, f"{request.path} takes {methods}.", {"Allow": methods}
        if not self.kernel_pool.managed_pool_initialized.done():
            return 503, "The service is starting.", {"Retry-After": "5"}
        if len(request.body) > BODY_LIMIT:
            return 413, f"The body is over {BODY_LIMIT // 1024} KiB.", {}
        kind = request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            return 415, "Send JSON, with the header Content-Type: application/json.", {}
        try:
            request.body.decode()
        except UnicodeDecodeError as error:
            return 400, f"The body is not UTF-8: {error.reason} at byte {error.start}.", {}
        return None

    async def _run_cells(self, client, kernel) -> tuple[str, dict]:
        bundle = {
            "body": self.request.body.decode(),
            "args": parse_args(self.request.query_arguments),
            "path": self.path_kwargs,
            "headers": headers_to_dict(self.request.headers),
        }
        method = self.request.method
        code = format_request(json.dumps(bundle), self.kernel_language) + "\n" + self.sources[method]
        answer = await self.execute_code(client, kernel, code)
        if method not in self.response_sources:
            return answer, {}
        return answer, json.loads(await self.execute_code(client, kernel, self.response_sources[method]))

    # The stock verbs wait for a second future after _handle_request; here it is the whole of the work.
    async def get(self, **_):
        await self._handle_request()

    post = put = delete = options = get

    def on_finish(self):
        REQUESTS.labels(self.request.path, self.get_status()).inc()
        SECONDS.labels(self.request.path).observe(self.request.request_time())


class MetricsHandler(JSONErrors):
    """GET /metrics in Prometheus' text format."""

    def get(self):
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


class NotFound(JSONErrors):
    """Any path that no cell serves."""

    def prepare(self):
        self.send_error(404, message=f"There is nothing at {self.request.path}; ask POST /recommend.")


class Personality(NotebookHTTPPersonality):
    """The stock personality with the handlers above, which ends the process if the notebook cannot be seeded."""

    error: Exception | None = None

    async def init_configurables(self):
        try:
            await super().init_configurables()
        except Exception as error:  # the seed notebook is the user's code: anything can come out of it
            self.error = error
            self.parent.io_loop.stop()
            return
        print(f"Ready on http://{self.parent.ip}:{self.parent.port} — POST /recommend", flush=True)

    def create_request_handlers(self):
        stock = super().create_request_handlers()
        ours = [(path, CellHandler, *how) for path, kind, *how in stock if kind is NotebookAPIHandler]
        others = [row for row in stock if row[1] not in (NotebookAPIHandler, NotFoundHandler)]
        return [*ours, (r"/metrics", MetricsHandler), *others, (r".*", NotFound)]


def create_personality(*args, **kwargs) -> Personality:
    """What Kernel Gateway calls (`KernelGatewayApp.api`)."""
    return Personality(*args, **kwargs)


def serve(run_dir: str, ip: str, port: int, kernels: int) -> None:
    """Serve a run until SIGTERM or Ctrl-C.

    Raises:
        WorkbookError: the run is not complete, the port is taken, or the notebook failed while a kernel was seeded.
    """
    run = resolve(run_dir)
    need(run, "model", "index")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            raise WorkbookError(
                f"cannot listen on {ip}:{port}: {error.strerror}. Choose another: make serve PORT=8081"
            ) from error
    seeded = run / NOTEBOOK.name
    with atomic(seeded) as temporary:
        notebook = papermill.execute_notebook(str(NOTEBOOK), None, {"run_dir": str(run)}, prepare_only=True)
        temporary.write_text(json.dumps(notebook), encoding="utf-8")
    print(f"Loading {shown(run)} …", flush=True)
    app = KernelGatewayApp.instance(
        config=Config({"KernelManager": {"transport": "ipc"}}),
        api=__name__,
        ip=ip,
        port=port,
        port_retries=0,
        seed_uri=str(seeded),
        prespawn_count=kernels,
        log_level="WARN",
    )
    app.initialize([])
    app.start()
    if error := app.personality.error:
        said = next((f"{a['ename']}: {a['evalue']}" for a in error.args if isinstance(a, dict) and "ename" in a), error)
        raise WorkbookError(f"{shown(NOTEBOOK)} failed while its kernel was started: {said}")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 1 to 65535")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 after a clean stop, 1 with one line on what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m lib.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="outputs/quick", help="the run to serve (default: %(default)s)")
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on (default: %(default)s)")
    parser.add_argument("--kernels", type=int, default=1, help="notebook kernels, each answers one request at a time")
    args = parser.parse_args(argv)
    try:
        serve(args.run, args.ip, args.port, args.kernels)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
