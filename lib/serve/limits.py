"""The limits of the service. The command line shows them as its defaults."""

from typing import NamedTuple

from lib.core.processes import KERNELS


class Limits(NamedTuple):
    """The limits of a pool of kernels."""

    kernels: int = KERNELS  # processes, each with a model of its own
    queue: int = 64  # requests that may wait; more are refused
    batch: int = 16  # requests that a kernel takes at once
    time: float = 5.0  # seconds from a request to its answer
    start: float = 60.0  # seconds from a new process to its first answer
