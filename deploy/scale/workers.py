"""Training by several workers: the same training as in one process, where each worker encodes its part of every batch.

    torchrun --nproc-per-node 2 -m deploy.scale.workers outputs/quick/workers

`train` writes that folder, starts torchrun, and loads the workers' result. If torchrun's variables PET_NNODES,
PET_RDZV_BACKEND and PET_RDZV_ENDPOINT are set, it waits for other machines. Start the command above on them, with
--nnodes, --rdzv-backend and --rdzv-endpoint, in the same folder of a shared disk.
"""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, STDOUT

import pandas as pd
import torch
from accelerate import PartialState
from sentence_transformers import SentenceTransformer
from sentence_transformers.util.distributed import get_rank, get_world_size
from torch.distributed import broadcast, broadcast_object_list, destroy_process_group
from transformers import TrainerCallback

from lib.core import processes
from lib.core.encoder import device, load
from lib.core.errors import WorkbookError
from lib.core.files import atomic, read_json, write_json, write_parquet
from lib.core.paths import ROOT
from lib.core.processes import end_with_parent
from lib.core.progress import MARK
from lib.finetune.checkpoints import resumable, signature_of
from lib.finetune.evaluator import RequestEvaluator
from lib.finetune.training import Bar, Batches, Recipe, Trainer

TABLES = ("pairs", "tracks", "requests")


def train(
    n: int, model: SentenceTransformer, pairs: pd.DataFrame, dev: RequestEvaluator, recipe: Recipe, checkpoints: Path
) -> pd.DataFrame:
    """Do `training.train` in `n` processes of this machine; an interrupt keeps the mean of the checkpoints so far.

    Raises:
        WorkbookError: a batch has fewer pairs than there are workers; or a worker failed. The message is that of the
            worker that failed first.
    """
    check(pairs, n)
    folder = checkpoints.with_name("workers")
    last = resumable(checkpoints, signature_of(model.state_dict(), pairs, recipe._asdict()))
    with atomic(folder) as temporary:
        model.save_pretrained(str(temporary / "base"), create_model_card=False)
        write_json(temporary / "recipe.json", {"recipe": recipe._asdict(), "last": last and last.name})
        for name, table in zip(TABLES, (pairs, dev.tracks, dev.requests), strict=True):
            write_parquet(temporary / f"{name}.parquet", table)
    rendezvous = [] if "PET_RDZV_ENDPOINT" in os.environ else ["--standalone"]
    command = ["torch.distributed.run", *rendezvous, f"--nproc-per-node={n}", "-m", "deploy.scale.workers", str(folder)]
    own = {"start_new_session": True, "preexec_fn": end_with_parent}  # an interrupt reaches this process alone
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=PIPE, stderr=STDOUT, **own)
    try:
        _pass_on(process, folder / "stop")
    except BaseException:
        process.terminate()  # torchrun ends its workers
        raise
    if process.wait():
        error = folder / "error.txt"
        message = error.read_text(encoding="utf-8") if error.exists() else "it was killed"
        raise WorkbookError(f"training by {n} workers failed: {message}")
    model.load_state_dict(torch.load(folder / "weights.pt", map_location=model.device, weights_only=True))
    model.eval()
    history = pd.read_parquet(folder / "history.parquet")
    shutil.rmtree(folder)
    return history


def check(pairs: pd.DataFrame, workers: int) -> None:
    """Raise a WorkbookError if a batch has fewer pairs than there are workers."""
    smallest = pairs.groupby("batch").size().min()
    if smallest < workers:
        raise WorkbookError(f"{workers} workers cannot share a batch of {smallest} pairs: use fewer workers.")


def main(folder: Path) -> None:
    """Train as one of the workers that torchrun started; the first worker writes the result."""
    warnings.simplefilter("ignore", FutureWarning)  # of one library about another
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no mean after Ctrl-C here: the other workers wait in a step
    end_with_parent()
    # This joins the other workers, and chooses this worker's GPU.
    rank = PartialState(cpu=device() == "cpu").process_index
    torch.set_num_threads(processes.threads(int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        pairs, *dev = (pd.read_parquet(folder / f"{name}.parquet") for name in TABLES)
        settings, checkpoints = read_json(folder / "recipe.json"), folder.with_name("checkpoints")
        check(pairs, get_world_size())
        recipe, last = Recipe(**settings["recipe"]), settings["last"] and checkpoints / settings["last"]
        model = load(folder / "base", recipe.max_length)
        with closing(Bar()) as bar:
            callbacks = (bar, Stop(folder / "stop"))
            trainer = WorkerTrainer(model, pairs, RequestEvaluator(*dev), recipe, checkpoints, callbacks)
            history = trainer.fit(last)
        if rank == 0:
            torch.save(model.state_dict(), folder / "weights.pt")
            write_parquet(folder / "history.parquet", history)
    except Exception as error:
        message = str(error) if isinstance(error, WorkbookError) else f"{type(error).__name__}: {error}"
        if not (folder / "error.txt").exists():  # later errors only report a lost worker
            (folder / "error.txt").write_text(f"worker {rank}: {message}", encoding="utf-8")
        raise
    destroy_process_group()


class Parts(Batches):
    """The batches, each in as many equal parts as there are workers.

    The parts of a batch follow each other, and accelerate hands them out in turn. The loss gathers the embeddings, so
    each worker ranks against the whole batch.
    """

    def __len__(self) -> int:
        return len(self.rows) * get_world_size()

    def __iter__(self):
        for turn, rows in enumerate(self.rows, self.epoch):
            yield from parts(rows, get_world_size(), turn)


def parts(rows: list[int], n: int, turn: int) -> list[list[int]]:
    """Split a batch into `n` equal parts, in order. Leave up to n - 1 rows out, different ones each turn."""
    over = len(rows) % n
    left_out = {(turn * over + i) % len(rows) for i in range(over)}
    kept = [row for at, row in enumerate(rows) if at not in left_out]
    size = len(kept) // n
    return [kept[start : start + size] for start in range(0, len(kept), size)]


class WorkerTrainer(Trainer):
    """The trainer of one worker. All workers end with the same weights; only the first reads and averages them."""

    batches = Parts

    def __init__(self, *args):
        # accelerate sees the other workers on a CPU only with use_cpu. It requires drop_last, but drops no batch here.
        # Workers encode in different numbers of parts, so none may wait for the buffers of another at each part.
        own = {"use_cpu": device() == "cpu", "dataloader_drop_last": True, "ddp_broadcast_buffers": False}
        super().__init__(*args, **own)

    def get_default_loss(self, model: SentenceTransformer, **options) -> torch.nn.Module:
        return super().get_default_loss(model, gather_across_devices=True, **options)

    def keep_mean(self) -> list[Path]:
        folders = super().keep_mean() if get_rank() == 0 else []
        for value in self.model.state_dict().values():
            broadcast(value, 0)
        return folders

    def halve(self, size: int) -> None:
        raise WorkbookError(
            f"{size} pairs do not fit into a worker's memory, and workers cannot halve their part of a batch: "
            "lower batch_size or max_length, or use more workers with a GPU each."
        )


class Stop(TrainerCallback):
    """A callback that ends the training of all workers after the step in which the first worker sees a file."""

    def __init__(self, file: Path):
        self.file = file

    def on_step_end(self, args, state, control, **_):
        exists = [self.file.exists() if get_rank() == 0 else None]
        broadcast_object_list(exists)
        control.should_training_stop |= exists[0]


def _pass_on(process: subprocess.Popen, stop: Path) -> None:
    """Print torchrun's output until it ends; create the file `stop` at the first interrupt."""
    while True:
        try:
            if not (output := process.stdout.read1()):
                return
            print(output.decode(errors="replace").replace(MARK, f"\n{MARK}"), end="", flush=True)
        except KeyboardInterrupt:
            if stop.exists():
                raise
            stop.touch()
            print("\nInterrupted: the workers stop after this step and keep the mean of the checkpoints so far.")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
