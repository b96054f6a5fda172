"""Notebook 09 as the source of the service: its start-up cells, and the cells behind each address."""

import re
from collections import defaultdict
from pathlib import Path

import nbformat

from lib.core.paths import NOTEBOOKS

NOTEBOOK = NOTEBOOKS / "09_serve.ipynb"
MARK = re.compile(r"#\s+(ResponseInfo|Together|)\s*((?:GET|PUT|POST|DELETE) /\S*)")


def read(run: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the cells of notebook 09, with `run` as its parameter.

    Returns:
        The start-up cells; and for each address, such as "POST /recommend", its cells by mark: "" for the answer,
        "ResponseInfo" for its status and headers, "Together" for a cell that prepares several requests.
    """
    startup, endpoints = [], defaultdict(dict)
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code" and (match := MARK.match(cell.source)):
            mark, address = match.groups()
            endpoints[address][mark] = cell.source
        elif cell.cell_type == "code":
            startup.append(cell.source)
            if "parameters" in cell.metadata.get("tags", ()):  # as papermill does, whose import takes 30 MB
                startup.append(f"run_dir = {str(run)!r}")
    return startup, endpoints
