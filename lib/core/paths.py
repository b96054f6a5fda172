"""Paths: the repository, and how users give and read paths."""

import os
from pathlib import Path

from lib.core.errors import WorkbookError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def absolute(path: str | Path) -> Path:
    """Return a parameter's path as an absolute one; relative paths start at the repository, ~ is the home folder."""
    if "\0" in str(path):
        raise WorkbookError(f"{str(path)!r} is no path: it holds a NUL character.")
    return ROOT / os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser fails for ~nobody


def resolve(path: str | Path) -> Path:
    """Return a parameter's path as an absolute one without links."""
    return Path(os.path.realpath(absolute(path)))  # Path.resolve fails for links that lead to each other


def shown(path: Path) -> str:
    """Return the path for a message: relative to the repository if it is inside, else absolute."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
