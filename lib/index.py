"""The nearest of many vectors: all compared up to a few hundred thousand, FAISS's inverted lists beyond."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from tqdm.auto import trange

KINDS = ("auto", "exact", "lists")
VECTORS, LISTS = "vectors.npy", "lists.faiss"
EXACT = 300_000  # vectors, up to which auto compares all of them
PROBES = 32  # lists that a search looks through
FILTERED = 8  # times as many where a filter leaves fewer in each
TRAINED_ON = 40  # vectors a list, to place the lists
CHUNK = 100_000  # vectors in memory at a time


@dataclass
class Index:
    """Unit vectors, and what finds those nearest to a query.

    Attributes:
        vectors: (n, d) float32, memory-mapped: processes share them, and what no search touches is not read.
        lists: FAISS's inverted lists of the same rows, a byte a dimension, memory-mapped; None: all are compared.
    """

    vectors: np.ndarray
    lists: faiss.IndexIVF | None = None

    def nearest(self, query: np.ndarray, k: int, allowed=None) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the vectors nearest to a query, best first, and their cosine similarities.

        Args:
            query: a unit vector, (d,) float32.
            allowed: a filter that `only` made; None for all rows.

        Returns:
            (m,) int64 and (m,) float32; m is `k`, or fewer where fewer are allowed.
        """
        if self.lists is None:
            return self._of_all(query, k, allowed)
        how = faiss.SearchParametersIVF(nprobe=PROBES * (FILTERED if allowed else 1), sel=allowed)
        scores, rows = self.lists.search(query[None], k, params=how)
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]

    def only(self, mask: np.ndarray):
        """A filter from a mask, (n,) of bool. Keep it: making it is a pass over the mask."""
        return mask if self.lists is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def _of_all(self, query: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """One product over all rows, by PyTorch's threads, which are the encoder's; then the best of them, sorted."""
        scores = (torch.from_numpy(self.vectors) @ torch.from_numpy(query)[:, None])[:, 0].numpy()
        if allowed is not None:
            scores[~allowed] = -np.inf
        best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
        best = best[np.lexsort((best, -scores[best]))]
        best = best[scores[best] > -np.inf]
        return best, scores[best]


def write_lists(folder: Path, kind: str, progress: bool = False) -> None:
    """Write what search needs beside the vectors that lie in `folder`, if they are many or `kind` says so."""
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    if kind == "lists" or (kind == "auto" and len(vectors) > EXACT):
        faiss.write_index(build_lists(vectors, progress), str(folder / LISTS))


def open_index(folder: Path) -> Index:
    """Open an index without reading it: its files are memory-mapped.

    Raises:
        ValueError, OSError, RuntimeError: a file is missing or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vectors = np.load(folder / VECTORS, mmap_mode="r")
    lists = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP) if (folder / LISTS).exists() else None
    return Index(vectors, lists)


def build_lists(vectors: np.ndarray, progress: bool = False) -> faiss.IndexIVF:
    """Inverted lists (Jégou, Douze and Schmid 2011) of unit vectors, (n, d): about √n of them, a byte a dimension."""
    n, d = vectors.shape
    lists = 2 ** round(math.log2(1.3 * math.sqrt(n)))
    index = faiss.index_factory(d, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(n, min(n, TRAINED_ON * lists), replace=False)
    index.train(vectors[np.sort(sample)])
    for start in trange(0, n, CHUNK, desc="Filing vectors into lists", unit_scale=CHUNK, disable=not progress):
        index.add(vectors[start : start + CHUNK])
    return index
