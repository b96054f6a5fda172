"""Notebook 08 as the source of the service: its start-up cells, and the cells behind each address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import papermill

from lib.core.paths import NOTEBOOKS

NOTEBOOK = NOTEBOOKS / "08_serve.ipynb"
ADDRESS = re.compile(r"#\s+(ResponseInfo |Together |)((?:GET|PUT|POST|DELETE) /\S*)")


class Endpoint(NamedTuple):
    """The sources of the cells behind an address.

    Attributes:
        cell: prints the answer to the request in REQUEST.
        info: prints the answer's status and headers (`# ResponseInfo POST /recommend`).
        together: prepares several requests, which are in REQUESTS (`# Together POST /recommend`).
    """

    cell: str
    info: str | None = None
    together: str | None = None


class Cells(NamedTuple):
    """The start-up cells, and the endpoints by address, such as "POST /recommend"."""

    startup: list[str]
    endpoints: dict[str, Endpoint]


def read(run: Path) -> Cells:
    """Return the cells of notebook 08, with `run` as its parameter."""
    notebook = papermill.execute_notebook(str(NOTEBOOK), None, {"run_dir": str(run)}, prepare_only=True)
    startup, marked = [], {"": {}, "ResponseInfo ": {}, "Together ": {}}
    for source in (cell.source for cell in notebook.cells if cell.cell_type == "code"):
        if match := ADDRESS.match(source):
            marked[match[1]][match[2]] = source
        else:
            startup.append(source)
    answers, info, together = marked.values()
    return Cells(startup, {name: Endpoint(cell, info.get(name), together.get(name)) for name, cell in answers.items()})
