"""A progress bar that also prints a line a minute where no terminal can show the bar."""

from __future__ import annotations

import os
import time

from tqdm.auto import tqdm

LINES = "WORKBOOK_PROGRESS_LINES"  # set by the runner in its notebooks' kernels when its output is no terminal
MARK = "… "  # begins each line, so that the runner knows which lines of a cell to pass on
EVERY = 60.0  # seconds


class Progress(tqdm):
    """tqdm's bar for notebooks and terminals; with `LINES` set it prints a marked line a minute too."""

    def __init__(self, *args, **kwargs):
        self.printed = time.monotonic()
        super().__init__(*args, **kwargs)

    def update(self, n: float = 1):
        """Advance by `n`, and print a line if the last one is a minute old."""
        shown = super().update(n)
        if os.environ.get(LINES) and not self.disable and time.monotonic() - self.printed >= EVERY:
            self.printed = time.monotonic()
            print(MARK + self.line(), flush=True)
        return shown

    def line(self) -> str:
        """The state in words: "training: 120 of 248 steps, loss=0.83, 6 min left"."""
        state = self.format_dict
        parts = [f"{self.desc or 'progress'}: {self.n:g} of {self.total:g} {self.unit}s".replace(" its", "")]
        if state["postfix"]:
            parts.append(state["postfix"])
        if state["rate"] or (self.n and state["elapsed"]):
            rate = state["rate"] or self.n / state["elapsed"]
            parts.append(f"{(self.total - self.n) / rate / 60:.0f} min left")
        return ", ".join(parts)
