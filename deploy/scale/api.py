"""POST /recommend for many: workers without state, Triton's encoder behind them, and the contract of lib/api.

    PROMETHEUS_MULTIPROC_DIR=/tmp/metrics uvicorn deploy.scale.api:app --port 8090

A worker holds the index of the version that the registry has served, and asks Triton for the encoder of that same
version: an answer cannot mix two. With ENCODER=local the run's own form of the encoder computes in the worker.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import time
import unicodedata
import urllib.request
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count

import numpy as np
from circuitbreaker import CircuitBreaker, CircuitBreakerError
from fastapi import FastAPI, Request, Response
from mlflow.exceptions import MlflowException
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from starlette.exceptions import HTTPException
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from deploy.scale import registry
from deploy.scale.cache import TTL, Cache, Full
from lib.search.recommender import Recommender, open_run
from lib.serve import contract

DEADLINE = 1.0  # seconds that Triton has
LOOK = 1.0  # seconds between two looks at the registry
START = 30.0  # seconds in which a worker should serve
# Requests of a worker that wait for Triton: as many as it answers in good time. One more is refused at once, or the
# door would give all of them up after a second, and their work be done for nobody.
WAITING = int(os.environ.get("WAITING", "48"))
# What hangs, or lies on a machine that is gone, closes no connection: one that says nothing for half a second is
# pinged, and given up after another half; so is one that takes a connection and says nothing. From then on it fails at
# once, until it is there again.
CHANNEL = [
    ("grpc.keepalive_time_ms", 500),
    ("grpc.http2.ping_timeout_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
TRITON = os.environ.get("TRITON", "127.0.0.1:8010").split(",")  # gRPC targets
EDGE = os.environ.get("EDGE", "http://127.0.0.1:8082")
REDIS = os.environ.get("REDIS", "redis://127.0.0.1:6379")
LOCAL = os.environ.get("ENCODER", "triton") == "local"
GONE = (InferenceServerException, CircuitBreakerError, TimeoutError)
ANSWERS = Counter("recommend_answers", "Answers by where they were found; refused: too many waited.", ["found"])
FAILED = Counter("recommend_encoder_failures", "Requests that Triton did not answer, by gRPC's status.", ["status"])
SECONDS = Histogram("recommend_encoder_seconds", "Seconds from asking Triton to its vector.")
log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Served:
    """A version, open: its catalogue, and what the keys of its answers begin with."""

    version: registry.Version
    songs: Recommender
    prefix: str
    lowered: bool


class Tier:
    """What a worker has: the served version, Triton and the caches."""

    def __init__(self) -> None:
        self.served: Served | None = None
        self.first = asyncio.Event()
        self.cache = Cache("" if LOCAL else REDIS, DEADLINE, WAITING)
        self.tritons = [InferenceServerClient(target, channel_args=CHANNEL) for target in TRITON]
        self.turns = count()
        # Five that fail in a row, and for a second nobody waits for it: uncached requests are refused at once.
        breaker = CircuitBreaker(failure_threshold=5, recovery_timeout=1, expected_exception=InferenceServerException)
        self.vector = breaker.decorate(self._vector)
        self.proving, self.proved = asyncio.Lock(), -1.0
        self.proof: contract.Answer | None = None

    async def _vector(self, model: str, text: str) -> np.ndarray:
        """The encoder's vector of a text. -> (d,) float32.

        Raises:
            InferenceServerException: there is none within the deadline.
        """
        asked = InferInput("text", [1, 1], "BYTES")
        asked.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
        wanted, started, turn = [InferRequestedOutput("vector")], time.perf_counter(), next(self.turns)
        # Each in turn; and the next at once where one is gone, or has the model not yet.
        for nth in range(len(self.tritons)):
            triton, left = self.tritons[(turn + nth) % len(self.tritons)], DEADLINE - time.perf_counter() + started
            try:
                found = await triton.infer(model, [asked], outputs=wanted, client_timeout=max(left, 0.001))
            except InferenceServerException as error:
                FAILED.labels(error.status()).inc()
                last = error
            else:
                SECONDS.observe(time.perf_counter() - started)
                return found.as_numpy("vector")[0]
        raise last

    async def answer(self, served: Served, asked: contract.RecommendRequest) -> contract.Answer:
        """The encoder's vector, then what lib/api makes of it."""
        return contract.answer(served.songs, asked, await self.encode(served, asked.text))

    async def encode(self, served: Served, text: str) -> np.ndarray | None:
        """Return Triton's vector of a text, None where the worker encodes by itself. -> (d,) float32"""
        if not LOCAL:
            return await self.vector(served.version.triton, unicodedata.normalize("NFKC", text))

    async def prove(self) -> contract.Answer:
        """Answer GET /ready; encode for it once a second at most, because anybody may send it without a token."""
        async with self.proving:
            if time.monotonic() - self.proved > 1:
                served = self.served
                self.proof = contract.ready(served.songs, await self.encode(served, "ready?"))
                self.proved = time.monotonic()
            return self.proof

    async def follow(self) -> None:
        """Serve what the registry says, once Triton has it too; for ever."""
        while True:
            try:
                wanted = await asyncio.to_thread(registry.serving)
                if wanted and wanted != (self.served and self.served.version):
                    self.served, self.proved = await self._open(wanted), -1.0
                    _settle()
                    self.first.set()
                    log.info("version %s is served, model %s", wanted.number, wanted.model[:12])
                    await self._ban(self.served.prefix)
            except (MlflowException, *GONE):
                pass  # one of them is gone: what there is is served
            except Exception:
                log.exception("the version was not taken")
            await asyncio.sleep(LOOK)

    async def _ban(self, served: str) -> None:
        """Have the edge forget the answers of others, when the last that was asked of one has been given."""
        await asyncio.sleep(2 * DEADLINE)
        ban = urllib.request.Request(EDGE, method="BAN", headers={"X-Served": served})
        with suppress(OSError):  # without Varnish there is nothing to forget
            await asyncio.to_thread(urllib.request.urlopen, ban, timeout=1)

    async def _open(self, version: registry.Version) -> Served:
        if not LOCAL:
            await self._vector(version.triton, "ready?")
        songs = await asyncio.to_thread(lambda: open_run(registry.pull(version)))
        lowered = bool(getattr(songs.model.tokenizer, "do_lower_case", False))
        served = Served(version, songs, f"{version.model[:16]}:{songs.fingerprints['index'][:16]}", lowered)
        await self.answer(served, contract.RecommendRequest(text="ready?"))  # it answers, or it is not taken
        return served


def _settle() -> None:
    """Take all that is there now out of the garbage collector's sight.

    Looking through half a million objects, which stay anyway, stops a worker for 0.3 s, ever again.
    """
    gc.unfreeze()
    gc.collect()  # the version before
    gc.freeze()


def key(served: Served, asked: contract.RecommendRequest) -> str:
    """One key for all bodies that have one answer; of another model or index it is another."""
    text = " ".join(unicodedata.normalize("NFKC", asked.text).split())
    same = asked.model_copy(
        update={
            "text": text.lower() if served.lowered else text,
            "top_k": asked.top_k or asked.num_recommendations or contract.DEFAULT_TOP_K,
            "num_recommendations": None,
            "liked": sorted(set(asked.liked)),
            "disliked": sorted(set(asked.disliked)),
        }
    )
    return f"{served.prefix}:{hashlib.sha256(same.model_dump_json().encode()).hexdigest()}"


class Refused(Exception):
    """An answer that is an error: it is not kept."""


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Follow the registry as long as the worker lives."""
    app.state.tier = tier = Tier()
    task = asyncio.create_task(tier.follow())
    with suppress(TimeoutError):  # the port opens when there is something to say, or nobody to say it
        await asyncio.wait_for(tier.first.wait(), START)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await asyncio.gather(*(triton.close() for triton in tier.tritons))
    await tier.cache.redis.aclose()


app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)


@app.post("/recommend")
async def recommend(request: Request) -> Response:
    """The contract's one address."""
    tier: Tier = request.app.state.tier
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        return wrong(415, "Send JSON, with the header Content-Type: application/json.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > contract.BODY_LIMIT:
            return wrong(413, f"The body is over {contract.BODY_LIMIT // 1024} KiB.")
    asked, served = contract.read(body), tier.served
    if isinstance(asked, contract.Answer):
        return said(asked)
    if not served:
        return unavailable("The service is starting.")

    async def make() -> bytes:
        answer = await tier.answer(served, asked)
        if answer.status != 200:
            raise Refused(answer)
        return answer.body.encode()

    try:
        found, where = await tier.cache.answer(key(served, asked), make)
    except Refused as error:
        return said(error.args[0])
    except Full:
        ANSWERS.labels("refused").inc()
        return wrong(429, f"{WAITING} requests wait already.", {"Retry-After": "1"})
    except GONE:
        return unavailable("The encoder does not answer.")
    ANSWERS.labels(where).inc()
    # What says whom somebody likes is nobody else's; the rest may be kept on the way.
    personal = asked.liked or asked.disliked
    headers = {
        "Cache-Control": "private, no-store" if personal else f"public, max-age={TTL}",
        "X-Served": served.prefix,
        "X-Found": where,
    }
    return Response(found, headers=headers, media_type="application/json")


@app.get("/health")
async def health() -> Response:
    """The process is alive."""
    return said(contract.health())


@app.get("/ready")
async def ready(request: Request) -> Response:
    """The served version answers, Triton included."""
    tier: Tier = request.app.state.tier
    if not tier.served:
        return unavailable("The service is starting.")
    try:
        return said(await tier.prove())
    except GONE:
        return unavailable("The encoder does not answer.")


@app.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The contract."""
    served = request.app.state.tier.served
    return said(contract.openapi(served.songs)) if served else unavailable("The service is starting.")


@app.get("/metrics")
async def metrics() -> Response:
    """Figures of all workers, in Prometheus' text format."""
    figures = CollectorRegistry()
    multiprocess.MultiProcessCollector(figures)
    return Response(generate_latest(figures), media_type=CONTENT_TYPE_LATEST)


@app.exception_handler(HTTPException)
async def no_address(request: Request, error: HTTPException) -> Response:
    """What no address answers, in the contract's form."""
    return wrong(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", error.headers)


def said(answer: contract.Answer, headers: dict[str, str] | None = None) -> Response:
    """An answer of lib/api over HTTP; an error is kept nowhere."""
    return Response(answer.body, answer.status, {"Cache-Control": "no-store", **answer.headers, **(headers or {})})


def wrong(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the contract's form."""
    return said(contract.failure(status, contract.CODES.get(status, "internal"), why), headers)


def unavailable(why: str) -> Response:
    """503, and when to ask again."""
    return wrong(503, why, {"Retry-After": "1"})
