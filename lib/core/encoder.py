"""The encoder: find a base model, check it, load it on the best device, turn texts into unit vectors."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lib.core.measures import Encoded

TOKENS = {True: 1024, False: 32_768}  # encoded together on a CPU, whose cache they fit, and on a GPU, which they fill
BLOCK = 1024  # texts that are tokenised together: each takes as much memory as the longest
STATIC_BATCH = 1024  # texts of a static encoder, whose time goes into what is done once a batch
WORD = re.compile(r"\w+(?:[-'’]\w+)*")


def load(path: Path | str, max_length: int | None = None) -> SentenceTransformer:
    """Open an encoder on the best device there is: CUDA, Apple's MPS, else CPU.

    Args:
        path: a folder, such as a run's model/.
        max_length: cut texts at this many tokens; None keeps the model's own limit.
    """
    disable_progress_bar()  # a bar for reading 100 tensors in 10 ms is noise in a notebook
    model = SentenceTransformer(str(path), device=device())
    if max_length:
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def device() -> str:
    """cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def embed(model: SentenceTransformer, texts, progress: bool = False, together: bool = False) -> np.ndarray:
    """Unit vectors of texts. (n,) of str -> (n, d) float32; equal texts are encoded once.

    A text's vector does not depend on its company, but for rounding (1e-4 in a GPU's fp16): in int8, where it would,
    each is encoded alone.

    Args:
        together: encode int8 in batches too, twice as quickly, where a last digit does not matter.
    """
    texts = list(texts)
    if not texts:
        return np.empty((0, model.get_embedding_dimension()), np.float32)
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)  # what needs most memory first
    padded = isinstance(getattr(model, "tokenizer", None), PreTrainedTokenizerBase)
    encode, size = (partial(_by_length, together=together), BLOCK) if padded else (_encode, STATIC_BATCH)
    vectors = []
    with tqdm(total=len(unique), desc="Embedding", unit=" texts", disable=not progress) as bar:
        for start in range(0, len(unique), size):
            vectors.append(encode(model, unique[start : start + size], bar))
    row = {text: at for at, text in enumerate(unique)}
    return np.concatenate(vectors)[[row[text] for text in texts]]


def _encode(model, texts: list[str], bar) -> np.ndarray:
    how = {"batch_size": STATIC_BATCH, "normalize_embeddings": True, "show_progress_bar": False}
    vectors = np.asarray(model.encode(texts, **how), np.float32)
    bar.update(len(texts))
    return vectors


@torch.inference_mode()
def _by_length(model: SentenceTransformer, texts: list[str], bar, together: bool) -> np.ndarray:
    """Texts of about as many tokens are encoded together, so that little is padded, the longest first.

    `SentenceTransformer.encode` sorts by characters, which makes a catalogue's tokens a quarter more, and takes as many
    texts at once however long they are.
    """
    kind = model.device.type
    many = 1 if getattr(model[0], "int8", False) and not together else TOKENS[kind == "cpu"]
    model.eval()
    features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
    mask = features["attention_mask"].bool()
    lengths = mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)
    vectors, start = np.empty((len(texts), model.get_embedding_dimension()), np.float32), 0
    with torch.autocast("cuda", torch.float16, enabled=kind == "cuda"):  # which rounds an eighth as much as bf16
        while start < len(order):
            rows = order[start : start + max(1, many // int(lengths[order[start]]))]
            used = mask[rows].any(0)  # which leaves out the padding, on whichever side it is
            batch = {k: v[rows][:, used].to(model.device) if torch.is_tensor(v) else v for k, v in features.items()}
            found = model(batch)["sentence_embedding"][:, : vectors.shape[1]]  # a Matryoshka model may be cut shorter
            vectors[rows] = normalize(found.float()).cpu().numpy()
            start += len(rows)
            bar.update(len(rows))
    return vectors


def contributions(model: SentenceTransformer, texts: list[str], query: np.ndarray) -> list[list[tuple[str, float]]]:
    """What each word of a text adds to its similarity with a query, largest first; stop words are left out.

    The similarity of an encoder that averages over tokens is the sum of its tokens' parts, exactly, and a word's share
    is that of its tokens over the whole. A word that is said twice is added up.

    Args:
        query: a unit vector, (d,).
    """
    out = []
    for text, (starts, vectors) in zip(texts, _tokens(model, texts), strict=True):
        parts = vectors[:, : len(query)] @ query  # a Matryoshka model may be cut shorter
        shares = {}
        for found in WORD.finditer(text):
            inside = (starts >= found.start()) & (starts < found.end())
            if inside.any() and (word := found.group().lower()) not in ENGLISH_STOP_WORDS:
                shares[word] = shares.get(word, 0.0) + float(parts[inside].sum() / parts.sum())
        out.append(sorted(shares.items(), key=lambda item: -item[1]))
    return out


def _tokens(model: SentenceTransformer, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where each token of a text begins, (t,), -1 for those that are no part of it, and its vector, (t, d)."""
    if isinstance(model[0], StaticEmbedding):
        found = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        weight = model[0].embedding.weight.detach().numpy()
        return [(np.array([start for start, _ in one.offsets]), weight[one.ids]) for one in found]
    vectors = model.encode(texts, prompt="", output_value="token_embeddings", show_progress_bar=False)
    found = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)
    starts = [np.where(one.special_tokens_mask, -1, np.array(one.offsets)[:, 0]) for one in found.encodings]
    return [(where, one.float().cpu().numpy()) for where, one in zip(starts, vectors, strict=True)]


TEXTS, SINGLES = 256, 50  # texts encoded to measure speed: in batches, and one by one


def encode(model, tracks: pd.DataFrame, requests: pd.DataFrame, progress: bool = False) -> Encoded:
    """Vectors of the tracks' and the requests' text."""
    return Encoded(embed(model, tracks["text"], progress=progress), embed(model, requests["text"], progress=progress))


def speed(model, texts: pd.Series) -> dict[str, dict[str, float]]:
    """Texts a second in batches and milliseconds for one text: after a warm-up, the medians.

    Returns:
        These by device: the CPU, and the model's own where that is another.
    """
    own, found = model.device, {}
    for where in dict.fromkeys(("cpu", own.type)):
        found[where] = _speed(model.to(where), texts)
    model.to(own)
    return found


def _speed(model, texts: pd.Series) -> dict[str, float]:
    texts = texts.drop_duplicates()  # which `embed` would encode once
    some, few = texts.head(TEXTS).tolist(), texts.head(SINGLES).tolist()
    embed(model, some[:64])
    batches = [_seconds(model, some) for _ in range(3)]
    singles = [_seconds(model, [text]) for text in few]
    return {
        "texts_per_second": round(len(some) / float(np.median(batches)), 1),
        "ms_for_one": round(1000 * float(np.median(singles)), 2),
    }


def _seconds(model, texts: list[str]) -> float:
    started = time.perf_counter()
    embed(model, texts)
    return time.perf_counter() - started
