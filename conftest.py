"""How pytest deals tests to several processes (--dist loadfile), and the run that nbval executes the notebooks with."""

import os

import pytest
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
