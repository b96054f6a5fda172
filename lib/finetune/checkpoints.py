"""What a training keeps on the disk, and the mean of the weights that it passed.

A folder `checkpoints` is one training's: `of.json` says which, each `checkpoint-N` is the trainer's, `result` what
several workers ended with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import torch

from lib.core.files import atomic, read_json, write_json, write_parquet
from lib.core.measures import MAIN

NOISE = 0.02  # of the dev metric: differences below it are chance (the 95 % interval of 600 requests is ±0.024)
RESULT = "result"


def signature_of(base: dict[str, torch.Tensor], pairs: pd.DataFrame, recipe: dict) -> str:
    """What makes two trainings the same one: recipe, pairs, weights to start from, and the code."""
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for module in ("checkpoints.py", "training.py"):
        digest.update(Path(__file__).with_name(module).read_bytes())
    digest.update(pairs.to_csv(index=False).encode())
    for value in base.values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def resumable(checkpoints: Path, signature: str) -> Path | None:
    """The last whole checkpoint of the same training; the folder is emptied where there is none."""
    whole = whole_ones(checkpoints)
    if whole and _same(checkpoints, signature):
        last = whole[max(whole)]
        print(f"Going on from {last.name}.")
        return last
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True)
    write_json(checkpoints / "of.json", {"signature": signature})
    return None


def whole_ones(checkpoints: Path) -> dict[int, Path]:
    """The checkpoints by step that were written to the end: the trainer's state is what it writes last."""
    states = checkpoints.glob("checkpoint-*/trainer_state.json")
    return {int(p.parent.name.split("-")[1]): p.parent for p in states if _is_json(p)}


def finished(checkpoints: Path, signature: str) -> bool:
    """Whether several workers have finished the same training."""
    return (checkpoints / RESULT).is_dir() and _same(checkpoints, signature)


def keep_result(model: torch.nn.Module, history: pd.DataFrame, checkpoints: Path) -> None:
    """Write what a training ended with to its `checkpoints`, where `train` finds it; whole or not at all."""
    with atomic(checkpoints / RESULT) as temporary:
        temporary.mkdir()
        torch.save(weights_of(model), temporary / "weights.pt")
        write_parquet(temporary / "history.parquet", history)


def take_result(model: torch.nn.Module, checkpoints: Path) -> pd.DataFrame:
    """Load what `keep_result` wrote into `model`. -> the history."""
    model.load_state_dict(torch.load(checkpoints / RESULT / "weights.pt", map_location=model.device, weights_only=True))
    return pd.read_parquet(checkpoints / RESULT / "history.parquet")


def up_to_the_best(log: list[dict], steps: set[int]) -> list[int]:
    """Those of `steps` up to the last whose measurement is within `NOISE` of the best, in order."""
    measured = {entry["step"]: entry[f"eval_{MAIN}"] for entry in log if f"eval_{MAIN}" in entry}
    kept = {step: value for step, value in measured.items() if step in steps}
    best = max((step for step, value in kept.items() if value >= max(kept.values()) - NOISE), default=0)
    return sorted(step for step in kept if step <= best)


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def mean_of(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """`share` of the first weights and the rest of the second; what is no real number is the second's."""
    return {
        name: share * first[name] + (1 - share) * value if value.is_floating_point() else value
        for name, value in second.items()
    }


def _same(checkpoints: Path, signature: str) -> bool:
    return (checkpoints / "of.json").is_file() and read_json(checkpoints / "of.json")["signature"] == signature


def _is_json(path: Path) -> bool:
    try:
        read_json(path)
    except ValueError:
        return False
    return True
