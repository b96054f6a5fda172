"""The checkpoints of a training on the disk, and the mean of their weights.

A folder of checkpoints belongs to one training: `signature.json` identifies it, and the trainer writes `checkpoint-N`.
"""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from transformers import TrainerCallback

from lib.core.files import read_json, write_json

# Differences of the dev metric below this are chance: the 95 % interval of 600 requests is ±0.024.
NOISE = 0.02
CODE = ("checkpoints.py", "evaluator.py", "training.py")  # the modules that decide the weights
Weights = dict[str, torch.Tensor]


def signature_of(base: Weights, pairs: pd.DataFrame, recipe: dict) -> str:
    """Return a hash of all that decides a training's result: recipe, pairs, initial weights and code."""
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for module in CODE:
        digest.update(Path(__file__).with_name(module).read_bytes())
    digest.update(pairs.to_csv(index=False).encode())
    for value in base.values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def resumable(checkpoints: Path, signature: str) -> Path | None:
    """Return the last complete checkpoint of the same training; if there is none, empty the folder."""
    about, complete = checkpoints / "signature.json", complete_ones(checkpoints)
    if complete and about.is_file() and read_json(about)["signature"] == signature:
        last = complete[max(complete)]
        print(f"Resuming from {last.name}.")
        return last
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True)
    write_json(about, {"signature": signature})
    return None


def complete_ones(checkpoints: Path) -> dict[int, Path]:
    """Return the complete checkpoints by step; the trainer writes its state last."""
    complete = {}
    for state in checkpoints.glob("checkpoint-*/trainer_state.json"):
        with suppress(ValueError):  # half of a file
            read_json(state)
            complete[int(state.parent.name.split("-")[1])] = state.parent
    return complete


def to_average(checkpoints: Path, history: pd.DataFrame) -> list[Path]:
    """Return the complete checkpoints up to the best one, in order. `history` is from `train`."""
    complete = complete_ones(checkpoints)
    return [complete[step] for step in up_to_the_best(history[history["step"].isin(list(complete))])]


def up_to_the_best(history: pd.DataFrame) -> list[int]:
    """Return the measured steps, up to the last whose dev metric is within `NOISE` of the best; without step 0."""
    measured = history[history["step"] > 0].dropna(subset=[history.columns[-1]])
    steps, values = measured["step"], measured.iloc[:, -1]
    best = steps[values >= values.max() - NOISE].max()
    return steps[steps <= best].tolist()


def mean_of(first: Weights, second: Weights, share: float) -> Weights:
    """Return `share` of the first weights plus the rest of the second; integer buffers are the second's."""
    return {
        name: share * first[name] + (1 - share) * value if value.is_floating_point() else value
        for name, value in second.items()
    }


class OneOptimizer(TrainerCallback):
    """A callback that deletes the optimiser's state of older checkpoints: a training resumes only from the last."""

    def on_save(self, args, state, control, **_):
        complete = complete_ones(Path(args.output_dir)) if args.should_save else {}
        for step, folder in complete.items():
            if step != state.global_step:
                (folder / "optimizer.pt").unlink(missing_ok=True)
