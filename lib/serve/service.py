"""The service behind the handlers: a run's folder, which it follows, and the pool that answers."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lib.core.paths import shown
from lib.core.runs import need
from lib.serve.cells import Reply
from lib.serve.kernels import Broken
from lib.serve.pool import Pool, Target

DRAIN = 8.0  # seconds that requests under way have to finish after SIGTERM
TRIES = 3  # attempts to load a run while kernels are lost
LOOK = 0.5  # seconds between two looks at the folder
CHECKED = 1.0  # seconds for which a check of all kernels holds: probes need no token, and must not occupy the kernels
log = logging.getLogger(__name__)


class Service:
    """A run's folder (or a link to it), served by a pool of kernels. The service follows when the run changes."""

    def __init__(
        self, folder: Path, pool: Pool, log_text: bool, hosts: set[str] | None = None, origins: Iterable[str] = ()
    ) -> None:
        self.folder, self.pool = folder, pool
        self.log_text = log_text  # True if the log may contain the listeners' texts
        self.hosts = hosts  # the names that the service has; None: any
        self.origins = {*origins}  # of the sites whose pages may send requests; "*": any
        self.ready = False  # True once the kernels can answer
        self.stopping = False  # True from SIGTERM on
        self.under_way: set[object] = set()  # the handlers of unfinished requests
        self.task: asyncio.Task | None = None  # starts the kernels, then follows the folder
        self.checking: asyncio.Task | None = None  # the latest check of all kernels
        self.next_check = 0.0

    async def start(self) -> None:
        """Start the kernels, then follow the folder."""
        self.task = asyncio.current_task()
        await self.pool.start(self._target())
        self.ready = True
        self.task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Let the requests under way finish, then end the kernels."""
        self.stopping = True
        end = time.monotonic() + DRAIN
        while self.under_way and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if self.task:
            self.task.cancel()
            await asyncio.wait({self.task})
        await self.pool.stop()

    async def check(self, address: str, request: str) -> list[Reply]:
        """Send a request to every kernel, and return their answers. Calls within `CHECKED` seconds share them."""
        if self.checking is None or (self.checking.done() and time.monotonic() >= self.next_check):
            self.next_check = time.monotonic() + CHECKED
            self.checking = asyncio.create_task(self.pool.ask_all(address, request))
        return await asyncio.shield(self.checking)

    def _target(self) -> Target:
        run = self.folder.resolve()
        need(run, "model", "index")
        return Target(run, (run / "index" / "index.json").stat().st_mtime_ns)

    async def _follow(self) -> None:
        """Switch whenever the folder's run is not the one that is served."""
        tries, reported = Counter(), ""
        while True:
            await asyncio.sleep(LOOK)
            try:
                target = self._target()
                if target == self.pool.target:
                    tries, reported = Counter(), ""  # a refused run is tried again when the link leads to it again
                elif tries[target] < TRIES:
                    tries[target] += 1
                    await self._switch(target)
                    tries.clear()
            except Exception as error:  # the next promotion must be followed after any error
                if isinstance(error, Broken):
                    tries[target] = TRIES  # it would fail again
                if str(error) != reported:  # a broken link is seen twice a second, and logged once
                    run = shown(self.pool.target.run)
                    log.error("not switched: the old run is kept", extra={"why": str(error), "run": run})
                reported = str(error)

    async def _switch(self, target: Target) -> None:
        started, to = time.monotonic(), {"to": shown(target.run)}
        log.warning("switching", extra=to)
        await self.pool.switch(target)
        log.warning("switched", extra=to | {"seconds": round(time.monotonic() - started, 1)})
