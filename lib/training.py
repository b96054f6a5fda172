"""Fine-tuning: pairs of texts that mean the same track, and a symmetric in-batch contrastive loss over them.

The recipe: about a third of the pairs are (request, track), the rest are one track in two registers (prose and
tags), so that the encoder learns moods without forgetting how people write. The loss ranks each text's partner
above all others of the batch, in both directions (Multiple Negatives Ranking, Henderson et al. 2017).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import set_seed

from lib.encoder import device
from lib.runs import WorkbookError, atomic


def make_pairs(tracks: pd.DataFrame, requests: pd.DataFrame, n: int, request_share: float, seed: int) -> pd.DataFrame:
    """Draw `n` training pairs from the training split only. -> columns kind, anchor, positive.

    Args:
        request_share: share of (request, track) pairs, between 0 and 1; the rest pair two registers of a track.

    Raises:
        WorkbookError: the catalogue has fewer than two training tracks or no training requests.
    """
    rng = np.random.default_rng(seed + 2)
    tracks = tracks[tracks["split"] == "train"].set_index("id")
    requests = requests[(requests["split"] == "train") & requests["target"].isin(tracks.index)]
    if len(tracks) < 2 or requests.empty:
        raise WorkbookError(
            f"{len(tracks)} training tracks and {len(requests)} training requests: too few to train on."
        )
    asked = requests.iloc[rng.integers(0, len(requests), round(n * request_share))]
    about = tracks.loc[asked["target"]]
    by_request = pd.DataFrame({"kind": "request", "anchor": asked["text"].to_numpy(), "positive": _view(about, rng)})
    registers = _registers(tracks.iloc[rng.integers(0, len(tracks), n - len(asked))], rng)
    return pd.concat([by_request, registers]).sample(frac=1, random_state=seed).reset_index(drop=True)


def train(
    model: SentenceTransformer, pairs: pd.DataFrame, *, batch_size: int, epochs: int, lr: float, warmup: int, seed: int
) -> pd.DataFrame:
    """Fine-tune `model` in place on pairs of texts.

    Args:
        warmup: steps over which the learning rate rises from 0; cut to a tenth of all steps where there are fewer.

    Returns:
        The loss over time: columns step, epoch, loss.
    """
    set_seed(seed)
    model.model_card_data.widget = [{}]  # not empty, so that the trainer makes no examples: we write our own card
    steps = max(1, len(pairs) // batch_size) * epochs
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=batch_size,
            num_train_epochs=epochs,
            learning_rate=lr,
            warmup_steps=min(warmup, steps // 10),
            batch_sampler="no_duplicates",
            bf16=device() == "cuda",
            logging_steps=max(1, steps // 20),
            save_strategy="no",
            report_to="none",
            seed=seed,
            dataloader_pin_memory=device() == "cuda",
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_pandas(pairs[["anchor", "positive"]]),
            loss=MultipleNegativesRankingLoss(
                model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
            ),
        )
        trainer.train()
    history = pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry])
    return history.reindex(columns=["step", "epoch", "loss"])


def save(model: SentenceTransformer, folder: Path, card: str) -> None:
    """Write the encoder so that `SentenceTransformer(folder)` opens it, with a model card; whole or not at all."""
    with atomic(folder) as temporary:
        model.save_pretrained(str(temporary), create_model_card=False)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def model_card(base: str, recipe: dict, data: dict[str, str]) -> str:
    """The tuned encoder's card: what it came from, the recipe, the data's fingerprints and the limits."""
    table = "\n".join(f"| {name} | {value} |" for name, value in {"base model": base, **recipe, **data}.items())
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
---

# {base}, tuned for moods in music

Encodes a listener's request or a track's description as a unit vector; their dot product is the match.

| what | value |
| --- | --- |
{table}

**Limits.** Trained on text that a program wrote, in English. What it gains on held-out requests and what it
loses elsewhere is in the run's `metrics.json`; read that before you rely on it.
"""


def _view(tracks: pd.DataFrame, rng) -> np.ndarray:
    """Each track in one of the ways a catalogue may give it: all of its text, its description, or its tags."""
    views = np.stack([tracks["text"], tracks["description"], tracks["tags"]])
    chosen = views[rng.integers(0, 3, len(tracks)), np.arange(len(tracks))]
    return np.where(chosen == "", tracks["text"], chosen)


def _registers(tracks: pd.DataFrame, rng) -> pd.DataFrame:
    """The same track twice: prose and tags, or a few of its tags and prose; its name where it has no tags."""
    card = tracks["title"] + " — " + tracks["artist"]
    tags = tracks["tags"].where(tracks["tags"] != "", card)
    few = tags.str.split(", ").map(lambda words: ", ".join(rng.permutation(words)[:3]))
    prose = tracks["description"].where(tracks["description"] != "", tracks["text"])
    whole = rng.random(len(tracks)) < 0.5
    return pd.DataFrame(
        {
            "kind": np.where(whole, "prose and tags", "three tags and prose"),
            "anchor": np.where(whole, prose, few),
            "positive": np.where(whole, tags, prose),
        }
    )
