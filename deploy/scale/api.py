"""A worker of the tier: POST /recommend with the contract of lib/serve. Triton encodes the texts.

    PROMETHEUS_MULTIPROC_DIR=/tmp/metrics uvicorn deploy.scale.api:app --port 8090

A worker has no state of its own. It holds the index of the version that the registry serves, and asks Triton for the
encoder of the same version, so an answer cannot mix two versions. With ENCODER=local the worker encodes by itself.
"""

import asyncio
import gc
import hashlib
import logging
import os
import re
import time
import unicodedata
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
from deploy.scale.events import hints
from lib.search.recommender import Recommender, open_run
from lib.serve import contract

DEADLINE = 1.0  # seconds for Triton's answer
LOOK = 1.0  # seconds between two looks at the registry, unless a hint comes earlier
START = 30.0  # seconds in which a worker should be ready
# Requests of a worker that may wait for Triton: as many as Triton answers in time. A worker refuses more at once.
# Otherwise the door would give up all of them after a second, and Triton's work would be lost.
WAITING = int(os.environ.get("WAITING", "48"))
# A server that hangs, or whose machine is gone, closes no connection. So gRPC pings a silent server after half a second
# and gives it up after another half second. Then requests to it fail at once until it is back.
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
ANSWERS = Counter("recommend_answers", "Answers by source; refused: too many requests waited.", ["found"])
FAILED = Counter("recommend_encoder_failures", "Requests that Triton did not answer, by gRPC status.", ["status"])
SECONDS = Histogram("recommend_encoder_seconds", "Seconds from a request to Triton to its vectors.")
log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Served:
    """An open version: its catalogue, and the prefix of its keys in the cache."""

    version: registry.Version
    songs: Recommender
    prefix: str


class Tier:
    """The state of a worker: the served version, clients of Triton, and the cache."""

    def __init__(self) -> None:
        self.served: Served | None = None
        self.first, self.look = asyncio.Event(), asyncio.Event()
        self.cache = Cache("" if LOCAL else REDIS, DEADLINE, WAITING)
        self.tritons = [InferenceServerClient(target, channel_args=CHANNEL) for target in TRITON]
        self.turns = count()
        # After five failures in a row, requests that are not cached are refused for a second without a wait.
        breaker = CircuitBreaker(failure_threshold=5, recovery_timeout=1, expected_exception=InferenceServerException)
        self.vectors = breaker.decorate(self._vectors)
        self.proving, self.proved = asyncio.Lock(), -1.0
        self.proof: contract.Answer | None = None

    async def _vectors(self, model: str, texts: list[str]) -> dict[str, np.ndarray]:
        """Return Triton's vectors of texts, encoded in one batch: text -> (d,) float32.

        Raises:
            InferenceServerException: no server answers within the deadline.
        """
        texts = list(dict.fromkeys(texts))
        query = InferInput("text", [len(texts), 1], "BYTES")
        query.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
        outputs, started, turn = [InferRequestedOutput("vector")], time.perf_counter(), next(self.turns)
        # The servers take turns. If one is gone, or has not loaded the model yet, the next one gets the texts at once.
        for nth in range(len(self.tritons)):
            triton, left = self.tritons[(turn + nth) % len(self.tritons)], DEADLINE - time.perf_counter() + started
            try:
                result = await triton.infer(model, [query], outputs=outputs, client_timeout=max(left, 0.001))
            except InferenceServerException as error:
                FAILED.labels(error.status()).inc()
                last = error
            else:
                SECONDS.observe(time.perf_counter() - started)
                return dict(zip(texts, result.as_numpy("vector"), strict=True))
        raise last

    async def encode(self, served: Served, text: str, history=()) -> dict[str, np.ndarray] | None:
        """Return Triton's vectors of all texts that search reads in a request; None if the worker encodes by itself."""
        if not LOCAL:
            return await self.vectors(served.version.triton, served.songs.read(text, history).texts)

    async def answer(self, served: Served, request: contract.RecommendRequest) -> contract.Answer:
        """Encode the request's texts, then answer by the contract."""
        return contract.answer(served.songs, request, await self.encode(served, request.text, request.history))

    async def ready(self) -> contract.Answer:
        """Answer GET /ready. Encode once a second at most, because anybody may send it without a token."""
        async with self.proving:
            if time.monotonic() - self.proved > 1:
                served = self.served
                self.proof = contract.ready(served.songs, await self.encode(served, "ready?"))
                self.proved = time.monotonic()
            return self.proof

    async def follow(self) -> None:
        """Serve the registry's version, once Triton has it too; look again forever."""
        while True:
            try:
                version = await asyncio.to_thread(registry.serving)
                if version and version != (self.served and self.served.version):
                    self.served, self.proved = await self._open(version), -1.0
                    _freeze()
                    self.first.set()
                    log.info("version %s is served, model %s", version.number, version.model[:12])
                    await self._ban(self.served.prefix)
            except (MlflowException, *GONE):
                pass  # a part of the tier is gone: the worker keeps its version
            except Exception:
                log.exception("the version was not taken")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look.wait(), LOOK)
            self.look.clear()

    async def _ban(self, prefix: str) -> None:
        """Have the edge drop the answers of other versions, after the last request to them has been answered."""
        await asyncio.sleep(2 * DEADLINE)
        await asyncio.to_thread(hints.ban, EDGE, "X-Served", prefix)

    async def _open(self, version: registry.Version) -> Served:
        if not LOCAL:
            await self._vectors(version.triton, ["ready?"])
        songs = await asyncio.to_thread(lambda: open_run(registry.pull(version)))
        served = Served(version, songs, f"{version.model[:16]}:{songs.fingerprints['index'][:16]}")
        await self.answer(served, contract.RecommendRequest(text="ready?"))  # a version that fails is not taken
        return served


def _freeze() -> None:
    """Hide all present objects from the garbage collector.

    A look through half a million objects, which stay anyway, stops a worker for 0.3 s.
    """
    gc.unfreeze()
    gc.collect()  # frees the previous version
    gc.freeze()


def canonical(request: contract.RecommendRequest) -> contract.RecommendRequest:
    """Return the request that stands for all bodies with the same wish. The tier answers it instead of theirs.

    Capitals stay: they distinguish names from other words. So do line breaks, which end sentences, and the history's
    order.
    """
    text, *history = (
        re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text)) for text in (request.text, *request.history)
    )
    return request.model_copy(
        update={
            "text": text,
            "history": history,
            "top_k": request.count,
            "num_recommendations": None,
            "liked": sorted(set(request.liked)),
            "disliked": sorted(set(request.disliked)),
        }
    )


def key(served: Served, request: contract.RecommendRequest) -> str:
    """Return the cache's key of a canonical request. It changes with the model and the index."""
    return f"{served.prefix}:{hashlib.sha256(request.model_dump_json().encode()).hexdigest()}"


class Refused(Exception):
    """An error answer, which is not cached."""


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Follow the registry as long as the worker lives."""
    app.state.tier = tier = Tier()
    task = asyncio.create_task(tier.follow())
    with suppress(TimeoutError):  # the port opens when a version is ready, or after START without one
        await asyncio.wait_for(tier.first.wait(), START)
    async with hints.listen(tier.look.set, tier.cache.local, EDGE):
        yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await asyncio.gather(*(triton.close() for triton in tier.tritons))
    await tier.cache.redis.aclose()


app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)


@app.post("/recommend")
async def recommend(request: Request) -> Response:
    """Recommend tracks: from the cache, or by Triton and the index."""
    tier: Tier = request.app.state.tier
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        return fail(415, "Send JSON, with the header Content-Type: application/json.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > contract.BODY_LIMIT:
            return fail(413, f"The body is over {contract.BODY_LIMIT // 1024} KiB.")
    parsed, served = contract.parse(body), tier.served
    if isinstance(parsed, contract.Answer):
        return send(parsed)
    if not served:
        return unavailable("The service is starting.")
    wish = canonical(parsed)

    async def make() -> bytes:
        answer = await tier.answer(served, wish)
        if answer.status != 200:
            raise Refused(answer)
        return answer.body.encode()

    try:
        answer, source = await tier.cache.answer(key(served, wish), make)
    except Refused as error:
        return send(error.args[0])
    except Full:
        ANSWERS.labels("refused").inc()
        return fail(429, f"{WAITING} requests wait already.", {"Retry-After": "1"})
    except GONE:
        return unavailable("The encoder does not answer.")
    ANSWERS.labels(source).inc()
    personal = wish.history or wish.liked or wish.disliked  # such an answer must not be cached outside the tier
    headers = {
        "Cache-Control": "private, no-store" if personal else f"public, max-age={TTL}",
        "X-Served": served.prefix,
        "X-Key": key(served, wish),
        "X-Found": source,
    }
    return Response(answer, headers=headers, media_type="application/json")


@app.get("/health")
async def health() -> Response:
    """The process is alive."""
    return send(contract.health())


@app.get("/ready")
async def ready(request: Request) -> Response:
    """The served version answers, Triton included."""
    tier: Tier = request.app.state.tier
    if not tier.served:
        return unavailable("The service is starting.")
    try:
        return send(await tier.ready())
    except GONE:
        return unavailable("The encoder does not answer.")


@app.get("/openapi.json")
async def document(request: Request) -> Response:
    """The contract."""
    served = request.app.state.tier.served
    return send(contract.openapi(served.songs.moods)) if served else unavailable("The service is starting.")


@app.get("/metrics")
async def metrics() -> Response:
    """The figures of all workers, in Prometheus' text format."""
    figures = CollectorRegistry()
    multiprocess.MultiProcessCollector(figures)
    return Response(generate_latest(figures), media_type=CONTENT_TYPE_LATEST)


@app.exception_handler(HTTPException)
async def http_error(request: Request, error: HTTPException) -> Response:
    """Answer errors of the framework, such as an unknown path, in the contract's form."""
    return fail(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", error.headers)


def send(answer: contract.Answer, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of the contract as HTTP. No cache may keep it."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(answer.body, answer.status, headers, media_type="application/json")


def fail(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the contract's form."""
    return send(contract.failure(status, message), headers)


def unavailable(message: str) -> Response:
    """Return a 503 that tells the client when to try again."""
    return fail(503, message, {"Retry-After": "1"})
