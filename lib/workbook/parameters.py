"""Parameter files: flat YAML, checked against the notebooks' declarations before anything runs."""

import ast
from pathlib import Path

import nbformat
import papermill
from ruamel.yaml import YAML, YAMLError

from lib.core import paths, runs
from lib.core.errors import WorkbookError, nearest
from lib.core.paths import ROOT, resolve, shown
from lib.core.ranges import check_ranges

KINDS = {int: "whole number", float: "number", str: "text", bool: "true/false", list: "list", dict: "mapping"}
FILES = ("catalogue", "artists", "benchmark", "musiccaps")  # parameters that name a file
WRONG = (YAMLError, ValueError, RecursionError)  # from a text that is no YAML, or nested thousands deep
RANGES = YAML(typ="safe").load(Path(__file__).with_name("ranges.yaml"))


def read(file: Path, overrides: list[str]) -> dict:
    """Return all notebooks' parameters: their defaults, the file's values, then the overrides.

    Args:
        file: a YAML file of `key: value` lines.
        overrides: texts "key=value", the value as YAML.

    Raises:
        WorkbookError: the file is missing or not flat YAML; a key is unknown; a value has the wrong type or range.
    """
    if file.exists() and file.suffix not in (".yaml", ".yml"):
        advice = f'If it is your catalogue: make import FILE="{file}".'
        raise WorkbookError(f"{file}: it is not a parameter file, whose name ends in .yaml. {advice}")
    if not file.is_file():
        existing = ", ".join(shown(p) for p in sorted((ROOT / "params").glob("*.yaml")))
        raise WorkbookError(f"{file}: no such parameter file. There are {existing}.")
    try:
        values = _load(file.read_text(encoding="utf-8")) or {}
    except WRONG as error:
        raise WorkbookError(f"{file}: not valid YAML: {_problem(error)}") from error
    if not isinstance(values, dict):
        raise WorkbookError(f"{file}: write lines of `key: value`, not a {type(values).__name__}.")
    parsed = _parsed(overrides)
    sources = dict.fromkeys(values, str(file)) | {override.partition("=")[0]: override for override in overrides}
    values |= parsed
    defaults = {}
    for notebook in runs.STAGES:
        defaults |= {key: value for key, value in declared(notebook).items() if key not in defaults}
    for key, value in values.items():
        _check(key, value, defaults, sources[key])
    for key in FILES:
        folder = key == "catalogue" and resolve(values.get(key, "")).is_dir()  # a folder of music
        if values.get(key) not in (None, "", "hub") and not (folder or resolve(values[key]).is_file()):
            raise WorkbookError(f"{sources[key]}: {key}: there is no file {resolve(values[key])}.")
    return defaults | values


def overridden(notebook: str, overrides: list[str]) -> dict:
    """Return one notebook's parameters with overrides, texts "key=value"; raise WorkbookError as `read` does."""
    defaults, parsed = declared(notebook), _parsed(overrides)
    texts = dict(override.partition("=")[::2] for override in overrides)
    for key, value in parsed.items():
        if isinstance(defaults.get(key), str) and not isinstance(value, str):  # YAML makes a date of 2026-11-30
            parsed[key] = value = texts[key]
        _check(key, value, defaults, f"{key}={value}")
    return defaults | parsed


def _parsed(overrides: list[str]) -> dict:
    values = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise WorkbookError(f"{override}: write key=value.")
        try:
            values[key] = _load(value)
        except WRONG as error:
            advice = "Quote a value that has spaces: SET=\"'columns={title: song}'\"."
            raise WorkbookError(f"{override}: not valid YAML: {_problem(error)} {advice}") from error
    return values


def declared(notebook: str) -> dict:
    """Return the parameters in a notebook's cell tagged `parameters`, with their defaults."""
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in _cell(notebook).items()}


def listing() -> str:
    """Return the parameters of all notebooks for the terminal: a line each with name, default, and its comment."""
    lines = []
    for notebook in sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")):
        place = "a parameter file, or SET=" if notebook in runs.STAGES else "set in the notebook"
        lines += ["", f"{notebook} ({place})"]
        lines += [f"  {name:17} {p['default']:22}  {p['help']}" for name, p in _cell(notebook).items()]
    return "\n".join(lines[1:])


def _cell(notebook: str) -> dict[str, dict]:
    """Return the parameters in a notebook's cell tagged `parameters`, each with its default and its comment as text."""
    return papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{notebook}.ipynb"))


def filled(notebook: str, values: dict) -> nbformat.NotebookNode:
    """Return a notebook whose cell of parameters has these values, each with its comment."""
    content = nbformat.read(paths.NOTEBOOKS / f"{notebook}.ipynb", 4)
    cell = next(cell for cell in content.cells if "parameters" in cell.metadata.get("tags", []))
    lines = cell.source.splitlines()
    for node in reversed(ast.parse(cell.source).body):
        name, end = node.targets[0].id, node.end_lineno
        comment = lines[end - 1].encode()[node.end_col_offset :].decode()  # the offset counts bytes
        lines[node.lineno - 1 : end] = [f"{name} = {values[name]!r}{comment}"]
    cell.source = "\n".join(lines)
    return content


def _load(text: str):
    """Parse YAML 1.2, in which 3e-5 is a number; a key that stands twice is an error."""
    return YAML(typ="safe", pure=True).load(text)


def _check(key: str, value, defaults: dict, source: str) -> None:
    if key not in defaults:
        hint = nearest(key, defaults) or f". Known: {', '.join(sorted(defaults))}"
        raise WorkbookError(f"{source}: no notebook has a parameter {key!r}{hint}.")
    kind = type(defaults[key])
    if type(value) is not kind and not (kind is float and type(value) is int):
        value = f"{value!r:.100}"
        raise WorkbookError(f"{source}: {key} is {value}, but must be a {KINDS[kind]}, such as {defaults[key]!r}.")
    inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    if wrong := [item for item in inside if not isinstance(item, str)]:
        raise WorkbookError(f"{source}: {key} holds {wrong[0]!r}; everything in it must be text.")
    if isinstance(value, str) and value not in (choices := RANGES.get(key, [value])):
        raise WorkbookError(f"{source}: {key} is {value!r}, but must be one of {', '.join(choices)}.")
    if not isinstance(value, str) and (messages := check_ranges({key: value}, RANGES)):
        raise WorkbookError(f"{source}: {messages[0]}.")


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    hint = " (a tab: indent with spaces)" if "\\t" in problem else ""
    return f"{place}{problem}{hint}."
