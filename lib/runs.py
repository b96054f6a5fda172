"""A run's folder: the only thing that notebooks share. Paths, whole-or-nothing writes, fingerprints."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import joblib
import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
TAKEN = "another run is at work in {}: wait for it, or choose another run_dir."
KERNELS = 2  # processes that serve, unless there are to be more


class Stage(NamedTuple):
    """What a notebook takes from the run's folder and what it leaves there."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


# The batch notebooks, in order. Each notebook's own "reads → writes" table says the same; a test compares them.
STAGES = {
    "01_generate_tracks": Stage((), ("tracks.parquet", "tracks.csv", "left_out.csv", "requests.parquet")),
    "02_data_quality": Stage(("tracks.parquet", "requests.parquet"), ("quality.json", "failing_rows.csv")),
    "03_finetune": Stage(("tracks.parquet", "requests.parquet"), ("model", "encoders", "index")),
    "04_embedding_debug": Stage(("tracks.parquet", "requests.parquet", "model", "index"), ("embedding.json",)),
    "05_model_performance": Stage(
        ("tracks.parquet", "requests.parquet", "model", "encoders", "index"), ("metrics.json", "answers.parquet")
    ),
}


class WorkbookError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do."""


def resolve(path: str | Path) -> Path:
    """A path as parameters give it: absolute, from the home folder, or relative to the repository."""
    return (ROOT / Path(path).expanduser()).resolve()


def shown(path: Path) -> str:
    """The path as a reader wants it: relative to the repository where it lies inside, whole where it does not."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def folder(run_dir: str | Path) -> Path:
    """The run's folder, made if it is missing.

    Raises:
        WorkbookError: the folder cannot be made or written.
    """
    path = resolve(run_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".write-test").touch()
        (path / ".write-test").unlink()
    except OSError as error:
        raise WorkbookError(f"cannot write to {path}: {error.strerror}. {_advice(error)}") from error
    return path


def start(run_dir: str | Path, *names: str) -> Path:
    """The run's folder for a notebook that reads the files `names`; notebooks that make missing ones are run first.

    A folder in which nothing is missing need not be writable: it can be served from a read-only disk.

    So any notebook can be opened and run by itself. The earlier notebooks run with their own defaults.
    """
    run = resolve(run_dir)
    for name in names:
        maker = _maker(name)
        if not (run / name).exists():
            folder(run)
            print(f"{shown(run)} has no {name}: running {maker} first …", flush=True)
            notebook, out = NOTEBOOKS / f"{maker}.ipynb", run / f"{maker}.ipynb"
            command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(notebook.parent)]
            subprocess.run([*command, "-p", "run_dir", str(run), str(notebook), str(out)], check=True)
    need(run, *names)
    return run if names else folder(run)


def need(run: Path, *names: str) -> None:
    """Check that earlier notebooks left the files `names` in the folder `run`.

    Raises:
        WorkbookError: one is missing; names the notebook that makes it.
    """
    for name in names:
        if not (run / name).exists():
            raise WorkbookError(f"{shown(run)} has no {name}. {_maker(name)} makes it: run that first, or make run.")


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
        raise WorkbookError(f"cannot write {path}: {error.strerror}. {_advice(error)}") from error
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


@contextmanager
def only_one(run: Path, lock_name: str = ".lock", taken: str = TAKEN):
    """Hold the folder: two at once would write over each other. The lock goes when the process goes.

    Args:
        lock_name: of the file that is locked: a part of the folder may have its own.
        taken: what to say when another has it, with {} for the folder.

    Raises:
        WorkbookError: another process has it.
    """
    with (run / lock_name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkbookError(taken.format(shown(run))) from error
        yield


def end_with_parent(prctl=getattr(ctypes.CDLL(None), "prctl", None)) -> None:  # noqa: B008, a fork must not look it up
    """Have Linux end this process when the one that started it ends, however it does."""
    if prctl:
        prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM


def threads(kernels: int = KERNELS) -> int:
    """How many threads each of the processes that serve has: they share the cores.

    Those that this process may use: of a container's limit, an affinity mask, LOKY_MAX_CPU_COUNT the least.
    """
    return max(1, joblib.cpu_count() // kernels)


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


def _maker(name: str) -> str:
    return next(notebook for notebook, stage in STAGES.items() if name in stage.writes)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or put the run elsewhere: SET='run_dir=/a/larger/disk'."
    return "Choose a folder you may write to: SET='run_dir=…'."
