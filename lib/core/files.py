"""Files of a run: atomic writes, links, JSON, tables, fingerprints."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from lib.core.errors import WorkbookError, disk_advice
from lib.core.paths import shown

if TYPE_CHECKING:  # most users of this module need no table, and pandas takes half a second to import
    import pandas as pd


FORMULA = r"^([=@\t\r]|[+-].*[(|!])"  # of a cell in a spreadsheet; a plain "-" or "+" may begin an id


@contextmanager
def atomic(path: Path):
    """Yield a temporary sibling of `path` for a new file or folder; at the end it replaces `path` atomically.

    Raises:
        WorkbookError: the disk is full or the folder cannot be written; `path` keeps its content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _clean_up(path)
    try:
        yield temporary
        if not path.is_dir():
            temporary.replace(path)
        elif not _exchange(temporary, path):  # after an exchange the old folder has the temporary name
            old = temporary.with_suffix(".old")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
    except OSError as error:
        if error.errno is None:
            raise
        raise WorkbookError(f"cannot write {path}: {error.strerror}. {disk_advice(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)


def _clean_up(path: Path) -> None:
    """Remove the temporary files of killed processes that wrote `path`; give old content its name back."""
    for left in path.parent.glob(f".{path.name}.*.*"):
        *_, pid, kind = left.name.split(".")
        if not pid.isdecimal() or (int(pid) != os.getpid() and psutil.pid_exists(int(pid))):
            continue  # not ours, or its process is running
        if kind == "old" and not path.exists():
            left.rename(path)
        elif kind in ("old", "tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that neither is ever missing. Return False if the system or disk cannot."""
    exchange, cwd = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(rename) and rename(cwd, bytes(one), cwd, bytes(other), exchange) == 0


def point(link: Path, to: Path) -> None:
    """Make or move a symbolic link atomically; raise WorkbookError, and leave it unchanged, if it cannot be written."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process
        temporary.symlink_to(os.path.relpath(to, link.parent))
        temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WorkbookError(f"cannot move {shown(link)}: {error.strerror}.") from error


def write_json(path: Path, value) -> None:
    """Write `value` atomically as indented UTF-8 JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path):
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as Parquet."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as UTF-8 CSV. A text that a spreadsheet would run as a formula begins with '."""
    texts = table.select_dtypes(["str", "object", "category"]).astype("str")
    safe = {name: texts[name].str.replace(FORMULA, r"'\1", regex=True) for name in texts}
    with atomic(path) as temporary:
        table.assign(**safe).to_csv(temporary, index=False)


def fingerprint(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file, or of a folder's names and contents."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{fingerprint(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
