"""Benchmarks, each beside its baseline in the same run, so that the ratio holds on any machine.

python benchmarks/bench.py        (make bench)
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from faker import Faker
from umap import UMAP

from lib import catalogue, encoder, maps, quality, queries, similarity, tracks
from lib.moods import GENRES, MOODS

MILLION = 1_000_000


def loop(n: int) -> pd.DataFrame:
    """The usual generator of fake tracks, with our columns: a Python loop, a row at a time, with Faker and random."""
    fake, chance = Faker(), random.Random(7)
    moods, genres = list(MOODS.values()), list(GENRES.values())
    rows = []
    for i in range(n):
        mood, genre = fake.random_element(moods), fake.random_element(genres)
        word, instrument = fake.random_element(mood.words["train"]), fake.random_element(genre.instruments)
        sound, vocals = fake.random_element(mood.sound), fake.random_element(mood.vocals)
        title, artist, album = fake.random_element(mood.titles), fake.name(), f"Live in {fake.city()}"
        description = f"A {word} {genre.name} song with {instrument}, {sound} and {vocals}. {fake.sentence()}"
        near = {"energy": 0.5 + 0.4 * mood.arousal, "valence": 0.5 + 0.4 * mood.valence, "acousticness": genre.acoustic}
        rows.append(
            {
                **{"id": f"t{i:07d}", "title": title, "artist": artist, "album": album, "genre": genre.name},
                **{"language": "en", "mood": mood.name, "mood2": "", "mood_weight": 1.0, "mood_source": "made"},
                **{"mood_confidence": 1.0, "description": description, "tags": f"{word}, {genre.name}, {instrument}"},
                **{k: round(min(1, max(0, chance.gauss(near.get(k, 0.4), 0.1))), 3) for k in tracks.FEATURES},
                **{"tempo": round(chance.uniform(*genre.tempo), 1), "loudness": round(chance.uniform(-30, 0), 2)},
                **{"key": fake.random_int(0, 11), "mode": fake.random_int(0, 1), "explicit": chance.random() < 0.1},
                **{"duration_ms": int(60_000 * genre.minutes * chance.lognormvariate(0, 0.3))},
                **{"popularity": fake.random_int(0, 100), "release_date": str(fake.date_between("-40y"))},
                **{"text": f"{title} — {artist} ({album}). {description}"},
                "split": fake.random_element(("train",) * 7 + ("dev",) + ("test",) * 2),
            }
        )
    return pd.DataFrame(rows)[list(tracks.COLUMNS)]


def generate() -> dict:
    """A million tracks, against the loop's rate on 5,000."""
    slow = seconds(loop, 5_000)[0] / 5_000
    fast, _ = seconds(tracks.generate, MILLION, 7)
    return {"seconds": fast, "baseline": f"row loop: {1 / slow:,.0f} rows/s", "ratio": slow * MILLION / fast}


def word_requests() -> dict:
    """4,000 requests over a million tracks, judged against all held-out ones."""
    table = tracks.generate(MILLION, 7)
    return {"seconds": seconds(queries.generate, table, 4_000, 7)[0]}


def check() -> dict:
    """Every quality rule over a million tracks."""
    table = tracks.generate(MILLION, 7)
    requests = queries.generate(table, 4_000, 7)
    return {"seconds": seconds(quality.check, table, requests, ["calm"], quality.Limits())[0]}


def import_csv() -> dict:
    """A million rows of CSV, imported whole."""
    return {"seconds": seconds(catalogue.import_catalogue, sys.argv[2], {}, {}, {}, 0, 7)[0]}


def import_sample() -> dict:
    """The same file, keeping a sample of 20,000 rows: memory is what is kept, not what is in the file."""
    return {"seconds": seconds(catalogue.import_catalogue, sys.argv[2], {}, {}, {}, 20_000, 7)[0]}


def embeddings(n: int) -> np.ndarray:
    """(n, 384) unit vectors with neighbours: those of 1,000 tracks, jittered."""
    vectors = encoder.embed(encoder.load(encoder.find("all-MiniLM-L6-v2")), tracks.generate(1_000, 7)["text"])
    chance = np.random.default_rng(7)
    near = vectors[chance.integers(0, len(vectors), n)] + chance.normal(0, 0.03, (n, 384)).astype(np.float32)
    return near / np.linalg.norm(near, axis=1, keepdims=True)


def map_space() -> dict:
    """UMAP of 100,000 vectors, against fitting it on all of them."""
    vectors = embeddings(100_000)
    maps.project(vectors[:2_000], 7)  # compiled before it is timed
    result = {"seconds": seconds(maps.project, vectors, 7)[0], "peak": peak()}
    whole = UMAP(n_neighbors=15, metric="cosine", random_state=7, n_jobs=1)
    slow = seconds(whole.fit_transform, vectors)[0]
    baseline = f"UMAP fitted on all: {slow:.0f} s, {peak():.2f} GiB"
    return result | {"baseline": baseline, "ratio": slow / result["seconds"]}


def all_pairs() -> dict:
    """The histograms of all pairs of 20,000 vectors, against one product of matrices and np.histogram."""
    vectors, moods = embeddings(20_000), pd.Series(list(MOODS) * 2_000).head(20_000)
    result = {"seconds": seconds(similarity.all_pairs, vectors, moods)[0], "peak": peak()}
    slow = seconds(lambda: np.histogram(vectors @ vectors.T, similarity.BINS, (-1, 1)))[0]
    baseline = f"one matrix, one histogram: {slow:.1f} s, {peak():.2f} GiB"
    return result | {"baseline": baseline, "ratio": slow / result["seconds"]}


BENCHMARKS = {
    "generate 1,000,000 tracks": generate,
    "word 4,000 requests over 1,000,000 tracks": word_requests,
    "check 1,000,000 tracks": check,
    "import 1,000,000 rows of CSV": import_csv,
    "import a sample of 20,000 of them": import_sample,
    "map 100,000 × 384 (UMAP)": map_space,
    "compare 20,000 × 384 all against all": all_pairs,
}


def seconds(function, *args) -> tuple[float, object]:
    """How long a call takes, and what it gives."""
    started = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - started, result


def peak() -> float:
    """The most memory this process held, in GiB. Not ru_maxrss: that one remembers the process that started us."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def main() -> None:
    """Each benchmark in a process of its own, so that its peak memory is its own."""
    if len(sys.argv) > 1:
        result = BENCHMARKS[sys.argv[1]]()
        result.setdefault("peak", peak())
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as scratch:
        csv = Path(scratch) / "million.csv"
        tracks.generate(MILLION, 7).drop(columns=["text", "split"]).to_csv(csv, index=False)
        print(f"{'':44}{'seconds':>8}{'peak GiB':>10}{'ratio':>8}  baseline", flush=True)
        for name in BENCHMARKS:
            command = [sys.executable, __file__, name, str(csv)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ratio = f"{row['ratio']:.1f}" if "ratio" in row else ""
            print(f"{name:44}{row['seconds']:8.1f}{row['peak']:10.2f}{ratio:>8}  {row.get('baseline', '')}", flush=True)


if __name__ == "__main__":
    main()
