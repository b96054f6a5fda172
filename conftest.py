"""For pytest in several processes (--dist loadfile)."""

import pytest
from xdist.scheduler import LoadFileScheduling


class OneAfterAnother(LoadFileScheduling):
    """The tests of a file stay together, in one process; so do the notebooks, each of which goes on from the last."""

    def _split_scope(self, nodeid: str) -> str:
        return "notebooks" if nodeid.startswith("notebooks/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> OneAfterAnother:
    """Who deals out tests."""
    return OneAfterAnother(config, log)
