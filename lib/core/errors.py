"""The error that a user can mend."""

import difflib
import errno
from collections.abc import Iterable


class WorkbookError(Exception):
    """An error that the user can mend. Its message says what is wrong, where, and what to do."""


def disk_advice(error: OSError) -> str:
    """Return what to do about an error of the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or put the run elsewhere: SET='run_dir=/a/larger/disk'."
    return "Choose a folder you may write to: SET='run_dir=…'."


def nearest(name: str, names: Iterable) -> str:
    """Return a hint at the nearest of `names`, such as " (did you mean 'title'?)"; "" if none is near."""
    close = difflib.get_close_matches(str(name), map(str, names), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
