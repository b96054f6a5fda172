"""The form of the notebooks: header table, parameters, short cells, outputs that readers on the web see."""

import ast
import re

import nbformat
import pytest

from lib.core import paths, runs
from lib.workbook import parameters

FILES = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
LARGEST = 700_000  # bytes
# A path of some machine, a memory address, a duration: they differ from run to run.
UNSTABLE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|usr|Users)/|0x[0-9a-f]{6,}|\d (?:seconds|minutes)\b|\d ?ms\b")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def notebook(request):
    return request.param.stem, nbformat.read(request.param, 4)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell) -> str:
    """Return all text of a cell's outputs, tables included."""
    parts = []
    for output in cell.outputs:
        data = output.get("data", {})
        parts += [output.get("text", ""), *(data[kind] for kind in data if kind.startswith("text/"))]
    return "\n".join("".join(part) for part in parts)


def test_the_header_names_files_and_code(notebook):
    """The first cell has a table of what the notebook reads and writes, and of the folders behind it."""
    name, content = notebook
    rows = [line.strip("| ").split(" | ") for line in content.cells[0].source.splitlines() if line.startswith("|")]
    assert [column.strip() for column in rows[0]] == ["reads", "writes", "code"]
    folders = re.findall(r"`([\w/]+)/`", rows[-1][2])
    assert folders and all((paths.ROOT / folder).is_dir() for folder in folders)
    if stage := runs.STAGES.get(name):
        for cell, files in ((rows[-1][0], stage.reads), (rows[-1][1], stage.writes)):
            named = {file.rstrip("/") for file in re.findall(r"`([^`]+)`", cell)} - {"catalogue"}
            assert named == set(files)
        assert {folder.removeprefix("lib/") for folder in folders if folder.startswith("lib/")} <= set(stage.code)


def test_cells_are_short_and_define_nothing(notebook):
    """One cell of parameters; all others have at most 15 lines; functions and classes are in lib."""
    _, content = notebook
    assert sum("parameters" in tags(cell) for cell in code_cells(content)) == 1
    for cell in code_cells(content):
        assert "parameters" in tags(cell) or len(cell.source.splitlines()) <= 15, cell.source
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(cell.source).body)


def test_parameters_are_literals_with_a_comment(notebook):
    """Papermill overrides them, and a reader sees what each one is for."""
    _, content = notebook
    (cell,) = (cell for cell in code_cells(content) if "parameters" in tags(cell))
    for node in ast.parse(cell.source).body:
        ast.literal_eval(node.value)
        assert "  # " in cell.source.splitlines()[node.end_lineno - 1], node.targets[0].id


def test_outputs_are_committed_small_and_stable(notebook):
    """A reader on the web sees tables and pictures; a refresh changes nothing that has not changed."""
    name, content = notebook
    assert (paths.NOTEBOOKS / f"{name}.ipynb").stat().st_size <= LARGEST
    assert any(cell.outputs for cell in code_cells(content))
    for cell in code_cells(content):
        assert not UNSTABLE.search(texts(cell)), cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"]


def test_notebooks_agree_on_shared_parameters():
    """A parameter has one default in all batch notebooks; only the first one, which makes a run, names its folder."""
    first, *others = (parameters.declared(stage)["run_dir"] for stage in runs.STAGES)
    assert first == runs.TOUR and set(others) == {""}
    defaults = {"run_dir": None}
    for stage in runs.STAGES:
        for name, value in (parameters.declared(stage) | {"run_dir": None}).items():
            assert defaults.setdefault(name, value) == value, (stage, name)
