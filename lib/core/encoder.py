"""The encoder: open it on the best device, embed texts as unit vectors, explain a similarity, measure speed.

A process that encodes with another form than PyTorch's never imports PyTorch, which takes 5 s and 0.3 GiB.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from lib.core.measures import Encoded
from lib.core.progress import Progress

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

BATCH = {"cpu": 1024, "gpu": 32_768}  # tokens encoded together: they fit a CPU's cache; they fill a GPU
BLOCK = 1024  # texts tokenised together: each takes as much memory as the longest
TEXTS, SINGLES = 256, 50  # texts that measure the speed in batches, and alone
TINY = 1e-12  # the least length that a vector is divided by
WORD = re.compile(r"\w+(?:[-'’]\w+)*")
STOP_WORDS = frozenset(yaml.safe_load(Path(__file__).with_name("stop_words.yaml").read_text(encoding="utf-8")))


class Form(ABC):
    """An encoder without PyTorch, on the CPU. `embed` and `contributions` take it, or a SentenceTransformer."""

    device = "cpu"

    @abstractmethod
    def get_embedding_dimension(self) -> int:
        """Return the width of its vectors."""

    @abstractmethod
    def batches(self, texts: list[str], together: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encode texts. Yield the rows of each batch, (m,) of int, and their vectors, (m, d), of any length."""

    @abstractmethod
    def tokens(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the tokens of each text: starts, (t,), -1 for the encoder's own marks, and vectors, (t, d)."""

    def to(self, device: str) -> Form:
        """Return itself, whatever the device."""
        return self


def load(path: Path | str, max_length: int | None = None) -> SentenceTransformer:
    """Open the encoder in a folder on the best device. It cuts texts at `max_length` tokens, or at its own limit."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for reading 100 tensors in 10 ms is noise in a notebook
    model = SentenceTransformer(str(path), device=device())
    if max_length:
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def device() -> str:
    """Return cuda or mps if this machine has it, else cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def embed(model: SentenceTransformer | Form, texts, progress: bool = False, together: bool = False) -> np.ndarray:
    """Embed texts as unit vectors. (n,) of str -> (n, d) float32. Equal texts are encoded once.

    A text's vector does not depend on the other texts, except for rounding (1e-4 in a GPU's fp16). An int8 encoder's
    vector does depend on its batch, so it encodes each text alone.

    Args:
        together: encode in batches with int8 too. It is twice as fast and changes the last digits.
    """
    texts = list(texts)
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)  # the texts that need most memory come first
    vectors = np.empty((len(unique), model.get_embedding_dimension()), np.float32)
    with Progress(total=len(unique), desc="embedding", unit="text", disable=not progress) as bar:
        for start in range(0, len(unique), BLOCK):
            block = unique[start : start + BLOCK]
            for rows, part in model.batches(block, together) if isinstance(model, Form) else _batches(model, block):
                part = part[:, : vectors.shape[1]]  # a Matryoshka model may be cut shorter
                vectors[start + rows] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), TINY)
                bar.update(len(rows))
    row = {text: number for number, text in enumerate(unique)}
    return vectors[[row[text] for text in texts]]


def by_length(mask: np.ndarray, n_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of similar token counts together, the longest first, and the columns that their tokens use.

    So little is padded: `SentenceTransformer.encode`, sorting by characters, adds a quarter to a catalogue's tokens.

    Args:
        mask: True for a token, False for padding, on either side, (texts, tokens).
        n_tokens: at most so many are in a batch, or one text.
    """
    lengths = mask.sum(axis=1)
    order, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(order):
        rows = order[start : start + max(1, n_tokens // int(lengths[order[start]]))]
        yield rows, mask[rows].any(axis=0)
        start += len(rows)


def _batches(model: SentenceTransformer, texts: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode texts with PyTorch, as `Form.batches` does."""
    import torch
    from transformers import PreTrainedTokenizerBase

    if not isinstance(getattr(model, "tokenizer", None), PreTrainedTokenizerBase):
        yield np.arange(len(texts)), model.encode(texts, batch_size=BLOCK, show_progress_bar=False)
        return
    model.eval()
    features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
    # fp16 rounds an eighth as much as bf16
    with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=model.device.type == "cuda"):
        vectors = forward(model, features).float().cpu().numpy()
    yield np.arange(len(texts)), vectors


def forward(model: SentenceTransformer, features: dict) -> torch.Tensor:
    """Encode what `preprocess` returns, texts of similar length together. -> (n, d), with gradients."""
    import torch

    features = {k: v.to(model.device) if torch.is_tensor(v) else v for k, v in features.items()}
    if "attention_mask" not in features or len({v.shape for v in features.values() if torch.is_tensor(v)}) > 1:
        return model(features)["sentence_embedding"]
    order, vectors, n_tokens = [], [], BATCH["cpu" if model.device.type == "cpu" else "gpu"]
    for rows, used in by_length(features["attention_mask"].cpu().numpy().astype(bool), n_tokens):
        part = {k: v[rows][:, used] if torch.is_tensor(v) else v for k, v in features.items()}
        order.append(rows)
        vectors.append(model(part)["sentence_embedding"])
    return torch.cat(vectors)[np.argsort(np.concatenate(order))]


def contributions(
    model: SentenceTransformer | Form, texts: list[str], query: np.ndarray
) -> list[list[tuple[str, float]]]:
    """Return each word's share of a text's similarity to a query, largest first, without stop words.

    An encoder that averages over tokens has a similarity that is exactly the sum of its tokens' parts. A word's share
    is the sum over its tokens, and over all its places in the text, divided by the whole. The query is a unit vector.
    """
    tokens = model.tokens(texts) if isinstance(model, Form) else _tokens(model, texts)
    ranked = []
    for text, (starts, vectors) in zip(texts, tokens, strict=True):
        parts = vectors[:, : len(query)] @ query  # a Matryoshka model may be cut shorter
        shares = {}
        for match in WORD.finditer(text):
            inside = (starts >= match.start()) & (starts < match.end())
            if inside.any() and (word := match.group().lower()) not in STOP_WORDS:
                shares[word] = shares.get(word, 0.0) + float(parts[inside].sum() / parts.sum())
        ranked.append(sorted(shares.items(), key=lambda item: -item[1]))
    return ranked


def _tokens(model: SentenceTransformer, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the tokens of each text by PyTorch, as `Form.tokens` does."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):
        encoded = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        weight = model[0].embedding.weight.detach().cpu().numpy()
        return [(np.array([start for start, _ in one.offsets]), weight[one.ids]) for one in encoded]
    vectors = model.encode(texts, prompt="", output_value="token_embeddings", show_progress_bar=False)
    tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length).encodings
    starts = [np.where(one.special_tokens_mask, -1, np.array(one.offsets)[:, 0]) for one in tokens]
    return [(begin, one.float().cpu().numpy()) for begin, one in zip(starts, vectors, strict=True)]


def encode(model, tracks: pd.DataFrame, requests: pd.DataFrame, progress: bool = False) -> Encoded:
    """Embed the tracks' and the requests' text."""
    return Encoded(embed(model, tracks["text"], progress), embed(model, requests["text"], progress))


def speed(model, texts: pd.Series) -> dict[str, dict[str, float]]:
    """Measure texts per second in batches and milliseconds for one text, on the CPU and on the model's own device.

    Medians after a warm-up. -> device -> texts_per_second, ms_for_one.
    """
    own, figures = str(model.device).partition(":")[0], {}
    unique = texts.drop_duplicates().tolist()[:TEXTS]  # `embed` encodes equal texts once
    for name in dict.fromkeys(("cpu", own)):
        model.to(name)
        embed(model, unique[:64])
        together = float(np.median([seconds(model, unique) for _ in range(3)]))
        alone = float(np.median([seconds(model, [text]) for text in unique[:SINGLES]]))
        figures[name] = {"texts_per_second": round(len(unique) / together, 1), "ms_for_one": round(1000 * alone, 2)}
    model.to(own)
    return figures


def seconds(model, texts: list[str]) -> float:
    """Return the time that embedding takes."""
    started = time.perf_counter()
    embed(model, texts)
    return time.perf_counter() - started
