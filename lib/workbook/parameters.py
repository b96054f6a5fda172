"""Parameter files: flat YAML, checked against what the notebooks declare before anything runs."""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path

import papermill
import yaml

from lib.core import paths, runs
from lib.core.errors import WorkbookError
from lib.core.paths import ROOT, resolve, shown

KINDS = {int: "whole number", float: "number", str: "text", bool: "true/false", list: "list", dict: "mapping"}
# What a value must lie between, ends included: beyond these a stage cannot do its work, or fails obscurely.
RANGES = {
    **dict.fromkeys(("seed", "max_tracks", "min_per_mood", "warmup", "static_texts"), (0, 2**31)),
    **dict.fromkeys(("n_tracks", "n_requests"), (100, 10**8)),
    **dict.fromkeys(
        ("request_share", "mood_share", "artist_share", "keep_base", "max_missing", "max_constant", "max_artist"),
        (0, 1),
    ),
    **{"n_pairs": (20, 10**8), "batch_size": (2, 10**5), "epochs": (1, 1000), "patience": (1, 1000), "lr": (1e-8, 0.1)},
    **{
        "workers": (1, 1024),
        "max_length": (8, 8192),
        "debug_tracks": (20, 10**6),
        "max_words": (3, 10**5),
        "max_drift": (0, 100),
    },
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the two repairs that a parameter file needs: 3e-5 is a number, and a key given twice an error."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read(file: Path, overrides: list[str]) -> dict:
    """Parameters of a YAML file, with `key=value` overrides on top, checked against what the notebooks declare.

    Raises:
        WorkbookError: the file is missing or not flat YAML; a key is unknown or its value of the wrong type.
    """
    if not file.is_file():
        near = ", ".join(shown(p) for p in sorted((ROOT / "params").glob("*.yaml")))
        raise WorkbookError(f"{file}: no such parameter file. There are {near}.")
    try:
        given = yaml.load(file.read_text(encoding="utf-8"), _Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{file}: not valid YAML: {_yaml_problem(error)}") from error
    if not isinstance(given, dict):
        raise WorkbookError(f"{file}: expected lines of `key: value`, found {type(given).__name__}.")
    sources = dict.fromkeys(given, str(file))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise WorkbookError(f"--set {override}: write key=value.")
        try:
            given[key], sources[key] = yaml.load(value, _Loader), f"--set {override}"
        except yaml.YAMLError as error:
            advice = "Quote a value that has spaces: SET=\"'columns={title: song}'\"."
            raise WorkbookError(f"--set {override}: not valid YAML: {_yaml_problem(error)} {advice}") from error
    known = {key: default for notebook in runs.STAGES for key, default in declared(notebook).items()}
    for key, value in given.items():
        _check(key, value, known, sources[key])
    for key in ("catalogue", "benchmark", "musiccaps"):
        if given.get(key) not in (None, "", "hub") and not resolve(given[key]).is_file():
            raise WorkbookError(f"{sources[key]}: {key}: there is no file {resolve(given[key])}.")
    return known | given


def declared(notebook: str) -> dict:
    """The parameters that a notebook declares in its cell tagged `parameters`, with their defaults."""
    found = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{notebook}.ipynb"))
    return {name: ast.literal_eval(about["default"]) for name, about in found.items()}


def _check(key: str, value, known: dict, source: str) -> None:
    if key not in known:
        close = difflib.get_close_matches(key, known, 1)
        near = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
        raise WorkbookError(f"{source}: no notebook has a parameter {key!r}.{near}")
    wanted = type(known[key])
    fits = type(value) is wanted or (wanted is float and type(value) is int)
    if not fits:
        raise WorkbookError(f"{source}: {key} is {value!r}, but must be a {KINDS[wanted]}, such as {known[key]!r}.")
    inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    if wrong := [item for item in inside if not isinstance(item, str)]:
        raise WorkbookError(f"{source}: {key} holds {wrong[0]!r}; everything in it must be text.")
    if key in RANGES and not RANGES[key][0] <= value <= RANGES[key][1]:
        lowest, highest = RANGES[key]
        raise WorkbookError(f"{source}: {key} is {value!r}, but must lie between {lowest:g} and {highest:g}.")


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or str(error)
    tab = " (a tab: indent with spaces)" if "\\t" in problem else ""
    return f"{where}{problem}{tab}."
