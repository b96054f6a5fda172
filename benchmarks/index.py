"""Search, from a thousand tracks to ten million: how exact, how quick, how large, and how each grows.

python benchmarks/index.py [--sizes 1000 10000 …]        (part of make bench; ten million: 20 GB, 20 minutes)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import psutil
import torch
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from lib import encoder, index, queries, tracks

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
REAL, QUERIES = 4_000, 100  # real embeddings, which are jittered; requests
K, KEPT = 10, 0.05  # answers to each; the share of tracks that a filter keeps
JITTER = 0.03  # of each of 384 coordinates: as far from the original as 0.86 of cosine
CHUNK = 200_000
BLOCK, WARM = 10, 4  # queries in a row; the first are not counted: other libraries' threads are still waiting
BRUTE = 1_000_000  # vectors, up to which the baselines are measured too: they hold them all


def real(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of synthetic tracks, (n, 384), and of listeners' requests for them, (QUERIES, 384)."""
    model, table = encoder.load(encoder.find("all-MiniLM-L6-v2")), tracks.generate(n, 7)
    asked = queries.generate(table, 1_000, 7)["text"].drop_duplicates().head(QUERIES)
    return encoder.embed(model, table["text"], progress=True), encoder.embed(model, asked)


def chunks(vectors: np.ndarray, n: int):
    """`n` unit vectors around the real ones, a chunk at a time, each with a mask of those that the filter keeps."""
    for start in range(0, n, CHUNK):
        chance, size = np.random.default_rng(start), min(CHUNK, n - start)
        near = vectors[chance.integers(0, len(vectors), size)]
        near = near + JITTER * chance.standard_normal(near.shape, dtype=np.float32)
        yield near / np.linalg.norm(near, axis=1, keepdims=True), chance.random(size) < KEPT


def best(known: tuple, scores: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """The K best scores and their rows, (QUERIES, K) each, of those known and of the next, which begin at `start`."""
    next_rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
    scores, rows = np.hstack([known[0], scores]), np.hstack([known[1], next_rows])
    top = np.argpartition(-scores, K, axis=1)[:, :K]
    return np.take_along_axis(scores, top, 1), np.take_along_axis(rows, top, 1)


def prepare(folder: Path, n: int) -> None:
    """Write n vectors, the mask of a filter, and what an exact search answers with and without it."""
    vectors, asked = np.load(folder / "real.npy"), np.load(folder / "asked.npy")
    nothing = (np.full((QUERIES, K), -9, np.float32), np.full((QUERIES, K), -1))
    found, filtered, masks, start = nothing, nothing, [], 0
    with (folder / index.VECTORS).open("wb") as out:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (n, vectors.shape[1])}
        np.lib.format.write_array_header_1_0(out, shape)
        for near, mask in tqdm(chunks(vectors, n), f"{n:,} vectors", -(-n // CHUNK), leave=False):
            near.astype(np.float32).tofile(out)
            scores = asked @ near.T
            found, filtered = best(found, scores, start), best(filtered, np.where(mask, scores, -9), start)
            masks.append(mask)
            start += len(near)
    np.savez(folder / "truth.npz", mask=np.concatenate(masks), found=found[1], filtered=filtered[1])


def measure(folder: Path) -> dict:
    """Open and search an index, in a process that did nothing else."""
    asked, truth = np.load(folder / "asked.npy"), np.load(folder / "truth.npz")
    mask, expected, kept = truth["mask"], truth["found"], truth["filtered"]
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    found = index.open_index(folder)
    row = {"n": len(mask), "kind": "exact" if found.lists is None else "lists", "open ms": ms(started)}
    row["p50 ms"], row["p99 ms"], row["recall@10"] = searched(found, asked, expected)
    row["filtered p50 ms"], _, row["filtered recall@10"] = searched(found, asked, kept, found.only(mask))
    row["resident GiB"] = (psutil.Process().memory_info().rss - before) / 2**30
    files = [folder / index.VECTORS, *folder.glob(index.LISTS)]
    row["disk GiB"] = sum(file.stat().st_size for file in files) / 2**30
    if len(mask) <= BRUTE:
        row |= baselines(np.array(found.vectors), found, asked)
    return row


def searched(found: index.Index, asked: np.ndarray, expected: np.ndarray, allowed=None) -> tuple[float, float, float]:
    """Milliseconds at the median and the 99th percentile, and recall@10. The first round only warms up."""
    for _ in range(2):
        took, shares = [], []
        for query, rows in zip(asked, expected, strict=True):
            started = time.perf_counter()
            answer, _ = found.nearest(query, K, allowed)
            took.append(ms(started))
            shares.append(len(set(answer) & set(rows)) / K)
    return statistics.median(took), float(np.quantile(took, 0.99)), float(np.mean(shares))


def baselines(vectors: np.ndarray, found: index.Index, asked: np.ndarray) -> dict:
    """Medians of one query, in blocks in random order: ours, one pass over the same memory, and what others do."""
    tensor, flat = torch.from_numpy(vectors), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    ways = {
        "ours": lambda query: found.nearest(query, K),
        "memory pass": lambda query: tensor.sum(),
        "product and full sort": lambda query: np.argsort(-(vectors @ query))[:K],
        "FAISS flat": lambda query: flat.search(query[None], K),
        "scikit-learn brute": lambda query: brute.kneighbors(query[None]),
    }
    took = {name: [] for name in ways}
    for start in range(0, len(asked), BLOCK):
        for name in np.random.default_rng(start).permutation(list(ways)):
            for i, query in enumerate(asked[start : start + BLOCK]):
                started = time.perf_counter()
                ways[name](query)
                took[name] += [ms(started)] * (i >= WARM)
    return {f"{name} ms": statistics.median(times) for name, times in took.items()}


def ms(started: float) -> float:
    """Milliseconds since."""
    return 1000 * (time.perf_counter() - started)


def report(rows: list[dict]) -> str:
    """The table: a row a size; and how the median grows with the size."""
    names = ["open ms", "p50 ms", "p99 ms", "recall@10", "filtered p50 ms", "filtered recall@10"]
    names += ["resident GiB", "disk GiB", "build s"]
    lines = ["| tracks | search | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for row in rows:
        lines.append(f"| {row['n']:,} | {row['kind']} | " + " | ".join(f"{row[name]:.3g}" for name in names) + " |")
    others = [name for name in rows[0] if name.endswith(" ms") and name not in names]
    lines += ["", "| tracks | " + " | ".join(others) + " |", "| --- " * (len(others) + 1) + "|"]
    lines += [
        f"| {row['n']:,} | " + " | ".join(f"{row[name]:.3g}" for name in others) + " |"
        for row in rows
        if others[0] in row
    ]
    for kind in ("exact", "lists"):
        of = [row for row in rows if row["kind"] == kind]
        if len(of) > 1:
            slope = np.polyfit(np.log([row["n"] for row in of]), np.log([row["p50 ms"] for row in of]), 1)[0]
            lines.append(f"\n{kind}: the median grows as tracks to the power {slope:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Each size is written by one process, and opened and searched by another, whose memory is its own."""
    parser = argparse.ArgumentParser(prog="python benchmarks/index.py", description=main.__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of tracks (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="five thousand: to see that it works")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, values in zip(("real", "asked"), real(400 if args.quick else REAL), strict=True):
            np.save(folder / f"{name}.npy", values)
        for n in (5_000,) if args.quick else args.sizes:
            prepare(folder, n)
            started = time.perf_counter()
            index.write_lists(folder, "auto", progress=n > CHUNK)
            built = time.perf_counter() - started
            command = [sys.executable, __file__, "--measure", str(folder)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append(row | {"build s": built})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(report(rows))


if __name__ == "__main__":
    main()
