"""paths."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def resolve(path: str | Path) -> Path:
    """A path as parameters give it: absolute, from the home folder, or relative to the repository."""
    return (ROOT / Path(path).expanduser()).resolve()


def shown(path: Path) -> str:
    """The path as a reader wants it: relative to the repository where it lies inside, whole where it does not."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
