"""The estimate of a training's time, memory and disk space, and a comparison with its actual pace."""

import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, TrainerCallback

from lib.core.encoder import device
from lib.core.progress import MARK
from lib.finetune.evaluator import RequestEvaluator
from lib.finetune.training import Bar, Recipe, Trainer

LONG = 3600  # seconds of training on a CPU that deserve a warning
ENOUGH = 30.0  # seconds of steps before they are compared with the estimate
FACTOR = 1.5  # a training that differs by more than this from its estimate is reported


class Estimate(NamedTuple):
    """The cost of a training."""

    steps: int  # of the optimiser
    step: float  # mean seconds per step
    seconds: float  # in all, with the measurements on dev
    memory: int  # bytes: the peak on the GPU with CUDA, else of this process
    disk: int  # bytes of the checkpoints


class Pace(TrainerCallback):
    """The seconds of each step, without measurements and checkpoints.

    It prints one line if the steps take much longer, or much less time, than estimated.
    """

    def __init__(self, estimate: Estimate | None = None):
        self.seconds: list[float] = []
        self.expected = estimate and estimate.step

    def on_train_begin(self, args, state, control, **_):
        self.since = time.perf_counter()

    on_evaluate = on_save = on_train_begin

    def on_step_end(self, args, state, control, **_):
        if device() != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self.since)
        self.since, step = now, float(np.mean(self.seconds))
        if not self.expected or sum(self.seconds) < ENOUGH or 1 / FACTOR <= step / self.expected <= FACTOR:
            return
        ratio, self.expected = step / self.expected, None  # one line is enough
        pace = f"{ratio:.1f} times slower" if ratio > 1 else f"{1 / ratio:.1f} times faster"
        cause = ": other programs may be using this machine's cores" if ratio > 1 else ""
        left = (state.max_steps - state.global_step) * step / 60
        tqdm.write(f"{MARK}training is {pace} than estimated, about {left:.0f} min left{cause}")


def estimate_training(
    model: SentenceTransformer, pairs: pd.DataFrame, dev: RequestEvaluator, recipe: Recipe
) -> Estimate:
    """Estimate a training from two steps each of its smallest, median and largest batch, and a measurement on dev.

    The learning rate is 0: no weight changes. The first step of each batch allocates memory and does not count.
    """
    size = (pairs["anchor"] + pairs["positive"]).str.len().groupby(pairs["batch"]).sum().sort_values()  # characters
    tried = size.index[[0, len(size) // 2, -1]]
    trial = pd.concat([pairs[pairs["batch"] == b].assign(batch=i) for i, b in enumerate(tried.repeat(2))])
    still, clock = recipe._replace(epochs=1, lr=0.0, warmup=0), Pace()
    nothing = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    with TemporaryDirectory() as folder, closing(Bar("estimating")) as bar:
        trainer = Trainer(model, trial, dev, still, Path(folder), (bar, clock), **nothing)
        trainer.remove_callback(EarlyStoppingCallback)
        trainer.train()
        used = torch.cuda.max_memory_allocated() if device() == "cuda" else psutil.Process().memory_info().rss
        trainer.accelerator.free_memory()
    started = time.perf_counter()
    dev(model)
    measuring = (time.perf_counter() - started) * (recipe.evaluations + 1)
    steps, step = len(size) * recipe.epochs, float(np.interp(size, size[tried], clock.seconds[1::2]).mean())
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # The last two checkpoints also hold the optimiser's two moments.
    return Estimate(steps, step, steps * step + measuring, used, (recipe.evaluations + 4) * weights)


def warnings(estimate: Estimate, recipe: Recipe) -> str:
    """Return a line for each problem of the training that lies ahead; "" without one."""
    lines = []
    if device() == "cpu" and estimate.seconds >= LONG:
        lines.append(
            f"WARNING: about {estimate.seconds / 3600:.0f} hours on this CPU. A GPU takes minutes. Without one, stop "
            "now and use params/quick.yaml (on 2 cores 8 to 12 minutes for the whole run), or lower n_pairs and "
            "epochs. A stopped training resumes from its last checkpoint."
        )
    if recipe.warmup > estimate.steps:
        lines.append(
            f"WARNING: the warm-up of {recipe.warmup:g} steps is longer than the training of {estimate.steps}: the "
            "learning rate never reaches lr. Lower warmup; below 1 it is a share of the steps."
        )
    return "\n".join(lines)
