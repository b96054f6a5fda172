"""The small run that other tests have, too."""

from tests.conftest import small_run

__all__ = ["small_run"]
