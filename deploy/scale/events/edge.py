"""Log what Varnish's own answers showed. Workers do not see them: Varnish notes each in its log, in memory.

    EVENTS=outputs/scale/events python -m deploy.scale.events.edge outputs/scale/varnish

A process that starts reads what is in that memory, too. So an answer may be logged twice, with the same ids.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prometheus_client import Counter

from deploy.scale.events import shown
from deploy.scale.events.journal import Journal
from lib.core.processes import end_with_parent

FORMAT = '{"at": %{VSL:Timestamp:Resp[1]}x, "shown": "%{VCL_Log:shown}x"}'
OVERRUN = Counter("events_edge_overruns", "Times that Varnish's memory was full: answers of the edge are not logged.")


def watch(varnish: Path, *options: str) -> subprocess.Popen:
    """Start to read Varnish's log: a line of JSON for each answer of its own."""
    command = ["varnishncsa", "-n", varnish, "-t", "off", "-j", "-q", "VCL_Log:shown", "-F", FORMAT, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
    return subprocess.Popen(command, preexec_fn=end_with_parent, **pipes)


def lines(line: str) -> bytes:
    """Return the records of an answer. The request's id comes last: it may have spaces, or be missing."""
    about = json.loads(line)
    serving, noted, *request = about["shown"].split(" ", 2)
    return shown.lines(noted.encode(), serving, "".join(request), datetime.fromtimestamp(about["at"], UTC))


def complain(errors: Iterator[str]) -> None:
    """Pass on the errors of varnishncsa, and count lost answers."""
    for error in errors:
        print(error, end="", file=sys.stderr, flush=True)
        if "overrun" in error:
            OVERRUN.inc()


def main(varnish: Path) -> int:
    """Log until SIGTERM, or until Varnish's log ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    journal = Journal(Path(os.environ["EVENTS"]))
    try:
        new = watch(varnish)
        threading.Thread(target=complain, args=[new.stderr], daemon=True).start()
        for process in (watch(varnish, "-d"), new):  # what there is already; then what comes meanwhile and later
            for line in process.stdout:
                journal.add(partial(lines, line))
        return new.wait()
    finally:
        journal.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
