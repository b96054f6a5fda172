"""The notebooks' kernel: IPython in this Python, whichever kernelspecs are installed."""

import os
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from traitlets import Instance, List, Unicode


class OwnPython(KernelSpecManager):
    """The kernelspec of this Python. Other folders are not read: a `python3` in them may start another Python."""

    kernel_dirs = List()


class OwnKernel(AsyncKernelManager):
    """A kernel of this Python."""

    kernel_spec_manager = Instance(OwnPython, ())
    errors = Unicode(os.devnull, help="File for the output that is not of a cell.").tag(config=True)

    async def start_kernel(self, **options) -> None:
        with Path(self.errors).open("w") as file:
            await super().start_kernel(stderr=file, **options)
