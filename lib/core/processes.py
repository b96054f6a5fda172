"""Processes: one at a time in a folder, children that end with their parent, threads for each."""

import ctypes
import fcntl
from contextlib import contextmanager
from pathlib import Path

import joblib

from lib.core.errors import WorkbookError
from lib.core.paths import shown

TAKEN = "another process works in {}: wait for it, or choose another run_dir."
KERNELS = 2  # processes that serve, by default


@contextmanager
def only_one(folder: Path, lock_name: str = ".lock", message: str = TAKEN, wait: bool = False):
    """Lock a file of the folder until the block or the process ends: two processes would overwrite each other's files.

    Raises:
        WorkbookError: another process holds the lock, unless we `wait` for it. The text is `message`, with the folder
            for {}.
    """
    with (folder / lock_name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise WorkbookError(message.format(shown(folder))) from error
        yield


def end_with_parent(prctl=getattr(ctypes.CDLL(None), "prctl", None)) -> None:  # noqa: B008, a fork must not look it up
    """Have Linux end this process with the process that started it, however that ends."""
    if prctl:
        prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM


def threads(kernels: int = KERNELS) -> int:
    """Return the threads for each of `kernels` processes that share the cores.

    joblib counts the cores that this process may use: a container's limit, an affinity mask or LOKY_MAX_CPU_COUNT.
    """
    return max(1, joblib.cpu_count() // kernels)
