"""Embed a catalogue in chunks: a killed process resumes, and vectors of the former index are reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
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
    encode: Encode, d: int, texts: pd.Series, file: Path, former: Former | None, progress: bool = False
) -> None:
    """Write the unit vectors of texts as a .npy file, (n, d) float32; memory holds one chunk. Equal texts share one.

    Args:
        encode: embeds chunks of texts, in their order.
        file: a new file, or the partial file of a killed process for the same model and texts: it is resumed.
        former: an index by the same model, whose vectors are reused.

    Raises:
        WorkbookError: vectors are not finite numbers.
    """
    n, codes = len(texts), pd.factorize(texts)[0]
    first = np.unique(codes, return_index=True)[1][codes]  # the first row with the same text
    row = {} if former is None else {text: number for number, text in enumerate(former.texts)}
    reused = np.array([row.get(text, -1) for text in texts], int)
    with (
        file.open("ab") as out,
        Progress(total=n, desc="embedding", unit="track", disable=not progress) as bar,
    ):
        offset, done = _resume(out, n, d)
        bar.update(done)
        chunks = [slice(start, min(start + CHUNK, n)) for start in range(done, n, CHUNK)]
        new = [(first[rows] >= rows.start) & (reused[rows] < 0) for rows in chunks]  # the texts to embed
        embedded = encode(texts.iloc[rows][mask] for rows, mask in zip(chunks, new, strict=True) if mask.any())
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


def _resume(out, n: int, d: int) -> tuple[int, int]:
    """Cut a file at its last whole vector; begin it if it has no whole header. -> the vectors' offset, their number."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (n, d)})
    offset = header.tell()
    if out.tell() < offset:
        out.truncate(0)
        out.write(header.getvalue())
        out.flush()
    done = (out.seek(0, 2) - offset) // (4 * d)
    out.truncate(offset + 4 * d * done)
    return offset, done
