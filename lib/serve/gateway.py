"""Serve notebook 09 with Jupyter Kernel Gateway. The notebook's cells answer; handlers and pool guard them."""

import ipaddress
import logging.config
import os
import re
import resource
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import nbformat
import yaml
from kernel_gateway.gatewayapp import KernelGatewayApp
from kernel_gateway.notebook_http import NotebookHTTPPersonality
from kernel_gateway.notebook_http.request_utils import parameterize_path
from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPMessageDelegate
from tornado.iostream import IOStream
from traitlets import Instance
from traitlets.config import Config

from lib.core.errors import WorkbookError
from lib.core.paths import absolute, shown
from lib.core.runs import need
from lib.serve import contract, notebook
from lib.serve.handlers import HEADERS, TOKEN, CellHandler, HealthHandler, MetricsHandler, NotFoundHandler, ReadyHandler
from lib.serve.limits import Limits
from lib.serve.pages import FILES, PageHandler
from lib.serve.pool import Pool
from lib.serve.service import Service

IDLE, BODY = 75.0, 10.0  # seconds to wait for a request and its headers (load balancers keep 60), and for its body
READ = 4 * HEADERS  # bytes of headers that are read to be refused; of more, the connection is closed without an answer
CONNECTIONS = 1000  # open at most, or half of the files that the process may open
BARE = b"HTTP/1.1 400 Bad Request\r\n\r\n"  # tornado's whole answer to what is not HTTP
ERROR = contract.failure(400, "This is not valid HTTP/1.1.", code="not_http").body.encode()
MALFORMED = BARE[:-2] + (
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(ERROR), ERROR)
)
# Addresses that need no kernel.
OWN = {"/health": HealthHandler, "/metrics": MetricsHandler, **dict.fromkeys(FILES, PageHandler)}
ORIGIN = re.compile(r"\*|https?://[^\s/]+")


class Server(HTTPServer):
    """Tornado's server with a bound on open connections: each holds a file, and a new one needs a free file.

    At the bound, the connection that has waited longest for its client makes room for the new one.
    """

    def initialize(self, *args, service: Service, **settings) -> None:
        """Construct the server: tornado calls this method in the place of `__init__`."""
        super().initialize(*args, **settings)
        self.service = service
        self.since: dict[IOStream, None] = {}  # open connections, by the time from which they wait for a request

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        if len(self.since) >= min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            busy = {handler.request.connection.stream for handler in self.service.under_way if handler.reply}
            oldest = next((waiting for waiting in self.since if waiting not in busy), stream)
            self.since.pop(oldest, None)
            oldest.close()
        self.since[stream], write = None, stream.write
        stream.write = lambda data: write(MALFORMED if data == BARE else data)
        super().handle_stream(stream, address)

    def start_request(self, server_conn: HTTP1ServerConnection, request_conn: object) -> HTTPMessageDelegate:
        if self.since.pop(server_conn.stream, self) is None:
            self.since[server_conn.stream] = None
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: HTTP1ServerConnection) -> None:
        self.since.pop(server_conn.stream, None)
        super().on_close(server_conn)


class Gateway(KernelGatewayApp):
    """Kernel Gateway with a service of its own."""

    service = Instance(Service)

    def init_http_server(self) -> None:
        """Listen. Kernel Gateway's own server waits an hour for a header, and takes any number of connections."""
        limits = {"idle_connection_timeout": IDLE, "body_timeout": BODY, "max_header_size": READ}
        self.http_server = Server(self.web_app, service=self.service, **limits)
        self.http_server.listen(self.port, self.ip)

    def _load_notebook(self, uri: str) -> nbformat.NotebookNode:
        """Return the notebook without a look at kernelspecs: the pool starts kernels of this Python."""
        return nbformat.read(uri, 4)


class Personality(NotebookHTTPPersonality):
    """Kernel Gateway's notebook mode with other handlers, and with a pool that replaces kernels."""

    error: Exception | None = None  # the reason why the service could not start

    async def init_configurables(self) -> None:
        """Start the kernels. Kernel Gateway calls this method when the server listens."""
        try:
            await self.parent.service.start()
            with suppress(BrokenPipeError):  # `| head -1` reads no more
                print(
                    f"Ready on http://{self.parent.ip}:{self.parent.port} — open it in a browser, or POST /recommend",
                    flush=True,
                )
        except Exception as error:  # a service that cannot start must end
            self.error = error
            self.parent.io_loop.stop()

    def create_request_handlers(self) -> list[tuple]:
        """Return tornado's rows: one for each address in the notebook, and those that need no kernel."""
        service = {"service": self.parent.service}
        rows = [(path, handler, service | {"name": path}) for path, handler in OWN.items()]
        for path, cells in self.api_parser.endpoints(self.parent.kernel_manager.seed_source):
            handler = ReadyHandler if path == "/ready" else CellHandler
            rows.append((parameterize_path(path), handler, service | {"name": path, "methods": tuple(cells)}))
        return [*rows, (".*", NotFoundHandler, service)]

    async def shutdown(self) -> None:
        await self.parent.service.stop()


create_personality = Personality  # Kernel Gateway calls this name in the module `KernelGatewayApp.api`


def serve(
    folder: str, ip: str, port: int, limits: Limits, no_token: bool = False, log_text: bool = False,
    origins: Sequence[str] = (),
) -> None:  # fmt: skip
    """Serve a run until SIGTERM or Ctrl-C.

    Args:
        folder: the run's folder, or a link to it; the service follows the link.
        origins: sites whose pages may send requests (CORS), such as "https://app.example"; "*" for any.

    Raises:
        WorkbookError: the run is not complete, the address is taken or open to everybody, or the notebook fails.
    """
    path = absolute(folder)  # not resolved, because the service follows a link
    if not path.exists():
        raise WorkbookError(f"there is no {shown(path)}. Name a run: make promote RUN=…, or make serve RUN=…")
    need(path, "model", "index")
    if wrong := [origin for origin in origins if not ORIGIN.fullmatch(origin)]:
        raise WorkbookError(f"--cors {wrong[0]}: name a site as scheme and host, such as https://app.example.")
    _check_address(ip, port, no_token)
    print(f"Loading {shown(path.resolve())} …", flush=True)
    hosts = None if os.environ.get(TOKEN) or no_token else {"localhost", ip.lower()}
    service = Service(path, Pool(limits), log_text, hosts, origins)
    app = Gateway.instance(
        config=Config(), api=__name__, service=service, ip=ip, port=port, port_retries=0,
        seed_uri=str(notebook.NOTEBOOK), log_level="WARN",
    )  # fmt: skip
    try:
        app.initialize([])
    except OSError as error:  # another program has taken the port since the check
        raise _not_free(ip, port, error) from error
    logging.config.dictConfig(yaml.safe_load(Path(__file__).with_name("logging.yaml").read_text(encoding="utf-8")))
    signal.signal(signal.SIGINT, app._signal_stop)  # Kernel Gateway's own handler asks for a confirmation
    app.start()
    if error := app.personality.error:
        raise WorkbookError(f"{shown(notebook.NOTEBOOK)} could not be started on {shown(path)}: {error}")


def _check_address(ip: str, port: int, no_token: bool) -> None:
    """Raise WorkbookError if the address is taken, or is open to other machines without a token."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _not_free(ip, port, error) from error
    if not (os.environ.get(TOKEN) or no_token or ipaddress.ip_address(address[0]).is_loopback):
        raise WorkbookError(
            f"on {ip} everybody could use the service. Set a token that clients send (export {TOKEN}=$(openssl rand "
            "-hex 32)), or serve without one: make serve IP=… NO_TOKEN=1"
        )


def _not_free(ip: str, port: int, error: OSError) -> WorkbookError:
    return WorkbookError(f"cannot listen on {ip}:{port}: {error.strerror}. Choose another: make serve PORT=8081")
