"""The picture of a training: the loss and the dev metric by step."""

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from transformers import TrainerCallback

from lib.core.style import OTHER, TUNED
from lib.finetune.checkpoints import up_to_the_best
from lib.finetune.training import DEV, history_of

EMPTY = {"text/markdown": ""}  # an output that shows nothing: nbconvert warns of one without data


def training(history: pd.DataFrame) -> Figure:
    """Draw the loss and the dev metric by step, and mark the checkpoints that are averaged."""
    measured, loss = history.dropna(subset=[DEV]), history.dropna(subset=["loss"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    left.plot(loss["step"], loss["loss"], color=TUNED)
    left.set(xlabel="optimiser step", ylabel="contrastive loss (lower is better)", ylim=(0, None))
    if quarter := len(loss) // 4:  # a step's loss depends on the kind and size of its batch: compare means of many
        first, last = loss["loss"].head(quarter).mean(), loss["loss"].tail(quarter).mean()
        left.set_title(f"Loss: {first:.2f} in the first quarter, {last:.2f} in the last")
    right.plot(measured["step"], measured[DEV], color=TUNED, marker="o")
    right.set(xlabel="optimiser step", ylabel=f"{DEV} (higher is better)")
    if len(measured):
        averaged = up_to_the_best(history)
        stars = measured[measured["step"].isin(averaged)]
        right.plot(stars["step"], stars[DEV], "*", markersize=16, color=OTHER)
        last = measured[measured["step"] <= max(averaged, default=0)][DEV].iloc[-1]
        right.set_title(f"In training: {measured[DEV].iloc[0]:.3f} to {last:.3f}; ★ enter the mean")
    figure.tight_layout()
    return figure


class Curve(TrainerCallback):
    """The picture of a training, redrawn in a notebook at each measurement: drawing takes as long as a step."""

    def __init__(self):
        self.handle = display(EMPTY, raw=True, display_id=True) if get_ipython() else None

    def on_evaluate(self, args, state, control, **_):
        history = history_of(state.log_history)
        if self.handle and len(history) > 1:
            figure = training(history)
            self.handle.update(figure)
            plt.close(figure)

    def on_train_end(self, args, state, control, **_):
        if self.handle:
            self.handle.update(EMPTY, raw=True)
