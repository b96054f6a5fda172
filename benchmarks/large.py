"""Measure the served search over many tracks: what it costs to write their index, to open it and to answer from it.

python benchmarks/large.py outputs/quick /tmp/large 10000000    (a run, a new folder, tracks: 29 GiB of disk for these)

The tracks are synthetic. To encode ten million texts would take hours: the vector of each is that of a track of the run
with the same mood and, if there is one, the same genre, jittered. An index that is in the folder is only opened.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from index import JITTER
from measure import apart, figure, peak, seconds

from lib.core.files import read_json, write_json
from lib.performance import typed_requests
from lib.search import indexing
from lib.search.recommender import open_run
from lib.serve import contract
from lib.tracks import synthetic
from lib.tracks.known_artists import ARTISTS

BLOCK, ROUNDS = 500_000, 5  # tracks made at a time; rounds over the requests
COLUMNS = ["artist", "title", "album", "id", "mood", "genre", "release_date", "language", "text", *indexing.FACTS]


def write_catalogue(folder: Path, run: Path, n: int) -> None:
    """Write `n` tracks, and their vectors, (n, d) float32."""
    real, vectors = pd.read_parquet(run / "tracks.parquet"), np.load(run / "index" / indexing.VECTORS)
    alike = real.groupby(["genre", "mood"]).indices | real.groupby("mood").indices
    with (folder / indexing.VECTORS).open("ab") as out:
        indexing._resume(out, (n, vectors.shape[1]))  # writes the header
        for start in range(0, n, BLOCK):
            chance, tracks = np.random.default_rng(start), synthetic.generate(min(BLOCK, n - start), start)
            tracks.assign(id=f"{start}-" + tracks["id"]).to_parquet(folder / "catalogue" / f"{start:09}.parquet")
            near = np.zeros(len(tracks), int)
            for key, rows in tracks.groupby(["genre", "mood"]).indices.items():
                near[rows] = chance.choice(alike.get(key, alike[key[1]]), len(rows))
            near = vectors[near] + JITTER * chance.standard_normal((len(near), vectors.shape[1]), np.float32)
            (near / np.linalg.norm(near, axis=1, keepdims=True)).tofile(out)


def columns(folder: Path, names: list[str]) -> pd.DataFrame:
    """Return columns of the catalogue."""
    return pd.read_parquet(folder / "catalogue", columns=names)


STEPS = {  # of `build_index`; the vectors are there
    "catalogue": write_catalogue,
    "words": lambda folder, *_: indexing.write_words(folder, columns(folder, ["text"])["text"]),
    "artists": lambda folder, *_: indexing.write_artists(folder, ARTISTS),
    "names": lambda folder, *_: indexing.write_names(folder, columns(folder, COLUMNS[:3]), indexing.names_of(ARTISTS)),
    "tracks": lambda folder, *_: indexing._write_tracks(folder, columns(folder, COLUMNS)),
    "lists": lambda folder, *_: indexing.write_lists(folder, "lists"),
}


def step(name: str, *args) -> None:
    """Take a step of the index and print its costs. The memory includes what it reads of mapped files."""
    print(f"{name}: {figure(seconds(STEPS[name], *args))} s, {peak():.2f} GiB at most", flush=True)


def serve(run: Path) -> None:
    """Answer typed requests as JSON, each in turn with encoding it and the nearest tracks alone."""
    started = time.perf_counter()
    contract.ready(songs := open_run(run))
    print(f"open and answer once: {figure(time.perf_counter() - started)} s")
    ways = {
        "answer": lambda request: contract.recommend(songs, json.dumps({"body": request})).body,
        "encode, nearest": lambda request: songs.index.nearest(songs.encode([request["text"]])[0], 5),
    }
    for turn in range(ROUNDS):
        spent = {name: [] for name in ways}
        for request in typed_requests.load()[["text", "history"]].to_dict("records"):
            for name, way in ways.items():
                clocks = time.perf_counter(), time.thread_time()
                way(request)
                spent[name].append((time.perf_counter() - clocks[0], time.thread_time() - clocks[1]))
        for name, times in spent.items():
            ms, own = (1000 * np.quantile(times, [0.5, 0.95], axis=0)).T.round(2)
            print(f"round {turn}: {name}: p50, p95 {ms} ms, {own} of them the processor's", flush=True)
    print(f"resident: {peak():.2f} GiB at most; of files {psutil.Process().memory_info().shared / 2**30:.2f} now")


if __name__ == "__main__":
    source, folder, tracks = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if not (folder / "index" / "index.json").exists():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("index", ".*"))
        (folder / "index" / "catalogue").mkdir(parents=True)
        for name in STEPS:
            apart(step, name, folder / "index", source, tracks, threads=1)
        shutil.rmtree(folder / "index" / "catalogue")
        about = read_json(source / "index" / "index.json") | {"kind": "lists", "files": {}, "tracks": tracks}
        write_json(folder / "index" / "index.json", about)
    apart(serve, folder, threads=1)
