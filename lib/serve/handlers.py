"""What the gateway answers over HTTP: who may ask, what may be sent, errors as JSON, a line in the log for each."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
import uuid
from typing import TYPE_CHECKING

from kernel_gateway.notebook_http.request_utils import headers_to_dict, parse_args
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from tornado.web import HTTPError, RequestHandler, stream_request_body

from lib.serve import contract
from lib.serve.kernels import Broken, Lost
from lib.serve.pool import Full

if TYPE_CHECKING:
    from lib.serve.gateway import Personality


TOKEN = "KG_AUTH_TOKEN"  # Kernel Gateway's own name for it
GONE = 499  # nginx's word for a client that did not wait
OPEN = ("/health", "/ready")  # what a load balancer's probe asks without a token
REQUEST_ID = re.compile(r"[\w.:-]{1,100}")
REQUESTS = Counter("recommend_requests", "Requests by path and status.", ["path", "status"])
SECONDS = Histogram("recommend_request_seconds", "Seconds from request to answer.", ["path"])
log = logging.getLogger(__name__)


@stream_request_body  # so that a body over the limit is refused before it is read
class Handler(RequestHandler):
    """What holds of every address: who may ask, what may be sent, errors as JSON, one line in the log."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
    methods: tuple[str, ...] = ("GET",)
    name = "other"  # in the metrics: a path that anybody can make up must not become a label
    id = None

    def prepare(self):
        """Refuse what can be refused by its headers."""
        asked, headers = self.request, self.request.headers
        given = headers.get("X-Request-Id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.set_header("X-Request-Id", self.id)
        self.set_header("Content-Type", "application/json")
        self.body = bytearray()
        self.personality.under_way.add(self)
        if self.personality.stopping:
            self.refuse(503, "The service is stopping.", {"Retry-After": "1", "Connection": "close"})
        if asked.path not in OPEN and not self._may_ask():
            self.refuse(401, f"Send the header Authorization: Bearer <{TOKEN}>.", {"WWW-Authenticate": "Bearer"})
        if asked.method == "OPTIONS":
            return
        if asked.method not in self.allowed():
            raise HTTPError(405)
        if encoding := headers.get("Content-Encoding", ""):
            self.refuse(415, f"The body is encoded with {encoding}: send it plain.", {"Accept-Encoding": "identity"})
        length = headers.get("Content-Length", "0")
        if not length.isdecimal():  # two of them, say
            self.refuse(400, f"The header Content-Length is {length!r}.", {"Connection": "close"})
        if int(length) > contract.BODY_LIMIT:
            self._too_large()
        kind = headers.get("Content-Type", "").split(";")[0].strip().lower()
        if asked.method in ("POST", "PUT") and kind != "application/json":
            self.refuse(415, "Send JSON, with the header Content-Type: application/json.", {})

    def data_received(self, chunk: bytes):
        """Collect the body, as far as it may go: one that is sent in chunks does not say before how long it is."""
        if len(self.body) <= contract.BODY_LIMIT:
            self.body += chunk

    async def answer(self, **_):
        """What GET, POST, PUT and DELETE do here."""
        raise NotImplementedError

    async def get(self, **path):
        if len(self.body) > contract.BODY_LIMIT:
            self._too_large()
        await self.answer(**path)

    head = post = put = delete = get

    def options(self, **_):
        """Say which methods there are. No header of CORS: other sites' pages may not ask."""
        self.set_header("Allow", ", ".join(self.allowed()))
        self.clear_header("Content-Type")
        self.set_status(204)

    def allowed(self) -> tuple[str, ...]:
        """The methods of this address."""
        head = ("HEAD",) if "GET" in self.methods else ()
        return (*self.methods, *head, "OPTIONS")

    def refuse(self, status: int, message: str, headers: dict[str, str] | None = None):
        """End the request with an error."""
        error = HTTPError(status)
        error.said, error.headers = message, headers or {}
        raise error

    def write_error(self, status_code: int, **kwargs):
        """Every error in the contract's form, whoever raised it; what broke is in the log, not in the answer."""
        error = kwargs.get("exc_info", (None, None))[1]
        headers = {"Content-Type": "application/json", **getattr(error, "headers", {})}
        self.id = self.id or uuid.uuid4().hex  # tornado refuses methods that it does not know before `prepare`
        headers["X-Request-Id"] = self.id
        message = getattr(error, "said", None) or "The service failed to answer; its log says why."
        if status_code == 405:
            headers["Allow"] = ", ".join(self.allowed())
            message = f"{self.request.path} takes {headers['Allow']}."
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(contract.failure(status_code, contract.CODES.get(status_code, "internal"), message).body)

    def log_exception(self, kind, error, trace):
        """Errors that were answered on purpose are in the request's own line."""
        if not isinstance(error, HTTPError):
            log.error("the gateway failed", exc_info=(kind, error, trace), extra={"request_id": self.id})

    def on_connection_close(self):
        """The client has gone: nothing more is owed to it."""
        self.personality.under_way.discard(self)

    def on_finish(self):
        self.personality.under_way.discard(self)
        REQUESTS.labels(self.name, self.get_status()).inc()
        SECONDS.labels(self.name).observe(self.request.request_time())

    def _log(self):
        """Called by tornado when the request is done."""
        told = {
            "request_id": self.id,
            "method": self.request.method,
            "path": self.request.path,
            "status": self.get_status(),
            "ms": round(1000 * self.request.request_time(), 1),
        }
        if self.personality.log_text and self.request.method == "POST":
            told["body"] = bytes(self.body).decode(errors="replace")
        log.info("request", extra=told)

    def compute_etag(self):
        """None: answers are not cached by the client."""

    @property
    def personality(self) -> Personality:
        return self.settings["kg_personality"]

    def _may_ask(self) -> bool:
        token = os.environ.get(TOKEN, "")
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        sent = given.encode("latin-1")  # as tornado reads headers
        return not token or (scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode()))

    def _too_large(self):
        self.refuse(413, f"The body is over {contract.BODY_LIMIT // 1024} KiB.", {"Connection": "close"})


class CellHandler(Handler):
    """Runs a notebook's cell for a request."""

    def initialize(self, sources: dict[str, str], name: str):
        self.methods, self.name = tuple(sources), name
        self.asked: asyncio.Future | None = None

    def on_connection_close(self):
        super().on_connection_close()
        if self.asked:
            self.asked.cancel()  # no kernel need answer what nobody waits for

    async def answer(self, **path):
        pool = self.personality.pool
        if not self.personality.ready:
            self.refuse(503, "The service is starting.", {"Retry-After": "5"})
        self.asked = asyncio.ensure_future(pool.ask(self._address, self._request(path)))
        try:
            reply = await self.asked
        except asyncio.CancelledError:
            self.set_status(GONE, "Client Closed Request")
            return
        except Full:
            self.refuse(429, f"{pool.limits.queue} requests wait already.", {"Retry-After": "1"})
        except TimeoutError:
            self.refuse(503, f"No answer within {pool.limits.time:g} s.", {"Retry-After": "1"})
        except Lost as error:
            self.refuse(503, str(error), {"Retry-After": "1"})
        except Broken as error:
            self.report("a cell failed", str(error), str(error).split(":")[0])
            raise HTTPError(500) from error
        if reply.printed:
            self.report("a cell said more than its answer", reply.printed, f"{len(reply.printed)} characters")
        self.send(reply.status, reply.body, reply.headers)

    def report(self, event: str, said: str, outline: str):
        """Log what a cell said beside its answer; only its outline where what listeners write is not to be logged."""
        told = said[:2000] if self.personality.log_text else f"{outline} (--log-text shows all)"
        log.warning(event, extra={"request_id": self.id, "said": told})

    def send(self, status: int, body: str, headers: dict[str, str]):
        """Send what a cell answered."""
        for name, value in headers.items():
            self.set_header(name, value)
        self.set_status(status)
        self.finish(body)

    @property
    def _address(self) -> str:
        method = "GET" if self.request.method == "HEAD" else self.request.method
        return f"{method} {self.name}"

    def _request(self, path: dict[str, str]) -> str:
        """What a cell finds in REQUEST, as stock Kernel Gateway puts it there; the body as text, the token left out."""
        try:
            body = self.body.decode()
        except UnicodeDecodeError as error:
            self.refuse(400, f"The body is not UTF-8: {error.reason} at byte {error.start}.")
        headers = {k: v for k, v in headers_to_dict(self.request.headers).items() if k != "Authorization"}
        args = parse_args(self.request.query_arguments)
        return json.dumps({"body": body, "args": args, "path": path, "headers": headers})


class ReadyHandler(CellHandler):
    """GET /ready: asks the cell of every kernel; ready while one of them is."""

    async def answer(self, **path):
        pool = self.personality.pool
        replies = await pool.ask_all(self._address, self._request(path)) if self.personality.ready else []
        good = [reply for reply in replies if reply.status == 200]
        if not good:
            self.refuse(503, "No kernel is ready.", {"Retry-After": "5"})
        body = json.loads(good[0].body) | {"kernels": len(pool.slots), "kernels_ready": len(good)}
        self.send(200, json.dumps(body), good[0].headers)


class HealthHandler(Handler):
    """GET /health: the process is alive, though all of its kernels may be at work; so no kernel is asked."""

    name = "/health"

    async def answer(self):
        self.finish(contract.health().body)


class MetricsHandler(Handler):
    """GET /metrics in Prometheus' text format."""

    name = "/metrics"

    async def answer(self):
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest())


class NotFound(Handler):
    """Any path that no cell serves."""

    def prepare(self):
        self.methods = (self.request.method,)
        super().prepare()
        self.refuse(404, f"There is nothing at {self.request.path}; ask POST /recommend.")
