"""A progress bar that also prints a line a minute where no terminal can show the bar."""

import os
import time

from tqdm.auto import tqdm

LINES = "WORKBOOK_PROGRESS_LINES"  # the runner sets it for its notebooks if its own output is no terminal
MARK = "… "  # begins each line; the runner passes marked lines on
EVERY = 60.0  # seconds


class Progress(tqdm):
    """A bar of tqdm; where `LINES` is set it also prints a marked line a minute."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.printed = time.monotonic()

    def update(self, n: float = 1):
        """Advance by `n`; print a line if the last one is a minute old."""
        shown = super().update(n)
        if not self.disable and os.environ.get(LINES) and time.monotonic() - self.printed >= EVERY:
            self.printed = time.monotonic()
            print(MARK + self.line(), flush=True)
        return shown

    def line(self) -> str:
        """Return the state in words, such as "training: 120 of 248 steps, loss=0.83, 6 min left"."""
        state = self.format_dict
        whole = f" of {self.total:,}" if self.total else ""
        parts = [f"{self.desc or 'progress'}: {self.n:,}{whole} {self.unit}s", state["postfix"]]
        if self.total and self.n and state["elapsed"]:
            rate = state["rate"] or self.n / state["elapsed"]
            parts.append(f"{(self.total - self.n) / rate / 60:.0f} min left")
        return ", ".join(filter(None, parts))
