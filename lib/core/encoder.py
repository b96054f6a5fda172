"""The encoder: open it on the best device, embed texts as unit vectors, explain a similarity, measure speed."""

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lib.core.measures import Encoded
from lib.core.progress import Progress

BATCH = {"cpu": 1024, "gpu": 32_768}  # tokens encoded together: they fit a CPU's cache; they fill a GPU
BLOCK = 1024  # texts tokenised together: each takes as much memory as the longest
TEXTS, SINGLES = 256, 50  # texts that measure the speed in batches, and alone
WORD = re.compile(r"\w+(?:[-'’]\w+)*")


def load(path: Path | str, max_length: int | None = None) -> SentenceTransformer:
    """Open the encoder in a folder on the best device. It cuts texts at `max_length` tokens, or at its own limit."""
    disable_progress_bar()  # a bar for reading 100 tensors in 10 ms is noise in a notebook
    model = SentenceTransformer(str(path), device=device())
    if max_length:
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def device() -> str:
    """Return cuda or mps if this machine has it, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def embed(model: SentenceTransformer, texts, progress: bool = False, together: bool = False) -> np.ndarray:
    """Embed texts as unit vectors. (n,) of str -> (n, d) float32. Equal texts are encoded once.

    A text's vector does not depend on the other texts, except for rounding (1e-4 in a GPU's fp16). An int8 encoder's
    vector does depend on its batch, so it encodes each text alone.

    Args:
        together: encode in batches with int8 too. It is twice as fast and changes the last digits.
    """
    texts = list(texts)
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)  # the texts that need most memory come first
    padded = isinstance(getattr(model, "tokenizer", None), PreTrainedTokenizerBase)
    vectors = [np.empty((0, model.get_embedding_dimension()), np.float32)]
    with Progress(total=len(unique), desc="embedding", unit="text", disable=not progress) as bar:
        for start in range(0, len(unique), BLOCK):
            block = unique[start : start + BLOCK]
            if padded:
                vectors.append(_embed_by_length(model, block, bar, together))
            else:
                vectors.append(
                    model.encode(block, batch_size=BLOCK, show_progress_bar=False, normalize_embeddings=True)
                )
                bar.update(len(block))
    row = {text: number for number, text in enumerate(unique)}
    return np.concatenate(vectors, dtype=np.float32)[[row[text] for text in texts]]


@torch.inference_mode()
def _embed_by_length(model: SentenceTransformer, texts: list[str], bar: Progress, together: bool) -> np.ndarray:
    """Encode texts of similar token counts together, the longest first, so that little is padded.

    `SentenceTransformer.encode` sorts by characters, which adds a quarter to a catalogue's tokens, and its batches
    have the same number of texts however long they are.
    """
    kind = model.device.type
    n_tokens = 1 if getattr(model[0], "int8", False) and not together else BATCH["cpu" if kind == "cpu" else "gpu"]
    model.eval()
    features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
    mask = features["attention_mask"].bool()
    lengths = mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)
    vectors, start = np.empty((len(texts), model.get_embedding_dimension()), np.float32), 0
    with torch.autocast("cuda", torch.float16, enabled=kind == "cuda"):  # fp16 rounds an eighth as much as bf16
        while start < len(order):
            rows = order[start : start + max(1, n_tokens // int(lengths[order[start]]))]
            used = mask[rows].any(0)  # leaves out the padding, on either side
            batch = {k: v[rows][:, used].to(model.device) if torch.is_tensor(v) else v for k, v in features.items()}
            output = model(batch)["sentence_embedding"][:, : vectors.shape[1]]  # a Matryoshka model may be cut shorter
            vectors[rows] = normalize(output.float()).cpu().numpy()
            start += len(rows)
            bar.update(len(rows))
    return vectors


def contributions(model: SentenceTransformer, texts: list[str], query: np.ndarray) -> list[list[tuple[str, float]]]:
    """Return each word's share of a text's similarity to a query, largest first, without stop words.

    An encoder that averages over tokens has a similarity that is exactly the sum of its tokens' parts. A word's share
    is the sum over its tokens, and over all its places in the text, divided by the whole. The query is a unit vector.
    """
    ranked = []
    for text, (starts, vectors) in zip(texts, _tokens(model, texts), strict=True):
        parts = vectors[:, : len(query)] @ query  # a Matryoshka model may be cut shorter
        shares = {}
        for match in WORD.finditer(text):
            inside = (starts >= match.start()) & (starts < match.end())
            if inside.any() and (word := match.group().lower()) not in ENGLISH_STOP_WORDS:
                shares[word] = shares.get(word, 0.0) + float(parts[inside].sum() / parts.sum())
        ranked.append(sorted(shares.items(), key=lambda item: -item[1]))
    return ranked


def _tokens(model: SentenceTransformer, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the tokens of each text: starts, (t,), -1 for the encoder's own marks, and vectors, (t, d)."""
    if isinstance(model[0], StaticEmbedding):
        tokens = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        weight = model[0].embedding.weight.detach().numpy()
        return [(np.array([start for start, _ in one.offsets]), weight[one.ids]) for one in tokens]
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
    own, figures = model.device, {}
    unique = texts.drop_duplicates().tolist()[:TEXTS]  # `embed` encodes equal texts once
    for name in dict.fromkeys(("cpu", own.type)):
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
