"""Inside a notebook kernel: run the cells of an address for each request, and keep what they print."""

from __future__ import annotations

import asyncio
import io
import json
import traceback
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from types import CodeType

from IPython import get_ipython


async def serve(socket: str, limit: int) -> None:
    """Answer what is asked over a Unix socket, as long as this kernel lives.

    The kernel's own protocol takes 4 ms for a cell that does nothing. Here a line is a batch of requests, the arguments
    of `run` as JSON; the line that comes back is what that returns. The kernel's loop takes both, one after the other.

    Args:
        socket: a path, where nothing is yet.
        limit: bytes that a line may have.
    """
    await asyncio.start_unix_server(_converse, socket, limit=limit)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(json.dumps(run(*json.loads(line))).encode() + b"\n")
        await writer.drain()


def run(cell: str, info: str | None, together: str | None, requests: list[str]) -> list[tuple[str, str, str, str]]:
    """Answer requests with the cells of one address.

    The answer is the last line that a cell prints which is a JSON object. Whatever else it prints is handed back
    apart: a stray print must not reach the client.

    Args:
        cell: the source of the cell `# POST /recommend`, say, which finds a request in REQUEST.
        info: that of its ResponseInfo cell, which prints status and headers, if there is one.
        together: that of its Together cell, if there is one: it runs first where several requests wait, all of them
            in REQUESTS, to do for all at once what costs less so.
        requests: JSON texts.

    Returns:
        Of each request body, response info, what else was printed, error.
    """
    names = get_ipython().user_ns
    said = ""
    if together and len(requests) > 1:
        names["REQUESTS"] = requests
        said = "".join(_run(together))  # an error too: no answer is lost by it, as each request does its own work
    answers = []
    for request in requests:
        names["REQUEST"] = request
        body, other, error = _printed(cell)
        head = ""
        if info and not error:
            head, more, error = _printed(info)
            other += more
        answers.append((body, head, said + other, error))
        said = ""
    return answers


def _printed(source: str) -> tuple[str, str, str]:
    """Run a cell. -> its last line that is a JSON object, its other output, its error."""
    out, err, error = _run(source)
    lines = out.split("\n")  # JSON may have other ends of lines inside
    last = next((i for i in reversed(range(len(lines))) if lines[i].startswith("{")), None)
    if last is None or error:
        return "", out + err, error or "the cell printed no JSON object"
    return lines[last], "\n".join(lines[:last] + lines[last + 1 :]) + err, ""


def _run(source: str) -> tuple[str, str, str]:
    """Run a cell. -> what it printed to stdout, and to stderr; its error."""
    out, err, failed = io.StringIO(), io.StringIO(), ""
    try:
        with redirect_stdout(out), redirect_stderr(err):
            exec(_compiled(source), get_ipython().user_ns)
    except (Exception, SystemExit) as error:
        at = [f"{Path(f.filename).name} line {f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-1:]]
        failed = f"{type(error).__name__} at {' '.join(at)}: {error}"
    return out.getvalue(), err.getvalue(), failed


@lru_cache
def _compiled(source: str) -> CodeType:
    """A cell as code, its magics translated; made once, which takes as long as to run it.

    Not all is as in a notebook: there is no `await` outside functions, and a last expression is not shown.
    """
    return compile(get_ipython().transform_cell(source), "cell", "exec", dont_inherit=True)
