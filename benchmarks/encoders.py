"""The forms of a run's encoder, one request at a time and a catalogue, beside sentence-transformers.

python benchmarks/encoders.py [outputs/quick]        (part of make bench)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.encoder import embed, load
from lib.query_encoders import forms, open_form
from lib.runs import WorkbookError, need, resolve

SIZES, QUICK = (200, 256, 5), (20, 64, 1)  # requests, tracks, rounds
BLOCK, WARM = 20, 5  # requests that one way answers in a row, of which the first are not counted


def seconds(function, *args, **kwargs) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - started


def rate() -> float:
    """Multiply–adds a second of a product of float32 matrices that fit the cache: what this processor can do."""
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    torch.mm(left, right)
    return 512**3 / statistics.median(seconds(torch.mm, left, right) for _ in range(50))


def multiply_adds(model, texts: list[str]) -> int:
    """Multiply–adds of a transformer's layers for texts without padding: weights and attention."""
    bert = model[0].model.config
    weights = bert.num_hidden_layers * (4 * bert.hidden_size**2 + 2 * bert.hidden_size * bert.intermediate_size)
    lengths = [
        len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    ]
    return sum(n * weights + 2 * bert.num_hidden_layers * bert.hidden_size * n**2 for n in lengths)


def measure(run: Path, sizes: tuple[int, int, int]) -> dict:
    """All figures at the number of threads that OMP_NUM_THREADS gives this process."""
    n_requests, n_tracks, rounds = sizes
    requests, tracks = (pd.read_parquet(run / f"{name}.parquet") for name in ("requests", "tracks"))
    asked = requests.loc[requests["split"] == "test", "text"].drop_duplicates().head(n_requests).tolist()
    plain, texts = load(run / "model"), tracks["text"].head(n_tracks).tolist()
    fastest = rate()
    ways = {"SentenceTransformer.encode": partial(plain.encode, show_progress_bar=False)}
    ways |= {form: partial(embed, open_form(run, form)) for form in forms(run)}
    singles, batches = {name: [] for name in ways}, {name: [] for name in ways}
    for start in range(0, len(asked), BLOCK):  # in turn, so that all meet the same machine, but not request by request:
        for name, way in ways.items():  # a server has one of them in its cache, whose threads nobody else's wait for
            took = [1000 * seconds(way, [text]) for text in asked[start : start + BLOCK]]
            singles[name] += took[WARM:]
    for _ in range(rounds):
        for name, way in ways.items():
            batches[name].append(len(texts) / seconds(way, texts))
    ms = {name: statistics.median(times) for name, times in singles.items()}
    rows = {name: statistics.median(found) for name, found in batches.items()}
    needed = {"ms": multiply_adds(plain, asked) / len(asked), "rows": multiply_adds(plain, texts) / len(texts)}
    return {
        "threads": torch.get_num_threads(),
        "ms": ms,
        "rows": rows,
        "difference": float(np.abs(embed(plain, texts) - ways["SentenceTransformer.encode"](texts)).max()),
        "of the processor": {
            "ms": needed["ms"] / fastest / (ms["torch"] / 1000),
            "rows": needed["rows"] / fastest * rows["torch"],
        },
        "rate": fastest,
    }


def report(found: list[dict]) -> str:
    """Both tables: a row a way, a column a number of threads, each with its ratio to sentence-transformers."""
    lines = []
    for title, key, better in (
        ("milliseconds for one request, median", "ms", lambda plain, own: plain / own),
        ("tracks a second in batches, median", "rows", lambda plain, own: own / plain),
    ):
        lines += [
            "",
            f"| {title} | " + " | ".join(f"{f['threads']} thread{'s' * (f['threads'] > 1)}" for f in found) + " |",
        ]
        lines.append("| --- " * (len(found) + 1) + "|")
        for name in found[0][key]:
            cells = [
                f"{f[key][name]:.3g} ({better(f[key]['SentenceTransformer.encode'], f[key][name]):.2f} ×)"
                for f in found
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        share = " | ".join(f"{f['of the processor'][key]:.0%}" for f in found)
        lines.append(f"| torch: of the multiply–adds a second that one product reaches | {share} |")
    lines.append(f"\nlargest difference of a coordinate from SentenceTransformer.encode: {found[0]['difference']:.1e}")
    return "\n".join(lines)


def main() -> int:
    """A process for each number of threads: one, as a kernel of the service has, and all."""
    parser = argparse.ArgumentParser(prog="python benchmarks/encoders.py", description=main.__doc__)
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="too few to judge by: to see that it works")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    run = resolve(args.run)
    try:
        need(run, "tracks.parquet", "requests.parquet", "model", "encoders")
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.measure:
        print(json.dumps(measure(run, QUICK if args.quick else SIZES)))
        return 0
    found = []
    for threads in (1,) if args.quick else sorted({1, os.cpu_count() or 1}):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, str(run), "--measure", *(["--quick"] if args.quick else [])]
        out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        found.append(json.loads(out.splitlines()[-1]))
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
