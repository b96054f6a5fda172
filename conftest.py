"""How pytest deals tests to several processes (--dist loadfile)."""

import pytest
from xdist.scheduler import LoadFileScheduling


class FileByFile(LoadFileScheduling):
    """A file's tests run in one process. So do all notebooks: each continues from the one before."""

    def _split_scope(self, nodeid: str) -> str:
        return "notebooks" if nodeid.startswith("notebooks/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> FileByFile:
    """Return the scheduler."""
    return FileByFile(config, log)
