"""Fixtures of the tier's tests: the small run of tests/, and a running tier."""

import pytest

from deploy.scale import client
from lib.core import paths
from tests.conftest import chromium, small_run

__all__ = ["chromium", "small_run"]


@pytest.fixture(scope="session")
def up(small_run):
    """The tier on free ports, serving the first run."""
    with client.started(small_run, paths.ROOT / "outputs" / "test" / "tier", client.free_ports()) as tier:
        yield tier
