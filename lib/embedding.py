"""Embed a catalogue: in chunks that survive a kill, and only the texts that are new since the index before."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from lib.encoder import embed
from lib.runs import WorkbookError

CHUNK = 4096  # texts that are embedded and written at a time


def known(texts: pd.Series, before: pd.Series) -> np.ndarray:
    """For each text its row in the index before, found by its content; -1 where it is new. -> (n,) of int."""
    if before.empty:
        return np.full(len(texts), -1)
    first = before.drop_duplicates()
    at = pd.Index(first).get_indexer(pd.Index(texts))
    return np.where(at >= 0, first.index.to_numpy()[at], -1)


def embed_catalogue(
    model: SentenceTransformer, texts: pd.Series, file: Path, space: str, old: np.ndarray, before: np.ndarray | None,
    progress: bool = False,
) -> None:  # fmt: skip
    """Write the unit vectors of texts as a .npy file, (n, d) float32, a chunk at a time; memory stays that of a chunk.

    Beside it lies a .key of the model and the texts, for the caller to remove when all is done: a file that a killed
    process left of the same ones is gone on with, one of others is begun again.

    Args:
        space: the model's fingerprint.
        old: what `known` gave; those texts take the vectors of `before` and are not embedded.
        before: (m, d), the vectors of the index before.

    Raises:
        WorkbookError: vectors are not finite numbers.
    """
    n, d = len(texts), model.get_embedding_dimension()
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
        for start in range(done, n, CHUNK):
            rows = slice(start, min(start + CHUNK, n))
            vectors, again, seen = np.empty((len(first[rows]), d), np.float32), first[rows] < start, old[rows] >= 0
            if again.any():
                out.flush()
                vectors[again] = np.memmap(file, np.float32, "r", begins, (start, d))[first[rows][again]]
            if (seen & ~again).any():
                vectors[seen & ~again] = before[old[rows][seen & ~again]]
            new = ~again & ~seen
            if new.any():
                vectors[new] = embed(model, texts.iloc[rows][new])
            if not np.isfinite(vectors).all():
                raise WorkbookError("the tuned encoder gives vectors that are not finite: training diverged; lower lr.")
            out.seek(0, 2)
            vectors.tofile(out)
            out.flush()
            bar.update(len(vectors))
