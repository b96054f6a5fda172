"""Fine-tuning with sentence-transformers' trainer: estimate, train, stop early, resume, save.

The loss ranks each text's partner above all others of its batch, in both directions (Multiple Negatives Ranking,
Henderson et al. 2017). The learning rate stays where it is; the mean of the checkpoints on the way does what letting it
fall would do (SWA, Izmailov et al. 2018). That mean is then averaged with the base's weights
(WiSE-FT, Wortsman et al. 2022), which gives back most of what fine-tuning forgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from datasets import Dataset
from IPython import get_ipython
from IPython.display import display
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util.distributed import get_rank, get_world_size
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from lib.core.encoder import device
from lib.core.errors import WorkbookError
from lib.core.files import atomic
from lib.core.measures import MAIN
from lib.finetune.checkpoints import (
    finished,
    mean_of,
    resumable,
    signature_of,
    take_result,
    up_to_the_best,
    weights_of,
    whole_ones,
)
from lib.finetune.evaluator import RequestEvaluator
from lib.finetune.pictures import training

LOGS = 40  # times that the loss is logged
EVALUATIONS = 4  # times that the dev metric is measured and a checkpoint kept, at least; else once an epoch
LONG = 3600  # seconds of training on a CPU that deserve a warning


class Recipe(NamedTuple):
    """How to train.

    Attributes:
        epochs: passes over the pairs.
        lr: learning rate after the warm-up.
        warmup: steps over which it rises from 0; cut to a tenth of all steps where there are fewer.
        patience: evaluations without a better dev metric before training stops.
        keep_base: share of the base's weights in the average with the mean of the checkpoints, 0 to 1.
        max_length: tokens read of a text; the encoder given has it already, here it is for the record.
        seed: of what the trainer draws; the batches have their order from `make_pairs`.
    """

    epochs: int
    lr: float
    warmup: int
    patience: int
    keep_base: float
    max_length: int
    seed: int


def precision() -> dict[str, bool]:
    """The trainer's arguments for mixed precision: bf16 where the GPU has it, else fp16; neither off CUDA."""
    if device() != "cuda":
        return {}
    return {"bf16": True} if torch.cuda.is_bf16_supported() else {"fp16": True}


def estimate(model: SentenceTransformer, pairs: pd.DataFrame, dev: RequestEvaluator, epochs: int) -> dict[str, float]:
    """What a training takes on this device, from its smallest, median and largest batch and a measurement.

    Returns:
        steps, seconds, bytes (CUDA: the peak on the GPU; else: of this process), disk (bytes of its checkpoints).
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)  # takes its time and memory and moves nothing
    texts = pairs[["anchor", "positive"]].apply(lambda column: column.str.len()).groupby(pairs["batch"])
    size = (texts.max().sum(axis=1) * texts.size()).sort_values()  # characters, with padding
    tried = size.iloc[[0, len(size) // 2, -1]]
    _without_dropout(model)
    model.train()
    times = [_step_seconds(model, optimizer, pairs[pairs["batch"] == batch]) for batch in tried.index]
    stepping = float(np.interp(size, tried, times).sum()) * epochs
    used = torch.cuda.max_memory_allocated() if device() == "cuda" else psutil.Process().memory_info().rss
    optimizer.zero_grad(set_to_none=True)
    started = time.perf_counter()
    dev(model)
    measured = _evaluations(epochs)
    measuring = (time.perf_counter() - started) * (measured + 1)
    steps = pairs["batch"].nunique() * epochs
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    disk = (measured + 4) * weights  # the last two checkpoints have the optimiser's two moments too
    return {"steps": steps, "seconds": stepping + measuring, "bytes": used, "disk": disk}


def warning(estimated: dict[str, float]) -> str:
    """What to tell someone about to train for hours on a CPU; "" if there is nothing to tell."""
    if device() != "cpu" or estimated["seconds"] < LONG:
        return ""
    return (
        f"WARNING: about {estimated['seconds'] / 3600:.0f} hours on this CPU. A GPU does it in minutes; without one, "
        "stop now and take params/quick.yaml (six to seven minutes), or lower n_pairs and epochs. "
        "Stopped trainings resume from their last checkpoint."
    )


def train(
    model: SentenceTransformer,
    pairs: pd.DataFrame,
    dev: RequestEvaluator,
    recipe: Recipe,
    checkpoints: Path,
    *callbacks: TrainerCallback,
) -> pd.DataFrame:
    """Fine-tune `model` in place, without dropout.

    It ends with the mean of its checkpoints up to the one that is best on `dev`, averaged with the weights it came
    with. Of measurements that differ by less than `checkpoints.NOISE` the last counts as best.

    A training that was killed goes on from the last whole checkpoint in `checkpoints` if it is of the same model, pairs
    and recipe. An interrupt (Ctrl-C, or JupyterLab's stop button) ends it and keeps that mean so far. Where
    memory runs out, the batch is encoded in halves (and so on), with the same loss and the same effective batch.

    Called by each of several workers (`deploy.scale.workers`), all take their part of every batch and end with the
    same weights; only the first writes and prints. They neither halve a batch nor keep a mean when interrupted. What they ended with
    (`keep_result`) is taken as it is by whoever trains the same again.

    Args:
        pairs: from `pairs.make_pairs`.
        checkpoints: a folder for this training alone, to remove when its result is safe.
        callbacks: of the trainer, besides those that it has here.

    Returns:
        History: columns step, loss (mean since the row before), and the dev metric where it was measured.

    Raises:
        WorkbookError: not even one pair fits into memory; of several workers: a batch has fewer pairs than there are
            workers, or one of them ran out of memory.
    """
    smallest = pairs.groupby("batch").size().min()
    if smallest < get_world_size():
        raise WorkbookError(f"{get_world_size()} workers cannot share a batch of {smallest} pairs: take fewer workers.")
    set_seed(recipe.seed)
    base = weights_of(model)
    _without_dropout(model)
    signature = signature_of(base, pairs, recipe._asdict())
    if first_decides(lambda: finished(checkpoints, signature)):
        return _take_result(model, checkpoints)
    last = first_decides(lambda: resumable(checkpoints, signature))
    steps = pairs["batch"].nunique() * recipe.epochs
    bar = _Progress(steps)
    model.model_card_data.widget = [{}]  # not empty, so that the trainer makes no examples: we write our own card
    trainer = _Trainer(
        model=model,
        args=_arguments(checkpoints, steps, recipe, pairs["batch"].to_numpy(), resumed=last is not None),
        train_dataset=Dataset.from_pandas(pairs[["anchor", "positive"]], preserve_index=False),
        evaluator=dev,
        loss=_loss(model, None),
        callbacks=[bar, EarlyStoppingCallback(recipe.patience), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train(resume_from_checkpoint=last and str(last))
        trainer.keep_mean()
    except KeyboardInterrupt:
        if get_world_size() > 1:  # the others wait for this one in the middle of a step
            raise
        steps = trainer.keep_mean()
        kept = f"the mean of the checkpoints up to step {max(steps)}" if steps else "the weights as they are"
        print(f"\nInterrupted at step {trainer.state.global_step}: keeping {kept}.")
    finally:
        bar.close()
    model.load_state_dict(mean_of(base, weights_of(model), recipe.keep_base))
    model.eval()
    return _history(trainer.state.log_history)


def first_decides(decide: Callable):
    """What the first of the workers decides, for all of them: only it looks at the disk, and changes it."""
    if get_world_size() == 1:
        return decide()
    decided = [decide() if get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(decided)
    return decided[0]


def save(model: SentenceTransformer, run: Path, card: str) -> None:
    """Write the run's model/, with its card, as `SentenceTransformer(run / "model")` opens it; whole or not at all."""
    with atomic(run / "model") as temporary:
        model.save_pretrained(str(temporary), create_model_card=False)
        (temporary / "README.md").write_text(card, encoding="utf-8")


class _Trainer(SentenceTransformerTrainer):
    """The trainer, which halves the micro-batch when memory runs out and repeats the step."""

    micro: int | None = None  # texts encoded at a time; None: the whole batch

    def keep_mean(self) -> list[int]:
        """Load the mean of the checkpoints up to the best one. -> their steps; none, and nothing done, without any."""
        saved = whole_ones(Path(self.args.output_dir)) if get_rank() == 0 else {}  # the others are given the first's
        steps = up_to_the_best(self.state.log_history, set(saved))
        mean = None
        for already, step in enumerate(steps):
            self._load_from_checkpoint(str(saved[step]))
            mean = mean_of(mean, weights_of(self.model), already / (already + 1)) if mean else weights_of(self.model)
        if mean:
            self.model.load_state_dict(mean)
        if get_world_size() > 1:
            for value in self.model.state_dict().values():
                torch.distributed.broadcast(value, 0)
        return steps

    def _save_checkpoint(self, model, trial):
        """And take the optimiser from those before, now that this one is whole: no training goes on from them."""
        before = whole_ones(Path(self.args.output_dir)).values() if get_rank() == 0 else ()
        super()._save_checkpoint(model, trial)
        for folder in before:
            if folder.name != f"checkpoint-{self.state.global_step}":
                (folder / "optimizer.pt").unlink(missing_ok=True)

    def training_step(self, model, inputs, num_items_in_batch=None):
        try:
            return super().training_step(model, dict(inputs), num_items_in_batch)
        except RuntimeError as error:
            if not _full(error):
                raise
        size = len(inputs["anchor_input_ids"])
        if get_world_size() > 1:
            raise WorkbookError(
                f"{size} pairs do not fit into a worker's memory, and several workers do not halve what each has of a "
                "batch: lower batch_size or max_length, or take more workers with a GPU each."
            )
        self.micro = (self.micro or size) // 2
        if self.micro < 1:
            raise WorkbookError("Not even one pair fits into memory: lower max_length, or take a smaller base_model.")
        tqdm.write(f"Out of memory: encoding {self.micro} texts at a time from here; the effective batch stays {size}.")
        model.zero_grad(set_to_none=True)
        if device() == "cuda":
            torch.cuda.empty_cache()
        self.loss = self.prepare_loss(_loss(self.model, self.micro), model)
        return self.training_step(model, inputs, num_items_in_batch)


class _Progress(TrainerCallback):
    """A progress bar with the loss and the dev metric; in a notebook also the curve, redrawn as it grows."""

    def __init__(self, steps: int):
        self.bar = tqdm(total=steps, desc="training", unit="step", disable=get_rank() > 0)
        self.shown: dict[str, str] = {}
        self.handle = display(display_id=True) if get_ipython() else None

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        names = {"loss": "loss", f"eval_{MAIN}": f"dev {MAIN}"}
        self.shown |= {names[key]: f"{value:.3f}" for key, value in (logs or {}).items() if key in names}
        self.bar.set_postfix(self.shown)
        history = _history(state.log_history)
        if self.handle and len(history) > 1:
            figure = _curve(history)
            self.handle.update(figure)
            plt.close(figure)

    def close(self):
        self.bar.close()


def _evaluations(epochs: int) -> int:
    return max(EVALUATIONS, epochs)


def _arguments(
    folder: Path, steps: int, recipe: Recipe, batches: np.ndarray, resumed: bool
) -> SentenceTransformerTrainingArguments:
    often = max(1, -(-steps // _evaluations(recipe.epochs)))
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        lr_scheduler_type="constant_with_warmup",
        weight_decay=0.01,
        warmup_steps=min(recipe.warmup, steps // 10),
        batch_sampler=partial(_Batches, batches),
        logging_steps=max(1, steps // LOGS),
        eval_steps=often,
        save_steps=often,
        eval_on_start=not resumed,  # a second measurement of the same weights would count against the patience
        restore_callback_states_from_checkpoint=True,
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        dataloader_pin_memory=device() == "cuda",
        use_cpu=get_world_size() > 1 and device() == "cpu",  # else accelerate sees no other workers there
        dataloader_drop_last=get_world_size() > 1,  # no batch is dropped; it is only what several workers are asked for
        eval_strategy="steps",
        save_strategy="steps",
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{MAIN}",
        greater_is_better=True,
        **precision(),
    )


class _Batches(DefaultBatchSampler):
    """The batches as `make_pairs` made and ordered them, the same in each epoch.

    Of several workers each has an equal part of every batch: the parts follow each other, and accelerate hands them out
    in turn, as it does with any batches. The loss gathers what they encode, so that all see the whole batch.
    """

    def __init__(self, batches: np.ndarray, dataset: Dataset, **_):
        self.rows = [np.flatnonzero(batches == b).tolist() for b in np.unique(batches)]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows) * get_world_size()

    def __iter__(self):
        for turn, rows in enumerate(self.rows, self.epoch):
            yield from _parts(rows, get_world_size(), turn)


def _parts(rows: list[int], n: int, turn: int) -> list[list[int]]:
    """The batch in `n` equal parts, in order. What does not divide, up to n - 1 rows, is left out: others each turn."""
    over = len(rows) % n
    left_out = {(turn * over + i) % len(rows) for i in range(over)}
    kept = [row for at, row in enumerate(rows) if at not in left_out]
    size = len(kept) // n
    return [kept[start : start + size] for start in range(0, len(kept), size)]


def _loss(model, micro: int | None):
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    both["gather_across_devices"] = get_world_size() > 1
    if micro is None:
        return MultipleNegativesRankingLoss(model, **both)
    return CachedMultipleNegativesRankingLoss(model, mini_batch_size=micro, **both)


def _step_seconds(model: SentenceTransformer, optimizer: torch.optim.Optimizer, batch: pd.DataFrame) -> float:
    """How long a step takes once memory and kernels are there for its size."""
    _step(model, optimizer, batch, None)
    _wait()
    started = time.perf_counter()
    _step(model, optimizer, batch, None)
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    """Until a GPU has done what it was given."""
    if device() != "cpu":
        torch.accelerator.synchronize()


def _step(model: SentenceTransformer, optimizer: torch.optim.Optimizer, batch: pd.DataFrame, micro: int | None) -> None:
    """A step like the trainer's, encoding `micro` texts at a time (None: all), in halves where memory runs out."""
    features = [model.preprocess(batch[column].tolist()) for column in ("anchor", "positive")]
    features = [{k: v.to(model.device) if hasattr(v, "to") else v for k, v in f.items()} for f in features]
    optimizer.zero_grad(set_to_none=True)
    try:
        with torch.autocast(
            device(), torch.float16 if "fp16" in precision() else torch.bfloat16, enabled=bool(precision())
        ):
            _loss(model, micro)(features, None).backward()
        return optimizer.step()
    except RuntimeError as error:
        if not _full(error) or (micro or len(batch)) == 1:
            raise
    _step(model, optimizer, batch, (micro or len(batch)) // 2)  # out here, where the failed one's memory is free


def _full(error: RuntimeError) -> bool:
    """Whether memory ran out: accelerate knows PyTorch's words for it, but not the driver's own."""
    return should_reduce_batch_size(error) or "CUDA error: out of memory" in str(error)


def _take_result(model: SentenceTransformer, checkpoints: Path) -> pd.DataFrame:
    """What several workers ended with, into `model`; in a notebook show the curve. -> the history."""
    history = take_result(model, checkpoints)
    model.eval()
    if get_ipython():
        figure = _curve(history)
        display(figure)
        plt.close(figure)
    return history


def _history(log: list[dict]) -> pd.DataFrame:
    """The trainer's log as a row a step; a step that was measured again after resuming is there once."""
    rows: dict[int, dict] = {}
    for entry in log:
        row = rows.setdefault(entry["step"], {"step": entry["step"]})
        row |= {"loss": entry["loss"]} if "loss" in entry else {}
        row |= {f"dev {MAIN}": entry[f"eval_{MAIN}"]} if f"eval_{MAIN}" in entry else {}
    table = pd.DataFrame(sorted(rows.values(), key=lambda row: row["step"]))
    return table.reindex(columns=["step", "loss", f"dev {MAIN}"])


def _curve(history: pd.DataFrame) -> plt.Figure:
    """The loss and the dev metric, with the checkpoints that are averaged."""
    measured = history.dropna(subset=[f"dev {MAIN}"])
    log = [{"step": step, f"eval_{MAIN}": value} for step, value in measured[["step", f"dev {MAIN}"]].to_numpy()]
    return training(history, up_to_the_best(log, set(measured["step"]) - {0}))


def _without_dropout(model: torch.nn.Module) -> None:
    """A training this short does not overfit: dropout would only slow it down. Nothing of this is saved."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
