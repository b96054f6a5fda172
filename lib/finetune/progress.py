"""The progress bar of a training."""

from transformers import TrainerCallback

from lib.core.measures import MAIN
from lib.core.progress import Progress

SHOWN = {"loss": "loss", f"eval_{MAIN}": f"dev {MAIN}"}  # entries of the trainer's log: their names on the bar


class Bar(TrainerCallback):
    """A progress bar with the loss and the dev metric."""

    def __init__(self, name: str = "training"):
        self.name, self.bar, self.shown = name, None, {}

    def on_train_begin(self, args, state, control, **_):
        total = {"total": state.max_steps, "initial": state.global_step}
        self.bar = Progress(desc=self.name, unit="step", disable=not args.should_log, **total)

    def on_step_end(self, args, state, control, **_):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **_):
        self.shown |= {SHOWN[key]: f"{value:.3f}" for key, value in (logs or {}).items() if key in SHOWN}
        self.bar.set_postfix(self.shown)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
