"""Fine-tuning with the trainer of sentence-transformers: train, stop early, resume, average the weights, save.

The loss ranks each text's partner above all other texts of its batch, in both directions (Multiple Negatives Ranking,
Henderson et al. 2017). The learning rate stays constant after the warm-up; the mean of the checkpoints replaces its
decay (SWA, Izmailov et al. 2018). That mean is then averaged with the base's weights (WiSE-FT, Wortsman et al. 2022),
which restores most of what the training made the encoder forget.
"""

from contextlib import closing
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate.utils.memory import should_reduce_batch_size
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from tqdm.auto import tqdm
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from lib.core.encoder import device, forward
from lib.core.errors import WorkbookError
from lib.core.files import atomic, read_json, write_json
from lib.core.measures import MAIN
from lib.core.progress import Progress
from lib.finetune.checkpoints import OneOptimizer, mean_of, resumable, signature_of, to_average
from lib.finetune.evaluator import RequestEvaluator

LOGS = 40  # rows of loss in the history of a training
EVALUATIONS = 4  # least number of measurements of the dev metric; else one per epoch
DEV = f"dev {MAIN}"
STORY = "training.json"  # the curve and the figures of a training, beside its weights
SHOWN = {"loss": "loss", f"eval_{MAIN}": DEV}  # entries of the trainer's log: their names on the bar


class Recipe(NamedTuple):
    """The settings of a training."""

    epochs: int  # passes over the pairs
    lr: float  # learning rate after the warm-up
    warmup: float  # steps in which the learning rate rises from 0; below 1, a share of all steps
    patience: int  # measurements without a better dev metric before the training stops
    keep_base: float  # share of the base's weights in the final average, 0 to 1
    max_length: int  # tokens that the encoder reads of a text; it already has this limit, here it is for the record
    seed: int  # random seed of the trainer; `make_pairs` sets the order of the batches

    @property
    def evaluations(self) -> int:
        """The number of measurements of the dev metric, each with a checkpoint."""
        return max(EVALUATIONS, self.epochs)


def train(
    model: SentenceTransformer,
    pairs: pd.DataFrame,
    dev: RequestEvaluator,
    recipe: Recipe,
    checkpoints: Path,
    *callbacks: TrainerCallback,
) -> pd.DataFrame:
    """Fine-tune `model` in place, without dropout, on pairs from `make_pairs`.

    The result is the mean of the checkpoints up to the best one on `dev`, averaged with the base's weights. The folder
    `checkpoints` belongs to this training alone: remove it when the result is saved.

    A killed training resumes from the last complete checkpoint, if model, pairs and recipe are the same. It ends with
    the same weights if PyTorch has the same number of threads: another number rounds sums in another order. An
    interrupt (Ctrl-C, or JupyterLab's stop button) ends the training and keeps the mean of the checkpoints so far. If
    memory runs out, the trainer encodes each batch in halves, with the same loss over the whole batch.

    Returns:
        History: columns step, loss (the mean since the previous row), and the dev metric where it was measured.

    Raises:
        WorkbookError: not even one pair fits into memory.
    """
    last = resumable(checkpoints, signature_of(model.state_dict(), pairs, recipe._asdict()))
    with closing(Bar()) as bar:
        return Trainer(model, pairs, dev, recipe, checkpoints, (bar, *callbacks)).fit(last)


def save(model: SentenceTransformer, run: Path, card: str, story: dict) -> None:
    """Write the run's model/ with its card and `story`, atomically; `SentenceTransformer(run / "model")` opens it."""
    with atomic(run / "model") as temporary:
        model.save_pretrained(str(temporary), create_model_card=False)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_json(temporary / STORY, story)


def story(run: Path) -> dict:
    """Return the `story` that `save` wrote into the run's model/; raise WorkbookError if there is none."""
    if not (run / "model" / STORY).exists():
        raise WorkbookError(f"the run has no model/{STORY}: an earlier version made it. Run it again: make run.")
    return read_json(run / "model" / STORY)


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


class Batches(DefaultBatchSampler):
    """The batches of `make_pairs` in their order, the same in each epoch."""

    def __init__(self, numbers: np.ndarray, dataset: Dataset, **_):
        """Take the batch number of each row of the dataset."""
        self.rows = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)


class RankingLoss(MultipleNegativesRankingLoss):
    """The library's loss; texts of similar length are encoded together, so little is padded."""

    def forward(self, sentence_features, labels):
        return self.compute_loss_from_embeddings([forward(self.model, part) for part in sentence_features], labels)


class Trainer(SentenceTransformerTrainer):
    """The trainer of sentence-transformers with our batches, loss, average of weights, and care of a full memory."""

    batches = Batches

    def __init__(self, model, pairs, dev, recipe, checkpoints, callbacks, **arguments):
        """Take the arguments of `train`, and training arguments that replace those of `_arguments`."""
        self.keep_base = recipe.keep_base
        self.micro: int | None = None  # texts encoded at a time; None: the whole batch
        for module in model.modules():  # dropout slows a training too short to overfit; this change is never saved
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.model_card_data.widget = [{}]  # not empty, so the trainer generates no examples; we write our own card
        arguments["batch_sampler"] = partial(self.batches, pairs["batch"].to_numpy())
        steps = pairs["batch"].nunique() * recipe.epochs
        super().__init__(
            model=model,
            args=SentenceTransformerTrainingArguments(**_arguments(checkpoints, steps, recipe) | arguments),
            train_dataset=Dataset.from_pandas(pairs[["anchor", "positive"]], preserve_index=False),
            evaluator=dev,
            callbacks=[EarlyStoppingCallback(recipe.patience), OneOptimizer(), *callbacks],
        )
        self.remove_callback(PrinterCallback)

    def fit(self, last: Path | None) -> pd.DataFrame:
        """Train from the checkpoint `last` or from the start, and average the weights. Return the history."""
        base = deepcopy(self.model.state_dict())
        self.args.eval_on_start = last is None  # measuring the same weights again would use up patience
        try:
            self.train(resume_from_checkpoint=last and str(last))
            self.keep_mean()
        except KeyboardInterrupt:
            averaged = self.keep_mean()
            result = f"the mean of the checkpoints up to {averaged[-1].name}" if averaged else "the present weights"
            print(f"\nInterrupted at step {self.state.global_step}: keeping {result}.")
        self.model.load_state_dict(mean_of(base, self.model.state_dict(), self.keep_base))
        self.model.eval()
        return history_of(self.state.log_history)

    def keep_mean(self) -> list[Path]:
        """Load the mean of the checkpoints up to the best one. Return their folders; [] if there is no checkpoint."""
        folders = to_average(Path(self.args.output_dir), history_of(self.state.log_history))
        mean = None
        for count, folder in enumerate(folders):
            self._load_from_checkpoint(str(folder))
            weights = deepcopy(self.model.state_dict())
            mean = mean_of(mean, weights, count / (count + 1)) if mean else weights
        if mean:
            self.model.load_state_dict(mean)
        return folders

    def get_default_loss(self, model: SentenceTransformer, **options) -> torch.nn.Module:
        """Return the symmetric ranking loss over the whole batch, which encodes `micro` texts at a time."""
        options |= {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
        if self.micro is None:
            return RankingLoss(model, **options)
        return CachedMultipleNegativesRankingLoss(model, mini_batch_size=self.micro, **options)

    def training_step(self, model, inputs, num_items_in_batch=None):
        try:
            return super().training_step(model, dict(inputs), num_items_in_batch)
        except RuntimeError as error:
            # accelerate knows PyTorch's messages, but not the CUDA driver's
            if not should_reduce_batch_size(error) and "CUDA error: out of memory" not in str(error):
                raise
        self.halve(len(inputs["anchor_input_ids"]))  # the except block still held the failed step's memory
        model.zero_grad(set_to_none=True)
        if device() == "cuda":
            torch.cuda.empty_cache()
        self.loss = self.prepare_loss(self.get_default_loss(self.model), model)
        return self.training_step(model, inputs, num_items_in_batch)

    def halve(self, size: int) -> None:
        """Halve the number of texts encoded at a time, for a batch of `size` pairs."""
        self.micro = (self.micro or size) // 2
        if self.micro < 1:
            raise WorkbookError("Not even one pair fits into memory: lower max_length, or use a smaller base_model.")
        tqdm.write(f"Out of memory: encoding {self.micro} texts at a time from here; a batch still has {size} pairs.")


def precision() -> dict[str, bool]:
    """Return the trainer's arguments for mixed precision: bf16 where the GPU has it, else fp16; {} without CUDA."""
    return {"bf16" if torch.cuda.is_bf16_supported() else "fp16": True} if device() == "cuda" else {}


def history_of(log: list[dict]) -> pd.DataFrame:
    """Return the trainer's log with one row per step; a step that was repeated after a resume has one row."""
    table = pd.DataFrame(log).rename(columns={f"eval_{MAIN}": DEV}).reindex(columns=["step", "loss", DEV])
    return table.groupby("step", as_index=False).last()


def _arguments(folder: Path, steps: int, recipe: Recipe) -> dict:
    interval = max(1, -(-steps // recipe.evaluations))
    return {
        "output_dir": str(folder),
        "num_train_epochs": recipe.epochs,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": "constant_with_warmup",
        "weight_decay": 0.01,
        "warmup_steps": recipe.warmup,
        "logging_steps": max(1, steps // LOGS),
        "eval_strategy": "steps",
        "eval_steps": interval,
        "save_steps": interval,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_{MAIN}",
        "restore_callback_states_from_checkpoint": True,
        "disable_tqdm": True,
        "seed": recipe.seed,
        "dataloader_pin_memory": device() == "cuda",
        **precision(),
    }
