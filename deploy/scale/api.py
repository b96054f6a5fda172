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
from functools import partial
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
from deploy.scale.events import hints, personal
from deploy.scale.events.door import Door, Refused
from deploy.scale.events.sessions import Sessions, Trends
from lib.search.recommender import Recommender, open_run
from lib.serve import contract

DEADLINE = 1.0  # seconds for Triton's answer
DOUBT = 5.0  # seconds in which a server that failed gets a third of the deadline, so that another can still answer
LOOK = 1.0  # seconds between two looks at the registry, unless a hint comes earlier
START = 30.0  # seconds in which a worker should be ready
# Requests of a worker that may wait for Triton, and fewer where Triton would answer them late. A worker refuses more at
# once. Otherwise the door would give up all of them after a second, and Triton's work would be lost.
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
FEATURES = os.environ.get("FEATURES", "")
LOCAL = os.environ.get("ENCODER", "triton") == "local"
EVENTS = os.environ.get("EVENTS", "")  # the folder of the log; without it there are no events
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
        self.door = Door(EVENTS)
        self.tritons = [InferenceServerClient(target, channel_args=CHANNEL) for target in TRITON]
        self.sessions = Sessions(FEATURES)
        self.trends = Trends(self.sessions)
        self.turns, self.failed = count(), [-DOUBT] * len(self.tritons)  # when each server failed last
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
            this, now = (turn + nth) % len(self.tritons), time.perf_counter()
            doubted = [now - failed < DOUBT for failed in self.failed]
            part = doubted[this] and nth == 0 and not all(doubted)
            left = DEADLINE / 3 if part else max(DEADLINE - now + started, 0.001)
            try:
                result = await self.tritons[this].infer(model, [query], outputs=outputs, client_timeout=left)
            except InferenceServerException as error:
                FAILED.labels(error.status()).inc()
                last, self.failed[this] = error, time.perf_counter()
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

    async def body(self, served: Served, request: contract.RecommendRequest, pooled: bool) -> bytes:
        """Return what is cached for a request: its answer, or the pool that sessions and trends choose from.

        Raises:
            Refused: the answer is an error.
        """
        if pooled:
            vectors = await self.encode(served, request.text, request.history)
            answer, body = personal.pool(served.songs, request, vectors)
        else:
            answer = await self.answer(served, request)
            body = answer.status == 200 and self.door.pack(answer.content, request)
        if answer.status != 200:
            raise Refused(answer)
        return body

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


def canonical(request: personal.RecommendRequest) -> personal.RecommendRequest:
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
            "session": None,
            "trending": 0.0,
        }
    )


def key(served: Served, request: contract.RecommendRequest, pooled: bool = False) -> str:
    """Return the cache's key of a canonical request. It changes with the model and the index.

    `pooled`: of its pool, which does not depend on what is chosen from it.
    """
    left = {"top_k", "diversity", "explain"} if pooled else set()
    wish = request.model_dump_json(exclude=left)
    return f"{served.prefix}:{hashlib.sha256(wish.encode()).hexdigest()}"


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Follow the registry as long as the worker lives."""
    app.state.tier = tier = Tier()
    tasks = asyncio.gather(tier.follow(), tier.trends.follow())
    with suppress(TimeoutError):  # the port opens when a version is ready, or after START without one
        await asyncio.wait_for(tier.first.wait(), START)
    async with hints.listen(tier.look.set, tier.cache.local, EDGE):
        yield
    tasks.cancel()
    with suppress(asyncio.CancelledError):
        await tasks
    await asyncio.gather(*(triton.close() for triton in tier.tritons))
    await tier.cache.redis.aclose()
    await tier.sessions.close()
    await asyncio.to_thread(tier.door.close)


app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)


@app.post("/recommend")
async def recommend(request: Request) -> Response:
    """Recommend tracks: from the cache, or by Triton and the index."""
    tier: Tier = request.app.state.tier
    parsed, served = contract.parse(await read(request), personal.RecommendRequest), tier.served
    if isinstance(parsed, contract.Answer):
        return send(parsed)
    if not served:
        return unavailable("The service is starting.")
    wish, memory = canonical(parsed), await tier.sessions.recall(parsed.session)
    pooled = bool(memory.events or (parsed.trending and tier.trends.tracks))
    make, name = partial(tier.body, served, wish, pooled), key(served, wish, pooled)
    try:
        packed, source = await tier.cache.answer(name, make)
    except Full:
        ANSWERS.labels("refused").inc()
        return fail(429, "Too many requests wait already.", {"Retry-After": "1"})
    except GONE:
        return unavailable("The encoder does not answer.")
    ANSWERS.labels(source).inc()
    if pooled:
        wish = wish.model_copy(update={"trending": parsed.trending})
        answer = personal.answer(served.songs, wish, packed, memory, tier.trends)
        packed = tier.door.pack(answer.content, wish)
    # An answer of one's own must not be cached outside the tier.
    own = parsed.session or parsed.trending or wish.history or wish.liked or wish.disliked
    body, shown = tier.door.send(packed, request, parsed.session)
    headers = {
        "Cache-Control": "private, no-store" if own else f"public, max-age={TTL}",
        "X-Served": served.prefix,
        "X-Key": name,
        "X-Found": source,
    }
    return Response(body, headers=headers | shown, media_type="application/json")


@app.post("/events")
async def events(request: Request) -> Response:
    """Take events of listeners. 202: they are on the disk."""
    tier: Tier = request.app.state.tier
    if not tier.door.journal:
        raise HTTPException(404)
    body = await read(request)
    if not tier.served:
        return unavailable("The service is starting.")
    taken = await tier.door.take(body, tier.served.songs)
    await tier.sessions.remember(taken)
    return send(contract.Answer(202, {"accepted": len(taken)}))


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
    tier: Tier = request.app.state.tier
    if not tier.served:
        return unavailable("The service is starting.")
    return send(tier.door.describe(personal.openapi(tier.served.songs.moods)))


@app.get("/trending")
async def trending(request: Request) -> Response:
    """The tracks that are played most now, of a mood or a genre if one is named."""
    tier: Tier = request.app.state.tier
    if not tier.served:
        return unavailable("The service is starting.")
    names = [request.query_params.get(name) for name in ("mood", "genre")]
    return send(personal.trending(tier.served.songs, tier.trends, *names))


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


@app.exception_handler(Refused)
async def refused(request: Request, error: Refused) -> Response:
    """Answer a refusal."""
    return send(*error.args)


async def read(request: Request) -> bytes:
    """Return the body of a request. Refused: 415 or 413 if it is not JSON or too large."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(contract.failure(415, "Send JSON, with the header Content-Type: application/json."))
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > contract.BODY_LIMIT:
            raise Refused(contract.failure(413, f"The body is over {contract.BODY_LIMIT // 1024} KiB."))
    return body


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
