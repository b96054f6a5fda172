"""A notebook kernel that serves: a process of its own, seeded with a notebook's cells for one run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

from jupyter_client import AsyncKernelClient
from jupyter_client.connect import write_connection_file
from tqdm import tqdm

from lib.core.paths import ROOT

LIMIT = 2**30  # bytes of a batch of requests, or of its answers
LAST = 1.0  # seconds from the end of a kernel's socket to that of its process
# Kernels are forked from a process that has imported what they need and does nothing else: a fresh one serves within a
# second, where its imports alone would take seven, and the code is in memory once. What the gateway imports is among
# it, because multiprocessing imports the program again in each process that it forks. Not on macOS, whose own libraries
# may not be used after a fork.
FORKS = get_context("spawn" if sys.platform == "darwin" else "forkserver")
PRELOADED = ["lib.serve.session", "ipykernel.kernelapp", "kernel_gateway.gatewayapp", "papermill"]


PRELOADED += ["lib.serve.handlers", "lib.serve.cells", "lib.search.recommender"]


FORKS.set_forkserver_preload(PRELOADED)


def bound(threads: int) -> None:
    """Set how many threads PyTorch uses in each kernel: before the first starts, as they inherit what is set then."""
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        # One thread for numpy's BLAS: its threads and PyTorch's would spin against each other, at four times the time.
        "OPENBLAS_NUM_THREADS": "1",
        # PyTorch keeps what it compiled for each shape of a batch; a thousand of them, as usual, gain nothing here.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    }


class Endpoint(NamedTuple):
    """The sources of the cells behind an address: the answer, its status and headers, what to do for many at once."""

    cell: str
    info: str | None = None
    together: str | None = None


class Target(NamedTuple):
    """What to serve: a run's folder, and when its index was written."""

    run: Path
    written: int


class Reply(NamedTuple):
    """What a cell answered, and what it printed besides."""

    status: int
    headers: dict[str, str]
    body: str
    printed: str


class Lost(Exception):
    """The kernel died, or hung and was killed: what it was doing has no answer."""


class Broken(Exception):
    """The notebook failed in a way that another kernel would not mend: while seeding, on the canary, or in a cell."""


class Kernel:
    """One notebook kernel in a process of its own."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="kernel-")  # of its sockets: nobody else's
        self.target: Target | None = None
        self.gone = self.client = self.writer = None
        self.killed = False

    async def start(self, limit: float) -> None:
        """Start the process, and wait until it can be asked.

        Raises:
            Lost: it died, or took longer than `limit` seconds.
        """
        file, cells = f"{self.folder.name}/kernel.json", f"{self.folder.name}/cells"
        write_connection_file(file, transport="ipc", ip=f"{self.folder.name}/socket", key=uuid.uuid4().hex.encode())
        self.process = FORKS.Process(target=_be_a_kernel, args=(file,), daemon=True)
        try:
            async with asyncio.timeout(limit):
                await _apart(self._fork)
        except TimeoutError as error:
            raise Lost(f"it was not forked within {limit:.3g} s") from error
        except (EOFError, OSError, RuntimeError) as error:
            raise Lost(f"it could not be forked: {error}") from error
        self.gone = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self.process.sentinel, self._died)
        self.client = AsyncKernelClient()
        self.client.load_connection_file(file)
        self.client.start_channels(iopub=False, stdin=False, hb=False)  # all that is wanted comes with the reply
        await self.seed([f"await __import__('lib.serve.cells').cells.serve({cells!r}, {LIMIT})"], limit)
        self.reader, self.writer = await asyncio.open_unix_connection(cells, limit=LIMIT)

    def alive(self) -> bool:
        """Whether the process is there, and not about to end."""
        return not (self.killed or self.gone.done())

    async def seed(self, cells: list[str], limit: float) -> None:
        """Run cells one after another.

        Raises:
            Broken: one raised an exception.
            Lost: the kernel died, or took longer than `limit` seconds.
        """
        asked = {"silent": True, "store_history": False, "allow_stdin": False}
        ends = asyncio.get_running_loop().time() + limit
        for cell in cells:
            left = ends - asyncio.get_running_loop().time()
            reply = (await self._wait(self.client.execute(cell, **asked, reply=True), left))["content"]
            if reply["status"] != "ok":
                raise Broken(f"{reply['ename']}: {reply['evalue']}")

    async def answer(self, endpoint: Endpoint, requests: list[str], limit: float) -> list[tuple[str, str, str, str]]:
        """Answer requests together: see `cells.run`.

        Raises:
            Lost: the kernel died, or took longer than `limit` seconds and was killed.
        """
        self.writer.write(json.dumps([*endpoint, requests]).encode() + b"\n")
        try:
            line = await self._wait(self.reader.readline(), limit)
            if line.endswith(b"\n"):
                return json.loads(line)
        except ValueError as error:
            self.kill()
            raise Lost(f"its answer is none: {error}") from error
        except BaseException:
            self.kill()  # what it still sends would be taken for the next answer
            raise
        await asyncio.wait({self.gone}, timeout=LAST)
        self.kill()
        raise Lost(self._how())

    def kill(self) -> None:
        """End the process at once; whoever waits for it finds it gone."""
        self.killed = True
        if not self.gone.done():
            self.process.kill()

    async def stop(self) -> None:
        """End the process at once, if it is there, and remove what it left."""
        self.killed = True
        if self.gone:
            self.kill()
            await asyncio.wait({self.gone})
        if self.client:
            self.client.stop_channels()
        if self.writer:
            self.writer.close()
        self.folder.cleanup()

    def _fork(self) -> None:
        self.process.start()
        if self.killed:  # it was given up meanwhile
            self.process.kill()

    async def _wait(self, coming: Coroutine, limit: float):
        """What comes from the kernel, if it does."""
        reply = asyncio.ensure_future(coming)
        try:
            await asyncio.wait({reply, self.gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                return reply.result()
        except OSError as error:
            await asyncio.wait({self.gone}, timeout=LAST)
            raise Lost(self._how()) from error
        finally:
            reply.cancel()  # or it would take the reply to what is asked next
        if self.gone.done():
            raise Lost(self._how())
        self.kill()
        raise Lost(f"it gave no answer within {limit:.3g} s")

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self.process.sentinel)
        if self.process.exitcode == 255:  # or it is the process that it was forked from that died, and this one lives
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        self.gone.set_result(None)

    def _how(self) -> str:
        return f"it died: exit code {self.process.exitcode}" if self.gone.done() else "its answer broke off"


def _be_a_kernel(connection_file: str) -> None:
    """What the forked process does."""
    from ipykernel.kernelapp import IPKernelApp  # here, as the gateway needs none of it

    os.setsid()  # a Ctrl-C is meant for the gateway, not for what it is answering
    os.chdir(ROOT)
    tqdm.set_lock(threading.RLock())  # the usual one is a semaphore of the system, which a kernel that is killed leaves
    threading.Thread(target=_end_with_gateway, args=(connection_file,), daemon=True).start()
    # The handle: it ends with the process that it was forked from, too.
    IPKernelApp.launch_instance(argv=["-f", connection_file], parent_handle=os.getppid())


def _end_with_gateway(connection_file: str) -> None:
    parent_process().join()
    shutil.rmtree(Path(connection_file).parent, ignore_errors=True)
    os._exit(1)


async def _apart(function: Callable[[], None]) -> None:
    """Call what blocks in a thread, which is not waited for when the program ends."""
    done = Future()

    def call() -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(function())
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    await asyncio.wrap_future(done)


def read(answer: tuple[str, str, str, str]) -> Reply:
    """What the cells of one request left, as a reply.

    Raises:
        Broken: a cell raised an exception, or printed no answer.
    """
    body, info, printed, error = answer
    if error:
        raise Broken(error)
    head = json.loads(info or "{}")
    return Reply(head.get("status", 200), head.get("headers", {}), body, printed)
