"""The service's log: a JSON object a line on stderr, written by a thread of its own."""

import logging
import os
import queue
import threading
import time
from contextlib import suppress

from prometheus_client import Counter
from pythonjsonlogger.json import JsonFormatter

LINES = 1000  # that may wait for a reader of stderr
LAST = 1.0  # seconds at the end for the lines that wait
DROPPED = Counter("recommend_log_lines_dropped", "Log lines that were dropped because the reader of stderr stalled.")


class JSONLines(JsonFormatter):
    """A JSON object a line: time, level, event, and the record's extra fields."""

    converter = time.gmtime
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def process_log_record(self, log_data: dict) -> dict:
        return log_data | {"level": log_data["level"].lower()}


class Stderr(logging.Handler):
    """A handler that never waits: a thread writes, and what finds the queue full is dropped and counted."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()  # a signal's handler may log while a line is put
        self.line = ""  # that is being written
        threading.Thread(target=self._write, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if self.lines.qsize() < LINES:
            self.lines.put(self.format(record))
        else:
            DROPPED.inc()

    def flush(self) -> None:
        """Wait a moment for the lines. Python calls this method at the end."""
        end = time.monotonic() + LAST
        while (self.line or not self.lines.empty()) and time.monotonic() < end:
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            self.line = self.lines.get()
            with suppress(OSError):  # the reader may have gone
                os.write(2, f"{self.line}\n".encode())  # not sys.stderr, whose lock Python needs at the end
            self.line = ""
