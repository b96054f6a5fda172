"""Notebook 08 as the source of the service: its start-up cells, and the cells behind each address."""

import re
from collections import defaultdict
from pathlib import Path

import papermill

from lib.core.paths import NOTEBOOKS

NOTEBOOK = NOTEBOOKS / "08_serve.ipynb"
MARK = re.compile(r"#\s+(ResponseInfo|Together|)\s*((?:GET|PUT|POST|DELETE) /\S*)")


def read(run: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the cells of notebook 08, with `run` as its parameter.

    Returns:
        The start-up cells; and for each address, such as "POST /recommend", its cells by mark: "" for the answer,
        "ResponseInfo" for its status and headers, "Together" for a cell that prepares several requests.
    """
    notebook = papermill.execute_notebook(str(NOTEBOOK), None, {"run_dir": str(run)}, prepare_only=True)
    startup, endpoints = [], defaultdict(dict)
    for source in (cell.source for cell in notebook.cells if cell.cell_type == "code"):
        if match := MARK.match(source):
            mark, address = match.groups()
            endpoints[address][mark] = source
        else:
            startup.append(source)
    return startup, endpoints
