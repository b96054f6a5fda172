"""Real gateways on free ports, and a client, for the tests of the service."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.conftest import free_port

START = 120  # seconds for a start; it takes six on an idle machine


class Client:
    """Requests to a server on this machine."""

    def __init__(self, port: int, token: str = ""):
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self.headers = {"Authorization": f"Bearer {token}".encode()} if token else {}

    def __call__(self, path="/recommend", body=None, method=None, kind="application/json"):
        """Return status, parsed body and headers. `body` is bytes, or a value to send as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = self.headers | ({"Content-Type": kind} if data is not None else {})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text, answer.headers

    def raw(self, path, method, body=None, headers=None):
        """Return status, bytes and headers of a request with any method and any body."""
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=20)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def together(self, texts):
        """Send requests at the same time. Return status, body, headers and seconds of each."""
        answers = [None] * len(texts)

        def ask(i):
            started = time.monotonic()
            answers[i] = (*self(body={"text": texts[i]}), time.monotonic() - started)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers


class Gateway:
    """A running gateway.

    Attributes:
        process: its process.
        client: sends requests to it.
        lines: its lines on stderr.
    """

    def __init__(self, process: subprocess.Popen, client: Client):
        self.process, self.client, self.lines = process, client, []
        self.reader = threading.Thread(target=lambda: self.lines.extend(process.stderr), daemon=True)
        self.reader.start()

    def wait_until_ready(self) -> None:
        any(line.startswith("Ready") for line in self.process.stdout)
        assert self.process.poll() is None, self.lines

    def events(self, event: str) -> list[dict]:
        """Return the log's records of an event."""
        return [record for record in map(json.loads, self.lines) if record["event"] == event]

    def both_ready(self) -> bool:
        return self.client("/ready")[1].get("kernels_ready") == 2


BROKEN = Path(__file__).parent / "jupyter"  # its kernelspec `python3` is no JSON: the service must not read it


def command(notebook: Path | None = None) -> list[str]:
    """Return the command line `workbook`. With another notebook its kernels start without PyTorch."""
    if notebook is None:
        return [sys.executable, "-m", "lib.workbook"]
    code = f"""
import pathlib, sys
from lib.serve import kernels, notebook
from lib.workbook import cli
notebook.NOTEBOOK = pathlib.Path({str(notebook)!r})
kernels.FORKS.set_forkserver_preload(["lib.serve.cells"])
sys.exit(cli.main(sys.argv[1:]))"""
    return [sys.executable, "-c", code]


@contextlib.contextmanager
def launched(run, *options, notebook=None, token="", **popen):
    """Launch a gateway on a run, and end it after the block."""
    port = free_port()
    environment = {**os.environ, "KG_AUTH_TOKEN": token, "JUPYTER_PATH": str(BROKEN)}
    process = subprocess.Popen(
        [*command(notebook), "serve", "--run", str(run), "--port", str(port), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **popen,
    )  # fmt: skip
    running = Gateway(process, Client(port, token))
    try:
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)
        running.reader.join(5)


@contextlib.contextmanager
def gateway(run, *options, **settings):
    """Launch a gateway on a run, wait until it is ready, and end it after the block."""
    with launched(run, *options, **settings) as running:
        running.wait_until_ready()
        yield running


def wait_for(condition, seconds=60):
    """Return the condition's value as soon as it is true. The limit is for busy machines; it promises nothing."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return value


def point(link: Path, run: Path) -> None:
    """Move a link in one step."""
    temporary = link.with_suffix(".new")
    temporary.symlink_to(run)
    temporary.replace(link)
