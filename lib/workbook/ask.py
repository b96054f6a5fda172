"""Ask the service for songs, and start one for the moment if none runs."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.core.paths import resolve

HINT = "make serve keeps a service running, which answers in milliseconds."
WAIT = 30.0  # seconds for an answer


def ask(text: str, run: str, port: int) -> str:
    """Return the songs for a text as lines for the terminal. `run` is served if no service listens on the port.

    Raises:
        WorkbookError: the service refuses the request, or cannot start.
    """
    url = f"http://127.0.0.1:{port}"
    try:
        running = "tracks" in json.loads(_read(f"{url}/ready"))
    except (OSError, ValueError):  # nothing listens there, or another program
        running = False
    with nullcontext() if running else _service(run, port):
        try:
            answer = json.loads(_read(f"{url}/recommend", json.dumps({"text": text}).encode()))
        except urllib.error.HTTPError as error:
            raise WorkbookError(f"{url}: {json.load(error)['error']['message']}") from error
    hint = HINT
    if running:
        hint = "" if _serves(run, answer["model"]) else f"The service on port {port} serves another run than {run}."
    ends = filter(None, (answer.get("note"), hint))
    read = understood(answer.get("understood", {}))
    return "\n".join([f'"{text}"' + f"  ({read})" * bool(read), *map(song, answer["tracks"]), *ends])


def _serves(run: str, model: str) -> bool:
    """Return True if a run has the model with this fingerprint."""
    try:
        return read_json(resolve(run) / "index" / "index.json")["model"] == model
    except (OSError, ValueError, LookupError):
        return False


def understood(conditions: dict) -> str:
    """Return the conditions that the service read in a text: "genre: jazz; not tempo: slow"."""
    wanted = [f"{kind}: {' or '.join(values)}" for kind, values in conditions.items() if kind != "not"]
    unwanted = [f"not {kind}: {' or '.join(values)}" for kind, values in conditions.get("not", {}).items()]
    return "; ".join(wanted + unwanted)


def song(track: dict) -> str:
    """Return a line for a track: score, title, artist; mood, genre and year."""
    name = " — ".join(filter(None, (track["title"], track["artist"])))
    facts = ", ".join(str(track[fact]) for fact in ("mood", "genre", "year") if track.get(fact))
    return f"  {track['score']:.2f}  {name}" + f"  [{facts}]" * bool(facts)


def _read(url: str, body: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('KG_AUTH_TOKEN', '')}"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=WAIT) as answer:
        return answer.read()


@contextmanager
def _service(run: str, port: int) -> Iterator[None]:
    """Serve a run on a port until the end of the block."""
    command = [sys.executable, "-m", "lib.workbook", "serve", "--run", run, "--port", str(port), "--kernels", "1"]
    print(f"Starting a service on {run} …", flush=True)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            if not any(line.startswith("Ready") for line in process.stdout):
                log.seek(0)
                raise WorkbookError(log.read().strip().removeprefix("error: "))
            yield
        finally:
            process.terminate()
