"""A notebook kernel that serves: a process of its own, seeded with a notebook's cells for one run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import NamedTuple

from jupyter_client import AsyncKernelManager

from lib.runs import ROOT


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
        self.manager = AsyncKernelManager(transport="ipc", connection_file=f"{self.folder.name}/kernel.json")
        self.target: Target | None = None
        self.client = None
        self.killed = False

    async def start(self, threads: int) -> None:
        """Start the process; `threads` bounds those that PyTorch uses."""
        # One thread for numpy's BLAS: its threads and PyTorch's would spin against each other, at four times the time.
        bound = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
        # PyTorch keeps what it compiled for each shape of a batch; a thousand of them, as usual, gain nothing here.
        kept = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}
        await self.manager.start_kernel(cwd=str(ROOT), env={**os.environ, **bound, **kept})
        self.client = self.manager.client()
        self.client.start_channels(iopub=False, stdin=False, hb=False)  # all that is wanted comes with the reply
        self.gone = asyncio.create_task(self._gone())

    async def alive(self) -> bool:
        """Whether the process is there, and not about to end."""
        return not self.killed and await self.manager.is_alive()

    async def seed(self, cells: list[str], limit: float) -> None:
        """Run cells one after another.

        Raises:
            Broken: one raised an exception.
            Lost: the kernel died, or took longer than `limit` seconds.
        """
        ends = asyncio.get_running_loop().time() + limit
        for cell in cells:
            reply = await self._execute(cell, ends - asyncio.get_running_loop().time())
            if reply["status"] != "ok":
                raise Broken(f"{reply['ename']}: {reply['evalue']}")

    async def answer(self, endpoint: Endpoint, requests: list[str], limit: float) -> list[tuple[str, str, str, str]]:
        """Answer requests together: see `cells.run`.

        Raises:
            Lost: the kernel died, or took longer than `limit` seconds and was killed.
        """
        arguments = ", ".join(map(repr, (*endpoint, requests)))
        call = f"__import__('lib.cells').cells.run({arguments})"
        reply = await self._execute("", limit, answers=call)
        answers = reply["user_expressions"]["answers"]
        if answers["status"] != "ok":
            await self.kill()
            raise Lost(f"its cells could not be run: {answers['ename']}: {answers['evalue']}")
        return answers["data"]["application/json"]

    async def kill(self) -> None:
        """End the process at once; whoever waits for it finds it gone."""
        self.killed = True
        await self.manager.signal_kernel(signal.SIGKILL)

    async def stop(self) -> None:
        """End the process at once, if it is there, and remove what it left."""
        self.killed = True
        if self.client:
            self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)
        self.folder.cleanup()

    async def _execute(self, code: str, limit: float, **expressions: str) -> dict:
        asked = {"silent": True, "store_history": False, "allow_stdin": False, "user_expressions": expressions}
        reply = asyncio.ensure_future(self.client.execute(code, **asked, reply=True))
        try:
            await asyncio.wait({reply, self.gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                return reply.result()["content"]
        finally:
            reply.cancel()  # or it would take the reply to what is executed next
        if self.gone.done():
            raise Lost("it died")
        await self.kill()
        raise Lost(f"it gave no answer within {limit:.3g} s")

    async def _gone(self) -> None:
        while await self.manager.is_alive():
            await asyncio.sleep(0.1)


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
