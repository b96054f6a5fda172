"""Hints over UDP: a worker hears at once of a new version or of a dropped answer.

A hint may be lost, so nothing depends on it. Workers look at the registry every second anyway (`LOOK` in api.py), and
caches drop each answer after its time (`TTL` in cache.py). A hint only makes that earlier.

A datagram is a JSON object and 16 bytes of its HMAC-SHA256. It is sent three times, and applied once: a receiver
remembers the last 4,096 numbers of each source. A source is one start of a sender, so numbers begin anew with each. The
time is signed too. A receiver refuses what is older than half a minute, and forgets a source only after that time, so a
recorded datagram is never applied again. (A worker that has started since has nothing to drop.)

Settings, as environment variables: HINTS_KEY, a file of at least 16 random bytes; HINTS, the receivers of a sender as
host:port,host:port; HINTS_LISTEN, the host:port of a receiver.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import random
import secrets
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from prometheus_client import Counter
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints, ValidationError

MOST = 1200  # bytes of a datagram: no network divides it
MAC = 16  # bytes of the signature
TIMES = 3  # copies of a hint
GAP = (0.01, 0.02)  # seconds between two copies: a short loss takes one of them
BURST = 64  # hints between two gaps; many more would fill a receiver's buffer
BUFFER = 1 << 20  # bytes of that buffer: a worker that opens a version reads nothing for a third of a second
WINDOW = 4096  # numbers of a source that are remembered
SOURCES = 1024  # sources that are remembered
AGE = 30.0  # seconds between the clocks of a sender and a receiver, at most
HEARD = Counter("hints", "Datagrams by fate: applied, again, forged, wrong (malformed), old, crowded.", ["fate"])
log = logging.getLogger("uvicorn.error")


class Hint(BaseModel):
    """A hint: look at the registry ("version"), or drop the answer with this key of the cache ("drop")."""

    source: str = Field(max_length=64)
    number: int = Field(ge=1, lt=2**53)
    at: FiniteFloat  # the sender's Unix time
    kind: Literal["version", "drop"]
    value: Annotated[str, StringConstraints(pattern="^[0-9a-f:]*$", max_length=200)] = ""


@dataclass
class Window:
    """The last numbers of a source. Bit n stands for `newest` - n."""

    newest: int = 0
    bits: int = 0
    at: float = 0.0  # the newest time of the source

    def first(self, number: int) -> bool:
        """Return True once for each number; False for one that is older than the window."""
        behind = self.newest - number
        if behind < 0:
            self.bits = ((self.bits << -behind if -behind < WINDOW else 0) | 1) & ((1 << WINDOW) - 1)
            self.newest = number
            return True
        if behind >= WINDOW or self.bits >> behind & 1:
            return False
        self.bits |= 1 << behind
        return True


class Sender:
    """A source of hints.

    Args:
        targets: hosts and ports of the receivers.
        key: the receivers' key.
    """

    def __init__(self, targets: list[tuple[str, int]], key: bytes) -> None:
        self.targets, self.key = targets, key
        self.source, self.numbers = secrets.token_hex(8), count(1)

    def pack(self, kind: str, value: str = "") -> bytes:
        """Return the datagram of the next hint."""
        hint = Hint(source=self.source, number=next(self.numbers), at=time.time(), kind=kind, value=value)
        body = hint.model_dump_json().encode()
        return body + _sign(self.key, body)

    def send(self, hints: Iterable[tuple[str, str]]) -> None:
        """Send hints, each a kind and a value, three times to every target: about 1,400 hints a second."""
        hints = list(hints)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for start in range(0, len(hints), BURST):
                datagrams = [self.pack(*hint) for hint in hints[start : start + BURST]]
                for _ in range(TIMES):
                    for target in self.targets:
                        with suppress(OSError):  # an unknown host or a lost network loses this hint
                            for datagram in datagrams:
                                out.sendto(datagram, target)
                    time.sleep(random.uniform(*GAP))


class Receiver(asyncio.DatagramProtocol):
    """Call `apply` once with each genuine hint."""

    def __init__(self, key: bytes, apply: Callable[[Hint], None]) -> None:
        self.key, self.apply = key, apply
        self.windows: dict[str, Window] = {}

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Apply a datagram's hint, and count the datagram by its fate."""
        fate = self._take(data, time.time())
        HEARD.labels(fate).inc()

    def _take(self, data: bytes, now: float) -> str:
        body, mac = data[:-MAC], data[-MAC:]
        if len(data) > MOST or not hmac.compare_digest(mac, _sign(self.key, body)):
            return "forged"
        try:
            hint = Hint.model_validate_json(body)
        except ValidationError:  # a sender of another release
            return "wrong"
        if abs(now - hint.at) > AGE:
            return "old"
        if hint.source not in self.windows and len(self.windows) >= SOURCES:
            self.windows = {source: w for source, w in self.windows.items() if now - w.at <= AGE}
            if len(self.windows) >= SOURCES:
                return "crowded"
        window = self.windows.setdefault(hint.source, Window())
        window.at = max(window.at, hint.at)
        if not window.first(hint.number):
            return "again"
        self.apply(hint)
        return "applied"


@asynccontextmanager
async def listen(look: Callable[[], None], answers: MutableMapping[str, bytes], edge: str) -> AsyncIterator[None]:
    """Apply hints to a worker while the block runs, if HINTS_LISTEN is set.

    Args:
        look: has the worker look at the registry now.
        answers: the worker's own cache.
        edge: the address of its Varnish.
    """
    bans = ThreadPoolExecutor(1)  # of its own: a Varnish that hangs must not keep the worker from the registry

    def apply(hint: Hint) -> None:
        if hint.kind == "version":
            look()
        else:
            answers.pop(hint.value, None)
            bans.submit(ban, edge, "X-Key", hint.value)

    transport = None
    if address := os.environ.get("HINTS_LISTEN"):
        try:
            transport = await receive(_target(address), read_key(Path(os.environ["HINTS_KEY"])), apply)
        except (OSError, ValueError, KeyError) as error:
            log.warning("no hints are heard (%s): the worker follows the registry without them", error)
    try:
        yield
    finally:
        if transport:
            transport.close()
        bans.shutdown(wait=False, cancel_futures=True)


async def receive(address: tuple[str, int], key: bytes, apply: Callable[[Hint], None]) -> asyncio.DatagramTransport:
    """Open a socket that calls `apply` once with each genuine hint. Close the result to end it.

    Raises:
        OSError: the port is in use.
    """
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    try:
        own.setblocking(False)
        own.bind(address)
        loop = asyncio.get_running_loop()
        return (await loop.create_datagram_endpoint(lambda: Receiver(key, apply), sock=own))[0]
    except OSError:
        own.close()
        raise


def ban(edge: str, header: str, value: str) -> None:
    """Have Varnish drop objects: other versions' (X-Served), or one answer (X-Key). Without Varnish do nothing."""
    with suppress(OSError):
        urllib.request.urlopen(urllib.request.Request(edge, method="BAN", headers={header: value}), timeout=1)


def tell(kind: str, value: str = "", settings: Mapping[str, str] = os.environ) -> None:
    """Send a hint as HINTS and HINTS_KEY say. If that fails, print why: the receivers do without it."""
    try:
        if targets := [_target(target) for target in settings.get("HINTS", "").split(",") if target]:
            Sender(targets, read_key(Path(settings["HINTS_KEY"]))).send([(kind, value)])
    except (OSError, ValueError, KeyError) as error:
        print(f"no hint was sent ({error}): the workers follow without it, a little later", file=sys.stderr)


def make_key(file: Path) -> None:
    """Make a key, once."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_bytes(secrets.token_bytes(32))


def read_key(file: Path) -> bytes:
    """Return a key.

    Raises:
        OSError: it cannot be read.
        ValueError: it is so short that it could be guessed.
    """
    key = file.read_bytes()
    if len(key) < MAC:
        raise ValueError(f"{file} has fewer than {MAC} bytes")
    return key


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256)[:MAC]


def _target(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
