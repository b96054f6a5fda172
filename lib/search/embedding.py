"""Embed a catalogue in chunks: a killed process resumes, and vectors of the former index are reused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer

from lib.core.encoder import embed
from lib.core.errors import WorkbookError
from lib.core.progress import Progress

CHUNK = 4096  # texts embedded and written at a time
Encode = Callable[[Iterator[pd.Series]], Iterator[np.ndarray]]  # chunks of m texts -> (m, d) float32 of each


class Former(NamedTuple):
    """The texts and the vectors, (m, d), of the index that a new one replaces."""

    texts: pd.Series
    vectors: np.ndarray


def in_process(model: SentenceTransformer) -> Encode:
    """Return a function that embeds in this process."""
    return lambda chunks: (embed(model, texts) for texts in chunks)


def embed_catalogue(
    encode: Encode, d: int, texts: pd.Series, file: Path, model: str, former: Former | None, progress: bool = False
) -> None:
    """Write the unit vectors of texts as a .npy file, (n, d) float32; memory holds one chunk.

    A .key file beside it names the model and the texts. A partial file for the same model and texts is resumed, any
    other is replaced. The caller removes the .key file at the end.

    Args:
        encode: embeds chunks of texts, in their order.
        model: the model's fingerprint.
        former: an index by the same model, whose vectors are reused.

    Raises:
        WorkbookError: vectors are not finite numbers.
    """
    n, first = len(texts), _first_rows(texts)
    reused = _former_rows(texts, former)
    digest = hashlib.sha256(pd.util.hash_pandas_object(texts, index=False).to_numpy().tobytes()).hexdigest()
    offset, done = _resume(file, model + digest, n, d)
    chunks = [slice(start, min(start + CHUNK, n)) for start in range(done, n, CHUNK)]
    new = [(first[rows] >= rows.start) & (reused[rows] < 0) for rows in chunks]  # the texts to embed
    embedded = encode(texts.iloc[rows][mask] for rows, mask in zip(chunks, new, strict=True) if mask.any())
    with (
        file.open("ab") as out,
        Progress(total=n, initial=done, desc="embedding", unit="track", disable=not progress) as bar,
    ):
        for rows, mask in zip(chunks, new, strict=True):
            vectors, repeated = np.empty((len(mask), d), np.float32), first[rows] < rows.start
            if repeated.any():  # in an earlier chunk
                vectors[repeated] = np.memmap(file, np.float32, "r", offset, (rows.start, d))[first[rows][repeated]]
            if (copied := ~mask & ~repeated).any():
                vectors[copied] = former.vectors[reused[rows][copied]]
            if mask.any():
                vectors[mask] = next(embedded)
            if not np.isfinite(vectors).all():
                raise WorkbookError("the tuned encoder gives vectors that are not finite: training diverged; lower lr.")
            out.write(vectors)
            out.flush()
            bar.update(len(vectors))


def _first_rows(texts: pd.Series) -> np.ndarray:
    """Return for each text the first row with the same text. -> (n,) of int."""
    codes, _ = pd.factorize(texts)
    return np.unique(codes, return_index=True)[1][codes]


def _former_rows(texts: pd.Series, former: Former | None) -> np.ndarray:
    """Return the row of each text in the former index, -1 for a new text. -> (n,) of int."""
    row = {} if former is None else {text: number for number, text in enumerate(former.texts)}
    return np.array([row.get(text, -1) for text in texts], int)


def _resume(file: Path, key: str, n: int, d: int) -> tuple[int, int]:
    """Begin a .npy file of n vectors, or resume the one with this key. -> the vectors' offset, the rows written."""
    note = file.with_suffix(".key")
    if not note.exists() or note.read_text() != key:
        note.unlink(missing_ok=True)  # first, or a process killed here would leave the other key beside this file
        with file.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (n, d)})
        note.write_text(key)
    with file.open("r+b") as out:
        np.lib.format.read_magic(out)
        np.lib.format.read_array_header_1_0(out)
        offset = out.tell()
        done = (out.seek(0, 2) - offset) // (4 * d)
        out.truncate(offset + 4 * d * done)
    return offset, done
