"""files."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

from lib.core.errors import WorkbookError, disk_advice
from lib.core.paths import shown


@contextmanager
def atomic(path: Path):
    """A temporary sibling of `path` to write to (a file, or a folder made inside); it takes the name when done.

    Raises:
        WorkbookError: the disk is full or the folder cannot be written; `path` keeps what it had.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _tidy(path)
    try:
        yield temporary
        if path.is_dir() and _exchanged(temporary, path):
            pass  # the old one has the temporary name now
        elif path.is_dir():
            old = temporary.with_suffix(".old")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise WorkbookError(f"cannot write {path}: {error.strerror}. {disk_advice(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)


def _tidy(path: Path) -> None:
    """Put right what a killed `atomic` of `path` left: its old content gets the name back, what was begun goes."""
    for left in path.parent.glob(f".{path.name}.*.*"):
        *_, pid, kind = left.name.split(".")
        if not pid.isdecimal() or (int(pid) != os.getpid() and psutil.pid_exists(int(pid))):
            continue  # another's, or at work
        if kind == "old" and not path.exists():
            left.rename(path)
        elif kind in ("old", "tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that neither is ever missing; False where the system or its disk cannot."""
    exchange, here = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(rename) and rename(here, bytes(one), here, bytes(other), exchange) == 0


def point(link: Path, to: Path) -> None:
    """Make or move a link in one step: whoever looks sees the old target or the new one.

    Raises:
        WorkbookError: it cannot be written; it is as it was.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # of one that was killed
        temporary.symlink_to(os.path.relpath(to, link.parent))
        temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WorkbookError(f"cannot move {shown(link)}: {error.strerror}.") from error


def write_json(path: Path, value) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path):
    """Read a JSON file of a run."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, whole or not at all."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as UTF-8 CSV, whole or not at all."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def fingerprint(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file, or of a folder's names and contents."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{fingerprint(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
