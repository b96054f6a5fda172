"""Embed a catalogue: in chunks that survive a kill, and only the texts that are new since the index before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from lib.core.encoder import embed
from lib.core.errors import WorkbookError

CHUNK = 4096  # texts that are embedded and written at a time
Encode = Callable[[Iterator[pd.Series]], Iterator[np.ndarray]]  # chunks of m texts -> (m, d) float32 of each


def known(texts: pd.Series, before: pd.Series) -> np.ndarray:
    """For each text its row in the index before, found by its content; -1 where it is new. -> (n,) of int."""
    if before.empty:
        return np.full(len(texts), -1)
    first = before.drop_duplicates()
    at = pd.Index(first).get_indexer(pd.Index(texts))
    return np.where(at >= 0, first.index.to_numpy()[at], -1)


def here(model: SentenceTransformer) -> Encode:
    """Embed in this process."""
    return lambda chunks: (embed(model, texts) for texts in chunks)


def embed_catalogue(
    encode: Encode, d: int, texts: pd.Series, file: Path, space: str, old: np.ndarray, before: np.ndarray | None,
    progress: bool = False,
) -> None:  # fmt: skip
    """Write the unit vectors of texts as a .npy file, (n, d) float32, a chunk at a time; memory stays that of a chunk.

    Beside it lies a .key of the model and the texts, for the caller to remove when all is done: a file that a killed
    process left of the same ones is gone on with, one of others is begun again.

    Args:
        encode: gives the vectors of chunks of texts, in their order.
        space: the model's fingerprint.
        old: what `known` gave; those texts take the vectors of `before` and are not embedded.
        before: (m, d), the vectors of the index before.

    Raises:
        WorkbookError: vectors are not finite numbers.
    """
    n = len(texts)
    codes, _ = pd.factorize(texts)
    first = np.unique(codes, return_index=True)[1][codes]  # the row in which each text stands first
    key = file.with_suffix(".key")
    wanted = space + hashlib.sha256(pd.util.hash_pandas_object(texts, index=False).to_numpy().tobytes()).hexdigest()
    if not key.exists() or key.read_text() != wanted:
        key.unlink(missing_ok=True)  # or, killed here, the next would take this file for the former one's
        with file.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (n, d)})
        key.write_text(wanted)
    with file.open("r+b") as out, tqdm(total=n, desc="Embedding", unit=" tracks", disable=not progress) as bar:
        np.lib.format.read_magic(out)
        np.lib.format.read_array_header_1_0(out)
        begins = out.tell()
        done = (out.seek(0, 2) - begins) // (4 * d)
        out.truncate(begins + 4 * d * done)
        bar.update(done)
        chunks = [slice(start, min(start + CHUNK, n)) for start in range(done, n, CHUNK)]
        # What stands in an earlier chunk, or in the index before, is not embedded again.
        new = [(first[rows] >= rows.start) & (old[rows] < 0) for rows in chunks]
        fresh = encode(texts.iloc[rows][mask] for rows, mask in zip(chunks, new, strict=True) if mask.any())
        for rows, mask in zip(chunks, new, strict=True):
            vectors, again = np.empty((len(mask), d), np.float32), first[rows] < rows.start
            if again.any():
                out.flush()
                vectors[again] = np.memmap(file, np.float32, "r", begins, (rows.start, d))[first[rows][again]]
            if (seen := ~mask & ~again).any():
                vectors[seen] = before[old[rows][seen]]
            if mask.any():
                vectors[mask] = next(fresh)
            if not np.isfinite(vectors).all():
                raise WorkbookError("the tuned encoder gives vectors that are not finite: training diverged; lower lr.")
            out.seek(0, 2)
            vectors.tofile(out)
            out.flush()
            bar.update(len(vectors))
