"""How pytest deals tests to several processes (--dist loadfile); the run and the kernel that nbval executes with."""

import os

import pytest
from nbval import plugin as nbval
from xdist.scheduler import LoadFileScheduling

# Each notebook continues from the one before; the tests of the debugger compile UMAP once.
TOGETHER = ("notebooks/", "tests/debug/")

os.environ.setdefault("WORKBOOK_RUN", "outputs/tour")  # else the notebooks would show the newest run


class FileByFile(LoadFileScheduling):
    """A file's tests run in one process. So do all tests of a folder of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        return next(filter(nodeid.startswith, TOGETHER), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> FileByFile:
    """Return the scheduler."""
    return FileByFile(config, log)


class OneKernel(nbval.RunningKernel):
    """The kernel of all notebooks: it imports their packages and compiles UMAP once. Each one finds no names in it."""

    last = None

    def __new__(cls, *_, **__):
        """Return the kernel of the notebook before, if it lives."""
        return cls.last if cls.last and cls.last.is_alive() else super().__new__(cls)

    def __init__(self, *arguments, **options):
        if self is not OneKernel.last:
            super().__init__(*arguments, **options)
            OneKernel.last = self
        self.await_idle(self.execute_cell_input("%reset -f"), timeout=60)

    def stop(self):
        """Leave the kernel running, for the next notebook."""


nbval.RunningKernel = OneKernel


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End the kernel after the last notebook."""
    if OneKernel.last and not (nextitem and nextitem.path.suffix == ".ipynb"):
        super(OneKernel, OneKernel.last).stop()
        OneKernel.last = None
