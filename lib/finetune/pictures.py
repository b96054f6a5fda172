"""pictures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.core.style import OTHER, TUNED


def training(history: pd.DataFrame, kept: list[int]) -> Figure:
    """Training loss and the dev metric by step; the steps whose weights make the mean that is kept are marked."""
    metric = history.columns[-1]
    measured, loss = history.dropna(subset=[metric]), history.dropna(subset=["loss"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    left.plot(loss["step"], loss["loss"], color=TUNED)
    left.set(xlabel="optimiser step", ylabel="contrastive loss (lower is better)", ylim=(0, None))
    if quarter := len(loss) // 4:  # a step's loss depends on its batch's kind and size: only means of many compare
        first, last = loss["loss"].head(quarter).mean(), loss["loss"].tail(quarter).mean()
        left.set_title(f"Loss: {first:.2f} in the first quarter, {last:.2f} in the last")
    right.plot(measured["step"], measured[metric], color=TUNED, marker="o")
    right.set(xlabel="optimiser step", ylabel=f"{metric} (higher is better)")
    if len(measured):
        found = measured[measured["step"].isin(kept)]
        right.plot(found["step"], found[metric], "*", markersize=16, color=OTHER)
        last = measured[measured["step"] <= max(kept, default=0)][metric].iloc[-1]
        right.set_title(f"{metric}: {measured[metric].iloc[0]:.3f} to {last:.3f}; ★ are averaged")
    figure.tight_layout()
    return figure
