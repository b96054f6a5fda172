"""The error that a user can mend."""

import errno


class WorkbookError(Exception):
    """An error that the user can mend. Its message says what is wrong, where, and what to do."""


def disk_advice(error: OSError) -> str:
    """Return what to do about an error of the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or put the run elsewhere: SET='run_dir=/a/larger/disk'."
    return "Choose a folder you may write to: SET='run_dir=…'."
