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
from multiprocessing import current_process, forkserver, get_context, resource_tracker
from pathlib import Path

from lib.core.files import read_json
from lib.core.processes import threads
from lib.serve import cells

LAST = 1.0  # seconds from the end of a kernel's connection to the end of its process
# No fork server on macOS: its own libraries do not work after a fork.
FORKS = get_context("spawn" if sys.platform == "darwin" else "forkserver")
# Kernels are forked from a process with these imports, which take two seconds. All kernels share the code in memory.
PRELOAD = ["lib.core.runs", "lib.search.recommender", "lib.serve.cells", "lib.serve.contract"]
# A terminal's Ctrl-C and `timeout` send their signal to all processes of the group. Only the gateway may act on it.
GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


class Lost(Exception):
    """The kernel died, or hung and was killed. Its requests have no answer."""


class Broken(Exception):
    """The notebook failed in a start-up cell or on the canary request. Another kernel would fail, too."""


def prepare(kernels: int, run: Path) -> None:
    """Set what kernels inherit, before the first one starts: imports, and the threads of their libraries.

    PyTorch is imported if the run's requests are encoded by it. After a promotion to such a run each kernel imports it.
    """
    torch = []
    with suppress(OSError, ValueError, LookupError, TypeError):  # the kernels report a damaged file
        torch = ["sentence_transformers"] * (read_json(run / "index" / "index.json")["encoder"] == "torch")
    FORKS.set_forkserver_preload(PRELOAD + torch)
    os.environ |= {
        "OMP_NUM_THREADS": str(threads(kernels)),
        # numpy's BLAS gets one thread: its threads and the encoder's would spin against each other, four times as slow.
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # glibc would never mmap again what it once did not, and keep 60 MB after some explanations.
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "MALLOC_TRIM_THRESHOLD_": "4000000",
        # PyTorch keeps the code that it compiled for 1024 shapes of a batch by default; here 32 are as fast.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    }


def _forget_fork_server() -> None:
    """Have the next try start a fork server in a new folder: a cleaner of /tmp has removed the socket of this one."""
    current_process()._config.pop("tempdir", None)
    if pid := forkserver._forkserver._forkserver_pid:
        os.kill(pid, signal.SIGKILL)


class Kernel:
    """A notebook kernel in a process of its own. Its methods raise Lost if it dies, or exceeds a limit in seconds."""

    def __init__(self) -> None:
        self.gone: asyncio.Future | None = None  # done when the process has ended
        self.writer: asyncio.StreamWriter | None = None
        self.killed = False

    async def start(self, startup: list[str], endpoints: dict[str, dict[str, str]], limit: float) -> None:
        """Start the process and run a notebook's start-up cells in it. Raise Broken if one fails."""
        ours, theirs = socket.socketpair()
        self.process = FORKS.Process(target=cells.serve, args=(theirs,), daemon=True)
        forked = Future()
        forked.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        # A daemon thread: unlike asyncio.to_thread's, it does not delay the program's end.
        threading.Thread(target=self._fork, args=(theirs, forked), daemon=True).start()
        try:
            async with asyncio.timeout(limit):
                await asyncio.wrap_future(forked)
        except (EOFError, OSError, RuntimeError) as error:
            ours.close()
            reason = f"not within {limit:.3g} s" if isinstance(error, TimeoutError) else error
            raise Lost(f"it could not be forked: {reason}") from error
        # multiprocessing's own sentinel ends with the fork server, too, and kernels outlive that.
        self.end = os.pidfd_open(self.process.pid) if sys.platform == "linux" else os.dup(self.process.sentinel)
        self.gone = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self.end, self._died)
        self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=cells.LIMIT)
        if error := await self._ask({"startup": startup, "endpoints": endpoints}, limit):
            raise Broken(error)

    def alive(self) -> bool:
        """Return True if the process runs and was not killed."""
        return bool(self.gone) and not (self.killed or self.gone.done())

    async def answer(self, address: str, requests: list[str], limit: float) -> list[cells.Reply]:
        """Answer requests in one batch with the cells of an address."""
        message = {"address": address, "requests": requests}
        return [cells.Reply(*fields) for fields in await self._ask(message, limit)]

    def kill(self) -> None:
        """End the process at once."""
        self.killed = True
        if self.gone and not self.gone.done():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # process.kill() does nothing after the fork server's death

    async def stop(self) -> None:
        """End the process, wait for its end, and close the connection."""
        self.kill()
        if self.gone:
            await asyncio.wait({self.gone})
        if self.writer:
            self.writer.close()

    def _fork(self, theirs: socket.socket, forked: Future) -> None:
        try:
            with theirs:
                # The fork server inherits this thread's mask. The resource tracker resets it, so it must start before.
                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
                self.process.start()
            if self.killed:  # `start` has ended in the meantime
                self.process.kill()
            forked.set_result(None)
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                _forget_fork_server()
            forked.set_exception(error)

    async def _ask(self, message: dict, limit: float):
        """Send a message and return the kernel's reply. Kill a kernel that does not reply in time."""
        reply = None
        try:
            self.writer.write(json.dumps(message).encode() + b"\n")
            async with asyncio.timeout(limit):
                reply = json.loads(await self.reader.readuntil())
            return reply
        except TimeoutError as error:
            raise Lost(f"it gave no answer within {limit:.3g} s") from error
        except EOFError as error:
            await asyncio.wait({self.gone}, timeout=LAST)
            dead = self.gone.done()
            raise Lost(f"it died: exit code {self.process.exitcode}" if dead else "its answer broke off") from error
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            raise Lost(str(error)) from error
        finally:
            if reply is None:
                self.kill()  # a late reply would be taken for the next one

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self.end)
        os.close(self.end)
        self.gone.set_result(None)
