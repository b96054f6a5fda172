"""Search, from a thousand tracks to ten million: how exact, how quick, how large, and how each grows."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from measure import Growth, Row, apart, bandwidth, figure, peak, seconds, times
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from lib.core import base_models, encoder
from lib.search import index
from lib.search.recommender import POOL
from lib.tracks import listener_requests, synthetic

SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), (1_000, 5_000, 20_000)  # quickly, the last by lists
REAL, QUERIES = (4_000, 400), 100  # real embeddings, which are jittered, in full and quickly; requests
K, KEPT = 10, 0.05  # answers to each; the share of tracks that a filter keeps
JITTER = 0.03  # of each of 384 coordinates: as far from the original as 0.86 of cosine
CHUNK = 200_000
ROUNDS = 4  # over all queries, of which the first is not counted
BLOCK, WARM = 10, 4  # queries in a row; the first are not counted: other libraries' threads are still waiting
BRUTE = 1_000_000  # vectors, up to which the baselines are measured too: they hold them all
ONE_PASS = "one pass over the same memory"
COSTS = {"search: ms": "p50 ms", "open: ms": "open ms", "index: seconds": "build s"}
COSTS |= {"resident: GiB": "resident GiB", "on disk: GiB": "disk GiB"}


def real(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of synthetic tracks, (n, 384), and of listeners' requests for them, (QUERIES, 384)."""
    model, table = encoder.load(base_models.find("all-MiniLM-L6-v2")), synthetic.generate(n, 7)
    asked = listener_requests.generate(table, 1_000, 7)["text"].drop_duplicates().head(QUERIES)
    return encoder.embed(model, table["text"], progress=True), encoder.embed(model, asked)


def chunks(vectors: np.ndarray, n: int):
    """`n` unit vectors around the real ones, a chunk at a time, each with a number from 0 to 1 by chance."""
    for start in range(0, n, CHUNK):
        chance, size = np.random.default_rng(start), min(CHUNK, n - start)
        near = vectors[chance.integers(0, len(vectors), size)]
        near = near + JITTER * chance.standard_normal(near.shape, dtype=np.float32)
        yield near / np.linalg.norm(near, axis=1, keepdims=True), chance.random(size)


def best(known: tuple, scores: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The K best scores and their rows, (QUERIES, K) each, of those known and of the next, which begin at `start`."""
    next_rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
    scores, rows = np.hstack([known[0], scores]), np.hstack([known[1], next_rows])
    top = np.argpartition(-scores, K, axis=1)[:, :K]
    return np.take_along_axis(scores, top, 1), np.take_along_axis(rows, top, 1)


def prepare(folder: Path, n: int) -> None:
    """Write n vectors, masks that keep some of them, and what an exact search answers without a filter and with each.

    The rows that a mask keeps are any; or those nearest to one of the vectors, as those of a mood lie together, mostly
    far from the query.
    """
    vectors, asked = np.load(folder / "real.npy"), np.load(folder / "asked.npy")
    least = np.quantile(next(chunks(vectors, n))[0] @ vectors[0], 1 - KEPT)
    nothing = (np.full((QUERIES, K), -9, np.float32), np.full((QUERIES, K), -1))
    found, masks, start = dict.fromkeys(("all", "any", "near"), nothing), {"any": [], "near": []}, 0
    with (folder / index.VECTORS).open("wb") as out:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (n, vectors.shape[1])}
        np.lib.format.write_array_header_1_0(out, shape)
        for near, chance in tqdm(chunks(vectors, n), f"{n:,} vectors", -(-n // CHUNK), leave=False):
            near.astype(np.float32).tofile(out)
            scores, kept = asked @ near.T, {"any": chance < KEPT, "near": near @ vectors[0] > least}
            found["all"] = best(found["all"], scores, start)
            for name, mask in kept.items():
                found[name] = best(found[name], np.where(mask, scores, -9), start)
                masks[name].append(mask)
            start += len(near)
    np.savez(folder / "truth.npz", **{name: rows for name, (_, rows) in found.items()})
    np.savez(folder / "masks.npz", **{name: np.concatenate(parts) for name, parts in masks.items()})


def opened(folder: Path) -> dict:
    """Open and search an index, in a process that did nothing else."""
    asked, truth, masks = np.load(folder / "asked.npy"), np.load(folder / "truth.npz"), np.load(folder / "masks.npz")
    masks = {name: masks[name] for name in masks}
    started = time.perf_counter()
    found = index.open_index(folder)
    row = {"n": len(found.vectors), "open ms": 1000 * (time.perf_counter() - started), "lists": bool(found.lists)}
    row["p50 ms"], row["p99 ms"], row["recall@10"] = searched(found, asked, truth["all"])
    for name, mask in masks.items():
        row[f"{name} p50 ms"], _, row[f"{name} recall@10"] = searched(found, asked, truth[name], found.only(mask))
    row["pool ms"] = 1000 * statistics.median(seconds(found.nearest, query, POOL * 5) for query in asked)
    if found.file:
        os.posix_fadvise(found.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        row["cold ms"] = 1000 * statistics.median(seconds(found.nearest, query, K) for query in asked)
    row["resident GiB"] = peak()
    row["disk GiB"] = sum(f.stat().st_size for f in (folder / index.VECTORS, *folder.glob(index.LISTS))) / 2**30
    row["least ms"] = 1000 * touched(found) / bandwidth()
    return row | (baselines(np.array(found.vectors), found, asked) if row["n"] <= BRUTE else {})


def touched(found: index.Index) -> float:
    """The bytes that a search must read: all vectors; or the lists' middles, and a byte a dimension of some lists."""
    if found.lists is None:
        return found.vectors.nbytes
    of_lists = index.PROBES / found.lists.nlist * found.lists.ntotal * found.lists.code_size
    return 4 * found.lists.nlist * found.lists.d + of_lists


def searched(found: index.Index, asked: np.ndarray, expected: np.ndarray, allowed=None) -> tuple[float, float, float]:
    """Milliseconds at the median and the 99th percentile, and recall@10."""
    took = []
    for _ in range(ROUNDS):
        shares = []
        for query, rows in zip(asked, expected, strict=True):
            started = time.perf_counter()
            answer, _ = found.nearest(query, K, allowed)
            took.append(1000 * (time.perf_counter() - started))
            shares.append(len(set(answer) & set(rows)) / K)
    took = took[len(asked) :]
    return statistics.median(took), float(np.quantile(took, 0.99)), float(np.mean(shares))


def baselines(vectors: np.ndarray, found: index.Index, asked: np.ndarray) -> dict:
    """Milliseconds of one query and times ours, in blocks in random order: one pass over memory, and what others do."""
    tensor, flat = torch.from_numpy(vectors), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    ways = {
        "ours": lambda query: found.nearest(query, K),
        ONE_PASS: lambda query: tensor.sum(),
        "numpy product and full sort": lambda query: np.argsort(-(vectors @ query))[:K],
        "FAISS flat": lambda query: flat.search(query[None], K),
        "scikit-learn brute force": lambda query: brute.kneighbors(query[None]),
    }
    took = {name: [] for name in ways}
    for start in range(0, len(asked), BLOCK):
        for name in np.random.default_rng(start).permutation(list(ways)):
            spent = [seconds(ways[name], query) for query in asked[start : start + BLOCK]]
            took[name] += spent[WARM:]
    ms = {name: 1000 * statistics.median(spent) for name, spent in took.items()}
    return {"ms": ms, "ratio": {name: times(took["ours"], spent) for name, spent in took.items()}}


def measure(_run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Each size is written by one process, and opened and searched by another, whose memory is its own."""
    rows, sizes = [], QUICK if quick else SIZES
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, values in zip(("real", "asked"), apart(real, REAL[quick]), strict=True):
            np.save(folder / f"{name}.npy", values)
        for n in tqdm(sizes, "index", leave=False):
            apart(prepare, folder, n)
            kind = "lists" if quick and n == max(sizes) else "auto"
            built = apart(seconds, index.write_lists, folder, kind)
            rows.append(apart(opened, folder) | {"build s": built})
            yield from lines(rows[-1])
    yield from grown(rows)


def lines(row: dict) -> list[Row]:
    """Of a size: one search, what it finds, what it holds; and beside what others do."""
    n, what = row["n"], f"search {row['n']:,} tracks"
    bars = {"search": "10 ms", "kept": "0.95; 0.90 with a filter", "held": "6 GiB"} if n == max(SIZES) else {}
    limit = f"{row['least ms'] / row['p50 ms']:.0%} of bandwidth"
    ours = f"{figure(row['p50 ms'])} ms, p99 {figure(row['p99 ms'])}"
    kept = {name: f"{row[f'{name} recall@10']:.3f} in {figure(row[f'{name} p50 ms'])} ms" for name in ("any", "near")}
    filtered = f"{kept['any']} of a filter's 5 %; {kept['near']} of 5 % that lie together"
    held = f"{row['resident GiB']:.2f} GiB resident in all, {row['disk GiB']:.2f} on disk"
    more = f"{figure(row['pool ms'])} ms for {POOL * 5}, of which a recommender chooses 5"
    if "cold ms" in row:
        more += f"; {figure(row['cold ms'])} ms where no vector is in the disk's cache"
    told = [Row(what, ours, limit=limit, bar=bars.get("search", "")), Row(f"{what}: more", more)]
    for name, ratio in row.get("ratio", {}).items():
        if name != "ours":
            bar = "0.67 ×" if (n, name) == (100_000, ONE_PASS) else ""
            told.append(
                Row(what, f"{figure(row['ms']['ours'])} ms", f"{figure(row['ms'][name])} ms: {name}", ratio, bar=bar)
            )
    told.append(Row(f"{what}: recall@10", f"{row['recall@10']:.3f}; {filtered}", "exact", bar=bars.get("kept", "")))
    opening = f"{figure(row['open ms'])} ms to open; {held}"
    return [*told, Row(f"{what}: cost", opening, bar=bars.get("held", "1 s to open" if n == 1_000_000 else ""))]


def grown(rows: list[dict]) -> list[Growth]:
    """How each cost grows with the tracks; by the kind of search, since lists are there not to grow as all do."""
    costs = []
    for kind, few in (("all compared", True), ("by lists", False)):
        some = [row for row in rows if row["lists"] != few]
        for what, key in COSTS.items():
            if few and key == "build s":
                continue  # nothing is built
            costs.append(Growth(f"{what}, {kind}", "tracks", {row["n"]: row[key] for row in some}))
    return [cost for cost in costs if cost.values]
