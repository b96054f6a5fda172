"""Training by several workers: the same training as one worker's, each encoding its part of every batch.

    torchrun --nproc-per-node 2 -m deploy.scale.workers outputs/quick/workers

`train` writes that folder, starts torchrun here, and goes on from what it ends with. With PET_NNODES, PET_RDZV_BACKEND
and PET_RDZV_ENDPOINT set (torchrun's own variables) it waits for other machines: start the command above on them with
--nnodes, --rdzv-backend and --rdzv-endpoint, in the same folder of a disk that all share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from subprocess import PIPE, STDOUT

import pandas as pd
import torch
from accelerate import PartialState
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from lib.core import processes
from lib.core.encoder import device, load
from lib.core.errors import WorkbookError
from lib.core.files import atomic, read_json, write_json, write_parquet
from lib.core.paths import ROOT
from lib.core.processes import end_with_parent
from lib.finetune import training
from lib.finetune.checkpoints import RESULT, keep_result
from lib.finetune.evaluator import RequestEvaluator
from lib.finetune.training import Recipe


def train(
    n: int, model: SentenceTransformer, pairs: pd.DataFrame, dev: RequestEvaluator, recipe: Recipe, checkpoints: Path
) -> pd.DataFrame:
    """`training.train` by `n` processes of this machine; an interrupt ends it and keeps the mean so far.

    Raises:
        WorkbookError: the training failed; says what the worker that failed first said.
    """
    folder = checkpoints.with_name("workers")
    with atomic(folder) as temporary:
        model.save_pretrained(str(temporary / "base"), create_model_card=False)
        write_json(temporary / "recipe.json", recipe._asdict())
        for name, table in (("pairs", pairs), ("tracks", dev.tracks), ("requests", dev.requests)):
            write_parquet(temporary / f"{name}.parquet", table)
    where = [] if "PET_RDZV_ENDPOINT" in os.environ else ["--standalone"]
    command = ["torch.distributed.run", *where, f"--nproc-per-node={n}", "-m", "deploy.scale.workers", str(folder)]
    own = {"start_new_session": True, "preexec_fn": end_with_parent}  # an interrupt reaches this process alone
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=PIPE, stderr=STDOUT, **own)
    try:
        _pass_on(process, folder / "stop")
    except BaseException:
        process.terminate()  # torchrun ends its workers
        raise
    if process.wait():
        said = (folder / "error.txt").read_text() if (folder / "error.txt").exists() else "it was killed"
        raise WorkbookError(f"training by {n} workers failed: {said}")
    history = training.train(model, pairs, dev, recipe, checkpoints)  # finds what the workers ended with
    if (folder / "stop").exists():
        shutil.rmtree(checkpoints / RESULT)  # run again, it goes on from the last checkpoint
    shutil.rmtree(folder)
    return history


def main(folder: Path) -> None:
    """One of the workers that torchrun started: train with the others; the first writes the result."""
    warnings.simplefilter("ignore", FutureWarning)  # what the libraries say to each other
    end_with_parent()
    rank = PartialState(cpu=device() == "cpu").process_index  # joins the others, and takes the GPU that is this one's
    torch.set_num_threads(processes.threads(int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        pairs, *dev = (pd.read_parquet(folder / f"{name}.parquet") for name in ("pairs", "tracks", "requests"))
        recipe, checkpoints = Recipe(**read_json(folder / "recipe.json")), folder.with_name("checkpoints")
        model = load(folder / "base", recipe.max_length)
        history = training.train(model, pairs, RequestEvaluator(*dev), recipe, checkpoints, _Stop(folder / "stop"))
        if rank == 0:
            keep_result(model, history, checkpoints)
    except Exception as error:
        said = str(error) if isinstance(error, WorkbookError) else f"{type(error).__name__}: {error}"
        if not (folder / "error.txt").exists():  # the others only lost a worker
            (folder / "error.txt").write_text(f"worker {rank}: {said}", encoding="utf-8")
        raise
    torch.distributed.destroy_process_group()


class _Stop(TrainerCallback):
    """Ends the training of all workers after the step at which the first of them finds a file."""

    def __init__(self, file: Path):
        self.file = file

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= training.first_decides(self.file.exists)


def _pass_on(process: subprocess.Popen, stop: Path) -> None:
    """Print what torchrun prints, as it comes, until it ends; at the first interrupt make the file `stop`."""
    while True:
        try:
            if not (said := process.stdout.read1()):
                return
            print(said.decode(errors="replace"), end="", flush=True)
        except KeyboardInterrupt:
            if stop.exists():
                raise
            stop.touch()
            print("\nInterrupted: the workers stop after this step and keep the mean of the checkpoints so far.")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
