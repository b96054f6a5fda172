"""Measure the served search over many tracks: time and memory to write its index, to open it and to answer.

python benchmarks/large.py [run] [--tracks N] [--folder F]    (ten million: an hour, 36 GiB of disk, 10 GiB of memory)

The catalogue is synthetic. To encode ten million texts would take hours, so the vector of each track is that of a track
of the run with the same mood and, if there is one, the same genre, jittered. An index in the folder is used again.
"""

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from index import JITTER
from measure import apart, figure, machine, peak, seconds
from tqdm import tqdm

from lib.core.files import fingerprint, read_json, write_json
from lib.core.paths import resolve
from lib.performance import typed_requests
from lib.search import index
from lib.search.artists import names_of, write_artists
from lib.search.indexing import _write_tracks
from lib.search.names.mentions import write_names
from lib.search.recommender import open_run
from lib.search.words import write_words
from lib.serve import contract
from lib.tracks import synthetic
from lib.tracks.known_artists import ARTISTS

BLOCK, CHUNK = 500_000, 100_000  # tracks generated, vectors jittered at a time
CATALOGUE = "catalogue.arrow"
NAMES = ["artist", "title", "album"]
COLUMNS = [*dict.fromkeys([*index.SHOWN, *index.FACTS, *NAMES, "release_date", "text"])]
COLUMNS.remove("year")  # of release_date
ROUNDS = 4  # over all typed requests; the first, which computes what later ones find, is reported apart


def write_catalogue(folder: Path, run: Path, n: int) -> None:
    """Write `n` tracks, and their vectors, (n, d) float32."""
    real, vectors = pd.read_parquet(run / "tracks.parquet"), np.load(run / "index" / index.VECTORS)
    alike = real.groupby(["genre", "mood"]).indices | real.groupby("mood").indices
    with (folder / "index" / index.VECTORS).open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, vectors.shape[1])}
        np.lib.format.write_array_header_1_0(out, header)
        for start in tqdm(range(0, n, BLOCK), "tracks", leave=False):
            chance, tracks = np.random.default_rng(start), synthetic.generate(min(BLOCK, n - start), start)
            table = pa.Table.from_pandas(tracks.assign(id=f"{start}-" + tracks["id"])[COLUMNS], preserve_index=False)
            if not start:
                writer = pa.ipc.new_file(folder / CATALOGUE, table.schema)
            writer.write_table(table)
            near = np.zeros(len(tracks), int)
            for (genre, mood), rows in tracks.groupby(["genre", "mood"]).indices.items():
                near[rows] = chance.choice(alike.get((genre, mood), alike[mood]), len(rows))
            for first in range(0, len(near), CHUNK):
                noise = chance.standard_normal((len(near[first : first + CHUNK]), vectors.shape[1]), np.float32)
                jittered = vectors[near[first : first + CHUNK]] + JITTER * noise
                (jittered / np.linalg.norm(jittered, axis=1, keepdims=True)).tofile(out)
    writer.close()


def columns(folder: Path, *names: str) -> pd.DataFrame:
    """Return columns of the catalogue, all by default, memory-mapped."""
    table = pa.ipc.open_file(pa.memory_map(str(folder / CATALOGUE))).read_all()
    return table.select(names or COLUMNS).to_pandas()


STEPS = {  # of the index, as `build_index` writes it
    "words": lambda folder: write_words(folder / "index", columns(folder, "text")["text"]),
    "names": lambda folder: write_names(folder / "index", columns(folder, *NAMES), names_of(ARTISTS)),
    "artists": lambda folder: write_artists(folder / "index", ARTISTS),
    "tracks": lambda folder: _write_tracks(folder / "index", columns(folder)),
    "lists": lambda folder: index.write_lists(folder / "index", "lists"),
}


def step(name: str, *args) -> None:
    """Take a step and print its costs."""
    took = seconds(STEPS.get(name, write_catalogue), *args)
    print(f"{name}: {figure(took)} s, {peak():.2f} GiB at most", flush=True)


def build(folder: Path, run: Path, n: int) -> None:
    """Write a run of `n` tracks, each step in a process of its own."""
    (folder / "index").mkdir(parents=True)
    apart(step, "catalogue", folder, run, n, threads=1)
    for name in STEPS:
        apart(step, name, folder, threads=1)
    (folder / CATALOGUE).unlink()
    for part in ("model", "encoders"):
        (folder / part).symlink_to(run / part)
    about = {"model": fingerprint(run / "model"), "encoder": read_json(run / "index" / "index.json")["encoder"]}
    write_json(folder / "index" / "index.json", about | {"kind": "lists", "files": {}, "tracks": n})


def serve(folder: Path) -> None:
    """Open the run and answer typed requests as JSON, each in turn with encoding it and its nearest tracks alone."""
    started = time.perf_counter()
    songs = open_run(folder)
    contract.ready(songs)
    print(f"open and answer once: {figure(time.perf_counter() - started)} s")
    requests = typed_requests.load()[["text", "history"]].to_dict("records")
    ways = {
        "answer": lambda request: contract.recommend(songs, json.dumps({"body": request})).body,
        "encode, nearest": lambda request: songs.index.nearest(songs.encode([request["text"]])[0], 5),
    }
    for turn in range(ROUNDS):
        spent = {name: [] for name in ways}
        for request in tqdm(requests, f"round {turn + 1}", leave=False):
            for name, way in ways.items():
                clocks = time.perf_counter(), time.thread_time()
                way(request)
                spent[name].append((time.perf_counter() - clocks[0], time.thread_time() - clocks[1]))
        for name, times in spent.items():
            wall, own = 1000 * np.quantile(times, [0.5, 0.95], axis=0).T
            both = f"p50 {wall[0]:.2f}, p95 {wall[1]:.2f} ms; of the thread {own[0]:.2f}, {own[1]:.2f}"
            print(f"round {turn + 1}: {name}: {both}", flush=True)
    held = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/self/smaps_rollup").read_text()))
    now = ", ".join(f"{kind} {int(held[kind]) / 2**20:.2f}" for kind in ("Rss", "Pss", "Pss_Anon", "Pss_File"))
    print(f"resident: {peak():.2f} GiB at most; now {now}")


def main() -> None:
    """Build what is not there, and serve it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="outputs/quick", help="a finished run (default: %(default)s)")
    parser.add_argument("--tracks", type=int, default=10_000_000, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("outputs/large"), help="default: %(default)s")
    options = parser.parse_args()
    print(machine())
    if not (options.folder / "index" / "index.json").exists():
        build(options.folder, resolve(options.run), options.tracks)
    apart(serve, options.folder, threads=1)


if __name__ == "__main__":
    main()
