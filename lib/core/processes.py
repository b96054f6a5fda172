"""processes."""

from __future__ import annotations

import ctypes
import fcntl
from contextlib import contextmanager
from pathlib import Path

import joblib

from lib.core.errors import WorkbookError
from lib.core.paths import shown

TAKEN = "another run is at work in {}: wait for it, or choose another run_dir."
KERNELS = 2  # processes that serve, unless there are to be more


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
