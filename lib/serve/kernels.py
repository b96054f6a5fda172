"""A notebook kernel in a process of its own, as the gateway sees it."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from typing import NamedTuple

from lib.serve import cells

LAST = 1.0  # seconds from the end of a kernel's connection to the end of its process
# No fork server on macOS: its own libraries do not work after a fork.
FORKS = get_context("spawn" if sys.platform == "darwin" else "forkserver")
FORKS.set_forkserver_preload(["lib.serve.worker"])
# A terminal's Ctrl-C and `timeout` send their signal to all processes of the group. Only the gateway may act on it.
GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


class Reply(NamedTuple):
    """The answer of a cell, and its other output."""

    status: int
    headers: dict[str, str]
    body: str
    printed: str


class Lost(Exception):
    """The kernel died, or hung and was killed. Its requests have no answer."""


class Broken(Exception):
    """The notebook failed: in a start-up cell, on the canary request, or in a cell. Another kernel would fail, too."""


def limit_threads(threads: int) -> None:
    """Set the threads of each kernel's libraries, before the first kernel starts: they inherit the environment."""
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        # numpy's BLAS gets one thread: its threads and PyTorch's would spin against each other, four times as slow.
        "OPENBLAS_NUM_THREADS": "1",
        # PyTorch keeps the code that it compiled for 1024 shapes of a batch by default; here 32 are as fast.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    }


def unwrap(result: Reply | Broken | Lost) -> Reply:
    """Return a reply; raise an error."""
    if isinstance(result, Exception):
        raise result
    return result


class Kernel:
    """A notebook kernel in a process of its own. Its methods raise Lost if it dies, or exceeds a limit in seconds."""

    def __init__(self) -> None:
        self.gone: asyncio.Future | None = None  # done when the process has ended
        self.writer: asyncio.StreamWriter | None = None
        self.killed = False

    async def start(self, limit: float) -> None:
        """Start the process."""
        ours, theirs = socket.socketpair()
        self.process = FORKS.Process(target=cells.serve, args=(theirs,), daemon=True)
        try:
            async with asyncio.timeout(limit):
                await _in_thread(self._fork, theirs)
        except (EOFError, OSError, RuntimeError) as error:
            ours.close()
            reason = f"not within {limit:.3g} s" if isinstance(error, TimeoutError) else error
            raise Lost(f"it could not be forked: {reason}") from error
        self.gone = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self.process.sentinel, self._died)
        self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=cells.LIMIT)

    def alive(self) -> bool:
        """Return True if the process exists and was not killed."""
        return not (self.killed or self.gone.done())

    async def load(self, startup: list[str], endpoints: dict[str, dict[str, str]], limit: float) -> None:
        """Run a notebook's start-up cells. Raise Broken if one fails."""
        if error := await self._ask({"startup": startup, "endpoints": endpoints}, limit):
            raise Broken(error)

    async def answer(self, address: str, requests: list[str], limit: float) -> list[Reply | Broken]:
        """Answer requests in one batch with the cells of an address."""
        return [_reply(*answer) for answer in await self._ask({"address": address, "requests": requests}, limit)]

    async def answer_one(self, address: str, request: str, limit: float) -> Reply:
        """Answer a request. Raise Broken if a cell fails."""
        return unwrap((await self.answer(address, [request], limit))[0])

    def kill(self) -> None:
        """End the process at once."""
        self.killed = True
        if self.gone and not self.gone.done():
            self.process.kill()

    async def stop(self) -> None:
        """End the process, wait for its end, and close the connection."""
        self.kill()
        if self.gone:
            await asyncio.wait({self.gone})
        if self.writer:
            self.writer.close()

    def _fork(self, theirs: socket.socket) -> None:
        with theirs:
            # The fork server inherits this thread's mask. The resource tracker must start before: it resets the mask.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
            self.process.start()
        if self.killed:  # `start` has ended in the meantime
            self.process.kill()

    async def _ask(self, message: dict, limit: float):
        """Send a message and return the kernel's reply. Kill a kernel that does not reply in time."""
        reply = None
        try:
            self.writer.write(json.dumps(message).encode() + b"\n")
            async with asyncio.timeout(limit):
                line = await self.reader.readline()
            if not line.endswith(b"\n"):
                await asyncio.wait({self.gone}, timeout=LAST)
                how = f"it died: exit code {self.process.exitcode}" if self.gone.done() else "its answer broke off"
                raise EOFError(how)
            reply = json.loads(line)
            return reply
        except TimeoutError as error:
            raise Lost(f"it gave no answer within {limit:.3g} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise Lost(str(error)) from error
        finally:
            if reply is None:
                self.kill()  # a late reply would be taken for the next one

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self.process.sentinel)
        if self.process.exitcode == 255:  # perhaps only the fork server died, and this process still runs
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        self.gone.set_result(None)


def _reply(body: str, info: str, printed: str, error: str) -> Reply | Broken:
    try:
        head = json.loads(info or "{}")
    except ValueError:
        error = "the ResponseInfo cell printed no JSON object"
    return Broken(error) if error else Reply(head.get("status", 200), head.get("headers", {}), body, printed)


async def _in_thread(function, *arguments) -> None:
    """Call a blocking function in a daemon thread: unlike asyncio.to_thread's, it does not delay the program's end."""
    done = Future()

    def call() -> None:
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)

    done.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    threading.Thread(target=call, daemon=True).start()
    await asyncio.wrap_future(done)
