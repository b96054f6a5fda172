"""Paths: the repository, and how users give and read paths."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def resolve(path: str | Path) -> Path:
    """Return a parameter's path as an absolute one; relative paths start at the repository, ~ is the home folder."""
    return (ROOT / Path(path).expanduser()).resolve()


def shown(path: Path) -> str:
    """Return the path for a message: relative to the repository if it is inside, else absolute."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
