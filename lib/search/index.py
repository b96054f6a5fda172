"""The nearest of many vectors: all compared up to a few hundred thousand, FAISS's inverted lists beyond."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import faiss
import numpy as np
import torch
from tqdm.auto import trange

KINDS = ("auto", "exact", "lists")
VECTORS, LISTS = "vectors.npy", "lists.faiss"
EXACT = 300_000  # vectors, up to which auto compares all of them
PROBES = 48  # lists that a search looks through: recall@10 of 0.99 (benchmarks/README.md)
SPARE = 2  # times as many are compared exactly as are wanted
FILTERED = 100_000  # allowed rows that a search with a filter looks at, or all: they may lie far from the query
TRAINED_ON = 40  # vectors a list, to place the lists
CHUNK = 100_000  # vectors in memory at a time


class Filter(NamedTuple):
    """Which rows may be found.

    Attributes:
        mask: (n,) of bool.
        bits: the same for FAISS, where there are lists.
        inside: (lists,) of int: how many of these rows each list has.
    """

    mask: np.ndarray
    bits: faiss.IDSelector | None = None
    inside: np.ndarray | None = None


@dataclass
class Index:
    """Unit vectors, and what finds those nearest to a query.

    Attributes:
        vectors: (n, d) float32, memory-mapped: processes share them.
        lists: FAISS's inverted lists of the same rows, a byte a dimension, memory-mapped; None: all are compared.
        file: with lists, the open file of the vectors, of which a few rows are read at a time.
    """

    vectors: np.ndarray
    lists: faiss.IndexIVF | None = None
    file: BinaryIO | None = None

    def nearest(self, query: np.ndarray, k: int, allowed: Filter | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the vectors nearest to a query, best first, and their cosine similarities.

        Args:
            query: a unit vector, (d,) float32.
            allowed: a filter that `only` made; None for all rows.

        Returns:
            (m,) int64 and (m,) float32; m is `k`, or fewer where fewer are allowed.
        """
        if self.lists is None:
            return self._of_all(query, k, allowed)
        probes = PROBES if allowed is None else self._probes(query, allowed)
        how = faiss.SearchParametersIVF(nprobe=probes, sel=allowed and allowed.bits)
        _, rows = self.lists.search(query[None], SPARE * k, params=how)
        rows = rows[0][rows[0] >= 0]
        scores = self.at(rows) @ query  # of what a byte a dimension rounds, the true order
        best = np.argsort(-scores, kind="stable")[:k]
        return rows[best], scores[best]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of rows, (m,) of int -> (m, d)."""
        if self.file is None:
            return self.vectors[rows]
        # Not through the map: Linux maps a megabyte around each row, and soon the whole file counts as resident.
        size, begins = self.vectors.strides[0], self.vectors.offset
        found = b"".join(os.pread(self.file.fileno(), size, begins + size * int(row)) for row in rows)
        return np.frombuffer(found, self.vectors.dtype).reshape(len(rows), self.vectors.shape[1])

    def only(self, mask: np.ndarray) -> Filter:
        """A filter from a mask, (n,) of bool. Keep it: making it is a pass over the mask and the lists."""
        if self.lists is None:
            return Filter(mask)
        ids, size = self.lists.invlists.get_ids, self.lists.invlists.list_size
        inside = [mask[faiss.rev_swig_ptr(ids(i), size(i))].sum() for i in range(self.lists.nlist)]
        return Filter(mask, faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")), np.array(inside))

    def _probes(self, query: np.ndarray, allowed: Filter) -> int:
        """How many lists to look through to meet enough rows that are allowed."""
        _, order = self.lists.quantizer.search(query[None], self.lists.nlist)
        met = allowed.inside[order[0]].cumsum()
        return max(PROBES, int(np.searchsorted(met, min(FILTERED, met[-1]))) + 1)

    @cached_property
    def _matrix(self) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be written to: nobody does
            return torch.from_numpy(self.vectors)

    def _of_all(self, query: np.ndarray, k: int, allowed: Filter | None) -> tuple[np.ndarray, np.ndarray]:
        """One product over all rows, by PyTorch's threads, which are the encoder's; then the best of them, sorted."""
        scores = (self._matrix @ torch.from_numpy(query)[:, None])[:, 0].numpy()
        if allowed is not None:
            scores[~allowed.mask] = -np.inf
        best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
        best = best[np.lexsort((best, -scores[best]))]
        best = best[scores[best] > -np.inf]
        return best, scores[best]


def write_lists(
    folder: Path, kind: str, before: Path | None = None, old: np.ndarray | None = None, progress: bool = False
) -> None:
    """Write what search needs beside the vectors that lie in `folder`, if they are many or `kind` says so.

    Args:
        kind: one of `KINDS`.
        before: the folder of the index before; if its lists fit the number of vectors, what stays is moved over.
        old: (n,) of int: the row there of each vector, -1 for those that are new.
    """
    (folder / LISTS).unlink(missing_ok=True)
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    if kind == "exact" or (kind == "auto" and len(vectors) <= EXACT):
        return
    lists = None
    if before and (before / LISTS).exists():
        lists = _moved(faiss.read_index(str(before / LISTS)), vectors, old)
    faiss.write_index(lists or build_lists(vectors, progress), str(folder / LISTS))


def open_index(folder: Path) -> Index:
    """Open an index without reading it: its files are memory-mapped.

    Raises:
        ValueError, OSError, RuntimeError: a file is missing or damaged.
    """
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    if not (folder / LISTS).exists():
        return Index(vectors)
    lists = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP)
    lists.parallel_mode = 1  # one query's lists are shared among threads
    return Index(vectors, lists, (folder / VECTORS).open("rb"))


def build_lists(vectors: np.ndarray, progress: bool = False) -> faiss.IndexIVF:
    """Inverted lists (Jégou, Douze and Schmid 2011) of unit vectors, (n, d): some 3 √n, a byte a dimension."""
    n, d = vectors.shape
    index = faiss.index_factory(d, f"IVF{_how_many(n)},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(n, min(n, TRAINED_ON * index.nlist), replace=False)
    index.train(vectors[np.sort(sample)])
    _add(index, vectors, np.arange(n), progress)
    return index


def _how_many(n: int) -> int:
    return 2 ** round(math.log2(3 * math.sqrt(n)))


def _add(index: faiss.IndexIVF, vectors: np.ndarray, rows: np.ndarray, progress: bool = False) -> None:
    for start in trange(0, len(rows), CHUNK, desc="Filing vectors into lists", disable=not progress):
        chunk = rows[start : start + CHUNK]
        index.add_with_ids(np.ascontiguousarray(vectors[chunk]), chunk)


def _moved(index: faiss.IndexIVF, vectors: np.ndarray, old: np.ndarray) -> faiss.IndexIVF | None:
    """Lists with the rows of now for those of before: what is gone is left out, what is new is added.

    Returns:
        None where the number of vectors asks for another number of lists, or most are new and might lie elsewhere.
    """
    kept, first = np.unique(old[old >= 0], return_index=True)  # of texts that are twice now, the first
    if index.nlist != _how_many(len(vectors)) or 2 * len(kept) < len(vectors):
        return None
    now = np.full(index.ntotal, -1)
    now[kept] = np.flatnonzero(old >= 0)[first]
    lists = faiss.ArrayInvertedLists(index.nlist, index.code_size)
    for i in range(index.nlist):
        size = index.invlists.list_size(i)
        rows = now[faiss.rev_swig_ptr(index.invlists.get_ids(i), size)]
        codes = faiss.rev_swig_ptr(index.invlists.get_codes(i), size * index.code_size).reshape(size, -1)
        stays, codes = np.ascontiguousarray(rows[rows >= 0]), np.ascontiguousarray(codes[rows >= 0])
        if len(stays):
            lists.add_entries(i, len(stays), faiss.swig_ptr(stays), faiss.swig_ptr(codes))
    index.replace_invlists(lists, True)
    lists.this.disown()
    index.ntotal = len(kept)
    new = np.ones(len(vectors), bool)
    new[now[kept]] = False
    _add(index, vectors, np.flatnonzero(new))
    return index


TRACKS = "tracks.feather"
SHOWN = ["id", "title", "artist", "mood"]
