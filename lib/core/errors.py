"""errors."""

from __future__ import annotations

import errno


class WorkbookError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do."""


def disk_advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or put the run elsewhere: SET='run_dir=/a/larger/disk'."
    return "Choose a folder you may write to: SET='run_dir=…'."
