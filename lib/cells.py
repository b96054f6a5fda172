"""Inside a notebook kernel: run the cells of an address for each request, and keep what they print."""

from __future__ import annotations

import traceback
from pathlib import Path

from IPython import get_ipython
from IPython.utils.capture import capture_output


class Answers(list):
    """What a kernel sends back to the gateway: (body, response info, what else was printed, error) of each request."""

    def _repr_json_(self):
        return list(self)


def run(cell: str, info: str | None, together: str | None, requests: list[str]) -> Answers:
    """Answer requests with the cells of one address.

    The answer is the last line that a cell prints which is a JSON object. Whatever else it prints is handed back
    apart: a stray print must not reach the client.

    Args:
        cell: the source of the cell `# POST /recommend`, say, which finds a request in REQUEST.
        info: that of its ResponseInfo cell, which prints status and headers, if there is one.
        together: that of its Together cell, if there is one: it runs first where several requests wait, all of them
            in REQUESTS, to do for all at once what costs less so.
        requests: JSON texts.
    """
    names = get_ipython().user_ns
    said = ""
    if together and len(requests) > 1:
        names["REQUESTS"] = requests
        _, said, error = _printed(together)
        said += error  # no answer is lost by it: each request does its own work
    answers = Answers()
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
    """Run a cell as a notebook does. -> its last line that is a JSON object, its other output, its error."""
    with capture_output() as captured:
        ran = get_ipython().run_cell(source, store_history=False)
    lines = captured.stdout.splitlines()
    if not ran.success:
        error = ran.error_before_exec or ran.error_in_exec
        at = [f"{Path(f.filename).name} line {f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-1:]]
        return "", captured.stdout + captured.stderr, f"{type(error).__name__} at {' '.join(at)}: {error}"
    last = next((i for i in reversed(range(len(lines))) if lines[i].startswith("{")), None)
    if last is None:
        return "", "\n".join(lines) + captured.stderr, "the cell printed no JSON object"
    return lines[last], "\n".join(lines[:last] + lines[last + 1 :]) + captured.stderr, ""
