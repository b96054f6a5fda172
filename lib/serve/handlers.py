"""HTTP: tokens, limits of a request, errors as JSON, and a log line for each request."""

import asyncio
import hmac
import json
import logging
import os
import re
import uuid

from kernel_gateway.notebook_http.request_utils import headers_to_dict, parse_args
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from tornado.netutil import is_valid_ip
from tornado.web import HTTPError, RequestHandler, stream_request_body

from lib.serve import contract
from lib.serve.cells import Reply
from lib.serve.kernels import Lost
from lib.serve.service import Service

TOKEN = "KG_AUTH_TOKEN"  # Kernel Gateway's own environment variable
CLIENT_GONE = 499  # nginx's status for a client that closed the connection
OPEN = ("/health", "/ready")  # the probes of a load balancer have no token
REQUEST_ID = re.compile(r"[\w.:-]{1,100}")
REQUESTS = Counter("recommend_requests", "Requests by path and status.", ["path", "status"])
SECONDS = Histogram("recommend_request_seconds", "Seconds from request to answer.", ["path"])
HEADERS = 2**16  # bytes of a request's path and headers
DIGITS = 20  # of a Content-Length that are read: Python refuses to convert thousands of digits
RETRY, CLOSE = {"Retry-After": "1"}, {"Connection": "close"}
CORS = {  # for pages of the sites that the service allows
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
log = logging.getLogger(__name__)


class Refusal(HTTPError):
    """An error answer with a message for the client."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.message, self.headers = message, headers or {}


@stream_request_body  # refuses a large body before it is read
class Handler(RequestHandler):
    """The rules of every address."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
    id = ""
    reply: asyncio.Future | None = None  # of a kernel, once it is requested

    def initialize(self, service: Service, name: str = "other", methods: tuple[str, ...] = ("GET",)) -> None:
        """Take the address's name, its label in the metrics. Clients can invent paths, so unknown paths share one."""
        self.service, self.name, self.body = service, name, bytearray()
        self.allowed = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]

    def set_default_headers(self) -> None:
        """Set the headers of every answer. Tornado calls this method before all others, and again before an error."""
        own = self.request.headers.get("X-Request-Id", "")
        self.id = self.id or (own if REQUEST_ID.fullmatch(own) else uuid.uuid4().hex)
        self.set_header("X-Request-Id", self.id)
        self.set_header("Content-Type", "application/json")

    def prepare(self) -> None:
        """Refuse a request because of its headers, before its body is read."""
        method, headers = self.request.method, self.request.headers
        self.service.under_way.add(self)
        if self.service.stopping:
            raise Refusal(503, "The service is stopping.", RETRY | CLOSE)
        if len(self.request.uri) + sum(len(name) + len(value) for name, value in headers.get_all()) > HEADERS:
            raise Refusal(431, f"The path and the headers are over {HEADERS // 1024} KiB.", CLOSE)
        # A browser asks by OPTIONS, without the token, whether another site's page may send a request.
        free = self.request.path in OPEN or (method == "OPTIONS" and self.service.origins)
        if not free and not self._authorized():
            raise Refusal(401, f"Send the header Authorization: Bearer <{TOKEN}>.", {"WWW-Authenticate": "Bearer"})
        if not free and not self._known_host():
            raise Refusal(403, f"This is not {self.request.host_name[:100]}: set {TOKEN}, or serve with --no-token.")
        if method == "OPTIONS":
            return
        if method not in self.allowed:
            raise HTTPError(405)
        if encoding := headers.get("Content-Encoding", ""):
            raise Refusal(415, f"The body is encoded with {encoding}: send it plain.", {"Accept-Encoding": "identity"})
        length = headers.get("Content-Length", "0")
        if not length.isdecimal():  # for example two lengths
            raise Refusal(400, f"The header Content-Length is {length[:50]!r}.", CLOSE)
        self._check_size(int(length[:DIGITS]))
        kind = headers.get("Content-Type", "").split(";")[0].strip().lower()
        if method in ("POST", "PUT") and kind != "application/json":
            raise Refusal(415, "Send JSON, with the header Content-Type: application/json.")

    def data_received(self, chunk: bytes) -> None:
        """Collect the body up to the limit. A body in chunks has no Content-Length."""
        if len(self.body) <= contract.BODY_LIMIT:
            self.body += chunk

    async def get(self, **path: str) -> None:
        """Answer any method by the subclass's `answer`."""
        self._check_size(len(self.body))
        await self.answer(**path)

    head = post = put = delete = get

    def options(self, **_: str) -> None:
        """Name the allowed methods."""
        self.set_header("Allow", ", ".join(self.allowed))
        self.clear_header("Content-Type")
        self.set_status(204)

    def finish(self, chunk: str | bytes | None = None) -> asyncio.Future:
        """Add CORS headers for the sites that the service allows. Pages of others cannot send requests."""
        origin, origins = self.request.headers.get("Origin", ""), self.service.origins
        if origins:
            self.set_header("Vary", "Origin")
        if origin and origins & {origin, "*"}:
            for name, value in {**CORS, "Access-Control-Allow-Origin": origin}.items():
                self.set_header(name, value)
        return super().finish(chunk)

    def write_error(self, status_code: int, **kwargs) -> None:
        """Send every error in the contract's form. Exceptions go to the log, not to the client."""
        error = kwargs.get("exc_info", (None, None))[1]
        message = getattr(error, "message", "The service failed to answer; its log says why.")
        headers = getattr(error, "headers", {})
        if status_code == 405:
            headers = {"Allow": ", ".join(self.allowed)}
            message = f"{self.request.path} takes {headers['Allow']}."
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(contract.failure(status_code, message).body)

    def log_exception(self, kind, error, trace) -> None:
        """Log unexpected exceptions. Refusals are in the request's own line."""
        if not isinstance(error, HTTPError):
            log.error("the gateway failed", exc_info=(kind, error, trace), extra={"request_id": self.id})

    def on_connection_close(self) -> None:
        """Forget a client that has gone: no kernel needs to answer it."""
        self.service.under_way.discard(self)
        if self.reply:
            self.reply.cancel()

    def _log(self) -> None:
        """Count the request and log it. Tornado calls this method at the end."""
        self.service.under_way.discard(self)
        status, seconds = self.get_status(), self.request.request_time()
        REQUESTS.labels(self.name, status).inc()
        SECONDS.labels(self.name).observe(seconds)
        fields = {"request_id": self.id, "method": self.request.method, "path": self.request.path, "status": status}
        fields["ms"] = round(1000 * seconds, 1)
        if self.service.log_text and self.request.method == "POST":
            fields["body"] = bytes(self.body).decode(errors="replace")
        log.info("request", extra=fields)

    def compute_etag(self) -> None:
        """Send no ETag: clients do not cache answers."""

    def _authorized(self) -> bool:
        token = os.environ.get(TOKEN, "")
        scheme, _, sent = self.request.headers.get("Authorization", "").partition(" ")
        # tornado decodes headers as latin-1; the variable may hold bytes that are not UTF-8.
        same = hmac.compare_digest(sent.encode("latin-1"), os.fsencode(token))
        return not token or (scheme.lower() == "bearer" and same)

    def _known_host(self) -> bool:
        """Return False for the name of a site whose owner has it lead to this machine (DNS rebinding)."""
        host = self.request.host_name
        return self.service.hosts is None or host in self.service.hosts or is_valid_ip(host.strip("[]"))

    def _check_size(self, length: int) -> None:
        if length > contract.BODY_LIMIT:
            raise Refusal(413, f"The body is over {contract.BODY_LIMIT // 1024} KiB.", CLOSE)


class CellHandler(Handler):
    """An address of the notebook: a kernel runs its cell."""

    async def answer(self, **path: str) -> None:
        pool = self.service.pool
        if not self.service.ready:
            raise Refusal(503, "The service is starting.", {"Retry-After": "5"})
        self.reply = asyncio.ensure_future(pool.ask(*self._job(path)))
        try:
            reply = await self.reply
        except asyncio.CancelledError:
            self.set_status(CLIENT_GONE, "Client Closed Request")
            return
        except asyncio.QueueFull as error:
            raise Refusal(429, f"{pool.limits.queue} requests wait already.", RETRY) from error
        except TimeoutError as error:
            raise Refusal(503, f"No answer within {pool.limits.time:g} s.", RETRY) from error
        except Lost as error:
            raise Refusal(503, str(error), RETRY) from error
        if reply.error:
            self._report("a cell failed", reply.error, reply.error.split(":")[0])
            raise HTTPError(500)
        if reply.printed:
            self._report("a cell printed more than its answer", reply.printed, f"{len(reply.printed)} characters")
        self._send(reply)

    def _report(self, event: str, output: str, outline: str) -> None:
        """Log the output of a cell. It may quote the listener: without --log-text only its outline is logged."""
        text = output[:2000] if self.service.log_text else f"{outline} (--log-text shows all)"
        log.warning(event, extra={"request_id": self.id, "output": text})

    def _send(self, reply: Reply) -> None:
        for name, value in reply.headers.items():
            self.set_header(name, value)
        self.set_status(reply.status)
        self.finish(reply.body)

    def _job(self, path: dict[str, str]) -> tuple[str, str]:
        """Return the address and the cell's REQUEST: Kernel Gateway's, without the token."""
        try:
            body = self.body.decode()
            arguments = parse_args(self.request.query_arguments)
        except UnicodeDecodeError as error:
            part = "body" if error.object == self.body else "query string"
            raise Refusal(400, f"The {part} is not UTF-8: {error.reason} at byte {error.start}.") from error
        method = "GET" if self.request.method == "HEAD" else self.request.method
        headers = {k: v for k, v in headers_to_dict(self.request.headers).items() if k != "Authorization"}
        request = {"body": body, "args": arguments, "path": path, "headers": headers}
        return f"{method} {self.name}", json.dumps(request)


class ReadyHandler(CellHandler):
    """GET /ready: every kernel runs the cell. The service is ready if one succeeds. Checks of a second share one."""

    async def answer(self, **path: str) -> None:
        replies = await self.service.check(*self._job(path)) if self.service.ready else []
        good = [reply for reply in replies if reply.status == 200]
        if not good:
            raise Refusal(503, "No kernel is ready.", {"Retry-After": "5"})
        kernels = len(self.service.pool.slots)
        body = json.loads(good[0].body) | {"kernels": kernels, "kernels_ready": len(good)}
        self._send(good[0]._replace(body=json.dumps(body)))


class HealthHandler(Handler):
    """GET /health: the process is alive. It needs no kernel, because all may be busy."""

    async def answer(self) -> None:
        self.finish(contract.health().body)


class MetricsHandler(Handler):
    """GET /metrics in Prometheus' text format."""

    async def answer(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


class NotFoundHandler(Handler):
    """All other paths."""

    def prepare(self) -> None:
        self.allowed = [self.request.method]
        super().prepare()
        raise Refusal(404, f"There is nothing at {self.request.path}; the service is POST /recommend.")
