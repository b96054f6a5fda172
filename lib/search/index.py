"""The index: the nearest of many vectors. A search compares all up to 300,000, and reads FAISS's lists beyond."""

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import faiss
import numpy as np

from lib.core.progress import Progress

# The files of a run's index/, beside index.json.
VECTORS, LISTS, TRACKS = "vectors.npy", "lists.faiss", "tracks.feather"
SHOWN = ["id", "title", "artist", "mood", "genre", "year", "language"]  # of a track, in results
# The columns of a track that conditions read. They are in `TRACKS`, as those of SHOWN are.
FACTS = ["mood2", "tempo", "energy", "instrumentalness", "acousticness", "explicit"]

KINDS = ("auto", "exact", "lists")
EXACT = 300_000  # vectors, up to which auto compares all of them
PROBES = 48  # lists that a search reads: recall@10 of 0.99 (benchmarks/README.md)
PROPOSING = 32  # lists that propose the tracks to score
SPARE = 2  # times k: the candidates from the lists that are compared exactly
MOST = 4  # times as many lists are read, at most, for tracks that meet the conditions of a request
FILTERED = 100_000  # allowed rows that a filtered search meets at least, or all: they may be far from the query
TRAINED_ON = 40  # vectors a list, from which k-means computes the lists' centres
CHUNK = 100_000  # vectors in memory at a time


class Filter(NamedTuple):
    """The rows that a search may return."""

    mask: np.ndarray  # (n,) of bool
    bits: faiss.IDSelector | None = None  # the mask for FAISS, if the index has lists
    inside: np.ndarray | None = None  # (lists,) of int, the allowed rows in each list


@dataclass
class Index:
    """Unit vectors, and a search for those nearest to a query."""

    vectors: np.ndarray  # (n, d) float32, memory-mapped: processes share them
    lists: faiss.IndexIVF | None = None  # of the same rows, one byte a dimension, memory-mapped; None: compare all
    file: BinaryIO | None = None  # the vectors' file, if there are lists: a search reads a few rows of it

    def nearest(self, query: np.ndarray, k: int, allowed: Filter | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows nearest to a unit vector, (d,) float32, best first, and their cosine similarities.

        -> (m,) of int and (m,) float32; m is `k`, or less if the filter allows fewer rows.
        """
        if self.lists is None:
            return self._compare_all(query, k, allowed)
        probes = PROBES if allowed is None else self._probes(query, allowed)
        rows, _ = self._listed(query, SPARE * k, probes, allowed and allowed.bits)
        scores = self._exact(rows) @ query  # the exact order, which one byte a dimension has rounded
        best = np.argsort(-scores, kind="stable")[:k]
        return rows[best], scores[best]

    def propose(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return `k` rows near to a unit vector, and their `similarities`, by the lists alone.

        `allowed`: the rows that may be proposed, as bits, the first row in the lowest one. The rarer they are, the more
        lists are read, up to `MOST` times as many. All are returned if they are no more than `k`.
        """
        if allowed is None:
            return self._listed(query, k, PROPOSING)
        if (n := int(np.bitwise_count(allowed).sum())) <= k:
            rows = np.flatnonzero(np.unpackbits(allowed, count=self.lists.ntotal, bitorder="little"))
            return rows, self.similarities(query, rows)
        probes = int(PROPOSING * min(MOST, self.lists.ntotal / n))
        return self._listed(query, k, probes, faiss.IDSelectorBitmap(allowed))

    def _listed(self, query: np.ndarray, k: int, probes: int, bits: faiss.IDSelector | None = None) -> tuple:
        options = faiss.SearchParametersIVF(nprobe=probes, sel=bits)
        scores, rows = self.lists.search(query[None], k, params=options)
        return rows[rows >= 0], scores[rows >= 0]

    def similarities(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the cosine similarities of rows, (m,) of int, to a unit vector, (d,) float32. -> (m,) float32.

        Those of lists are within 0.002 of the exact ones.
        """
        if self.lists is not None:
            return self.at(rows) @ query
        scores = self._matrix @ query
        return scores if len(rows) == len(scores) else scores[rows]

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors of rows, (m,) of int; of lists those of one byte a dimension. -> (m, d)."""
        return self._matrix[rows] if self.lists is None else self.lists.reconstruct_batch(rows)

    def _exact(self, rows: np.ndarray) -> np.ndarray:
        # Not through the map: Linux maps a megabyte around each row, and soon counts the whole file as resident.
        size, offset = self.vectors.strides[0], self.vectors.offset
        content = b"".join(os.pread(self.file.fileno(), size, offset + size * int(row)) for row in rows)
        return np.frombuffer(content, self.vectors.dtype).reshape(len(rows), self.vectors.shape[1])

    def only(self, mask: np.ndarray) -> Filter:
        """Make a filter from a mask, (n,) of bool. It reads the mask and all lists once: keep the filter."""
        if self.lists is None:
            return Filter(mask)
        ids, size = self.lists.invlists.get_ids, self.lists.invlists.list_size
        inside = [mask[faiss.rev_swig_ptr(ids(i), size(i))].sum() for i in range(self.lists.nlist)]
        return Filter(mask, faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")), np.array(inside))

    def _probes(self, query: np.ndarray, allowed: Filter) -> int:
        """Return the number of lists in which a search meets enough allowed rows."""
        _, order = self.lists.quantizer.search(query[None], self.lists.nlist)
        met = allowed.inside[order[0]].cumsum()
        return max(PROBES, int(np.searchsorted(met, min(FILTERED, met[-1]))) + 1)

    @cached_property
    def _matrix(self) -> np.ndarray:
        return self.vectors.view(np.ndarray)  # a row of a memmap takes numpy longer

    def _compare_all(self, query: np.ndarray, k: int, allowed: Filter | None) -> tuple[np.ndarray, np.ndarray]:
        """Multiply all rows; sort only the best."""
        scores = self._matrix @ query
        if allowed is not None:
            scores[~allowed.mask] = -np.inf
        best = top(scores, k)
        best = best[scores[best] > -np.inf]
        return best, scores[best]


def bits(rows: np.ndarray, n: int) -> np.ndarray:
    """Return rows as bits, the first of `n` rows in the lowest one."""
    mask = np.zeros(n, bool)
    mask[rows] = True
    return np.packbits(mask, bitorder="little")


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the positions of the `k` highest scores, best first; of equal ones, the first position first."""
    best = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    return best[np.lexsort((best, -scores[best]))]


def open_index(folder: Path) -> Index:
    """Open an index without reading it: its files are memory-mapped. A damaged file raises one of `READ_ERRORS`."""
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    if not (folder / LISTS).exists():
        return Index(vectors)
    lists = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP)
    lists.parallel_mode = 1  # threads share the lists of one query
    lists.make_direct_map()  # finds the vector of a row
    return Index(vectors, lists, (folder / VECTORS).open("rb"))


def write_lists(folder: Path, kind: str, progress: bool = False) -> None:
    """Write inverted lists (Jégou, Douze and Schmid 2011) of a folder's vectors, if they are many or `kind` is lists.

    There are about 3 √n lists. They take 47 s for a million vectors on 2 cores.
    """
    (folder / LISTS).unlink(missing_ok=True)
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    n, d = vectors.shape
    if kind == "exact" or (kind == "auto" and n <= EXACT):
        return
    lists = faiss.index_factory(d, f"IVF{2 ** round(math.log2(3 * math.sqrt(n)))},SQ8", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(n, min(n, TRAINED_ON * lists.nlist), replace=False)
    lists.train(vectors[np.sort(sample)])
    with Progress(total=n, desc="indexing", unit="vector", disable=not progress) as bar:
        for start in range(0, n, CHUNK):
            lists.add(vectors[start : start + CHUNK])
            bar.update(min(CHUNK, n - start))
    faiss.write_index(lists, str(folder / LISTS))
