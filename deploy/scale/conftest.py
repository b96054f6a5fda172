"""The small run of tests/, for the tests of the tier."""

from tests.conftest import small_run

__all__ = ["small_run"]
