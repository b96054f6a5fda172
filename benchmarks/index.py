"""Benchmarks of the index, from a thousand tracks to ten million: recall, time, size, and their growth."""

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
from lib.search.fusion import CANDIDATES
from lib.tracks import listener_requests, synthetic

SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), (1_000, 5_000, 20_000)  # 20,000 by lists
REAL, QUERIES = (4_000, 400), 100  # real embeddings to jitter, in the full and in the quick form; queries
K, KEPT = 10, 0.05  # neighbours of each query; the share of tracks that a filter keeps
JITTER = 0.03  # of each of 384 coordinates: a cosine of 0.86 to the original
CHUNK = 200_000
ROUNDS = 4  # over all queries; the first is not counted
BLOCK, WARM = 10, 4  # queries in a row; the first are not counted: other libraries' threads still spin
BRUTE = 1_000_000  # vectors, up to which the baselines run: they hold all in memory
ONE_PASS = "one pass over the same memory"
COSTS = {"search: ms": "p50 ms", "open: ms": "open ms", "index: seconds": "build s"}
COSTS |= {"resident: GiB": "resident GiB", "on disk: GiB": "disk GiB"}


def real(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of synthetic tracks, (n, 384), and of requests for them, (QUERIES, 384)."""
    model, table = encoder.load(base_models.find("all-MiniLM-L6-v2")), synthetic.generate(n, 7)
    texts = listener_requests.generate(table, 1_000, 7)["text"].drop_duplicates().head(QUERIES)
    return encoder.embed(model, table["text"], progress=True), encoder.embed(model, texts)


def chunks(vectors: np.ndarray, n: int):
    """Yield `n` unit vectors around the real ones, a chunk at a time, each with a random number from 0 to 1."""
    for start in range(0, n, CHUNK):
        chance, size = np.random.default_rng(start), min(CHUNK, n - start)
        near = vectors[chance.integers(0, len(vectors), size)]
        near = near + JITTER * chance.standard_normal(near.shape, dtype=np.float32)
        yield near / np.linalg.norm(near, axis=1, keepdims=True), chance.random(size)


def merge(best: tuple, scores: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Merge the K best scores and their rows, (QUERIES, K) each, with those of the rows from `start`."""
    next_rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
    scores, rows = np.hstack([best[0], scores]), np.hstack([best[1], next_rows])
    top = np.argpartition(-scores, K, axis=1)[:, :K]
    return np.take_along_axis(scores, top, 1), np.take_along_axis(rows, top, 1)


def prepare(folder: Path, n: int) -> None:
    """Write n vectors, two masks, and the exact neighbours without a mask and with each.

    One mask keeps random rows. The other keeps the rows nearest to one vector: so the tracks of a mood are together,
    mostly far from the query.
    """
    vectors, requests = np.load(folder / "real.npy"), np.load(folder / "requests.npy")
    least = np.quantile(next(chunks(vectors, n))[0] @ vectors[0], 1 - KEPT)
    nothing = (np.full((QUERIES, K), -9, np.float32), np.full((QUERIES, K), -1))
    best, masks, start = dict.fromkeys(("all", "any", "near"), nothing), {"any": [], "near": []}, 0
    with (folder / index.VECTORS).open("wb") as out:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (n, vectors.shape[1])}
        np.lib.format.write_array_header_1_0(out, shape)
        for near, chance in tqdm(chunks(vectors, n), f"{n:,} vectors", -(-n // CHUNK), leave=False):
            near.astype(np.float32).tofile(out)
            scores, kept = requests @ near.T, {"any": chance < KEPT, "near": near @ vectors[0] > least}
            best["all"] = merge(best["all"], scores, start)
            for name, mask in kept.items():
                best[name] = merge(best[name], np.where(mask, scores, -9), start)
                masks[name].append(mask)
            start += len(near)
    np.savez(folder / "truth.npz", **{name: rows for name, (_, rows) in best.items()})
    np.savez(folder / "masks.npz", **{name: np.concatenate(parts) for name, parts in masks.items()})


def measure_index(folder: Path) -> dict:
    """Measure opening and searching an index, in a process that does nothing else."""
    requests, truth = np.load(folder / "requests.npy"), np.load(folder / "truth.npz")
    masks = dict(np.load(folder / "masks.npz"))
    started = time.perf_counter()
    opened = index.open_index(folder)
    row = {"n": len(opened.vectors), "open ms": 1000 * (time.perf_counter() - started), "lists": bool(opened.lists)}
    row["p50 ms"], row["p99 ms"], row["recall@10"] = search(opened, requests, truth["all"])
    for name, mask in masks.items():
        row[f"{name} p50 ms"], _, row[f"{name} recall@10"] = search(opened, requests, truth[name], opened.only(mask))
    row["pool ms"] = 1000 * statistics.median(seconds(opened.nearest, query, CANDIDATES) for query in requests)
    if opened.file:
        os.posix_fadvise(opened.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        row["cold ms"] = 1000 * statistics.median(seconds(opened.nearest, query, K) for query in requests)
    row["resident GiB"] = peak()
    row["disk GiB"] = sum(f.stat().st_size for f in (folder / index.VECTORS, *folder.glob(index.LISTS))) / 2**30
    row["least ms"] = 1000 * least_bytes(opened) / bandwidth()
    return row | (baselines(np.array(opened.vectors), opened, requests) if row["n"] <= BRUTE else {})


def least_bytes(opened: index.Index) -> float:
    """Return the bytes that a search must read: all vectors; or all centres and the bytes of the lists it probes."""
    if opened.lists is None:
        return opened.vectors.nbytes
    probed = index.PROBES / opened.lists.nlist * opened.lists.ntotal * opened.lists.code_size
    return 4 * opened.lists.nlist * opened.lists.d + probed


def search(opened: index.Index, requests: np.ndarray, expected: np.ndarray, allowed=None) -> tuple[float, float, float]:
    """Return the milliseconds at the median and the 99th percentile, and recall@10."""
    ms = []
    for _ in range(ROUNDS):
        shares = []
        for query, rows in zip(requests, expected, strict=True):
            started = time.perf_counter()
            nearest, _ = opened.nearest(query, K, allowed)
            ms.append(1000 * (time.perf_counter() - started))
            shares.append(len(set(nearest) & set(rows)) / K)
    ms = ms[len(requests) :]
    return statistics.median(ms), float(np.quantile(ms, 0.99)), float(np.mean(shares))


def baselines(vectors: np.ndarray, opened: index.Index, requests: np.ndarray) -> dict:
    """Return the milliseconds of a query, ours, one pass over memory and other libraries', and the ratios to ours."""
    tensor, flat = torch.from_numpy(vectors), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    ways = {
        "ours": lambda query: opened.nearest(query, K),
        ONE_PASS: lambda query: tensor.sum(),
        "numpy product and full sort": lambda query: np.argsort(-(vectors @ query))[:K],
        "FAISS flat": lambda query: flat.search(query[None], K),
        "scikit-learn brute force": lambda query: brute.kneighbors(query[None]),
    }
    spent = {name: [] for name in ways}
    for start in range(0, len(requests), BLOCK):
        for name in np.random.default_rng(start).permutation(list(ways)):
            spent[name] += [seconds(ways[name], query) for query in requests[start : start + BLOCK]][WARM:]
    ms = {name: 1000 * statistics.median(values) for name, values in spent.items()}
    return {"ms": ms, "ratio": {name: times(spent["ours"], values) for name, values in spent.items()}}


def measure(_run: Path, quick: bool) -> Iterator[Row | Growth]:
    """Write each size in one process; open and search it in another, which has its own memory."""
    rows, sizes = [], QUICK if quick else SIZES
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, values in zip(("real", "requests"), apart(real, REAL[quick]), strict=True):
            np.save(folder / f"{name}.npy", values)
        for n in tqdm(sizes, "index", leave=False):
            apart(prepare, folder, n)
            kind = "lists" if quick and n == max(sizes) else "auto"
            build = apart(seconds, index.write_lists, folder, kind)
            rows.append(apart(measure_index, folder) | {"build s": build})
            yield from lines(rows[-1])
    yield from growth(rows)


def lines(row: dict) -> list[Row]:
    """Return the rows of one size: time beside other libraries, recall, memory."""
    n, name = row["n"], f"search {row['n']:,} tracks"
    bars = {"search": "10 ms", "kept": "0.95; 0.90 with a filter", "held": "6 GiB"} if n == max(SIZES) else {}
    limit = f"{row['least ms'] / row['p50 ms']:.0%} of bandwidth"
    ours = f"{figure(row['p50 ms'])} ms, p99 {figure(row['p99 ms'])}"
    kept = {mask: f"{row[f'{mask} recall@10']:.3f} in {figure(row[f'{mask} p50 ms'])} ms" for mask in ("any", "near")}
    filtered = f"{kept['any']} of a filter's 5 %; {kept['near']} of 5 % that lie together"
    held = f"{row['resident GiB']:.2f} GiB resident in all, {row['disk GiB']:.2f} on disk"
    more = f"{figure(row['pool ms'])} ms for the {min(CANDIDATES, n):,} nearest"
    more += ", which the recommender scores by words and names, too" if row["lists"] else ""
    if "cold ms" in row:
        more += f"; {figure(row['cold ms'])} ms if no vector is in the disk's cache"
    rows = [Row(name, ours, limit=limit, bar=bars.get("search", "")), Row(f"{name}: more", more)]
    for way, ratio in row.get("ratio", {}).items():
        if way != "ours":
            bar = "0.67 ×" if (n, way) == (100_000, ONE_PASS) else ""
            baseline = f"{figure(row['ms'][way])} ms: {way}"
            rows.append(Row(name, f"{figure(row['ms']['ours'])} ms", baseline, ratio, bar=bar))
    rows.append(Row(f"{name}: recall@10", f"{row['recall@10']:.3f}; {filtered}", "exact", bar=bars.get("kept", "")))
    opening = f"{figure(row['open ms'])} ms to open; {held}"
    return [*rows, Row(f"{name}: cost", opening, bar=bars.get("held", "1 s to open" if n == 1_000_000 else ""))]


def growth(rows: list[dict]) -> list[Growth]:
    """Return the growth of each cost with the tracks, for each kind of search: lists should grow more slowly."""
    costs = []
    for kind, exact in (("all compared", True), ("by lists", False)):
        some = [row for row in rows if row["lists"] != exact]
        for name, key in COSTS.items():
            if exact and key == "build s":
                continue  # an exact index has nothing to build
            costs.append(Growth(f"{name}, {kind}", "tracks", {row["n"]: row[key] for row in some}))
    return [cost for cost in costs if cost.values]
