"""A kernel's own process: it runs the cells that the gateway sends, and returns what they print."""

import asyncio
import gc
import json
import os
import signal
import socket
import threading
import traceback
from multiprocessing import parent_process
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from ipykernel.inprocess.ipkernel import InProcessKernel
from IPython.utils.capture import capture_output
from tqdm import tqdm

from lib.core.paths import ROOT

LIMIT = 2**30  # bytes of a batch of requests, or of its answers


class Reply(NamedTuple):
    """The answer of an address's cells to one request. The status is 500 if a cell failed."""

    status: int
    headers: dict[str, str]
    body: str
    printed: str  # the cells' other output
    error: str  # the failure of a cell, "" without one


def serve(connection: socket.socket) -> None:
    """Be a kernel until the gateway ends or kills this process."""
    threading.Thread(target=_end_with_gateway, daemon=True).start()
    os.setsid()  # a Ctrl-C in the terminal is for the gateway, which lets its kernels finish
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(ROOT)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # the output of libraries must not mix with the gateway's log
    os.dup2(nowhere, 2)
    gc.freeze()  # a collection would write to the memory that all kernels share, and so copy it
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore of the system, which a killed kernel would leave
    asyncio.run(_converse(connection))


def _end_with_gateway() -> None:
    parent_process().join()
    os._exit(1)


async def _converse(connection: socket.socket) -> None:
    """Load cells and answer requests. A message and its reply are one line of JSON each."""
    reader, writer = await asyncio.open_connection(sock=connection, limit=LIMIT)
    notebook = Notebook()
    while line := await reader.readline():
        message = json.loads(line)
        reply = await notebook.load(**message) if "startup" in message else notebook.answer(**message)
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()


class Notebook:
    """The cells of a notebook in an IPython shell. A Jupyter kernel without its sockets provides the shell."""

    def __init__(self) -> None:
        self.shell = InProcessKernel().shell
        self.endpoints: dict[str, dict[str, CodeType]] = {}

    async def load(self, startup: list[str], endpoints: dict[str, dict[str, str]]) -> str:
        """Run the start-up cells and compile the others. -> the error, "" if there is none."""
        try:
            for source in startup:
                with capture_output(display=False):
                    code = self.shell.transform_cell(source)
                    result = await self.shell.run_cell_async(source, silent=True, transformed_cell=code)
                result.raise_error()
            for address, sources in endpoints.items():
                self.endpoints[address] = {mark: self._compile(source) for mark, source in sources.items()}
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def answer(self, address: str, requests: list[str]) -> list[Reply]:
        """Run the cells of an address for each request.

        The cells find a request (JSON) in REQUEST. If there are several, the Together cell runs first and finds them in
        REQUESTS. The answer is the last line of output that is a JSON object: a stray print must not reach the client.
        """
        cells, names = self.endpoints[address], self.shell.user_ns
        replies, printed = [], ""
        if "Together" in cells and len(requests) > 1:
            names["REQUESTS"] = requests
            printed = "".join(self._run(cells["Together"]))  # an error, too: the answers do not depend on this cell
        for request in requests:
            names["REQUEST"], head = request, {}
            body, more, error = self._output(cells[""])
            printed += more
            if "ResponseInfo" in cells and not error:
                info, more, error = self._output(cells["ResponseInfo"])
                printed += more
                try:
                    head = json.loads(info or "{}")
                except ValueError:
                    error = "the ResponseInfo cell printed no JSON object"
            status = 500 if error else head.get("status", 200)
            replies.append(Reply(status, head.get("headers", {}), body, printed, error))
            printed = ""
        return replies

    def _compile(self, source: str) -> CodeType:
        """Compile a cell with its magics. It cannot `await`, and its last expression is not shown."""
        return compile(self.shell.transform_cell(source), "cell", "exec", dont_inherit=True)

    def _output(self, code: CodeType) -> tuple[str, str, str]:
        """Run a cell. -> its last line that is a JSON object, its other output, its error."""
        out, err, error = self._run(code)
        lines = out.split("\n")  # not splitlines: JSON may contain Unicode's other line breaks
        last = next((i for i in reversed(range(len(lines))) if lines[i].startswith("{")), None)
        if last is None or error:
            return "", out + err, error or "the cell printed no JSON object"
        return lines.pop(last), "\n".join(lines) + err, ""

    def _run(self, code: CodeType) -> tuple[str, str, str]:
        """Run a cell. -> its output on stdout, its output on stderr, its error."""
        failure = ""
        with capture_output(display=False) as output:
            try:
                exec(code, self.shell.user_ns)
            except (Exception, SystemExit) as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                failure = f"{type(error).__name__} at {Path(last.filename).name} line {last.lineno}: {error}"
        return output.stdout, output.stderr, failure
