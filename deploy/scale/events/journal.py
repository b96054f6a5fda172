"""The log of events: JSON lines on disk, a file a process. An append that returns is on the disk.

A thread writes. All that waits while it writes is its next group, so many appends share one fsync. After an error it
cuts the file back to its last good byte and goes on in a new file: who reads the file may have seen the lost bytes.
"""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path

from prometheus_client import Counter, Histogram

from deploy.scale.events.schema import Record

SIZE = 64 * 2**20  # bytes of a file, then the next one is begun
AGE = 3600.0  # seconds of a file, by the monotonic clock
MOST = 20_000  # events that may wait for the disk, and answers whose `shown` may wait
LINGER = 0.2  # seconds in which `shown` records gather, because nobody waits for them
COMMIT = Histogram("events_commit_seconds", "Seconds to write a group of events and have it on the disk.")
DROPPED = Counter("events_dropped", "Answers that were not logged: too many waited, or the disk took none.")
log = logging.getLogger("uvicorn.error")


class Full(Exception):
    """Too many events wait for the disk."""


class Journal:
    """The log's files of this process, in a folder that other processes share.

    Args:
        size, age: bytes and seconds of a file.
        most: events that may wait, and answers that may wait.
    """

    def __init__(self, folder: Path, size: int = SIZE, age: float = AGE, most: int = MOST) -> None:
        self.folder, self.size, self.age, self.most = folder, size, age, most
        process = f"{time.time_ns()}-{os.getpid()}"
        self.names = (folder / f"{process}-{n:06d}.jsonl" for n in count())
        self.file: int | None = None  # a descriptor
        self.changed, self.closed = threading.Condition(), False
        self.waiting: list[tuple[bytes, Future]] = []
        self.events = 0  # those in `waiting`
        self.shown: list[Callable[[], bytes]] = []
        self.thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.thread.start()

    async def append(self, records: Sequence[Record]) -> None:
        """Return when the records are on the disk.

        Raises:
            Full: too many events wait.
            OSError: the disk did not take them. None of them is kept.
        """
        lines = b"".join(record.model_dump_json(exclude_none=True).encode() + b"\n" for record in records)
        kept: Future = Future()
        with self.changed:
            if self.events + len(records) > self.most or self.closed:
                raise Full
            self.waiting.append((lines, kept))
            self.events += len(records)
            self.changed.notify()
        await asyncio.wrap_future(kept)

    def add(self, lines: Callable[[], bytes]) -> None:
        """Log the lines that a function returns, soon and without a wait. The journal's thread calls it.

        They are dropped, and counted, if too many wait or the disk does not take them.
        """
        with self.changed:
            if len(self.shown) < self.most and not self.closed:
                self.shown.append(lines)
                return
        DROPPED.inc()

    def close(self) -> None:
        """Write all that waits, and end the thread."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    def _run(self) -> None:
        while not self.closed or self.waiting or self.shown:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.closed, LINGER)
                waiting, self.waiting, self.events = self.waiting, [], 0
                shown, self.shown = self.shown, []
            # A file that gets no more lines ends, too: old files can be deleted.
            if self.file is not None and time.monotonic() - self.began > self.age:
                self._end()
            if waiting or shown:
                self._commit(waiting, shown)
        self._end()

    def _commit(self, waiting: list[tuple[bytes, Future]], shown: list[Callable[[], bytes]]) -> None:
        """Write a group, and tell those who wait for it."""
        lines, error = [lines for lines, _ in waiting], None
        for make in shown:
            try:
                lines.append(make())
            except Exception:
                DROPPED.inc()
                log.exception("an answer was not logged")
        try:
            with COMMIT.time():
                self._write(b"".join(lines))
        except Exception as problem:  # of any kind: else those who wait would wait for ever
            error = problem
            DROPPED.inc(len(shown))
            log.error("the log of events: %r", problem)
        for _, kept in waiting:
            if kept.set_running_or_notify_cancel():
                kept.set_exception(error) if error else kept.set_result(None)

    def _write(self, lines: bytes) -> None:
        if self.file is not None and (self.good >= self.size or not os.fstat(self.file).st_nlink):
            self._end()  # it is large enough, or somebody has deleted it
        left = memoryview(lines)
        try:
            if self.file is None:
                self._begin()
            while left:
                left = left[os.write(self.file, left) :]
            os.fsync(self.file)
        except OSError:
            self._cut()
            raise
        self.good += len(lines)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path, self.began, self.good = next(self.names), time.monotonic(), 0
        self.file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut could remove the file's name
        finally:
            os.close(folder)

    def _cut(self) -> None:
        """Leave the file with its good bytes only, and end it; remove it if it has none."""
        if self.file is not None:
            with suppress(OSError):
                os.ftruncate(self.file, self.good)
                os.fsync(self.file)
                if not self.good:
                    self.path.unlink()
        self._end()

    def _end(self) -> None:
        if self.file is not None:
            os.close(self.file)
        self.file = None


def read(folder: Path) -> Iterator[dict]:
    """Yield the records of a folder's files, each file in the order of its lines; half a line is left out."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else its process was killed
                    with suppress(ValueError):  # a power cut can leave zeros
                        yield json.loads(line)
